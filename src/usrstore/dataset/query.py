"""The joined view: what a reader sees of a dataset, streamed in the order of the base.

For each base row, each column is the newest overlay value that is not null, else what the
base holds; deleted rows are left out unless asked for. Rows come as Arrow batches, and memory
does not grow with the dataset (`joining` says how). The order is the base's, always.

A view is of one set of files. It takes no lock and writes nothing in the dataset; `check`
says whether the files are still those that it was opened on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import joining, keys, overlay, overlaypaths, rowgroups, winners
from usrstore.dataset.overlay import Overlay
from usrstore.dataset.overlaypaths import Stamps
from usrstore.dataset.tablefile import Folder
from usrstore.errors import ChangedWhileReadError, IntegrityError, InvalidInputError
from usrstore.objects.sections import PRIMARY_FILE

MASK = "usr__deleted"
"""The column that hides a row."""

_LOOK_UP_ROWS = 1 << 16  # a base of so many rows is looked up in memory rather than joined
_RUN_BYTES = 48 << 20  # what one run of rows may come to, base and overlays together


@dataclass(frozen=True)
class View:
    """A dataset as one table.

    Attributes:
        folder: the dataset: its folder, or the files of a state.
        base: a `pyarrow.Schema`: the columns of records.parquet.
        rows: of the base, deleted ones included.
        overlays: by namespace.
        schema: of the joined table: base columns, then overlay columns by namespace.
        stamps: the files that this is a view of.
    """

    folder: Folder
    base: Any
    rows: int
    overlays: dict[str, Overlay]
    schema: Any
    stamps: Stamps

    # ── what there is ───────────────────────────────────────────────────────────────────
    @property
    def columns(self) -> list[str]:
        """Names of the columns that a read shows by itself: all but the tombstones'."""
        found = self.overlays.get(overlay.TOMBSTONES)
        hidden = set() if found is None else set(found.schema.names) - set(self.base.names)
        return [name for name in self.schema.names if name not in hidden]

    def source(self, column: str) -> str:
        """The namespace of the overlay that has a column; `base` if none has it."""
        for namespace, found in self.overlays.items():
            if column in found.schema.names:
                return namespace
        return "base"

    def choose(self, names: Sequence[str], *, deleted: bool = False) -> list[str]:
        """These columns, or all.

        Raises:
            InvalidInputError: columns that do not exist, all of them named.
        """
        if not names:
            return list(self.schema.names) if deleted else self.columns
        unknown = [name for name in names if name not in self.schema.names]
        if unknown:
            raise InvalidInputError(
                f"no such column: {', '.join(unknown)}",
                hint=f"there are: {', '.join(self.columns)}",
                code="column-unknown",
            )
        return list(dict.fromkeys(names))

    def project(self, names: Sequence[str]) -> Any:
        """The schema of these columns."""
        return pa.schema([self.schema.field(name) for name in names])

    def check(self) -> None:
        """Raises: ChangedWhileReadError if the files are no longer those of this view."""
        if stamps_of(self.folder) != self.stamps:
            raise changed(self.folder)

    def check_kept(self) -> None:
        """As `check`, but files that came since do not matter: this view does not show them.

        Raises: ChangedWhileReadError.
        """
        now = stamps_of(self.folder)
        if any(now.get(path) != stamp for path, stamp in self.stamps.items()):
            raise changed(self.folder)

    # ── rows ────────────────────────────────────────────────────────────────────────────
    def batches(
        self,
        columns: Sequence[str] = (),
        *,
        scratch: str,
        deleted: bool = False,
        run_rows: int | None = None,
    ) -> Iterator[Any]:
        """All rows as record batches of these columns, in the order of the base.

        Args:
            columns: which; none stands for all.
            scratch: an empty folder that a large join spills into.
            deleted: whether deleted rows are shown.
            run_rows: join, and settle so many base rows at a time; by default a small base
                is looked up, and of a large one as many rows are settled as memory allows.
        """
        plan = _Plan(self, self.choose(columns, deleted=deleted), deleted=deleted)
        if not plan.overlays:
            for base in plan.runs(rowgroups.BATCH_ROWS):
                yield from plan.show(base, {})
        elif run_rows is None and self.rows <= _LOOK_UP_ROWS:
            for base in plan.runs(plan.run_rows(_LOOK_UP_ROWS)):
                yield from plan.show(base, plan.look_up(base))
        else:
            run = run_rows or plan.run_rows(rowgroups.BATCH_ROWS)
            spilled = [
                joining.spill(
                    self.folder, found, names, scratch=os.path.join(scratch, str(n)), run=run
                )
                for n, (found, names) in enumerate(plan.overlays)
            ]
            for number, base in enumerate(plan.runs(run)):
                settled: dict[str, Any] = {}
                for buckets in spilled:
                    settled |= winners.settle_all(buckets.read(number), len(base))
                yield from plan.show(base, settled)

    def head(
        self, count: int, columns: Sequence[str] = (), *, deleted: bool = False
    ) -> Iterator[Any]:
        """The first `count` rows that are shown; little more than those is read."""
        plan = _Plan(self, self.choose(columns, deleted=deleted), deleted=deleted)
        left, start, step = count, 0, max(count, 64)
        while left > 0 and start < self.rows:
            base = plan.rows(range(start, min(self.rows, start + step)))
            for batch in plan.show(base, plan.look_up(base)):
                shown = batch.slice(0, left)
                left -= len(shown)
                yield shown
            start += step
            step = min(step * 4, rowgroups.BATCH_ROWS)

    def take(
        self, rows: Sequence[int], columns: Sequence[str] = (), *, deleted: bool = True
    ) -> Iterator[Any]:
        """Base rows by their numbers, which rise."""
        plan = _Plan(self, self.choose(columns, deleted=deleted), deleted=deleted)
        for start in range(0, len(rows), rowgroups.BATCH_ROWS):
            base = plan.rows(rows[start : start + rowgroups.BATCH_ROWS])
            yield from plan.show(base, plan.look_up(base))

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """The base table alone: record batches, each with the number of its first row."""
        start = 0
        for batch in rowgroups.batches(self.folder, PRIMARY_FILE, columns):
            yield start, batch
            start += len(batch)

    def places(self, column: str, values: Sequence[str]) -> list[int]:
        """Numbers of the base rows that hold one of these values."""
        wanted = pa.array(values, self.base.field(column).type)
        found: list[int] = []
        for start, batch in self.scan([column]):
            hits = pc.indices_nonzero(pc.is_in(batch.column(0), wanted, skip_nulls=True))
            found += [start + place for place in hits.to_pylist()]
        return found

    def grep(
        self, pattern: str, columns: Sequence[str], *, limit: int, deleted: bool = False
    ) -> Iterator[Any]:
        """The first rows whose sequence matches, whatever its case.

        Args:
            pattern: of RE2: a regular expression without references and look-around.
            columns: which to show.
            limit: how many rows at most.
            deleted: whether deleted rows count.

        Raises:
            InvalidInputError: not such a pattern.
        """
        left = limit
        for start, batch in self.scan(["sequence"]):
            try:
                hits = pc.match_substring_regex(batch.column(0), pattern, ignore_case=True)
            except pa.ArrowInvalid as exc:
                raise InvalidInputError(
                    f"{pattern!r} is no regular expression: {exc}", code="pattern"
                ) from exc
            places = [start + at for at in pc.indices_nonzero(hits).to_pylist()]
            while places and left > 0:
                step = max(left, 64)
                for found in self.take(places[:step], columns, deleted=deleted):
                    shown = found.slice(0, left)
                    left -= len(shown)
                    yield shown
                places = places[step:]
            if left <= 0:
                return


