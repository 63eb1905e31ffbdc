"""What changed between two tables, row by row and column by column.

Rows are told apart by a key, whatever their order. Row groups and columns that are the same
bytes in both files are passed over (`rowhashes`), so the cost follows the change. Memory
holds the difference, and never more than a share of the rest at a time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import rowgroups, rowhashes
from usrstore.dataset.spill import Spill
from usrstore.errors import IntegrityError, InvalidInputError

ROW = "\0row"
"""A column of our own beside those of a table: the number of the row in its file."""
_HOLD_BYTES = 256 << 20


@dataclass(frozen=True)
class Cells:
    """Values of one column that differ: three arrays of one length."""

    keys: Any
    old: Any
    new: Any

    def __len__(self) -> int:
        return len(self.keys)


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


def schemas(a: str, b: str, key: str, columns: Sequence[str] = ()) -> Schemas:
    """Compare the columns of two Parquet files, or some of them.

    Raises:
        InvalidInputError: one of them has no such key.
        IntegrityError: not Parquet.
    """
    before, after = _schema(a), _schema(b)
    for path, found in ((a, before), (b, after)):
        if key not in found.names:
            raise InvalidInputError(
                f"{os.path.basename(path)} has no column {key!r} to tell rows apart by",
                hint=f"it has: {', '.join(found.names[:12])}",
                code="column-unknown",
            )
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


def _schema(path: str) -> Any:
    with rowgroups.open_file(os.path.dirname(path), os.path.basename(path)) as file:
        return file.schema_arrow.remove_metadata()


def deltas(
    a: str,
    b: str,
    key: str,
    *,
    scratch: str,
    columns: Sequence[str] = (),
    hold_bytes: int = _HOLD_BYTES,
) -> Iterator[Delta]:
    """What changed from `a` to `b`, a part at a time.

    Args:
        a, b: Parquet files.
        key: the column that names a row; its values are unique in each file.
        scratch: an empty folder; used if much changed.
        columns: which are compared; none stands for all that both have.
        hold_bytes: how much of the rows that changed place is decoded at a time.

    Raises:
        IntegrityError: a file that is damaged, or that has a key twice.
        InvalidInputError: no such key.
    """
    found = schemas(a, b, key, columns)
    pairing = rowhashes.pair(a, b, key)
    compared = [name for name in found.common if name != key]
    with _File(a) as first, _File(b) as second:
        for pair in pairing.pairs:
            if unequal := pair.unequal(compared):
                one = first.group(pair.a.number, [key, *unequal])
                two = second.group(pair.b.number, [key, *unequal])
                cells = _cells(one.column(key), one, two, unequal)
                if cells:
                    yield Delta(first.nothing(), second.nothing(), cells)
        size = first.decoded(pairing.only_a) + second.decoded(pairing.only_b)
        if not pairing.only_a and not pairing.only_b:
            return
        if size <= hold_bytes:
            yield _join(first.rows(pairing.only_a), second.rows(pairing.only_b), key, compared)
            return
        parts = math.ceil(size / hold_bytes)
        with (
            Spill(os.path.join(scratch, "a"), parts) as left,
            Spill(os.path.join(scratch, "b"), parts) as right,
        ):
            first.spill(pairing.only_a, key, left)
            second.spill(pairing.only_b, key, right)
            for number in range(parts):
                one = left.read(number, first.nothing)
                yield _join(one, right.read(number, second.nothing), key, compared)


def collect(parts: Iterator[Delta]) -> Delta | None:
    """All parts as one; None if nothing changed. Rows are in the order of their files."""
    held = list(parts)
    if not held:
        return None
    cells: dict[str, list[Cells]] = {}
    for part in held:
        for name, some in part.cells.items():
            cells.setdefault(name, []).append(some)
    joined = {
        name: Cells(*(pa.concat_arrays(arrays) for arrays in zip(*map(_arrays, some), strict=True)))
        for name, some in cells.items()
    }
    added = pa.concat_tables([part.added for part in held]).sort_by(ROW)
    removed = pa.concat_tables([part.removed for part in held]).sort_by(ROW)
    return Delta(added, removed, joined)


def _arrays(cells: Cells) -> tuple[Any, Any, Any]:
    return cells.keys, cells.old, cells.new


class _File:
    """A Parquet file read row group by row group."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = rowgroups.open_file(os.path.dirname(path), os.path.basename(path))
        self.schema = self._file.schema_arrow.remove_metadata()
        footer = self._file.metadata
        self._starts = [0]
        for number in range(footer.num_row_groups):
            self._starts.append(self._starts[-1] + footer.row_group(number).num_rows)

    def group(self, number: int, columns: list[str]) -> Any:
        try:
            return self._file.read_row_group(number, columns=columns).combine_chunks()
        except (OSError, pa.ArrowException) as exc:
            raise rowgroups.unreadable(self.path, exc) from exc

    def nothing(self) -> Any:
        return self.schema.append(pa.field(ROW, pa.int64())).empty_table()

    def decoded(self, numbers: list[int]) -> int:
        footer = self._file.metadata
        return sum(footer.row_group(number).total_byte_size for number in numbers)

    def rows(self, numbers: list[int]) -> Any:
        tables = [self._numbered(number) for number in numbers]
        return pa.concat_tables(tables).combine_chunks() if tables else self.nothing()

    def _numbered(self, number: int) -> Any:
        table = self.group(number, list(self.schema.names)).replace_schema_metadata(None)
        start = self._starts[number]
        return table.append_column(ROW, pa.array(range(start, start + len(table)), pa.int64()))

    def spill(self, numbers: list[int], key: str, spill: Spill) -> None:
        for number in numbers:
            spill.add(self._numbered(number), key)
        spill.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()


