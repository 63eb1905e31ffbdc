"""What changed for a reader: the joined views of two states, row by row and cell by cell.

A row can only look different if records.parquet says something else of it, or an overlay file
that only one side has, or has in another version, names it. So these rows are found first, and
they alone are joined with their overlays, on both sides, and compared. Where nothing overlays
the base, its own changes are the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import changes, keys, query, rowgroups, tablediff, tablejoin
from usrstore.dataset.changes import Delta
from usrstore.dataset.overlay import OverlayFile
from usrstore.dataset.query import MASK, View
from usrstore.dataset.tablediff import Schemas
from usrstore.dataset.tablefile import Folder, find
from usrstore.dataset.tablejoin import Rule
from usrstore.errors import InvalidInputError
from usrstore.objects.sections import PRIMARY_FILE

_LOOK_UP_ROWS = 1 << 17  # up to so many rows are looked up; for more, all rows are joined

Same = Callable[[str, str], bool]
"""Whether a path of the first state and one of the second are the same bytes."""


@dataclass(frozen=True)
class Comparison:
    """Two states of a dataset as a reader sees them.

    Attributes:
        before, after: their views.
        key: the column that tells rows apart; of the base.
        schemas: how the columns that are looked at differ.
    """

    before: View
    after: View
    key: str
    schemas: Schemas
    _same: Same

    # ── what there is to do ─────────────────────────────────────────────────────────────
    @cached_property
    def _base_differs(self) -> bool:
        return not self._same(PRIMARY_FILE, PRIMARY_FILE)

    @cached_property
    def _unlike(self) -> list[tuple[OverlayFile | None, OverlayFile | None]]:
        """Overlay files that are not on both sides what they are on the other."""
        found: list[tuple[OverlayFile | None, OverlayFile | None]] = []
        for namespace in sorted({*self.before.overlays, *self.after.overlays}):
            old, new = (_files(view, namespace) for view in (self.before, self.after))
            for path in sorted({*old, *new}):
                a, b = old.get(path), new.get(path)
                if a is None or b is None or not self._same(path, path):
                    found.append((a, b))
        wanted = {*self.schemas.common, MASK}
        return [
            pair
            for pair in found
            if any(file is not None and wanted & set(file.filled) for file in pair)
        ]

    @property
    def _overlaid(self) -> bool:
        """Whether any column that is looked at can come from an overlay."""
        shown = {*self.schemas.common, *(field.name for field in self._one_sided), MASK}
        return any(
            shown & set(found.schema.names)
            for view in (self.before, self.after)
            for found in view.overlays.values()
        )

    @property
    def _one_sided(self) -> tuple[Any, ...]:
        return (*self.schemas.added, *self.schemas.removed)

    def sources(self) -> dict[str, str]:
        """Where the columns that are looked at come from: `base`, or a namespace."""
        found = {}
        for view in (self.before, self.after):
            for name in (*self.schemas.common, *(field.name for field in self._one_sided)):
                if name in view.schema.names:
                    found[name] = view.source(name)
        return found

    def values(self) -> dict[str, int]:
        """Of columns that only one side has, how many values its overlay files hold."""
        found = {}
        for view, fields in (
            (self.before, self.schemas.removed),
            (self.after, self.schemas.added),
        ):
            for field in fields:
                counts = [
                    file.rows - nulls
                    for held in view.overlays.values()
                    for file in held.files
                    if (nulls := file.nulls.get(field.name)) is not None
                ]
                if counts:
                    found[field.name] = sum(counts)
        return found

    # ── the answer ──────────────────────────────────────────────────────────────────────
    def deltas(self, scratch: str) -> Iterator[Delta]:
        """What changed, a part at a time; added and removed rows have the columns of their view.

        Args:
            scratch: an empty folder.
        """
        if not self._overlaid:
            yield from self._base_deltas(scratch)
            return
        named = self._named(scratch)
        if named is not None and not any(map(len, named.values())):
            return
        sides = (self.before, self.after)
        columns = [self._columns(view) for view in sides]
        schemas = [
            changes.nothing(view.project(names)).schema
            for view, names in zip(sides, columns, strict=True)
        ]
        compared = [name for name in columns[0] if name in columns[1] and name != self.key]
        places = None if named is None else [self._places(view, named) for view in sides]
        if places is not None and max(map(len, places)) > _LOOK_UP_ROWS:
            places = None
        one, two = (
            self._rows(view, columns[n], places and places[n], os.path.join(scratch, str(n)))
            for n, view in enumerate(sides)
        )
        yield from tablejoin.join(
            one,
            two,
            Rule(self.key, [n for n in compared if n in self.schemas.common], unique=False),
            scratch=os.path.join(scratch, "join"),
            schemas=(schemas[0], schemas[1]),
        )

    def _base_deltas(self, scratch: str) -> Iterator[Delta]:
        if self._base_differs:
            yield from tablediff.deltas(
                find(self.before.folder, PRIMARY_FILE),
                find(self.after.folder, PRIMARY_FILE),
                self.key,
                scratch=os.path.join(scratch, "base"),
                columns=[n for n in self.schemas.common if n in self.before.base.names],
                unique=False,
            )

    def _columns(self, view: View) -> list[str]:
        """The key first, then what may differ, then what only this side has.

        Rows come and go with the base and with tombstones; where those are the same, only the
        columns of overlays that differ need be looked at.
        """
        touched = {name for pair in self._unlike for file in pair if file for name in file.filled}
        names = list(self.schemas.common)
        if not self._base_differs and MASK not in touched:
            names = [name for name in names if name in touched]
        else:
            only = self.schemas.added if view is self.after else self.schemas.removed
            names += [*self.schemas.retyped, *(field.name for field in only)]
        return [self.key, *(name for name in names if name != self.key)]

    # ── which rows ──────────────────────────────────────────────────────────────────────
    def _named(self, scratch: str) -> dict[str, Any] | None:
        """Keys of rows that may look different: by `key` (as ""), and by each key of overlays.

        None if they are so many that all rows may as well be compared.
        """
        found: dict[str, list[Any]] = {"": []}
        count = 0
        for key, values in self._all_named(scratch):
            count += len(values)
            if count > _LOOK_UP_ROWS:
                return None
            found.setdefault(key, []).append(values)
        return {
            key: pc.unique(pa.concat_arrays(arrays)) if arrays else pa.array([], pa.string())
            for key, arrays in found.items()
        }

    def _all_named(self, scratch: str) -> Iterator[tuple[str, Any]]:
        for a, b in self._unlike:
            for file, values in self._overlay_keys(a, b, scratch):
                yield file.key, keys.normalize(values, file.key)
        for delta in self._base_deltas(scratch):
            for values in (delta.added[self.key], delta.removed[self.key], delta.changed_keys):
                if len(values):
                    yield "", changes.array(values)

    def _overlay_keys(
        self, a: OverlayFile | None, b: OverlayFile | None, scratch: str
    ) -> Iterator[tuple[OverlayFile, Any]]:
        if a and b and a.rank == b.rank and a.key == b.key and a.key_column == b.key_column:
            yield from self._rewritten(a, b, scratch)
            return
        for view, file in ((self.before, a), (self.after, b)):
            if file is not None:
                for batch in rowgroups.batches(view.folder, file.path, [file.key_column]):
                    yield file, batch.column(0)

    def _rewritten(
        self, a: OverlayFile, b: OverlayFile, scratch: str
    ) -> Iterator[tuple[OverlayFile, Any]]:
        """Of one file in two versions only the rows that differ."""
        for delta in tablediff.deltas(
            find(self.before.folder, a.path),
            find(self.after.folder, b.path),
            a.key_column,
            scratch=os.path.join(scratch, "overlay"),
            unique=False,
        ):
            for rows in (delta.added, delta.removed):
                if len(rows):
                    yield b, changes.array(rows.column(a.key_column))
            if len(delta.changed_keys):
                yield b, delta.changed_keys

    def _rows(self, view: View, columns: list[str], places: Any, scratch: str) -> Iterator[Any]:
        """Some rows of a view, or all of them, as tables with the column ROW."""
        if places is None:
            batches = view.batches(columns, scratch=scratch)
        else:
            batches = view.take(places.to_pylist(), columns, deleted=False)
        start = 0
        for batch in batches:
            yield changes.numbered(pa.Table.from_batches([batch]), start)
            start += len(batch)

    def _places(self, view: View, named: dict[str, Any]) -> Any:
        """The numbers of base rows that are named."""
        wanted = {key: values for key, values in named.items() if len(values)}
        sources = {key: keys.source(key) if key else self.key for key in wanted}
        names = list(dict.fromkeys(sources.values()))
        found = []
        for start, batch in view.scan(names):
            hit = None
            for key, values in wanted.items():
                column = batch.column(names.index(sources[key]))
                ours = keys.normalize(column, key) if key else column
                mask = pc.is_in(ours, values.cast(ours.type))
                hit = mask if hit is None else pc.or_(hit, mask)
            found.append(pc.add(pc.indices_nonzero(hit).cast(pa.int64()), start))
        return pa.concat_arrays(found) if found else pa.array([], pa.int64())


def _files(view: View, namespace: str) -> dict[str, OverlayFile]:
    found = view.overlays.get(namespace)
    return {file.path: file for file in found.files} if found else {}


def compare(
    before: Folder, after: Folder, same: Same, *, key: str = "id", columns: Sequence[str] = ()
) -> Comparison:
    """Look at two states of a dataset; rows are read later.

    Args:
        before, after: their files.
        same: tells equal files.
        key: the column of records.parquet that tells rows apart.
        columns: which are looked at; none stands for all that a reader sees.

    Raises:
        InvalidInputError: no such key or columns.
        OverlayError, IntegrityError: files that cannot be read.
    """
    one, two = query.open_view(before), query.open_view(after)
    for view in (one, two):
        if key not in view.base.names:
            raise InvalidInputError(
                f"records.parquet has no column {key!r} to tell rows apart by",
                hint=f"it has: {', '.join(view.base.names[:12])}",
                code="column-unknown",
            )
    known = {*one.schema.names, *two.schema.names}
    if unknown := [name for name in columns if name not in known]:
        raise InvalidInputError(
            f"neither side has a column {', '.join(unknown)}",
            hint=f"there are: {', '.join(sorted(known))}",
            code="column-unknown",
        )
    shown = [view.project(list(dict.fromkeys([key, *view.columns]))) for view in (one, two)]
    return Comparison(
        one, two, key, tablediff.compare_schemas(shown[0], shown[1], key, columns), same
    )
