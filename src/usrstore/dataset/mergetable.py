"""Two versions of a table as one: rows by their key, and within a row each cell.

Theirs is taken as it is, and what we changed since both were the same is done to it again:
rows that we added follow behind, cells and columns that we changed are put in, rows that we
removed go. So nothing that only one side has is lost, and where we only added rows, the bytes
of theirs stay what they were. What both changed to something else is a conflict.

Without a base a row that one side lacks was added by the other, and a cell that differs is a
conflict: nobody can tell who changed it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import parquetfile, tablediff, uniquekeys
from usrstore.dataset.tablediff import ROW, Cells, Delta, Schemas

Prefer = Literal["ours", "theirs"] | None
MAX_CONFLICTS = 1000
_GATHER_ROWS = 1 << 16


class CellConflict(NamedTuple):
    """One thing that both sides changed; values as text, None where there is none.

    Attributes:
        key: of the row; "" for a column as a whole.
        column: its name; "" for a row as a whole.
    """

    key: str
    column: str
    base: str | None
    ours: str | None
    theirs: str | None


@dataclass(frozen=True)
class MergedTable:
    """What a merge did to a table.

    Attributes:
        rows: of the result.
        ours_added, theirs_added, removed: rows since the base (without one: that one side had).
        cells: values of ours that were put in.
        columns: names of columns that ours added.
        conflicts: the first `MAX_CONFLICTS` of them; with any, nothing was written.
        total: how many conflicts there are.
        resolved: conflicts that `prefer` settled.
    """

    rows: int
    ours_added: int
    theirs_added: int
    removed: int
    cells: int
    columns: tuple[str, ...]
    conflicts: tuple[CellConflict, ...] = ()
    total: int = 0
    resolved: int = 0


def merge(
    base: str | None,
    ours: str,
    theirs: str,
    out: str,
    *,
    key: str,
    scratch: str,
    prefer: Prefer = None,
) -> MergedTable:
    """Merge two Parquet files into a new one at `out`, unless they conflict.

    Args:
        base: what both were made from, if it is known.
        ours, theirs: the two versions.
        out: must be free.
        key: the column that tells rows apart.
        scratch: an empty folder.
        prefer: whose cells and rows win where both changed them.

    Raises:
        IntegrityError: a damaged file, or a key that comes twice in any of them.
    """
    versions = {"our version": ours, "their version": theirs}
    if base is not None:
        versions["what both began with"] = base
    uniquekeys.check(versions, key, scratch=os.path.join(scratch, "keys"))
    plan = _Plan(base, ours, theirs, key, scratch, prefer)
    if plan.total and prefer is None:
        return plan.result(0)
    return plan.result(plan.write(out))


class _Plan:
    def __init__(
        self, base: str | None, ours: str, theirs: str, key: str, scratch: str, prefer: Prefer
    ) -> None:
        self.ours, self.theirs, self.key, self.prefer = ours, theirs, key, prefer
        self.conflicts: list[CellConflict] = []
        self.total = 0
        self.schemas = tablediff.schemas(ours, theirs, key)
        self._dropped: set[str] = set()
        if base is None:
            self._without_base(scratch)
        else:
            self._with_base(base, scratch)
        self._check_types(self.schemas)
        self.columns = tuple(
            f.name for f in self.schemas.removed if f.name not in self._dropped
        )  # ours has them, theirs has not

    # ── what each side did ──────────────────────────────────────────────────────────────
    def _without_base(self, scratch: str) -> None:
        found = _collect(self.ours, self.theirs, self.key, os.path.join(scratch, "diff"))
        self.added = found.removed  # only ours has them
        self.theirs_added = len(found.added)
        self.removed = pa.array([], pa.string())
        self.cells: dict[str, Cells] = {}
        for name, cells in found.cells.items():
            self._conflict_cells(name, cells.keys, None, cells.old, cells.new)
            if self.prefer == "ours":
                self.cells[name] = Cells(cells.keys, cells.new, cells.old)

    def _with_base(self, base: str, scratch: str) -> None:
        key = self.key
        mine = _collect(base, self.ours, key, os.path.join(scratch, "ours"))
        yours = _collect(base, self.theirs, key, os.path.join(scratch, "theirs"))
        self._drop_columns(base, mine, yours)
        self.theirs_added = len(yours.added)
        # Rows that both added: ours is only what differs from theirs.
        self.added = mine.added
        self.cells = dict(mine.cells)
        self._both_added(mine.added, yours.added)
        # Rows that one side removed and the other changed.
        gone = mine.removed.column(key).combine_chunks()
        kept = self._changed_rows(yours, gone)
        self._conflict_rows(kept, ours="removed", theirs="changed")
        # By default a conflict; `theirs` keeps the row, `ours` removes it.
        self.removed = _without(gone, kept) if self.prefer == "theirs" else gone
        lost = yours.removed.column(key).combine_chunks()
        changed = self._changed_rows(mine, lost)
        self._conflict_rows(changed, ours="changed", theirs="removed")
        if self.prefer == "ours" and len(changed):
            self.added = _behind(self.added, self._rows_of_ours(changed))
        for name in list(self.cells):
            self._settle_cells(name, self.cells[name], yours.cells.get(name), lost)

    def _drop_columns(self, base: str, mine: Delta, yours: Delta) -> None:
        """Columns that one side took away stay away, unless the other changed them."""
        theirs = {f.name for f in tablediff.schemas(base, self.theirs, self.key).removed}
        ours = {f.name for f in tablediff.schemas(base, self.ours, self.key).removed}
        for gone, other, side in ((theirs, mine, "theirs"), (ours, yours, "ours")):
            for name in gone:
                if name in other.cells:
                    word = {"ours": "changed", "theirs": "changed", side: "removed"}
                    self._conflict("", name, None, word["ours"], word["theirs"])
                    if self.prefer != side:
                        continue
                self._dropped.add(name)

    def _changed_rows(self, delta: Delta, among: Any) -> Any:
        keys = delta.changed_keys
        return keys.filter(pc.is_in(keys, among)) if len(keys) and len(among) else keys.slice(0, 0)

    def _both_added(self, mine: Any, yours: Any) -> None:
        key = self.key
        a, b = mine.column(key).combine_chunks(), yours.column(key).combine_chunks()
        place = pc.index_in(a, b)
        twice = pc.is_valid(place)
        if not pc.any(twice).as_py():
            return
        one, two = mine.filter(twice), yours.take(place.filter(twice))
        for name in self.schemas.common:
            if name == key:
                continue
            old, new = one.column(name).combine_chunks(), two.column(name).combine_chunks()
            where = tablediff.differing(old, new)
            if len(where):
                keys = one.column(key).combine_chunks().take(where)
                self._conflict_cells(name, keys, None, old.take(where), new.take(where))
                if self.prefer == "ours":
                    extra = Cells(keys, new.take(where), old.take(where))
                    self.cells[name] = _joined(self.cells.get(name), extra)
        self.added = mine.filter(pc.invert(twice))

    def _settle_cells(self, name: str, mine: Cells, yours: Cells | None, lost: Any) -> None:
        """Keep of our changed cells those that are to be put into theirs."""
        keep = pc.invert(pc.is_in(mine.keys, lost))
        if yours is not None:
            place = pc.index_in(mine.keys, yours.keys)
            both = pc.is_valid(place)
            where = pc.indices_nonzero(both)
            old, new = mine.new.take(where), yours.new.take(place.filter(both))
            same = pc.invert(pc.is_in(pa.array(range(len(where))), tablediff.differing(old, new)))
            unequal = where.filter(pc.invert(same))
            at = tablediff.differing(old, new)
            keys = mine.keys.take(unequal)
            self._conflict_cells(name, keys, mine.old.take(unequal), old.take(at), new.take(at))
            if self.prefer != "ours":
                keep = pc.and_(keep, pc.invert(both))
        self.cells[name] = Cells(
            mine.keys.filter(keep), mine.old.filter(keep), mine.new.filter(keep)
        )
        if not len(self.cells[name]):
            del self.cells[name]

    def _rows_of_ours(self, keys: Any) -> Any:
        """Whole rows of ours by key."""
        found = []
        for table in parquetfile.batches(self.ours):
            hits = pc.is_in(table.column(self.key), keys)
            if pc.any(hits).as_py():
                rows = table.filter(hits).replace_schema_metadata(None)
                found.append(rows.append_column(ROW, pa.nulls(len(rows), pa.int64())))
        return pa.concat_tables(found)

    # ── conflicts ───────────────────────────────────────────────────────────────────────
    def _check_types(self, schemas: Schemas) -> None:
        for name, (ours, theirs) in schemas.retyped.items():
            self._conflict("", name, None, str(ours), str(theirs))
            if self.prefer is not None:  # a column has one type, whoever wins its cells
                self.cells.pop(name, None)

    def _conflict(
        self, key: str, column: str, base: str | None, ours: str | None, theirs: str | None
    ) -> None:
        self.total += 1
        if len(self.conflicts) < MAX_CONFLICTS:
            self.conflicts.append(CellConflict(key, column, base, ours, theirs))

    def _conflict_cells(self, name: str, keys: Any, base: Any, ours: Any, theirs: Any) -> None:
        shown = min(len(keys), MAX_CONFLICTS - len(self.conflicts))
        for n in range(shown):
            self._conflict(
                str(keys[n].as_py()),
                name,
                None if base is None else _text(base[n]),
                _text(ours[n]),
                _text(theirs[n]),
            )
        self.total += len(keys) - shown

    def _conflict_rows(self, keys: Any, *, ours: str, theirs: str) -> None:
        for value in keys.to_pylist():
            self._conflict(str(value), "", None, ours, theirs)

    # ── the result ──────────────────────────────────────────────────────────────────────
    def write(self, out: str) -> int:
        if not (self.cells or len(self.removed) or self.columns or self._dropped):
            return self._append(out)
        return self._rewrite(out)

    def _append(self, out: str) -> int:
        """We only added rows: theirs stays byte for byte, ours follow."""
        facts = parquetfile.facts(self.theirs)
        with parquetfile.appending(self.theirs, out) as writer:
            if len(self.added):
                writer.write(_fitted(self.added, facts.schema))
            return facts.rows + writer.rows

    def _rewrite(self, out: str) -> int:
        facts = parquetfile.facts(self.theirs)
        fields = [f for f in facts.schema if f.name not in self._dropped]
        fields += [f for f in self.schemas.removed if f.name in self.columns]
        schema = pa.schema(fields)
        with parquetfile.writing(out, schema, facts.metadata) as writer:
            extra = _Gather(self.ours, self.key, list(self.columns)) if self.columns else None
            for table in parquetfile.batches(self.theirs):
                rows = table.replace_schema_metadata(None)
                if len(self.removed):
                    rows = rows.filter(pc.invert(pc.is_in(rows.column(self.key), self.removed)))
                for name, cells in self.cells.items():
                    if name in rows.column_names and name in schema.names:
                        rows = _put(rows, self.key, name, cells)
                if extra is not None:
                    rows = extra.add(rows)
                writer.write(_fitted(rows, schema))
            if len(self.added):
                writer.write(_fitted(self.added, schema))
            return writer.rows

    def result(self, rows: int) -> MergedTable:
        return MergedTable(
            rows,
            len(self.added),
            self.theirs_added,
            len(self.removed),
            sum(map(len, self.cells.values())),
            self.columns,
            tuple(self.conflicts) if self.prefer is None else (),
            self.total if self.prefer is None else 0,
            0 if self.prefer is None else self.total,
        )


class _Gather:
    """Columns that only ours has, found for rows of theirs by key.

    Both files usually have the same rows in the same places, so ours is read along; a row
    that is elsewhere is looked for in all of it.
    """

    def __init__(self, path: str, key: str, columns: list[str]) -> None:
        self._path, self._key, self._columns = path, key, columns
        self._along = self._batches()
        self._held: Any = None

    def _batches(self) -> Iterator[Any]:
        return parquetfile.batches(self._path, [self._key, *self._columns], rows=_GATHER_ROWS)

    def add(self, rows: Any) -> Any:
        keys = rows.column(self._key).combine_chunks()
        found = self._near(keys)
        place = pc.index_in(keys, found.column(self._key).combine_chunks())
        for name in self._columns:
            rows = rows.append_column(name, found.column(name).combine_chunks().take(place))
        return rows

    def _near(self, keys: Any) -> Any:
        """Rows of ours with these keys: the next batch, or all of it if that is not enough."""
        near = next(self._along, None)
        if near is not None:
            near = near.replace_schema_metadata(None)
            if pc.all(pc.is_in(keys, near.column(self._key))).as_py():
                return near
        tables = [
            t.filter(pc.is_in(t.column(self._key), keys)).replace_schema_metadata(None)
            for t in self._batches()
        ]
        return pa.concat_tables(tables)


def _collect(a: str, b: str, key: str, scratch: str) -> Delta:
    found = tablediff.collect(tablediff.deltas(a, b, key, scratch=scratch))
    if found is not None:
        return found
    return Delta(_nothing(b), _nothing(a), {})


def _nothing(path: str) -> Any:
    schema = parquetfile.facts(path).schema
    return schema.append(pa.field(ROW, pa.int64())).empty_table()


def _without(keys: Any, others: Any) -> Any:
    return keys.filter(pc.invert(pc.is_in(keys, others))) if len(others) else keys


def _behind(first: Any, second: Any) -> Any:
    return pa.concat_tables([first, second], promote_options="default")


def _joined(before: Cells | None, more: Cells) -> Cells:
    if before is None:
        return more
    pairs = zip((before.keys, before.old, before.new), (more.keys, more.old, more.new), strict=True)
    return Cells(*(pa.concat_arrays(pair) for pair in pairs))


def _put(rows: Any, key: str, name: str, cells: Cells) -> Any:
    """Put new values of one column into the rows that have their keys."""
    place = pc.index_in(rows.column(key).combine_chunks(), cells.keys)
    hit = pc.is_valid(place)
    if not pc.any(hit).as_py():
        return rows
    at = rows.schema.get_field_index(name)
    old = rows.column(name).combine_chunks()
    both = pa.concat_arrays([old, cells.new.cast(old.type)])
    order = pc.if_else(hit, pc.add(pc.fill_null(place, 0), len(old)), pa.array(range(len(old))))
    return rows.set_column(at, rows.schema.field(at), both.take(order))


def _fitted(table: Any, schema: Any) -> Any:
    """The columns of a schema, in its order; null where the table has none."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _text(value: Any) -> str | None:
    plain = value.as_py()
    return None if plain is None else str(plain)
