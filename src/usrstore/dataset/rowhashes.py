"""Which parts of two Parquet files are the same bytes: row groups, and columns inside them.

A column chunk says nothing of where it stands in its file, so equal bytes are equal values.
Where both files' chunks are known, a column is told by the chunks that cover it, and nothing
is read but the footers. Else its bytes are hashed, which decodes nothing.
"""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from usrstore.dataset.tablefile import Range, TableFile
from usrstore.objects.ids import ContentHash, ContentHasher

_READ_BYTES = 1 << 20


class Group(NamedTuple):
    """A row group: its number, the number of its first row, its rows, a hash of each column.

    `ranges` are the bytes of each column.
    """

    number: int
    start: int
    rows: int
    hashes: dict[str, ContentHash]
    ranges: dict[str, list[Range]]


class Pair(NamedTuple):
    """Row groups of two files with the same keys in the same order."""

    a: Group
    b: Group

    def unequal(self, columns: list[str]) -> list[str]:
        """Of these columns, those whose bytes differ."""
        return [name for name in columns if self.a.hashes.get(name) != self.b.hashes.get(name)]


class Pairing(NamedTuple):
    """Two files group by group.

    Attributes:
        pairs: groups that both have, in the order of the second file.
        only_a, only_b: the groups that have no partner, in their order.
    """

    pairs: list[Pair]
    only_a: list[Group]
    only_b: list[Group]


def groups(
    file: TableFile, footer: Any, *, by_cut: bool = False, only: str | None = None
) -> list[Group]:
    """The row groups of a file with the hashes of their columns.

    Args:
        file: which.
        footer: its `pyarrow.parquet.FileMetaData`.
        by_cut: take the chunks that cover a column for its hash; else its bytes are read.
        only: the one column that is looked at; None stands for all.
    """
    if by_cut:
        return _groups(footer, only, _Cover(file.chunks() if file.chunks else ()).feed)
    opened = file.open()
    if not isinstance(opened, str):
        with opened:
            return _groups(footer, only, lambda hasher, at: _feed_file(hasher, opened, at))
    fd = os.open(opened, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _groups(footer, only, lambda hasher, at: _feed(hasher, fd, at))
    finally:
        os.close(fd)


def _groups(
    footer: Any, only: str | None, feed: Callable[[ContentHasher, Range], None]
) -> list[Group]:
    found, start = [], 0
    levels = [footer.schema.column(n) for n in range(footer.num_columns)]
    shapes = [
        f"{column.path} {column.max_definition_level} {column.max_repetition_level}"
        for column in levels
    ]
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        hashers: dict[str, ContentHasher] = {}
        ranges: dict[str, list[Range]] = {}
        for at, shape in enumerate(shapes):
            column = group.column(at)
            name = column.path_in_schema.partition(".")[0]
            if only not in (None, name):
                continue
            hasher = hashers.setdefault(name, ContentHasher())
            place = _range(column)
            # What the bytes mean: the same bytes of another codec or type are other values.
            hasher.update(f"{shape} {column.physical_type} {column.compression}\n".encode())
            feed(hasher, place)
            ranges.setdefault(name, []).append(place)
        hashes = {name: hasher.digest() for name, hasher in hashers.items()}
        found.append(Group(number, start, group.num_rows, hashes, ranges))
        start += group.num_rows
    return found


def _range(column: Any) -> Range:
    start: int = column.data_page_offset
    if column.has_dictionary_page and column.dictionary_page_offset:
        start = min(start, column.dictionary_page_offset)
    return start, column.total_compressed_size


class _Cover:
    """The chunks of a file by their offsets."""

    def __init__(self, cut: Sequence[tuple[bytes, int]]) -> None:
        self._oids = [oid for oid, _ in cut]
        self._starts = list(itertools.accumulate((size for _, size in cut), initial=0))

    def feed(self, hasher: ContentHasher, place: Range) -> None:
        """Equal for two ranges only if their bytes are: the chunks, and where in them."""
        start, length = place
        first = max(bisect.bisect_right(self._starts, start) - 1, 0)
        last = bisect.bisect_left(self._starts, start + length)
        inside = start - self._starts[first]
        hasher.update(f"{inside} {length}\n".encode())
        hasher.update(b"".join(self._oids[first:last]))


def _feed(hasher: ContentHasher, fd: int, place: Range) -> None:
    start, left = place
    while left > 0:
        piece = os.pread(fd, min(left, _READ_BYTES), start)
        if not piece:
            break
        hasher.update(piece)
        start, left = start + len(piece), left - len(piece)


def _feed_file(hasher: ContentHasher, file: Any, place: Range) -> None:
    start, left = place
    file.seek(start)
    while left > 0 and (piece := file.read(min(left, _READ_BYTES))):
        hasher.update(piece)
        left -= len(piece)


def pair(a: TableFile, b: TableFile, footers: tuple[Any, Any], key: str) -> Pairing:
    """Match the row groups of two files by their key columns.

    Args:
        a, b: Parquet files.
        footers: theirs.
        key: the column that names a row.
    """
    by_cut = a.chunks is not None and b.chunks is not None
    waiting: dict[tuple[ContentHash | None, int], list[Group]] = {}
    for group in reversed(groups(a, footers[0], by_cut=by_cut)):
        waiting.setdefault((group.hashes.get(key), group.rows), []).append(group)
    pairs, only_b = [], []
    for group in groups(b, footers[1], by_cut=by_cut):
        partners = waiting.get((group.hashes.get(key), group.rows))
        if partners:
            pairs.append(Pair(partners.pop(), group))
        else:
            only_b.append(group)
    only_a = sorted((group for rest in waiting.values() for group in rest), key=lambda g: g.number)
    return Pairing(pairs, only_a, only_b)
