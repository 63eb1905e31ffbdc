"""A backend in memory: a first-class citizen for tests and for read-only snapshots."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from usrstore.errors import ObjectNotFoundError
from usrstore.odb.backend.backend import Stat, check_key

if TYPE_CHECKING:
    from pathlib import Path


class MemoryBackend:
    """Keeps everything in one dict; safe for threads."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        try:
            value, _ = self._values[check_key(key)]
        except KeyError:
            raise ObjectNotFoundError(f"no {key} in memory") from None
        start = max(0, len(value) + start) if start < 0 else start
        return value[start:] if length is None else value[start : start + length]

    def create(self, key: str, data: bytes | Path) -> bool:
        value = data if isinstance(data, bytes) else data.read_bytes()
        with self._lock:
            if check_key(key) in self._values:
                return False
            self._values[key] = (value, time.time())
            return True

    def stat(self, key: str) -> Stat | None:
        found = self._values.get(check_key(key))
        return Stat(key, len(found[0]), found[1]) if found else None

    def list(self, prefix: str) -> Iterator[Stat]:
        check_key(prefix.rstrip("/"))
        with self._lock:
            rows = [
                Stat(k, len(v), t) for k, (v, t) in self._values.items() if k.startswith(prefix)
            ]
        yield from sorted(rows)

    def delete(self, key: str) -> None:
        with self._lock:
            self._values.pop(check_key(key), None)
