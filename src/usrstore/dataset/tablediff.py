"""What changed between two tables, row by row and column by column.

Rows are told apart by a key, whatever their order. Row groups and columns that are the same
bytes in both files are passed over (`rowhashes`), so the cost follows the change; of groups
with equal keys only the columns that differ are read. The others are joined (`tablejoin`).
Memory holds a few runs of rows, and of the rest never more than a share at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from usrstore.dataset import changes, rowgroups, rowhashes, tablejoin
from usrstore.dataset.changes import ROW, Cells, Delta, differing
from usrstore.dataset.rowhashes import Group, Pair
from usrstore.dataset.tablefile import Range, TableFile
from usrstore.dataset.tablejoin import HOLD_BYTES, Rule
from usrstore.errors import InvalidInputError

__all__ = ["ROW", "Cells", "Delta", "Schemas", "collect", "deltas", "differing", "schemas"]

_AHEAD_BYTES = 16 << 20
Table = str | TableFile


@dataclass(frozen=True)
class Schemas:
    """How the columns of two tables differ.

    Attributes:
        added, removed: `pyarrow.Field`s that only one of them has.
        retyped: name → (type before, type after).
        common: names of the columns that both have with one type, the key first.
    """

    added: tuple[Any, ...]
    removed: tuple[Any, ...]
    retyped: dict[str, tuple[Any, Any]]
    common: tuple[str, ...]

    @property
    def changed(self) -> bool:
        return bool(self.added or self.removed or self.retyped)


def schemas(a: Table, b: Table, key: str, columns: Sequence[str] = ()) -> Schemas:
    """Compare the columns of two Parquet files, or some of them.

    Raises:
        InvalidInputError: one of them has no such key.
        IntegrityError: not Parquet.
    """
    with _File(_file(a), key) as first, _File(_file(b), key) as second:
        return compare_schemas(first.schema, second.schema, key, columns)


def compare_schemas(before: Any, after: Any, key: str, columns: Sequence[str] = ()) -> Schemas:
    """The same of schemas that are known."""
    wanted = set(columns) | {key} if columns else {*before.names, *after.names}
    both = [n for n in before.names if n in after.names and n in wanted]
    retyped = {
        name: (before.field(name).type, after.field(name).type)
        for name in both
        if before.field(name).type != after.field(name).type
    }
    common = [key, *(name for name in both if name != key and name not in retyped)]
    return Schemas(
        tuple(f for f in after if f.name in wanted and f.name not in before.names),
        tuple(f for f in before if f.name in wanted and f.name not in after.names),
        retyped,
        tuple(common),
    )


def _file(table: Table) -> TableFile:
    return TableFile.at(table) if isinstance(table, str) else table


def deltas(
    a: Table,
    b: Table,
    key: str,
    *,
    scratch: str,
    columns: Sequence[str] = (),
    unique: bool = True,
    hold_bytes: int = HOLD_BYTES,
) -> Iterator[Delta]:
    """What changed from `a` to `b`, a part at a time.

    Args:
        a, b: Parquet files.
        key: the column that names a row.
        scratch: an empty folder; used if much changed its place.
        columns: which are compared; none stands for all that both have.
        unique: whether a key that comes twice is an error; else rows with one key are partners
            in the order in which they come.
        hold_bytes: how much of the rows that changed place waits in memory.

    Raises:
        IntegrityError: a file that is damaged, or that has a key twice where it must not.
        InvalidInputError: no such key.
    """
    first_file, second_file = _file(a), _file(b)
    with _File(first_file, key) as first, _File(second_file, key) as second:
        found = compare_schemas(first.schema, second.schema, key, columns)
        compared = [name for name in found.common if name != key]
        pairing = rowhashes.pair(first_file, second_file, (first.footer, second.footer), key)
        nothing = changes.nothing(second.schema), changes.nothing(first.schema)
        for pair, unequal in _ahead(first_file, second_file, key, compared, pairing.pairs):
            for cells in _in_place(first, second, pair, key, unequal):
                yield Delta(*nothing, cells)
        if pairing.only_a or pairing.only_b:
            yield from tablejoin.join(
                first.rows(pairing.only_a),
                second.rows(pairing.only_b),
                Rule(key, compared, unique),
                scratch=scratch,
                schemas=(nothing[1].schema, nothing[0].schema),
                hold_bytes=hold_bytes,
            )


def _ahead(
    a: TableFile, b: TableFile, key: str, compared: list[str], pairs: Iterable[Pair]
) -> Iterator[tuple[Pair, list[str]]]:
    """Pairs that differ, and in which columns; what will be read of them is asked for before."""
    waiting: list[tuple[Pair, list[str]]] = []
    ranges: tuple[list[Range], list[Range]] = ([], [])
    size = 0
    for pair in pairs:
        unequal = pair.unequal(compared)
        if not unequal:
            continue
        waiting.append((pair, unequal))
        for group, wanted in zip(pair, ranges, strict=True):
            places = [place for name in (*unequal, key) for place in group.ranges[name]]
            wanted.extend(places)
            size += sum(length for _, length in places)
        if size >= _AHEAD_BYTES:
            yield from _told(a, b, ranges, waiting)
            waiting, ranges, size = [], ([], []), 0
    yield from _told(a, b, ranges, waiting)


def _told(
    a: TableFile,
    b: TableFile,
    ranges: tuple[list[Range], list[Range]],
    waiting: list[tuple[Pair, list[str]]],
) -> Iterator[tuple[Pair, list[str]]]:
    if waiting:
        a.expect(ranges[0])
        b.expect(ranges[1])
    yield from waiting


def _in_place(
    first: _File, second: _File, pair: Pair, key: str, unequal: list[str]
) -> Iterator[dict[str, Cells]]:
    """Cells that differ in a row group whose keys are the same; keys are read if need be."""
    keys = _Keys(second, pair.b, key)
    start = 0
    for one, two in zip(first.runs(pair.a, unequal), second.runs(pair.b, unequal), strict=True):
        where = {
            name: found
            for name in unequal
            if len(found := differing(changes.array(one[name]), changes.array(two[name])))
        }
        if where:
            at = keys.of(start)
            yield {
                name: Cells(
                    at.take(found),
                    changes.array(one[name]).take(found),
                    changes.array(two[name]).take(found),
                )
                for name, found in where.items()
            }
        start += len(one)


class _Keys:
    """The keys of a row group, run by run, for those who skip most of them."""

    def __init__(self, file: _File, group: Group, key: str) -> None:
        self._runs = file.runs(group, [key])
        self._start, self._key = 0, key

    def of(self, start: int) -> Any:
        """The keys of the run that begins at a row; runs are asked for in order."""
        for run in self._runs:
            at, self._start = self._start, self._start + len(run)
            if at == start:
                return changes.array(run.column(self._key))
        raise AssertionError(start)


def collect(parts: Iterator[Delta]) -> Delta | None:
    """All parts as one; None if nothing changed. Rows are in the order of their files."""
    held = list(parts)
    if not held:
        return None
    cells: dict[str, list[Cells]] = {}
    for part in held:
        for name, some in part.cells.items():
            cells.setdefault(name, []).append(some)
    joined = {name: _joined(some) for name, some in cells.items()}
    added = pa.concat_tables([part.added for part in held]).sort_by(ROW)
    removed = pa.concat_tables([part.removed for part in held]).sort_by(ROW)
    return Delta(added, removed, joined)


def _joined(some: list[Cells]) -> Cells:
    columns = zip(*map(_arrays, some), strict=True)
    return Cells(*(pa.concat_arrays(arrays) for arrays in columns))


def _arrays(cells: Cells) -> tuple[Any, Any, Any]:
    return cells.keys, cells.old, cells.new


class _File:
    """A Parquet file read row group by row group."""

    def __init__(self, file: TableFile, key: str) -> None:
        self._table = file
        self._file = rowgroups.open_table(file)
        self.footer = self._file.metadata
        self.schema = self._file.schema_arrow.remove_metadata()
        if key not in self.schema.names:
            raise InvalidInputError(
                f"{os.path.basename(file.name)} has no column {key!r} to tell rows apart by",
                hint=f"it has: {', '.join(self.schema.names[:12])}",
                code="column-unknown",
            )

    def runs(self, group: Group, columns: Sequence[str]) -> Iterator[Any]:
        """The rows of a group as tables of `rowgroups.BATCH_ROWS` rows; the last may be shorter."""
        try:
            batches = self._file.iter_batches(
                rowgroups.BATCH_ROWS, row_groups=[group.number], columns=list(columns)
            )
            for table in rowgroups.regular(batches, rowgroups.BATCH_ROWS):
                yield table.select(list(columns)).replace_schema_metadata(None)
        except (OSError, pa.ArrowException) as exc:
            raise rowgroups.unreadable(self._table.name, exc) from exc

    def rows(self, groups: Sequence[Group]) -> Iterator[Any]:
        """All columns of some groups, with the column ROW."""
        for group in groups:
            self._table.expect([place for places in group.ranges.values() for place in places])
            start = group.start
            for table in self.runs(group, self.schema.names):
                yield changes.numbered(table, start)
                start += len(table)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()
