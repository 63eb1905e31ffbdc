"""diff --rows: rows and columns that differ, of any two states, the folder, or a remote."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from usrcli import compare
from usrcli.asking import Request
from usrcli.context import infer_dataset, make_who, now_us, print_json
from usrcli.links import peer_of
from usrcli.render import rowtext
from usrcli.sync import site_of
from usrcli.tables import split
from usrstore.objects.names import DatasetId
from usrstore.objects.revision import split_range
from usrstore.objects.tree import Listing
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs import rowdiff
from usrstore.verbs.rowdiff import Question, RowDiff
from usrstore.verbs.site import Site

if TYPE_CHECKING:
    from usrstore.dataset.rowsummary import Summary
    from usrstore.verbs.rowdiff import TableDiff

_LIMIT = 20
_PAGE_LIMIT = 200


def run(
    root: Root, this: str, other: str | None, request: Request, paths: tuple[str, ...], *, far: bool
) -> int:
    """Show the row diff; `far` says that OTHER is a remote. Gives the exit status."""
    values = request.values
    if values["name_status"]:
        raise click.UsageError("--name-status lists files, --rows looks into them: give one")
    question = Question(
        "raw" if values["raw"] else "resolved",
        values["key"],
        tuple(split(values["columns"])),
        paths,
    )
    with contextlib.ExitStack() as held:
        scratch = held.enter_context(tempfile.TemporaryDirectory(prefix="usr-"))
        if far:
            assert other is not None
            sides = held.enter_context(_with_remote(root, this, other, request))
        else:
            sides = held.enter_context(_local(root, this, other))
        ends, both = sides
        tables = both.tables(question, scratch)
        if values["porcelain"]:
            changed = _porcelain(tables)
        else:
            changed = _shown(tables, ends, question, request)
    return 1 if values["exit_code"] and changed else 0


# ── sides ───────────────────────────────────────────────────────────────────────────────
Ends = dict[str, Any]


@contextlib.contextmanager
def _with_remote(
    root: Root, this: str, remote: str, request: Request
) -> Iterator[tuple[Ends, RowDiff]]:
    from usrstore.verbs.meeting import meet

    name = DatasetId(infer_dataset(root, this))
    accept = request.options(root).accept_rollback
    with peer_of(root, remote) as peer:
        try:
            met = meet(
                site_of(root, name, request),
                peer,
                remote,
                "diff",
                accept_rollback=accept,
                emit=request.progress,
            )
        finally:
            request.progress.done()
        with rowdiff.with_remote(met, peer) as both:
            yield {"dataset": name, "from": None, "to": None, "remote": remote}, both


@contextlib.contextmanager
def _local(root: Root, this: str, other: str | None) -> Iterator[tuple[Ends, RowDiff]]:
    if other is None and (ends := split_range(this)):
        this, other = (end or compare.dataset_of(root, ends[0] or ends[1]) for end in ends)
    if other is None:
        site, oid, before = _against(root, this)
        site.root.check_dataset(site.dataset)
        found = site.capture(record=root.has_store)
        after: Listing | None = None
        new = None
    else:
        oid, before = compare.state(root, this)
        new, after = compare.state(root, other)
        dataset = DatasetId(reach.manifest(root.database.get, new).dataset)
        site, found = Site.open(root, dataset, make_who(root)), None
    names = (f"state {oid.short}" if oid else "nothing", f"state {new.short}" if new else "folder")
    data = {
        "dataset": site.dataset,
        "from": oid.hex() if oid else None,
        "to": new.hex() if new else None,
        "remote": None,
    }
    with rowdiff.between(site, found, before, after, names) as both:
        yield data, both


def _against(root: Root, this: str) -> tuple[Site, Any, Listing]:
    """The state that a folder is compared with: its head, or the one that was named."""
    dataset = compare.plain_dataset(root, this)
    if dataset is None:
        oid, before = compare.state(root, this)
        dataset = DatasetId(reach.manifest(root.database.get, oid).dataset)
        return Site.open(root, dataset, make_who(root)), oid, before
    site = Site.open(root, dataset, make_who(root))
    head = site.head() if root.has_store else None
    return site, head, compare.listing_of(root, head) if head else {}


# ── what is shown ───────────────────────────────────────────────────────────────────────
def _porcelain(tables: Iterator[TableDiff]) -> bool:
    from usrstore.dataset import rowsummary

    changed = False
    for table in tables:
        lines: list[str] = list(rowtext.porcelain_head(table))
        told = len(lines) > 1 or table.status != "M"
        for line in lines if told else ():
            click.echo(line)
        for delta in table.parts:
            if not told:
                click.echo(lines[0])
                told = True
            for rows, mark in ((delta.removed, "-"), (delta.added, "+")):
                for key in rowsummary.keys_of(rows, table.key):
                    click.echo(rowtext.porcelain_key(mark, key))
            for change in rowsummary.changed_rows(delta):
                for line in rowtext.porcelain_cells(change):
                    click.echo(line)
        changed = changed or told
    return changed


def _shown(tables: Iterator[TableDiff], ends: Ends, question: Question, request: Request) -> bool:
    values = request.values
    limit = values["limit"]
    if limit is None:
        limit = _PAGE_LIMIT if values["html"] is not None else _LIMIT
    found = []
    for table in tables:
        summary = _summary(table, 0 if values["stat"] else limit)
        if is_changed(table, summary):
            found.append((table, summary))
            if not request.as_json and values["html"] is None:
                _print(table, summary, stat=values["stat"], first=len(found) == 1)
    data = {**ends, "mode": question.mode, "limit": limit, "changed": bool(found)}
    if values["html"] is not None:
        _write_page(values["html"], ends, question, found)
    if request.as_json:
        from usrcli.render import rowdata

        print_json({**data, "tables": [rowdata.table(t, s) for t, s in found]})
    elif not found:
        click.echo("No row or column differs.")
    return bool(found)


def is_changed(table: TableDiff, found: Summary) -> bool:
    columns = table.schemas is not None and table.schemas.changed
    return table.status != "M" or columns or not found.empty or table.problem is not None


def _summary(table: TableDiff, limit: int) -> Summary:
    """Of a file that one side lacks only the rows that are shown need be read."""
    from usrstore.dataset.rowsummary import Summary

    found = Summary(limit)
    if table.status == "M":
        for part in table.parts:
            found.add(part)
        return found
    for part in table.parts if limit else ():
        found.add(part)
        if found.added + found.removed >= limit:
            break
    found.added = table.after or 0
    found.removed = table.before or 0
    return found


def _print(table: TableDiff, found: Summary, *, stat: bool, first: bool) -> None:
    if not first:
        click.echo()
    for line in rowtext.heading(table, found):
        click.echo(line)
    if stat:
        return
    for number, line in enumerate(rowtext.rows(table, found)):
        if not number:
            click.echo()
        click.echo(line)


def _write_page(
    path: str, ends: Ends, question: Question, found: list[tuple[TableDiff, Summary]]
) -> None:
    from usrcli.render import rowpage
    from usrstore.odb import durable

    page = rowpage.page(ends, question.mode, found, now_us())
    durable.replace(path, page.encode())
    click.echo(f"wrote {path}", err=True)
