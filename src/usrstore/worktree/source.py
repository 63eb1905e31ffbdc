"""The folder as a pack: chunks that lie in working files, read there and verified on read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple, Self

from usrstore.errors import ChangedWhileReadError
from usrstore.objects.ids import ChunkId, Kind, hash_object


class Place(NamedTuple):
    path: str
    offset: int
    size: int


class FolderSource:
    """Chunks by id over files of one folder. Keeps one file open: readers go in file order."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._places: dict[ChunkId, Place] = {}
        self._open: tuple[str, int] | None = None

    def add(self, path: str, chunks: Iterable[tuple[ChunkId, int]]) -> None:
        """Say that the file at `path` consists of these chunks."""
        offset = 0
        for oid, size in chunks:
            self._places.setdefault(oid, Place(path, offset, size))
            offset += size

    def add_at(self, oid: ChunkId, path: str, offset: int, size: int) -> None:
        self._places.setdefault(oid, Place(path, offset, size))

    def find(self, oid: ChunkId) -> Place | None:
        return self._places.get(oid)

    def __len__(self) -> int:
        return len(self._places)

    def fd(self, path: str) -> int:
        """An open file; valid until the next call for another path.

        Raises:
            ChangedWhileReadError: it is gone.
        """
        if self._open is None or self._open[0] != path:
            self.close()
            full = os.path.join(self.folder, path)
            try:
                self._open = (path, os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
            except OSError as exc:
                raise _changed(path, exc.strerror or "cannot be read") from exc
        return self._open[1]

    def read(self, oid: ChunkId) -> bytes:
        """A chunk that `find` knows.

        Raises:
            ChangedWhileReadError: the file no longer holds it.
        """
        place = self._places[oid]
        try:
            data = os.pread(self.fd(place.path), place.size, place.offset)
        except OSError as exc:
            self.close()
            raise _changed(place.path, exc.strerror or "cannot be read") from exc
        if hash_object(Kind.CHUNK, data) != oid:
            self.close()
            raise _changed(place.path, "no longer holds what was captured")
        return data

    def try_read(self, oid: ChunkId) -> bytes | None:
        """A chunk if it is known and still there."""
        try:
            return self.read(oid) if oid in self._places else None
        except ChangedWhileReadError:
            return None

    def close(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _changed(path: str, how: str) -> ChangedWhileReadError:
    return ChangedWhileReadError(
        f"{path} changed while it was being sent: it {how}; nothing was promoted",
        hint="run the same command again; what has arrived is kept",
    )
