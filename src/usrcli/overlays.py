"""attach, materialize: columns beside the rows, and columns of the rows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from usrcli.context import print_json, terminal
from usrcli.datasets import acting, open_site
from usrcli.render.text import plural

if TYPE_CHECKING:
    from usrstore.verbs.attach import AttachResult

KEYS = ("id", "sequence", "sequence_norm", "sequence_ci")


def split(text: str | None) -> tuple[str, ...] | None:
    """`a, b` → names; None for nothing."""
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    return names or None


@click.command(short_help="Add columns from a file, as one more part of an overlay")
@click.option("--path", required=True, metavar="FILE", help="CSV, JSON lines, JSON or Parquet.")
@click.option("--namespace", required=True, metavar="NS", help="A registered namespace.")
@click.option("--key", required=True, type=click.Choice(KEYS), help="What rows are matched by.")
@click.option("--key-col", metavar="COL", help="The key's column in FILE [as --key; or sequence].")
@click.option("--columns", metavar="A,B", help="Columns of FILE, with or without NS__ [all].")
@click.option("--allow-overwrite", is_flag=True, help="Columns with values may get newer ones.")
@click.option("--allow-missing", is_flag=True, help="Pass over rows that DATASET lacks.")
@click.option(
    "--parse-json/--no-parse-json", default=True, help="Text may hold lists and structs [on]."
)
@click.option(
    "--backend",
    type=click.Choice(["pyarrow", "duckdb"]),
    default="pyarrow",
    help="Accepted for older scripts; there is one way of reading.",
)
@click.option("--note", default="", help="Why; kept in the event log and in meta.md.")
@acting
def attach(
    dataset: str | None,
    path: str,
    namespace: str,
    key: str,
    key_col: str | None,
    columns: str | None,
    allow_overwrite: bool,
    allow_missing: bool,
    parse_json: bool,
    backend: str,
    note: str,
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Attach columns of FILE to the rows of DATASET; or say all that is wrong, and write nothing.

    Each column becomes NS__COLUMN and must be registered with its type. An empty cell is no
    value, and hides none that is there already. The part and its event are written as one.
    """
    from usrstore.dataset.offer import Wish
    from usrstore.verbs.attach import attach as verb

    del backend
    site = open_site(dataset, lock_timeout_s)
    column = key_col or ("id" if key == "id" else "sequence")
    wish = Wish(namespace, key, column, split(columns), parse_json)
    done = verb(
        site,
        os.path.expanduser(path),
        wish,
        allow_overwrite=allow_overwrite,
        allow_missing=allow_missing,
        note=note,
    )
    if as_json:
        print_json(
            {
                "dataset": site.dataset,
                "namespace": namespace,
                "key": key,
                "path": done.path,
                "columns": list(done.columns),
                "rows_incoming": done.rows_incoming,
                "rows_matched": done.rows_matched,
                "rows_missing": done.rows_missing,
                "moved": done.moved,
            }
        )
    else:
        _tell(site.dataset, namespace, done)
    return 0


def _tell(dataset: str, namespace: str, done: AttachResult) -> None:
    missing = f"; {plural(done.rows_missing, 'row')} without a match" if done.rows_missing else ""
    if done.path is None:
        click.echo(f"{dataset}: no row of the file has a match; nothing was written")
        return
    if done.moved:
        click.echo(f"the compact overlay of {namespace} is now {done.moved}")
    names = ", ".join(done.columns)
    click.echo(f"{dataset}: {plural(done.rows_matched, 'row')} of {names}{missing}")
    click.echo(f"wrote {done.path}")


@click.command(short_help="Make columns of overlays: what they say is the base's from now on")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--snapshot-before", is_flag=True, help="Keep the base as it was, too.")
@click.option("--namespaces", metavar="A,B", help="Whose [all but tombstones and record state].")
@click.option("--drop-overlays", is_flag=True, help="Remove the overlays afterwards.")
@click.option("--archive-overlays", is_flag=True, help="Move them to _derived/_archived.")
@click.option("--drop-deleted", is_flag=True, help="Leave deleted rows out for good.")
@acting
def materialize(
    dataset: str | None,
    yes: bool,
    snapshot_before: bool,
    namespaces: str | None,
    drop_overlays: bool,
    archive_overlays: bool,
    drop_deleted: bool,
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Write what overlays of DATASET say into records.parquet, as columns of its rows.

    Readers see the same before and after. The base as it becomes is kept in _snapshots.
    """
    from usrstore.verbs.materialize import materialize as verb

    site = open_site(dataset, lock_timeout_s)
    if not yes and terminal() and not as_json:
        what = " and drop its deleted rows for good" if drop_deleted else ""
        click.confirm(f"Rewrite records.parquet of {site.dataset}{what}?", default=True, abort=True)
    done = verb(
        site,
        namespaces=split(namespaces),
        snapshot_before=snapshot_before,
        drop_overlays=drop_overlays,
        archive_overlays=archive_overlays,
        drop_deleted=drop_deleted,
    )
    if as_json:
        print_json(
            {
                "dataset": site.dataset,
                "namespaces": list(done.namespaces),
                "rows": done.rows,
                "rows_dropped": done.rows_dropped,
                "columns_added": list(done.columns_added),
                "overlays": done.overlays,
                "snapshots": list(done.snapshots),
            }
        )
        return 0
    if not done.snapshots:
        click.echo(f"{site.dataset}: nothing to materialize; nothing was changed")
        return 0
    whose = ", ".join(done.namespaces) or "no overlay"
    gone = f", {plural(done.rows_dropped, 'deleted row')} dropped" if done.rows_dropped else ""
    added = f", new columns: {', '.join(done.columns_added)}" if done.columns_added else ""
    click.echo(f"{site.dataset}: materialized {whose}: {plural(done.rows, 'row')}{gone}{added}")
    if done.overlays != "kept":
        click.echo(f"the overlays were {done.overlays}")
    return 0
