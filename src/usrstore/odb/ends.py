"""Ends of packs that are far away, remembered here: a cold command asks for new packs only.

One file for each place: magic, then for each pack its name (32 bytes), the length of its index
(u32, big-endian) and the index. Nothing of it has to be believed: an index is hashed against the
name of its pack before anything is found in it, and what does not hold is asked for again.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Container

from usrstore.errors import DecodeError, StorageError
from usrstore.objects.ids import ID_BYTES, ObjectId, PackId
from usrstore.odb import durable
from usrstore.odb.packindex import ROW_BYTES, PackIndex

_MAGIC = b"USRENDS1"
_HEAD = struct.Struct(f">{ID_BYTES}sI")
MOST_BYTES = 64 << 20
"""More is not remembered: ten million objects are asked for anew by each command."""


class Ends:
    """What is remembered of one place.

    Args:
        path: the file, in a folder of a store; both are made once there is such a store.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: dict[PackId, bytes | memoryview] | None = None
        self._grown = False

    def find(self, pack: PackId) -> bytes | memoryview | None:
        """The index of a pack, whole and hashed; None if it is not remembered."""
        found = self._read().get(pack)
        if found is None:
            return None
        try:
            PackIndex.check(found, pack)
        except DecodeError:
            del self._read()[pack]
            return None
        return found

    def note(self, pack: PackId, index: bytes | memoryview) -> None:
        """Remember an index; `save` keeps it."""
        if pack not in self._read():
            self._read()[pack] = index
            self._grown = True

    def save(self, there: Container[PackId]) -> None:
        """Keep what is new, and of the rest what is still there; a cache is never worth an error."""
        if not self._grown or not os.path.isdir(os.path.dirname(os.path.dirname(self._path))):
            return
        parts: list[bytes | memoryview] = [_MAGIC]
        size = len(_MAGIC)
        for pack, index in self._read().items():
            size += _HEAD.size + len(index)
            if pack in there and size <= MOST_BYTES:
                parts += [_HEAD.pack(pack, len(index)), index]
        with contextlib.suppress(StorageError):
            durable.replace(self._path, b"".join(parts), sync=False)
        self._grown = False

    def _read(self) -> dict[PackId, bytes | memoryview]:
        if self._known is None:
            data = b""
            with contextlib.suppress(OSError), open(self._path, "rb") as file:
                data = file.read(MOST_BYTES)
            self._known = _decode(data)
        return self._known


def _decode(data: bytes) -> dict[PackId, bytes | memoryview]:
    """As much as can be read of it."""
    found: dict[PackId, bytes | memoryview] = {}
    at, view = len(_MAGIC), memoryview(data)
    while data.startswith(_MAGIC) and at + _HEAD.size <= len(data):
        pack, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if length % ROW_BYTES or at + length > len(data):
            break
        found[PackId(ObjectId(pack))] = view[at : at + length]
        at += length
    return found
