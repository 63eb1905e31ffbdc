"""The folder as a pack: chunks that lie in working files, read there and verified on read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

from usrstore.errors import ChangedWhileReadError
from usrstore.objects.ids import ChunkId, Kind, hash_object
from usrstore.worktree.scan import Stamp


class Place(NamedTuple):
    path: str
    offset: int
    size: int


class FolderSource:
    """Chunks by id over files of one folder. Keeps one file open: readers go in file order.

    Args:
        folder: where the files are.
        hashed: files that this process has hashed already, with their stamps then. `read_all` does
            not do it again while nobody has touched them.
        lone: the name of the one file that counts, whatever its path in a state.
    """

    def __init__(
        self,
        folder: str,
        hashed: Mapping[str, Stamp] | None = None,
        lone: str | None = None,
    ) -> None:
        self.folder = folder
        self._hashed = hashed or {}
        self._lone = lone
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
            try:
                self._open = (path, self._open_file(path))
            except OSError as exc:
                raise _changed(self._lone or path, exc.strerror or "cannot be read") from exc
        return self._open[1]

    def _open_file(self, path: str) -> int:
        full = os.path.join(self.folder, self._lone or path)
        return os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

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
            raise _changed(self._lone or place.path, exc.strerror or "cannot be read") from exc
        if hash_object(Kind.CHUNK, data) != oid:
            self.close()
            raise _changed(self._lone or place.path, "no longer holds what was captured")
        return data

    def read_all(self, oids: Sequence[ChunkId]) -> list[memoryview | None]:
        """Many chunks, neighbours at once; None for each that is not known, or not there.

        Each is hashed, unless this process has hashed its file and nobody has touched it since.
        Opens files of its own, so that several threads may read at a time.
        """
        found: list[memoryview | None] = [None] * len(oids)
        opened: tuple[str, int] | None = None
        try:
            for first, last in self._neighbours(oids):
                begin, end = self._places[oids[first]], self._places[oids[last]]
                if opened is None or opened[0] != begin.path:
                    if opened is not None:
                        os.close(opened[1])
                        opened = None
                    opened = (begin.path, self._open_file(begin.path))
                size = end.offset + end.size - begin.offset
                data = memoryview(os.pread(opened[1], size, begin.offset))
                untouched = len(data) == size and self._untouched(begin.path, opened[1])
                for number in range(first, last + 1):
                    place = self._places[oids[number]]
                    at = place.offset - begin.offset
                    piece = data[at : at + place.size]
                    if untouched or hash_object(Kind.CHUNK, piece) == oids[number]:
                        found[number] = piece
        except OSError:
            pass  # whoever reads one of them by itself learns why
        finally:
            if opened is not None:
                os.close(opened[1])
        return found

    def _untouched(self, path: str, fd: int) -> bool:
        """Whether a file still is what was hashed: asked once its bytes have been read."""
        stamp = self._hashed.get(path)
        return stamp is not None and stamp == Stamp.of(os.fstat(fd))

    def _neighbours(self, oids: Sequence[ChunkId]) -> Iterator[tuple[int, int]]:
        """Known chunks that lie one behind the other: the first and the last of each stretch."""
        first, before = 0, None
        for number, oid in enumerate(oids):
            place = self._places.get(oid)
            if before is not None and not (
                place is not None
                and (place.path, place.offset) == (before.path, before.offset + before.size)
            ):
                yield first, number - 1
                before = None
            if before is None:
                first = number
            before = place
        if before is not None:
            yield first, len(oids) - 1

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
