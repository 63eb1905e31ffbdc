"""A tally: what staged files hash to, worked out on a thread while their chunks arrive.

Chunks come in the order of the files, so a file's content hash can follow right behind them: by
the time the last one is there, nothing is left to read. What was on the disk before, or came
for another file's sake, is read there when the hash gets to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from queue import Queue
from threading import Thread
from typing import NamedTuple

from usrstore.objects.ids import ContentHasher
from usrstore.odb import durable
from usrstore.worktree.scan import Stamp
from usrstore.worktree.stagelog import Whole

_WAITING = 4  # runs of chunks that may wait to be hashed; each is held in memory
_READ_BYTES = 1 << 20
_WIDE_BYTES = 32 << 20  # from here on, two threads hash one file
_WIDE_READ_BYTES = 4 << 20


class _Part(NamedTuple):
    """Bytes that were just written to a file; without any, the file is complete."""

    number: int
    path: str
    offset: int
    pieces: Sequence[bytes | memoryview]
    stamp: Stamp | None = None


class _File:
    """One file as far as it was hashed."""

    def __init__(self) -> None:
        self.hasher = ContentHasher()
        self.at = 0

    def read_up_to(self, path: str, offset: int, buffer: memoryview, *, start: bool) -> None:
        """Hash what lies between here and `offset` from the disk; and start it for the disk."""
        if self.at >= offset:
            return
        with open(path, "rb", buffering=0) as file:
            begin = self.at
            file.seek(begin)
            while self.at < offset:
                count = file.readinto(buffer[: offset - self.at])
                if not count:
                    return  # the digest will be wrong, and the file hashed once more
                self.hasher.update(buffer[:count])
                self.at += count
            if start:
                durable.start_writeback(file.fileno(), begin, offset - begin)


class Tally:
    """Content hashes of files whose parts are reported in order, each part once."""

    def __init__(self) -> None:
        self._parts: Queue[_Part | None] = Queue(_WAITING)
        self._files: dict[int, _File] = {}
        self._done: dict[int, Whole] = {}
        self._thread: Thread | None = None
        self._buffer: memoryview | None = None

    def wrote(
        self, number: int, path: str, offset: int, pieces: Sequence[bytes | memoryview]
    ) -> None:
        """These pieces now lie one behind the other from `offset` on. Waits if too many wait.

        Without any, the file was copied up to `offset`: it is read, and started for the disk.
        """
        self._put(_Part(number, path, offset, pieces))

    def ended(self, number: int, path: str, stamp: Stamp) -> None:
        """A file is complete, and closed; this is its stamp."""
        self._put(_Part(number, path, stamp.size, (), stamp))

    def _put(self, part: _Part) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._run, name="usrstore-tally", daemon=True)
            self._thread.start()
        self._parts.put(part)

    def _run(self) -> None:
        while (part := self._parts.get()) is not None:
            try:
                self._hash(part)
            except (OSError, MemoryError):
                self._files.pop(part.number, None)  # whoever verifies reads it, and says why
            self._parts.task_done()

    def _hash(self, part: _Part) -> None:
        file = self._files.setdefault(part.number, _File())
        if self._buffer is None:
            self._buffer = memoryview(bytearray(_READ_BYTES))
        copied = part.stamp is None and not part.pieces
        file.read_up_to(part.path, part.offset, self._buffer, start=copied)
        if part.stamp is not None:
            del self._files[part.number]
            self._done[part.number] = Whole(file.hasher.digest(), part.stamp)
        elif file.at == part.offset:
            for piece in part.pieces:
                file.hasher.update(piece)
                file.at += len(piece)

    def done(self) -> list[tuple[int, Whole]]:
        """Files that ended since the last call and could be hashed. Waits for all of them."""
        self._parts.join()
        return [(number, self._done.pop(number)) for number in list(self._done)]

    def close(self) -> None:
        """Wait until all that was reported is hashed."""
        if self._thread is not None:
            self._parts.put(None)
            self._thread.join()
            self._parts.task_done()
            self._thread = None


def hash_file(path: str) -> Whole:
    """What a file hashes to that is read from its beginning to its end."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        wide = size >= _WIDE_BYTES
        hasher = ContentHasher(threads=2 if wide else 1)
        # A megabyte of zeros for each of thousands of small files costs more than their hashes.
        buffer = bytearray(min(_WIDE_READ_BYTES if wide else _READ_BYTES, size + 1))
        view = memoryview(buffer)
        while count := file.readinto(buffer):
            hasher.update(view[:count])
        return Whole(hasher.digest(), Stamp.of(os.fstat(file.fileno())))
