"""Read ahead: metadata of a pack lies together, so one question brings what the next will ask.

Values never change, so what was read stays right for as long as it is kept. The end of a pack
(trailer and index) comes with one suffix read, and a whole small pack with it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from usrstore.odb.backend.backend import Backend, Stat

WINDOW_BYTES = 256 << 10
_KEPT = 128  # 32 MiB


class ReadAhead:
    """A backend that asks another for more than it is asked for, within fixed bounds."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._windows: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        size = self._sizes.get(key)
        if size is None or not key.startswith("packs/"):
            return self.backend.read(key, start, length)
        start = max(0, size + start) if start < 0 else min(start, size)
        end = size if length is None else min(size, start + length)
        if end - start > WINDOW_BYTES:
            return self.backend.read(key, start, end - start)
        found = self._kept(key, start, end)
        if found is None:
            # What is asked of a pack is its end first, and in it parents after children.
            begin = max(0, end - WINDOW_BYTES)
            data = self.backend.read(key, begin, end - begin)
            self._keep(key, begin, data)
            found = data[start - begin : end - begin]
        return found

    def _kept(self, key: str, start: int, end: int) -> bytes | None:
        with self._lock:
            for at, begin in self._windows:
                if at == key and begin <= start:
                    data = self._windows[at, begin]
                    if end <= begin + len(data):
                        self._windows.move_to_end((at, begin))
                        return data[start - begin : end - begin]
        return None

    def _keep(self, key: str, begin: int, data: bytes) -> None:
        with self._lock:
            self._windows[key, begin] = data
            while len(self._windows) > _KEPT:
                self._windows.popitem(last=False)

    def create(self, key: str, data: bytes | Path) -> bool:
        return self.backend.create(key, data)

    def stat(self, key: str) -> Stat | None:
        found = self.backend.stat(key)
        if found is not None:
            self._sizes[key] = found.size
        return found

    def list(self, prefix: str) -> Iterator[Stat]:
        for stat in self.backend.list(prefix):
            self._sizes[stat.key] = stat.size
            yield stat

    def delete(self, key: str) -> None:
        self.backend.delete(key)
