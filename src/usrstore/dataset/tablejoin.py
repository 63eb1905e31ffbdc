"""Rows of two tables brought together by a key, wherever in their tables they stand.

Both are read side by side, and only rows whose partner has not come yet are held: of tables in
about the same order hardly any, however long they are. If too many wait, everything that is
left goes to the disk, sorted into parts by key, and each part is joined by itself.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import changes
from usrstore.dataset.changes import Delta
from usrstore.dataset.spill import Spill
from usrstore.errors import IntegrityError

HOLD_BYTES = 256 << 20
_MAX_PARTS = 256


class Rule(NamedTuple):
    """How rows are brought together.

    Attributes:
        key: the column that tells rows apart.
        compared: the columns whose values are compared.
        unique: whether a key that comes twice is an error; else rows with one key are
            partners in the order in which they come.
    """

    key: str
    compared: Sequence[str]
    unique: bool = True


def join(
    one: Iterable[Any],
    two: Iterable[Any],
    rule: Rule,
    *,
    scratch: str,
    schemas: tuple[Any, Any],
    hold_bytes: int = HOLD_BYTES,
) -> Iterator[Delta]:
    """What changed from one run of tables to the other, a part at a time.

    Args:
        one, two: tables with a column ROW.
        rule: how.
        scratch: an empty folder; used if rows are far from where they were.
        schemas: of both, ROW included.
        hold_bytes: how much may wait in memory for its partner.

    Raises:
        IntegrityError: a key that comes twice, if it must not.
    """
    left, right = _Waiting(one, schemas[0]), _Waiting(two, schemas[1])
    nothing = schemas[1].empty_table(), schemas[0].empty_table()
    while reading := [side for side in (left, right) if not side.ended]:
        # The side that is behind is read, so that both are at about the same place.
        side = min(reading, key=lambda side: side.taken)
        if not side.take() or any(side.taken < other.taken for other in reading):
            continue
        cells = _meet(left, right, rule)
        if cells:
            yield Delta(*nothing, cells)
        if left.ended and len(right):
            yield Delta(right.give(), nothing[1])
        if right.ended and len(left):
            yield Delta(nothing[0], left.give())
        if left.bytes + right.bytes > hold_bytes and not (left.ended and right.ended):
            yield from _spilled(left, right, rule, scratch)
            return
    if len(left) or len(right):
        cells = _meet(left, right, rule)
        found = Delta(right.give(), left.give(), cells)
        if not found.empty:
            yield found


class _Waiting:
    """One side: its rows that have no partner yet."""

    def __init__(self, tables: Iterable[Any], schema: Any) -> None:
        self._tables = iter(tables)
        self.rows = schema.empty_table()
        self.taken = 0
        self.ended = False

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @property
    def bytes(self) -> int:
        return int(self.rows.nbytes)

    def take(self) -> bool:
        """Read one more table; False at the end."""
        table = next(self._tables, None)
        if table is None:
            self.ended = True
            return False
        self.taken += len(table)
        self.rows = pa.concat_tables([self.rows, table]) if len(self) else table
        return True

    def keep(self, mask: Any) -> None:
        self.rows = self.rows.filter(mask).combine_chunks()

    def give(self) -> Any:
        found, self.rows = self.rows, self.rows.slice(0, 0)
        return found

    def rest(self) -> Iterator[Any]:
        """What waits, and all that has not been read."""
        return itertools.chain([self.give()], self._tables)


def _meet(left: _Waiting, right: _Waiting, rule: Rule) -> dict[str, changes.Cells]:
    """Compare partners and let them go; the others go on waiting."""
    if not len(left) or not len(right):
        for side in (left, right):
            if rule.unique and len(side):
                _check_unique(changes.array(side.rows.column(rule.key)), rule.key)
        return {}
    a = changes.array(left.rows.column(rule.key))
    b = changes.array(right.rows.column(rule.key))
    if a.type != b.type:
        raise IntegrityError(
            f"the column {rule.key} is {a.type} on one side and {b.type} on the other, so that "
            "rows cannot be brought together by it; nothing was changed",
            hint="name another column with --key",
            code="key-types",
        )
    if a.equals(b) and (_is_unique(a) or not rule.unique):
        cells = changes.cells_of(a, left.rows, right.rows, rule.compared)
        left.give()
        right.give()
        return cells
    place = _partners(a, b, rule)
    here = place.is_valid()
    both = left.rows.filter(here)
    where = place.filter(here)
    cells = changes.cells_of(both.column(rule.key), both, right.rows.take(where), rule.compared)
    left.keep(pc.invert(here))
    right.keep(pc.invert(_marked(where, len(b))))
    return cells


def _marked(places: Any, count: int) -> Any:
    """A mask of `count` rows, true at some places."""
    return pc.inverse_permutation(places, max_index=count - 1).is_valid()


def _partners(a: Any, b: Any, rule: Rule) -> Any:
    """For each key of `a` the place of its partner in `b`, or null."""
    if _is_unique(a) and _is_unique(b):
        return pc.index_in(a, b).cast(pa.int64())
    if rule.unique:
        _check_unique(a, rule.key)
        _check_unique(b, rule.key)
    waiting: dict[Any, list[int]] = {}
    for at, key in enumerate(b.to_pylist()):
        waiting.setdefault(_hashable(key), []).append(at)
    for places in waiting.values():
        places.reverse()
    found = [waiting.get(_hashable(key)) for key in a.to_pylist()]
    return pa.array([places.pop() if places else None for places in found], pa.int64())


def _hashable(key: Any) -> Any:
    """A key that equals itself even if it is not a number."""
    return "\0nan" if isinstance(key, float) and math.isnan(key) else key


def _is_unique(keys: Any) -> bool:
    return bool(keys.null_count <= 1 and pc.count_distinct(keys, mode="all").as_py() == len(keys))


def _check_unique(keys: Any, name: str) -> None:
    if keys.null_count or not _is_unique(keys):
        raise IntegrityError(
            f"the column {name} does not tell rows apart: a value comes twice, or is missing; "
            "nothing was changed",
            hint="usr maintenance dedupe DATASET --key id --keep keep-first",
            code="duplicate-keys",
        )


def _spilled(left: _Waiting, right: _Waiting, rule: Rule, scratch: str) -> Iterator[Delta]:
    """The rest by way of the disk. How much there is shows only as it comes, so parts are many."""
    parts = _MAX_PARTS
    with (
        Spill(os.path.join(scratch, "a"), parts) as one,
        Spill(os.path.join(scratch, "b"), parts) as two,
    ):
        schemas = left.rows.schema, right.rows.schema
        for side, spill in ((left, one), (right, two)):
            for table in side.rest():
                spill.add(table, rule.key)
            spill.flush()
        for number in sorted(one.written | two.written):
            a = one.read(number, schemas[0].empty_table)
            b = two.read(number, schemas[1].empty_table)
            yield from _part(a, b, rule, schemas)


def _part(a: Any, b: Any, rule: Rule, schemas: tuple[Any, Any]) -> Iterator[Delta]:
    left, right = _Waiting([a], schemas[0]), _Waiting([b], schemas[1])
    left.take()
    right.take()
    cells = _meet(left, right, rule)
    found = Delta(right.give(), left.give(), cells)
    if not found.empty:
        yield found
