"""maintenance merge: the rows of one dataset of this root into another.

The source stays as it is. Which rows are the same is said by their ids, and, unless that is
turned off, by sequences that differ in case only; what happens then is for the caller to say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usrstore.dataset import parquetfile
from usrstore.dataset.metafile import counted
from usrstore.dataset.schema import RowProblems
from usrstore.errors import ConflictError, InvalidInputError
from usrstore.objects.names import DatasetId
from usrstore.objects.sections import DERIVED_FOLDER, PRIMARY_FILE
from usrstore.odb import durable
from usrstore.verbs.importing import check_base, restamped
from usrstore.verbs.mutating import Mutation, mutating
from usrstore.verbs.site import Site

if TYPE_CHECKING:
    import pyarrow as pa

DUPLICATES = ("error", "skip", "prefer-src", "prefer-dest")


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How to merge.

    Attributes:
        union: columns that only one side has stay, null for the other's rows; else both must
            have the same.
        duplicates: one of DUPLICATES; `skip` and `prefer-dest` keep the destination's row.
        coerce: columns of another type become the destination's; else they are refused.
        carry: namespaces whose overlay parts come along.
        casefold: sequences that differ in case only are one record.
        dry_run: change nothing.
    """

    union: bool
    duplicates: str = "error"
    coerce: bool = False
    carry: tuple[str, ...] = ()
    casefold: bool = True
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge did, or would do.

    Attributes:
        rows_read: of the source.
        added, replaced, skipped: what became of them.
        rows: of the destination in the end.
        carried: overlay files that came along.
        snapshot: the copy of the new base table; None if nothing was written.
    """

    rows_read: int
    added: int
    replaced: int
    skipped: int
    rows: int
    carried: int
    snapshot: str | None


@dataclass
class _Plan:
    """Row numbers of the source that are added, and which replace which of the destination."""

    read: int = 0
    added: set[int] = field(default_factory=set)
    replacing: dict[int, int] = field(default_factory=dict)  # source row → destination row
    skipped: int = 0


def merge(site: Site, source: DatasetId, options: MergeOptions) -> MergeResult:
    """Bring the rows of `source` into the dataset of `site`.

    Raises:
        InvalidInputError: columns or types that do not fit; rows that are in both (`error`).
        ConflictError: an overlay that cannot come along.
    """
    theirs = os.path.join(site.root.check_dataset(source), PRIMARY_FILE)
    if source == site.dataset:
        raise InvalidInputError("a dataset cannot be merged into itself; nothing was changed")
    with mutating(site) as act:
        target = act.replace(PRIMARY_FILE)
        ours = act.folder_path(PRIMARY_FILE)
        base, other = parquetfile.facts(ours), parquetfile.facts(theirs)
        check_base(ours, base)
        check_base(theirs, other)
        schema = _joined_schema(base.schema, other.schema, options)
        plan = _plan(ours, theirs, options)
        carried = _overlays(site, source, options.carry)
        rows = base.rows + len(plan.added)
        done = MergeResult(
            plan.read, len(plan.added), len(plan.replacing), plan.skipped, rows, len(carried), None
        )
        if options.dry_run or not (plan.added or plan.replacing or carried):
            act.forget()
            return done
        grown = base.schema.equals(schema) and not plan.replacing
        metadata = restamped(base, act)
        opened = (
            parquetfile.appending(ours, target, metadata)
            if grown
            else parquetfile.writing(target, schema, metadata)
        )
        with opened as writer:
            if not grown:
                for table in _replaced(ours, theirs, schema, plan):
                    writer.write(table)
            for table in _chosen(theirs, plan.added):
                writer.write(_fit(table, schema, theirs))
        snapshot = act.snapshot()
        _carry(act, carried)
        act.event(
            "merge",
            args={
                "src": source,
                "mode": "union-columns" if options.union else "require-same-columns",
                "if_duplicate": options.duplicates,
                "coerce_overlap": "to-dest" if options.coerce else "none",
                "carry_namespaces": list(options.carry),
                "avoid_casefold_dups": options.casefold,
            },
            metrics={
                "rows_read": plan.read,
                "rows_written": len(plan.added),
                "rows_replaced": len(plan.replacing),
                "rows_skipped": plan.skipped,
            },
            artifacts={"snapshot": snapshot},
            table=PRIMARY_FILE,
        )
        rows_new = counted(len(plan.added), "row")
        act.note(f"merged {rows_new} of {source}, replaced {len(plan.replacing)}")
    return MergeResult(
        plan.read, len(plan.added), len(plan.replacing), plan.skipped, rows, len(carried), snapshot
    )


def _joined_schema(ours: pa.Schema, theirs: pa.Schema, options: MergeOptions) -> pa.Schema:
    only_ours = [name for name in ours.names if name not in theirs.names]
    only_theirs = [name for name in theirs.names if name not in ours.names]
    problems = []
    if not options.union:
        problems += [f"{name}: only the destination has it" for name in only_ours]
        problems += [f"{name}: only the source has it" for name in only_theirs]
    if not options.coerce:
        problems += [
            f"{name}: {ours.field(name).type} there, {theirs.field(name).type} in the source"
            for name in ours.names
            if name in theirs.names and ours.field(name).type != theirs.field(name).type
        ]
    if problems:
        raise InvalidInputError(
            "the columns of the two datasets differ; nothing was changed:"
            + "".join(f"\n  {problem}" for problem in problems),
            hint="--union-columns keeps columns of one side, --coerce-overlap to-dest "
            "converts types",
        )
    for name in only_theirs:
        ours = ours.append(theirs.field(name))
    return ours


def _plan(ours: str, theirs: str, options: MergeOptions) -> _Plan:
    def key(kind: str, oid: str, sequence: str) -> str:
        return f"{kind}|{sequence.upper()}" if options.casefold else oid

    columns = ["bio_type", "id", "sequence"]
    here: dict[str, int] = {}
    for row, found in enumerate(_rows(ours, columns)):
        here.setdefault(key(*found), row)
    plan, problems, mine = _Plan(), RowProblems(), set[str]()
    for row, found in enumerate(_rows(theirs, columns)):
        plan.read += 1
        name = key(*found)
        if name not in here and name not in mine:
            mine.add(name)
            plan.added.add(row)
        elif options.duplicates == "error":
            reason = f"is in the destination already ({found[1][:12]}…)"
            problems.add(row + 1, "sequence", found[2], reason)
        elif options.duplicates == "prefer-src" and name in here:
            plan.replacing[row] = here[name]
        else:
            plan.skipped += 1
    problems.check(
        theirs, hint="say --if-duplicate skip, prefer-src or prefer-dest, then run it again"
    )
    return plan


def _rows(path: str, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    for table in parquetfile.batches(path, columns):
        yield from zip(*(table.column(name).to_pylist() for name in columns), strict=True)


def _chosen(path: str, rows: set[int]) -> Iterator[pa.Table]:
    place = 0
    for table in parquetfile.batches(path):
        kept = [row for row in range(table.num_rows) if place + row in rows]
        place += table.num_rows
        if kept:
            yield table.take(kept)


def _replaced(ours: str, theirs: str, schema: pa.Schema, plan: _Plan) -> Iterator[pa.Table]:
    """The destination's rows, with those of the source in place of the ones they replace."""
    import pyarrow as pa

    source = {
        target: row for row, target in plan.replacing.items()
    }  # the last of the source's rows that claim one place has it
    order = sorted(set(source.values()))
    taken = [_fit(table, schema, theirs) for table in _chosen(theirs, set(order))]
    rows = pa.concat_tables(taken) if taken else schema.empty_table()
    at = {row: number for number, row in enumerate(order)}
    place = 0
    for table in parquetfile.batches(ours):
        mine = _fit(table, schema, ours)
        both = pa.concat_tables([mine, rows])
        yield both.take(
            [
                mine.num_rows + at[source[place + row]] if place + row in source else row
                for row in range(mine.num_rows)
            ]
        )
        place += mine.num_rows


