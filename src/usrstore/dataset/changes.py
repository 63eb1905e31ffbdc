"""What changed between tables, as values: rows added, rows removed, cells that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

ROW = "\0row"
"""A column of our own beside those of a table: the number of the row in its file."""


@dataclass(frozen=True)
class Cells:
    """Values of one column that differ: three arrays of one length."""

    keys: Any
    old: Any
    new: Any

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Delta:
    """Some of what changed, or all of it.

    Attributes:
        added: rows that only the second table has, with a column ROW.
        removed: rows that only the first has, with a column ROW.
        cells: by column.
    """

    added: Any
    removed: Any
    cells: dict[str, Cells] = field(default_factory=dict)

    @property
    def changed_keys(self) -> Any:
        """The keys of rows that both have, and that differ."""
        arrays = [found.keys for found in self.cells.values()]
        return pc.unique(pa.concat_arrays(arrays)) if arrays else pa.array([], pa.string())

    @property
    def empty(self) -> bool:
        return not (len(self.added) or len(self.removed) or self.cells)


def numbered(table: Any, start: int) -> Any:
    """A table with the column ROW, counted from `start`."""
    return table.append_column(ROW, pa.arange(start, start + len(table)))


def nothing(schema: Any) -> Any:
    """A table without rows, with the column ROW."""
    return schema.append(pa.field(ROW, pa.int64())).empty_table()


def cells_of(keys: Any, one: Any, two: Any, columns: Sequence[str]) -> dict[str, Cells]:
    """Columns in which rows that belong together differ.

    Args:
        keys: the key of each row.
        one, two: tables of as many rows.
        columns: which to look at.
    """
    found = {}
    keys = array(keys)
    for name in columns:
        old, new = array(one.column(name)), array(two.column(name))
        where = differing(old, new)
        if len(where):
            found[name] = Cells(keys.take(where), old.take(where), new.take(where))
    return found


def array(column: Any) -> Any:
    """An array, whether it came in chunks or not."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def differing(old: Any, new: Any) -> Any:
    """Where two arrays of one type and length differ (int64 places); NaN equals NaN."""
    if old.equals(new):
        return pa.array([], pa.int64())
    kind = old.type
    if pa.types.is_dictionary(kind):
        return differing(old.dictionary_decode(), new.dictionary_decode())
    if pa.types.is_nested(kind):
        return pa.array(_bisect(old, new), pa.int64())
    equal = pc.fill_null(pc.equal(old, new), False)
    if old.null_count and new.null_count:
        equal = pc.or_(equal, pc.and_(pc.is_null(old), pc.is_null(new)))
    if pa.types.is_floating(kind):
        nan = pc.and_(pc.fill_null(pc.is_nan(old), False), pc.fill_null(pc.is_nan(new), False))
        equal = pc.or_(equal, nan)
    return pc.indices_nonzero(pc.invert(equal)).cast(pa.int64())


def _bisect(old: Any, new: Any) -> list[int]:
    """Of lists and structs: halves that are equal are passed over whole."""
    found: list[int] = []
    stack = [(0, len(old))]
    while stack:
        low, high = stack.pop()
        if low >= high or old.slice(low, high - low).equals(new.slice(low, high - low)):
            continue
        if high - low == 1:
            if repr(old[low].as_py()) != repr(new[low].as_py()):  # NaN prints as NaN
                found.append(low)
            continue
        middle = (low + high) // 2
        stack += [(middle, high), (low, middle)]
    return found
