"""Table files wherever their bytes are: in a folder, in packs, or at a remote.

Readers of tables need a name, a size, and any range of bytes. Who also knows how a file was
cut into chunks can say that two ranges are equal without reading either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Range = tuple[int, int]
"""Offset and length."""


class Opens(Protocol):
    """Gives what `pyarrow.parquet` reads from: a path, or a binary file that can seek."""

    def __call__(self) -> Any: ...


def _expect_nothing(ranges: Iterable[Range]) -> None:
    del ranges


@dataclass(frozen=True)
class TableFile:
    """One file.

    Attributes:
        name: for messages.
        open: gives what to read from; every call a new one.
        chunks: gives what it consists of, in order: id and length; None if that is not known.
        expect: may be told which ranges will be read next, so that they come in one go.
    """

    name: str
    open: Opens
    chunks: Callable[[], Sequence[tuple[bytes, int]]] | None = None
    expect: Callable[[Iterable[Range]], None] = _expect_nothing

    @classmethod
    def at(cls, path: str) -> TableFile:
        """A file on the disk."""
        return cls(path, lambda: path)


class TableFolder(Protocol):
    """The files of a dataset in one state, which need not lie in a folder."""

    def paths(self) -> Iterable[str]:
        """All of them, '/'-separated."""
        ...

    def size(self, path: str) -> int:
        """In bytes. Raises: KeyError."""
        ...

    def file(self, path: str) -> TableFile:
        """Raises: NotFoundError."""
        ...


Folder = str | os.PathLike[str] | TableFolder


def find(folder: Folder, path: str) -> TableFile:
    """A file of a dataset, whether it lies in a folder or not."""
    if isinstance(folder, str | os.PathLike):
        return TableFile.at(os.path.join(folder, path))
    return folder.file(path)
