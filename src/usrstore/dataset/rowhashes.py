"""Which parts of two Parquet files are the same bytes: row groups, and columns inside them.

A column chunk says nothing of where it stands in its file, so equal bytes are equal values.
Hashing costs one read of the bytes and decodes nothing; what is equal need not be looked at.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from usrstore.dataset import rowgroups
from usrstore.objects.ids import ContentHash, ContentHasher

_READ_BYTES = 1 << 20


class Group(NamedTuple):
    """A row group: its number, the number of its first row, its rows, a hash of each column."""

    number: int
    start: int
    rows: int
    hashes: dict[str, ContentHash]


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
        only_a, only_b: numbers of the groups that have no partner.
    """

    pairs: list[Pair]
    only_a: list[int]
    only_b: list[int]


def groups(path: str) -> list[Group]:
    """The row groups of a file with the hashes of their columns.

    Raises:
        IntegrityError: it does not open as Parquet.
    """
    with rowgroups.open_file(os.path.dirname(path), os.path.basename(path)) as file:
        footer = file.metadata
    found, start = [], 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            found.append(Group(number, start, group.num_rows, _hashes(fd, group)))
            start += group.num_rows
    finally:
        os.close(fd)
    return found


def _hashes(fd: int, group: Any) -> dict[str, ContentHash]:
    hashers: dict[str, ContentHasher] = {}
    for number in range(group.num_columns):
        column = group.column(number)
        name = column.path_in_schema.partition(".")[0]
        hasher = hashers.setdefault(name, ContentHasher())
        start = column.data_page_offset
        if column.has_dictionary_page and column.dictionary_page_offset:
            start = min(start, column.dictionary_page_offset)
        left = column.total_compressed_size
        # What the bytes mean: the same bytes of another codec or type are other values.
        hasher.update(
            f"{column.path_in_schema} {column.physical_type} {column.compression}".encode()
        )
        while left > 0:
            piece = os.pread(fd, min(left, _READ_BYTES), start)
            if not piece:
                break
            hasher.update(piece)
            start, left = start + len(piece), left - len(piece)
    return {name: hasher.digest() for name, hasher in hashers.items()}


def pair(a: str, b: str, key: str) -> Pairing:
    """Match the row groups of two files by their key columns.

    Args:
        a, b: Parquet files.
        key: the column that names a row.
    """
    waiting: dict[tuple[ContentHash | None, int], list[Group]] = {}
    for group in reversed(groups(a)):
        waiting.setdefault((group.hashes.get(key), group.rows), []).append(group)
    pairs, only_b = [], []
    for group in groups(b):
        partners = waiting.get((group.hashes.get(key), group.rows))
        if partners:
            pairs.append(Pair(partners.pop(), group))
        else:
            only_b.append(group.number)
    only_a = sorted(group.number for rest in waiting.values() for group in rest)
    return Pairing(pairs, only_a, only_b)
