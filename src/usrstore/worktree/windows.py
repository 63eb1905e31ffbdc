"""Windows on a file: its bytes in order, some at a time, each hashed into the content hash once.

Bytes are read, never mapped: a mapped file that another process truncates kills the reader.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Self

from usrstore.errors import ChangedWhileReadError
from usrstore.objects.ids import ContentHasher

WINDOW_BYTES = 512 << 10


class Windows:
    """Iterates over the first `size` bytes of an open file.

    Args:
        fd: the file.
        size: how much of it.
        margin: bytes at the front of each window that are the caller's, for what was left over.

    Attributes:
        hasher: has seen all that was read, once the iteration is over.
    """

    def __init__(self, fd: int, size: int, margin: int) -> None:
        self.hasher = ContentHasher()
        self._fd = fd
        self._size = size
        self._margin = margin

    def __iter__(self) -> Iterator[memoryview]:
        """Each window is good until the next."""
        window = self._make()
        for offset in range(0, self._size, WINDOW_BYTES):
            window = self._read(window, offset)
            self.hasher.update(window[self._margin :])
            yield window

    def _make(self) -> memoryview:
        return memoryview(bytearray(self._margin + min(WINDOW_BYTES, self._size)))

    def _read(self, window: memoryview, offset: int) -> memoryview:
        window = window[: self._margin + min(WINDOW_BYTES, self._size - offset)]
        fill(self._fd, window[self._margin :], offset)
        return window

    def release(self, window: memoryview) -> None:
        """Say that nobody looks at a window any more."""


class WindowsAhead(Windows):
    """The same windows, read and hashed by a thread while the caller works on those before.

    Args:
        fd, size, margin: as before.
        held: how many windows the caller may hold at a time; each is good until released.
    """

    def __init__(self, fd: int, size: int, margin: int, held: int) -> None:
        super().__init__(fd, size, margin)
        self._free: SimpleQueue[memoryview | None] = SimpleQueue()
        self._full: SimpleQueue[memoryview | BaseException | None] = SimpleQueue()
        self._most = held + 2  # one being read, one waiting
        self._reader = Thread(target=self._work, name="usrstore-read-ahead", daemon=True)

    def _work(self) -> None:
        try:
            made = 0
            for offset in range(0, self._size, WINDOW_BYTES):
                if made < self._most and self._free.empty():  # making one costs more than reusing
                    self._free.put(self._make())
                    made += 1
                window = self._free.get()
                if window is None:
                    return
                window = self._read(window, offset)
                self._full.put(window)  # it is cut while it is hashed: neither changes these bytes
                self.hasher.update(window[self._margin :])
            self._full.put(None)
        except BaseException as error:
            self._full.put(error)

    def __iter__(self) -> Iterator[memoryview]:
        while (window := self._full.get()) is not None:
            if isinstance(window, BaseException):
                raise window
            yield window

    def release(self, window: memoryview) -> None:
        self._free.put(window)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._free.put(None)
        self._reader.join()


def fill(fd: int, window: memoryview, offset: int) -> None:
    """Fill a window from an offset on.

    Raises:
        ChangedWhileReadError: the file ends before.
    """
    filled = 0
    while filled < len(window):
        count = os.preadv(fd, [window[filled:]], offset + filled)
        if not count:
            raise ChangedWhileReadError(
                f"a file ended at byte {offset + filled}, before the size it had when it was listed"
            )
        filled += count
