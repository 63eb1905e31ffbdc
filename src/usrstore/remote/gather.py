"""A writer that gathers what it is given, and hands it to the kernel many pieces at a time.

A buffer would copy every byte once more to save calls. Here the pieces themselves wait: whoever
gives one must not change it before `flush`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_AT_ONCE_BYTES = 1 << 20
_AT_ONCE = 512  # pieces of one call; systems allow 1024


class GatheringWriter:
    """What a channel writes to.

    Args:
        call: writes some of the pieces that it is given, waits until it can, and says how many
            bytes it took: os.writev of a pipe, or what takes its place.
    """

    def __init__(self, call: Callable[[Sequence[bytes | memoryview]], int]) -> None:
        self._call = call
        self._pieces: list[bytes | memoryview] = []
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Raises: OSError: nobody reads any more."""
        if not data:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _AT_ONCE_BYTES or len(self._pieces) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Raises: OSError: nobody reads any more."""
        pieces, size, self._pieces, self._size = self._pieces, self._size, [], 0
        while size:
            written = self._call(pieces)
            size -= written
            pieces = _rest(pieces, written) if size else []


def _rest(pieces: list[bytes | memoryview], written: int) -> list[bytes | memoryview]:
    """What a call left that took `written` bytes."""
    for number, piece in enumerate(pieces):
        if written < len(piece):
            return [memoryview(piece)[written:], *pieces[number + 1 :]]
        written -= len(piece)
    return []
