"""Does a backend create exclusively? Asked of the place itself, before a store relies on it."""

from __future__ import annotations

import contextlib
import os

from usrstore.errors import UnsupportedError, UsrError
from usrstore.odb.backend.backend import Backend, Stat


def probe_create(backend: Backend, where: str) -> Stat | None:
    """Create one key twice, and remove it again; gives how the place dated it.

    Raises:
        UnsupportedError: the second create succeeded, or replaced the first.
        StorageError: nothing could be created there at all.
    """
    key = f"probe/{os.urandom(8).hex()}"
    try:
        first, second = backend.create(key, b"first"), backend.create(key, b"second")
        kept, found = backend.read(key), backend.stat(key)
    finally:
        with contextlib.suppress(UsrError):  # whoever may not delete leaves five bytes behind
            backend.delete(key)
    if not first or second or kept != b"first":
        raise UnsupportedError(
            f"{where} does not keep a key from being created twice (it ignores If-None-Match), "
            "so two writers there would lose each other's work; nothing was changed",
            hint="use a server that honours conditional writes, or an ssh or folder remote",
            code="no-exclusive-create",
        )
    return found
