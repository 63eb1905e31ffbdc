"""Where folders of tests are made: in memory, if there is room for them."""

from __future__ import annotations

import os

SHARED, ROOM_BYTES = "/dev/shm", 2 << 30


def memory() -> str | None:
    """A folder of a file system in memory; None where it is small, as in many containers."""
    if not os.access(SHARED, os.W_OK):
        return None
    found = os.statvfs(SHARED)
    return SHARED if found.f_bavail * found.f_frsize >= ROOM_BYTES else None
