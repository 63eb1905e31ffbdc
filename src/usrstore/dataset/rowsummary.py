"""What changed in a table, as plain values: counts of all of it, and the first rows whole.

Numbers that JSON does not know stand as the texts NaN, Infinity and -Infinity: a null that
became one of them is a change, and must be seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as at

from usrstore.dataset import values
from usrstore.dataset.changes import ROW, Delta


class Change(NamedTuple):
    """One value that became another."""

    old: Any
    new: Any


class RowChange(NamedTuple):
    """A row that both sides have: its key, and what changed in it by column."""

    key: Any
    cells: dict[str, Change]


@dataclass
class Summary:
    """What was seen so far.

    Attributes:
        limit: how many rows of each kind are held; None for all.
        added, removed, changed: rows.
        cells: by column, how many values changed.
        added_rows, removed_rows, changed_rows: the first of them.
    """

    limit: int | None
    added: int = 0
    removed: int = 0
    changed: int = 0
    cells: dict[str, int] = field(default_factory=dict)
    added_rows: list[dict[str, Any]] = field(default_factory=list)
    removed_rows: list[dict[str, Any]] = field(default_factory=list)
    changed_rows: list[RowChange] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.added or self.removed or self.changed)

    def add(self, delta: Delta) -> None:
        """Take some of what changed."""
        self.added += len(delta.added)
        self.removed += len(delta.removed)
        self.changed += len(delta.changed_keys)
        for name, cells in delta.cells.items():
            self.cells[name] = self.cells.get(name, 0) + len(cells)
        for found, held in (
            (delta.added, self.added_rows),
            (delta.removed, self.removed_rows),
        ):
            held.extend(rows_of(found, self._left(held)))
        self.changed_rows += changed_rows(delta, self._left(self.changed_rows))

    def _left(self, held: list[Any]) -> int | None:
        return None if self.limit is None else max(0, self.limit - len(held))


def rows_of(table: Any, most: int | None = None) -> list[dict[str, Any]]:
    """The first rows of a table as dicts of plain values."""
    part = table if most is None else table.slice(0, most)
    if not len(part):
        return []
    names = [name for name in part.schema.names if name != ROW]
    columns = [plain_values(part.column(name)) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def changed_rows(delta: Delta, most: int | None = None) -> list[RowChange]:
    """The first rows that changed, in the order in which their keys come up."""
    if not delta.cells or most == 0:
        return []
    keys = delta.changed_keys
    keys = keys if most is None else keys.slice(0, most)
    found: dict[Any, dict[str, Change]] = {key: {} for key in map(_hashable, plain_values(keys))}
    for name, cells in delta.cells.items():
        some = cells
        if most is not None:
            mask = pc.is_in(cells.keys, keys)
            some = type(cells)(*(a.filter(mask) for a in (cells.keys, cells.old, cells.new)))
        for key, old, new in zip(*map(plain_values, (some.keys, some.old, some.new)), strict=True):
            found[_hashable(key)][name] = Change(old, new)
    return [RowChange(_key(key), cells) for key, cells in found.items()]


def keys_of(table: Any, key: str) -> Iterator[Any]:
    """The keys of rows as plain values."""
    yield from plain_values(table.column(key))


def _hashable(key: Any) -> Any:
    return key if not isinstance(key, list | dict) else ("\0", values.dumps(key))


def _key(key: Any) -> Any:
    return key[1] if isinstance(key, tuple) else key


def plain_values(column: Any) -> list[Any]:
    """The values of an array, as JSON has them but for numbers that it lacks."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = whole.type
    if at.is_dictionary(kind):
        return plain_values(whole.dictionary_decode())
    if at.is_floating(kind):
        return [_number(value) for value in whole.to_pylist()]
    if at.is_nested(kind):
        try:
            return [_nested(value) for value in whole.to_pylist()]
        except (ValueError, ImportError):  # moments finer than Python's
            pass
    return values.column_values(whole)


def _number(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _nested(value: Any) -> Any:
    match value:
        case float():
            return _number(value)
        case list():
            return [_nested(held) for held in value]
        case dict():
            return {str(key): _nested(held) for key, held in value.items()}
    return values.plain(value)


def summarize(parts: Iterable[Delta], limit: int | None) -> Summary:
    """All of what changed, with the first `limit` rows of each kind."""
    found = Summary(limit)
    for part in parts:
        found.add(part)
    return found