class _Plan:
    """Which files and columns a read of some columns needs, and how its rows are shown."""

    def __init__(self, view: View, columns: list[str], *, deleted: bool) -> None:
        self._view = view
        self._columns = columns
        self._masked = not deleted and MASK in view.schema.names
        wanted = set(columns) | ({MASK} if self._masked else set())
        self.overlays: list[tuple[Overlay, list[str]]] = []
        for found in view.overlays.values():
            filled = {name for file in found.files for name in file.filled}
            names = [name for name in found.schema.names if name in wanted & filled]
            if names:
                self.overlays.append((found, names))
        by = {keys.source(found.key) for found, _ in self.overlays}
        self._base = [name for name in view.base.names if name in wanted | by]

    def runs(self, size: int) -> Iterator[Any]:
        """The base rows, `size` at a time, with the columns that are needed."""
        if self._base:
            yield from rowgroups.runs(self._view.folder, PRIMARY_FILE, self._base, size)
            return
        for start in range(0, self._view.rows, size):
            yield rowgroups.bare(min(size, self._view.rows - start))

    def rows(self, numbers: Sequence[int]) -> Any:
        """Some base rows."""
        if not self._base:
            return rowgroups.bare(len(numbers))
        wanted = pa.array(numbers, pa.int64())
        return rowgroups.pick(self._view.folder, PRIMARY_FILE, wanted, self._base)

    def run_rows(self, most: int) -> int:
        """How many base rows can be settled at a time."""
        folder = self._view.folder
        size = rowgroups.decoded_bytes(folder, PRIMARY_FILE, self._base)
        for found, names in self.overlays:
            size += sum(rowgroups.decoded_bytes(folder, file.path, names) for file in found.files)
        each = max(1, size // max(1, self._view.rows))
        return min(most, max(256, _RUN_BYTES // each))

    def look_up(self, base: Any) -> dict[str, Any]:
        """The overlay columns of these base rows, read straight from the overlay files."""
        settled: dict[str, Any] = {}
        for found, names in self.overlays:
            settled |= joining.look_up(self._view.folder, found, names, base)
        return settled

    def show(self, base: Any, settled: dict[str, Any]) -> Iterator[Any]:
        """Base rows and what the overlays have for them, as batches of the chosen columns."""
        columns = [self._column(base, settled, name) for name in self._columns]
        schema = self._view.project(self._columns)
        shown = pa.table(columns, schema=schema) if columns else rowgroups.bare(len(base))
        if self._masked:
            mask = self._column(base, settled, MASK).cast(pa.bool_())
            shown = shown.filter(pc.invert(pc.fill_null(mask, fill_value=False)))
        yield from shown.to_batches(max_chunksize=rowgroups.BATCH_ROWS)

    def _column(self, base: Any, settled: dict[str, Any], name: str) -> Any:
        kind = self._view.schema.field(name).type
        below = base.column(name) if name in base.schema.names else None
        if name in settled:
            return winners.show_through(settled[name], below, kind)
        return below.cast(kind) if below is not None else pa.nulls(len(base), kind)


def open_view(folder: Folder) -> View:
    """Look at a dataset: its footers, no rows.

    Raises:
        IntegrityError: records.parquet cannot be read; columns of types that do not go together.
        OverlayError: an overlay file that is none, or that contradicts others.
    """
    listed = overlay.find(folder)
    stamps = _stamps(folder, listed)
    with rowgroups.open_file(folder, PRIMARY_FILE) as file:
        base, rows = file.schema_arrow.remove_metadata(), file.metadata.num_rows
    overlays = overlay.load_listed(folder, listed)
    fields = {field.name: field for field in base}
    for found in overlays.values():
        for field in found.schema:
            known = fields.get(field.name)
            kind = field.type if known is None else _common(known.type, field)
            fields[field.name] = pa.field(field.name, kind)
    return View(folder, base, rows, overlays, pa.schema(list(fields.values())), stamps)


def changed(folder: Folder) -> ChangedWhileReadError:
    """The error of a reader whose files somebody else wrote."""
    return ChangedWhileReadError(
        f"{folder} was written by another program while it was read; nothing was changed here",
        hint="run the same command again",
    )


def _stamps(folder: Folder, listed: Mapping[str, tuple[str, ...]]) -> Stamps:
    """The files that a view reads, as they are on the disk now; none for a state, which stays."""
    if not isinstance(folder, str | os.PathLike):
        return {}
    paths = (path for paths in listed.values() for path in paths)
    return overlaypaths.stamps(folder, [PRIMARY_FILE, *paths])


def stamps_of(folder: Folder) -> Stamps:
    """The files that a view would read now; unlike `open_view` it refuses nothing."""
    if not isinstance(folder, str | os.PathLike):
        return {}
    return overlaypaths.stamps(folder, [PRIMARY_FILE, *overlaypaths.listed(folder)])


def _common(known: Any, field: Any) -> Any:
    if known == field.type:
        return known
    pair = [pa.schema([pa.field(field.name, known)]), pa.schema([field])]
    try:
        return pa.unify_schemas(pair, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid) as exc:
        raise IntegrityError(
            f"the column {field.name} is {known} in records.parquet and {field.type} in an "
            "overlay, and no type holds both",
            hint="usr validate says which file; write the overlay again with the right type",
            code="overlay-types",
        ) from exc
