"""How fast a place reads, hashes and writes: measured with a file that never has a name for long.

Both ends of `usr bench transfer` ask this, each of its own root. The file loses its name as soon
as it is made, so a process that is killed in between leaves nothing, either.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from usrstore.objects.ids import ContentHasher
from usrstore.odb import durable
from usrstore.odb.durable import Spool
from usrstore.remote.peer import Weight
from usrstore.root import Root

PIECE_BYTES = 1 << 20
_SHARE = 10  # of the free room that a measurement may use at most


def weigh(root: Root, size: int, *, may_write: bool) -> Weight:
    """Hash `size` bytes; where the root may be written, write, sync and read them back as well.

    Args:
        root: on whose disk.
        size: bytes; less are taken where a tenth of the free room is less.
        may_write: whether this end writes for whoever asks.

    Raises:
        StorageError: the disk refused; nothing is left of the file.
    """
    writes = may_write and root.writable
    if writes:
        room = os.statvfs(root.path)
        size = min(size, room.f_bavail * room.f_frsize // _SHARE)
    piece = os.urandom(min(size, PIECE_BYTES))
    hashed_us = _timed_hash(_repeated(piece, size))
    if not writes:
        return Weight(size, hashed_us, None, None)
    where = root.store if os.path.isdir(root.store) else root.path
    with Spool.create(durable.temporary(where)) as spool:
        durable.remove(spool.path)
        began = time.perf_counter_ns()
        for part in _repeated(piece, size):
            spool.write(part)
        spool.sync()
        written_us = _since_us(began)
        # What is synced can be forgotten: otherwise memory would be measured, not the disk.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(spool.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        read_us = _timed_hash(_read(spool, size))
    return Weight(size, hashed_us, read_us, written_us)


def _repeated(piece: bytes, size: int) -> Iterator[memoryview]:
    view = memoryview(piece)
    for start in range(0, size, PIECE_BYTES):
        yield view[: min(PIECE_BYTES, size - start)]


def _read(spool: Spool, size: int) -> Iterator[bytes]:
    for start in range(0, size, PIECE_BYTES):
        yield spool.read_at(start, min(PIECE_BYTES, size - start))


def _timed_hash(pieces: Iterable[bytes | memoryview]) -> int:
    began = time.perf_counter_ns()
    hasher = ContentHasher()
    for piece in pieces:
        hasher.update(piece)
    hasher.digest()
    return _since_us(began)


def _since_us(began_ns: int) -> int:
    return max(1, (time.perf_counter_ns() - began_ns) // 1000)
