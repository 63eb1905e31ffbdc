"""Room on a disk, asked for before it is needed: bytes and inodes, at the place itself."""

from __future__ import annotations

import os

from usrstore.errors import DiskFullError
from usrstore.odb import durable

SPARE_BYTES = 4 << 20  # for metadata, journal and the file system itself
SPARE_INODES = 64


def check(path: str, *, size: int, files: int, what: str) -> None:
    """See that there is room; a file system that counts no inodes is not asked for them.

    Args:
        path: where it is needed.
        size: bytes, without what is always kept spare.
        files: inodes, likewise.
        what: what needs it, for the error.

    Raises:
        DiskFullError: saying what is needed and what there is; nothing was changed.
    """
    try:
        room = os.statvfs(path)
    except OSError as exc:
        raise durable.storage_error(exc, f"cannot look at {path}") from exc
    free = room.f_bavail * room.f_frsize
    short = []
    if free < size + SPARE_BYTES:
        short.append(f"{_mb(size + SPARE_BYTES)} (and has {_mb(free)} free)")
    if room.f_files and room.f_favail < files + SPARE_INODES:
        short.append(f"{files + SPARE_INODES} inodes (and has {room.f_favail} free)")
    if short:
        raise DiskFullError(
            f"{what} needs {' and '.join(short)} at {path}; nothing was changed",
            hint="free some space (or inodes, or quota) there, then run the same command again; "
            "`usr du` says where the bytes are, `usr gc` frees what no state needs",
        )


def short_of(exc: DiskFullError, path: str, *, size: int, what: str) -> DiskFullError:
    """The error of a disk that filled up on the way, with what would have been enough."""
    try:
        room = os.statvfs(path)
        free = f"; {_mb(room.f_bavail * room.f_frsize)}"
        free += f" and {room.f_favail} inodes are free" if room.f_files else " are free"
    except OSError:
        free = ""
    return DiskFullError(f"{exc.message}; {what} may need up to {_mb(size)}{free}", hint=exc.hint)


def taken(folder: str) -> int:
    """Bytes that the files below a folder of ours have on the disk already."""
    return sum(
        os.lstat(os.path.join(at, name)).st_blocks * 512
        for at, _, names in os.walk(folder)
        for name in names
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