def _join(one: Any, two: Any, key: str, compared: list[str]) -> Delta:
    """What changed between rows that may be anywhere in their files."""
    a, b = one.column(key).combine_chunks(), two.column(key).combine_chunks()
    for keys in (a, b):
        if keys.null_count or len(pc.unique(keys)) != len(keys):
            raise IntegrityError(
                f"the column {key} does not tell rows apart: a value comes twice, or is missing; "
                "nothing was changed",
                hint="usr maintenance dedupe DATASET --key id --keep keep-first",
                code="duplicate-keys",
            )
    if a.type != b.type:
        raise IntegrityError(f"the column {key} is {a.type} on one side and {b.type} on the other")
    place = pc.index_in(a, b)
    here = pc.is_valid(place)
    both_a = one.filter(here)
    both_b = two.take(place.filter(here))
    added = two.filter(pc.invert(pc.is_in(b, a)))
    cells = _cells(both_a.column(key), both_a, both_b, compared)
    return Delta(added, one.filter(pc.invert(here)), cells)


def _cells(keys: Any, one: Any, two: Any, columns: list[str]) -> dict[str, Cells]:
    """Columns in which rows that belong together differ."""
    found = {}
    keys = _array(keys)
    for name in columns:
        old, new = _array(one.column(name)), _array(two.column(name))
        where = differing(old, new)
        if len(where):
            found[name] = Cells(keys.take(where), old.take(where), new.take(where))
    return found


def _array(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def differing(old: Any, new: Any) -> Any:
    """Where two arrays of one type and length differ (int64 places); NaN equals NaN."""
    kind = old.type
    if pa.types.is_nested(kind):
        return pa.array(_bisect(old, new, 0, len(old)), pa.int64())
    if pa.types.is_floating(kind):
        nan = pc.and_(pc.fill_null(pc.is_nan(old), False), pc.fill_null(pc.is_nan(new), False))
    else:
        nan = None
    equal = pc.fill_null(pc.equal(old, new), False)
    equal = pc.or_(equal, pc.and_(pc.is_null(old), pc.is_null(new)))
    if nan is not None:
        equal = pc.or_(equal, nan)
    return pc.indices_nonzero(pc.invert(equal)).cast(pa.int64())


def _bisect(old: Any, new: Any, start: int, end: int) -> list[int]:
    """Of lists and structs: halves that are equal are passed over whole."""
    found: list[int] = []
    stack = [(start, end)]
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
