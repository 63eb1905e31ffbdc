"""A tally: what staged files hash to, worked out on a thread while their chunks arrive.

Chunks come in the order of the files, so a file's content hash can follow right behind them: by
the time the last one is there, nothing is left to read. What was on the disk before, or came
for another file's sake, is read there when the hash gets to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from queue import Queue
from threading import Thread
from typing import NamedTuple

from usrstore.objects.ids import ContentHasher
from usrstore.worktree.scan import Stamp
from usrstore.worktree.stagelog import Whole

_WAITING = 4  # runs of chunks that may wait to be hashed; each is held in memory
_READ_BYTES = 1 << 20


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

    def read_up_to(self, path: str, offset: int) -> None:
        """Hash what lies between here and `offset` from the disk."""
        if self.at >= offset:
            return
        with open(path, "rb", buffering=0) as file:
            file.seek(self.at)
            while self.at < offset:
                piece = file.read(min(_READ_BYTES, offset - self.at))
                if not piece:
                    return  # the digest will be wrong, and the file hashed once more
                self.hasher.update(piece)
                self.at += len(piece)


class Tally:
    """Content hashes of files whose parts are reported in order, each part once."""

    def __init__(self) -> None:
        self._parts: Queue[_Part | None] = Queue(_WAITING)
        self._files: dict[int, _File] = {}
        self._done: dict[int, Whole] = {}
        self._thread: Thread | None = None

    def wrote(
        self, number: int, path: str, offset: int, pieces: Sequence[bytes | memoryview]
    ) -> None:
        """These pieces now lie one behind the other from `offset` on. Waits if too many wait."""
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

    def _hash(self, part: _Part) -> None:
        file = self._files.setdefault(part.number, _File())
        file.read_up_to(part.path, part.offset)
        if part.stamp is not None:
            del self._files[part.number]
            self._done[part.number] = Whole(file.hasher.digest(), part.stamp)
        elif file.at == part.offset:
            for piece in part.pieces:
                file.hasher.update(piece)
                file.at += len(piece)

    def done(self) -> list[tuple[int, Whole]]:
        """Files that were hashed to their end since the last call."""
        return [(number, self._done.pop(number)) for number in list(self._done)]

    def close(self) -> None:
        """Wait until all that was reported is hashed."""
        if self._thread is not None:
            self._parts.put(None)
            self._thread.join()
            self._thread = None
