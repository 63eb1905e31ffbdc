"""A store rolled into one new file as it is made; the other half of `archive`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from usrstore.errors import ConflictError, ObjectNotFoundError, ReadOnlyError
from usrstore.odb import durable
from usrstore.odb.backend.archive import END, header, padding, part_name
from usrstore.odb.backend.backend import Stat, check_key

if TYPE_CHECKING:
    from pathlib import Path

_COPY_BYTES = 64 << 20


class ArchiveWriter:
    """A backend whose keys become members of a tar at `path`; nobody sees it before `publish`."""

    def __init__(self, path: str) -> None:
        self._spool = durable.Spool.create(path)
        self._members: dict[str, tuple[int, int]] = {}
        self.path = path

    @property
    def size(self) -> int:
        return self._spool.size

    def create(self, key: str, data: bytes | Path) -> bool:
        if key in self._members:
            return False
        if isinstance(data, bytes):
            self._spool.write(header(key, len(data)))
            start = self._spool.size
            self._spool.write(data)
            size = len(data)
        else:
            fd = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = os.fstat(fd).st_size
                self._spool.write(header(key, size))
                start = self._spool.size
                for at in range(0, size, _COPY_BYTES):
                    length = min(_COPY_BYTES, size - at)
                    self._spool.copy_from(fd, at, self._spool.size, length)
            finally:
                os.close(fd)
        self._spool.write(padding(size))
        self._members[key] = (start, size)
        return True

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if check_key(key) not in self._members:
            raise ObjectNotFoundError(f"no {key} in {self.path}")
        at, size = self._members[key]
        start = max(0, size + start) if start < 0 else min(start, size)
        end = size if length is None else min(size, start + length)
        return self._spool.read_at(at + start, end - start)

    def stat(self, key: str) -> Stat | None:
        found = self._members.get(check_key(key))
        return None if found is None else Stat(key, found[1], 0.0)

    def list(self, prefix: str) -> Iterator[Stat]:
        for key in sorted(self._members):
            if key.startswith(prefix):
                yield Stat(key, self._members[key][1], 0.0)

    def delete(self, key: str) -> None:
        raise ReadOnlyError(f"{key} cannot be removed from an archive")

    def finish(self) -> None:
        """Write the end and bring all of it to the disk."""
        self._spool.write(END)
        self._spool.sync()

    def part(self, path: str, start: int, size: int) -> None:
        """Copy a range to a file of its own, on disk when this returns."""
        with durable.Spool.create(path) as spool:
            for at in range(0, size, _COPY_BYTES):
                length = min(_COPY_BYTES, size - at)
                spool.copy_from(self._spool.fileno(), start + at, at, length)
            spool.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._spool.close()


def publish(archive: ArchiveWriter, path: str, split: int | None) -> list[str]:
    """Give a finished archive its name, or its parts theirs; gives the paths.

    Raises:
        ConflictError: a name is taken; no file of that name was changed.
    """
    if split is None or archive.size <= split:
        _named(archive.path, path)
        return [path]
    total = -(-archive.size // split)
    made = []
    for number in range(1, total + 1):
        scratch = f"{archive.path}.{number}"
        start = (number - 1) * split
        archive.part(scratch, start, min(split, archive.size - start))
        name = part_name(path, number, total)
        _named(scratch, name)
        made.append(name)
    return made


def _named(scratch: str, path: str) -> None:
    if not durable.publish(scratch, path):
        raise ConflictError(f"{path} is there already; it was not changed", hint="name another")
