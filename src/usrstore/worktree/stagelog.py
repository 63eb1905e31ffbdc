"""What a stage remembers for a later run: which chunks have landed where, which files are whole.

    landed   [chunk id, file, offset, size], one behind the other
    whole    [file, content hash, size, mtime, ctime, inode, boot]

Neither is synced. A chunk that is noted and not there is found out when its file is hashed. A
file that is noted as whole was hashed to its end; what a process wrote and hashed is still so
for every later one while the machine stays up, so the note counts only until it goes down.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from usrstore.objects.ids import ChunkId, ContentHash, ContentHasher, ObjectId, TreeId
from usrstore.odb import durable
from usrstore.worktree.scan import Stamp

_LANDED = struct.Struct(">32sIQI")
_WHOLE = struct.Struct(">I32sqqqq36s")
_AT_ONCE = 512  # pieces that one call writes


class Spot(NamedTuple):
    """A place in a staged file."""

    file: int
    offset: int
    size: int


class Whole(NamedTuple):
    """A staged file that was hashed to its end: what it hashed to, and its stamp then."""

    content: ContentHash
    stamp: Stamp


class StageLog:
    """The notes of one stage, in its folder."""

    def __init__(self, folder: str) -> None:
        self._landed = _reopen(os.path.join(folder, "landed"), _LANDED.size)
        self._whole_path = os.path.join(folder, "whole")
        self._whole: durable.Spool | None = None
        self._boot = boot()

    def landed(self) -> Iterator[tuple[ChunkId, Spot]]:
        return landed(self._landed.read_at(0, self._landed.size))

    def note_landed(self, chunks: Iterable[tuple[ChunkId, Spot]]) -> None:
        self._landed.write(b"".join(_LANDED.pack(oid, *spot) for oid, spot in chunks))

    def only_landed(self, chunks: Iterable[tuple[ChunkId, Spot]]) -> None:
        """Forget all but these."""
        self._landed.truncate(0)
        self.note_landed(chunks)

    def whole(self) -> Iterator[tuple[int, Whole]]:
        """Files that were whole, as far as a note can still be believed."""
        if not self._boot or not os.path.exists(self._whole_path):
            return
        with open(self._whole_path, "rb") as file:
            data = file.read()
        for number, content, *stamp, seen in _WHOLE.iter_unpack(_records(data, _WHOLE.size)):
            if seen == self._boot:
                yield number, Whole(ContentHash(ObjectId(content)), Stamp(*stamp))

    def note_whole(self, files: Iterable[tuple[int, Whole]]) -> None:
        if not self._boot:
            return
        if self._whole is None:
            self._whole = _reopen(self._whole_path, _WHOLE.size)
        self._whole.write(
            b"".join(_WHOLE.pack(n, w.content, *w.stamp, self._boot) for n, w in files)
        )

    def close(self) -> None:
        self._landed.close()
        if self._whole is not None:
            self._whole.close()


def landed(log: bytes) -> Iterator[tuple[ChunkId, Spot]]:
    """What a stage's log says has landed where; a record that was cut off says nothing."""
    for oid, *spot in _LANDED.iter_unpack(_records(log, _LANDED.size)):
        yield ChunkId(ObjectId(oid)), Spot(*spot)


def neighbours(
    placed: Iterable[tuple[Spot, bytes | memoryview]],
) -> Iterator[tuple[int, int, list[bytes | memoryview]]]:
    """Pieces that belong one behind the other, with the file and offset where they begin."""
    file, begin, end = -1, 0, 0
    pieces: list[bytes | memoryview] = []
    for spot, data in placed:
        if pieces and (spot.file, spot.offset) == (file, end) and len(pieces) < _AT_ONCE:
            pieces.append(data)
        else:
            if pieces:
                yield file, begin, pieces
            file, begin, pieces = spot.file, spot.offset, [data]
        end = spot.offset + spot.size
    if pieces:
        yield file, begin, pieces


def folder_name(tree: TreeId, paths: Iterable[str]) -> str:
    """The name of a stage: of the same tree and files it is the same, so it can be gone on with."""
    hasher = ContentHasher()
    hasher.update(tree)
    for path in paths:
        hasher.update(f"{path}\0".encode())
    return hasher.digest().hex()


def boot() -> bytes:
    """A mark of this run of this machine, of 36 bytes; empty where there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            mark = file.read().strip()
    except OSError:
        return b""
    return mark if len(mark) == 36 else b""


def _records(data: bytes, size: int) -> bytes:
    return data[: len(data) - len(data) % size]


def _reopen(path: str, record: int) -> durable.Spool:
    """A log to go on with, without a record that was cut off."""
    if not os.path.exists(path):
        return durable.Spool.create(path)
    log = durable.Spool.reopen(path)
    if log.size % record:
        log.truncate(log.size - log.size % record)
    return log