def _fit(table: pa.Table, schema: pa.Schema, path: str) -> pa.Table:
    import pyarrow as pa

    columns = []
    for wanted in schema:
        if wanted.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, wanted.type))
            continue
        try:
            columns.append(table.column(wanted.name).cast(wanted.type))
        except pa.ArrowException as exc:
            raise InvalidInputError(
                f"{path}: the column {wanted.name} cannot become {wanted.type}: {exc}; "
                "nothing was changed"
            ) from exc
    return pa.table(columns, schema=schema.remove_metadata())


def _overlays(site: Site, source: DatasetId, carry: tuple[str, ...]) -> list[tuple[str, str]]:
    """(file of the source, path in the destination) of the overlay parts that come along."""
    found = []
    home = os.path.join(site.root.folder(source), DERIVED_FOLDER)
    for namespace in carry:
        if os.path.exists(os.path.join(site.folder, DERIVED_FOLDER, f"{namespace}.parquet")):
            raise ConflictError(
                f"{site.dataset} has a compact overlay {namespace}.parquet, beside which no "
                "parts can be; nothing was changed",
                hint=f"leave --carry-namespace {namespace} out, and attach its columns instead",
            )
        if os.path.exists(os.path.join(home, f"{namespace}.parquet")):
            raise ConflictError(
                f"the overlay {namespace} of {source} is compact, and only parts can come "
                "along; nothing was changed",
                hint=f"leave --carry-namespace {namespace} out, and attach its columns instead",
            )
        parts = os.path.join(home, namespace)
        names = sorted(os.listdir(parts)) if os.path.isdir(parts) else []
        names = [name for name in names if name.startswith("part-") and name.endswith(".parquet")]
        if not names:
            raise InvalidInputError(
                f"{source} has no parts of an overlay {namespace}; nothing was changed"
            )
        for name in names:
            path = os.path.join(parts, name)
            key = parquetfile.facts(path).metadata.get("usr:overlay_key", "id")
            if key != "id":
                raise ConflictError(
                    f"{path} is keyed by {key}, and only overlays keyed by id can come along; "
                    "nothing was changed"
                )
            found.append((path, f"{DERIVED_FOLDER}/{namespace}/{name}"))
    return found


def _carry(act: Mutation, carried: list[tuple[str, str]]) -> None:
    for source, path in carried:
        with (
            open(source, "rb", buffering=0) as file,
            durable.Spool.create(act.create(path)) as spool,
        ):
            spool.copy_from(file.fileno(), 0, 0, os.fstat(file.fileno()).st_size)


__all__ = ["DUPLICATES", "MergeOptions", "MergeResult", "merge"]
