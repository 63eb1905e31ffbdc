"""attach: columns from a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from usrcli.context import (
    find_root,
    infer_dataset,
    json_option,
    make_who,
    parse_seconds,
    print_json,
)
from usrcli.render.text import plural
from usrstore.objects.names import DatasetId
from usrstore.verbs.site import Site

if TYPE_CHECKING:
    from usrstore.verbs.attach import AttachResult

KEYS = ("id", "sequence", "sequence_norm", "sequence_ci")

lock_option = click.option(
    "--lock-timeout", type=float, metavar="S", help="How long to wait for other programs [30]."
)


def open_site(dataset: str | None, lock_timeout: float | None) -> Site:
    """The dataset that a command is about."""
    root = find_root()
    name = DatasetId(infer_dataset(root, dataset))
    return Site.open(root, name, make_who(root), lock_timeout_s=parse_seconds(lock_timeout))


def split(text: str | None) -> tuple[str, ...] | None:
    """`a, b` → names; None for nothing."""
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    return names or None


@click.command(short_help="Add columns from a file, as one more part of an overlay")
@click.argument("dataset", required=False)
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
@lock_option
@json_option
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
    lock_timeout: float | None,
    as_json: bool,
) -> int:
    """Attach columns of FILE to the rows of DATASET; or say all that is wrong, and write nothing.

    Each column becomes NS__COLUMN and must be registered with its type. An empty cell is no
    value, and hides none that is there already. The part and its event are written as one.
    """
    from usrstore.dataset.offer import Wish
    from usrstore.verbs.attach import attach as verb

    del backend
    site = open_site(dataset, lock_timeout)
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
