"""head, cell, get, grep, export: rows of a dataset, overlays joined. They only read."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from usrcli.context import json_option, print_json
from usrcli.render import table
from usrcli.render.text import plural
from usrcli.tables import (
    columns_option,
    cut_options,
    deleted_option,
    format_option,
    locate,
    read,
    split,
)
from usrstore.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from usrstore.dataset.query import View

raw_option = click.option("--raw", is_flag=True, help="Nothing cut, tabs between the columns.")


def _values(batches: Iterable[Any]) -> list[dict[str, Any]]:
    from usrstore.dataset import values

    return [row for batch in batches for row in values.rows(batch)]


def _show(
    names: list[str], rows: list[dict[str, Any]], *, cut: table.Cut, raw: bool, as_json: bool
) -> None:
    if as_json:
        print_json(rows)
        return
    lists = [[row[name] for name in names] for row in rows]
    for line in table.raw_lines(names, lists) if raw else table.lines(names, lists, cut):
        click.echo(line)


@click.command(short_help="The first rows of a dataset")
@click.argument("target", default=".")
@click.option(
    "-n", "count", type=click.IntRange(min=0), default=10, show_default=True, help="Rows."
)
@columns_option
@deleted_option
@raw_option
@cut_options
@format_option
@json_option
def head(
    target: str,
    count: int,
    columns: str,
    include_deleted: bool,
    raw: bool,
    max_colwidth: int,
    max_list_items: int,
    precision: int,
    form: str,
    as_json: bool,
) -> int:
    """Show the first rows of TARGET, a dataset or the folder of one: always the same ones.

    Rows come in the order of records.parquet, with the newest overlay values beside them.
    """

    def look(view: View) -> tuple[list[str], list[dict[str, Any]]]:
        names = view.choose(split(columns), deleted=include_deleted)
        return names, _values(view.head(count, names, deleted=include_deleted))

    names, rows = read(target, look)
    cut = table.Cut(max_colwidth, max_list_items, precision)
    _show(names, rows, cut=cut, raw=raw, as_json=as_json or form == "json")
    return 0


@click.command(short_help="One value, whole")
@click.argument("target", default=".")
@click.option("--row", type=click.IntRange(min=0), default=0, show_default=True, help="Its row.")
@click.option("--col", "column", default="", metavar="NAME", help="Its column.")
@click.option("--glob", "pattern", default="", metavar="PATTERN", help="All columns so named.")
@format_option
@json_option
def cell(target: str, row: int, column: str, pattern: str, form: str, as_json: bool) -> int:
    """Print a value of TARGET, nothing cut. Rows count from 0, deleted ones included."""
    if not column and not pattern:
        raise click.UsageError("name a column with --col, or several with --glob")

    def look(view: View) -> dict[str, Any]:
        wanted = [column] if column else []
        wanted += [n for n in view.schema.names if pattern and fnmatch.fnmatchcase(n, pattern)]
        if not wanted:
            raise InvalidInputError(f"no column is named like {pattern!r}", code="column-unknown")
        names = view.choose(wanted)
        if row >= view.rows:
            raise NotFoundError(
                f"there is no row {row}: rows go from 0 to {view.rows - 1}", code="row-not-found"
            )
        return _values(view.take([row], names))[0]

    found = read(target, look)
    if as_json or form == "json":
        print_json({"row": row, "values": found})
    elif len(found) == 1:
        click.echo(_plain(next(iter(found.values()))))
    else:
        for name, value in found.items():
            click.echo(f"{name}: {_plain(value)}")
    return 0


def _plain(value: Any) -> str:
    from usrstore.dataset import values

    return value if isinstance(value, str) else values.dumps(value)


@click.command(short_help="Rows by their ids")
@click.argument("dataset", required=False)
@click.argument("row_id", required=False, metavar="[ID]")
@click.option("--id", "ids", multiple=True, metavar="ID", help="One, or several between commas.")
@columns_option
@deleted_option
@format_option
@json_option
def get(
    dataset: str | None,
    row_id: str | None,
    ids: tuple[str, ...],
    columns: str,
    include_deleted: bool,
    form: str,
    as_json: bool,
) -> int:
    """Show the rows of DATASET with these ids, whole, in the order of records.parquet."""
    wanted = [row_id] if row_id else []
    wanted += [name for given in ids for name in split(given)]
    if not wanted:
        raise click.UsageError("give an id: usr get DATASET ID, or --id ID")

    def look(view: View) -> list[dict[str, Any]]:
        names = view.choose(split(columns), deleted=include_deleted)
        read_names = names if "id" in names else ["id", *names]
        places = view.places("id", wanted)
        rows = _values(view.take(places, read_names, deleted=include_deleted))
        missing = [name for name in dict.fromkeys(wanted) if name not in {r["id"] for r in rows}]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise NotFoundError(
                f"Not found: {', '.join(missing[:5])}{more}",
                hint="a deleted row is shown with --include-deleted",
                code="row-not-found",
            )
        return [{name: row[name] for name in names} for row in rows]

    rows = read(dataset, look)
    if as_json or form == "json":
        print_json(rows)
        return 0
    for number, row in enumerate(rows):
        if number:
            click.echo()
        width = max(map(len, row))
        for name, value in row.items():
            click.echo(f"{name:<{width}} : {table.cell(value, table.RAW)}")
    return 0


@click.command(short_help="Rows whose sequence matches a pattern")
@click.argument("dataset", required=False)
@click.option("--pattern", required=True, help="A regular expression (RE2); case does not count.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Rows at most."
)
@click.option("--batch-size", type=int, default=65536, hidden=True)
@click.option(
    "--columns", default="id,sequence", show_default=True, metavar="A,B", help="What to show."
)
@deleted_option
@cut_options
@raw_option
@format_option
@json_option
def grep(
    dataset: str | None,
    pattern: str,
    limit: int,
    batch_size: int,
    columns: str,
    include_deleted: bool,
    max_colwidth: int,
    max_list_items: int,
    precision: int,
    raw: bool,
    form: str,
    as_json: bool,
) -> int:
    """Show the first rows of DATASET whose sequence matches PATTERN anywhere."""
    del batch_size  # reads are bounded whatever it says

    def look(view: View) -> tuple[list[str], list[dict[str, Any]]]:
        names = view.choose(split(columns), deleted=include_deleted)
        found = view.grep(pattern, names, limit=limit, deleted=include_deleted)
        return names, _values(found)

    names, rows = read(dataset, look)
    cut = table.Cut(max_colwidth, max_list_items, precision)
    if as_json or form == "json" or rows:
        _show(names, rows, cut=cut, raw=raw, as_json=as_json or form == "json")
    else:
        click.echo("no sequence matches")
    return 0


@click.command(short_help="Rows as CSV, JSON lines or Parquet")
@click.argument("dataset", required=False)
@click.option(
    "--fmt", type=click.Choice(["csv", "jsonl", "parquet"]), required=True, help="The format."
)
@click.option("--out", required=True, metavar="PATH", help="A file, or a folder that exists.")
@columns_option
@deleted_option
@json_option
def export(
    dataset: str | None,
    fmt: Any,
    out: str,
    columns: str,
    include_deleted: bool,
    as_json: bool,
) -> int:
    """Write the rows of DATASET, overlays joined, to a file that appears whole or not at all.

    Nothing is shortened: lists stand in a CSV as JSON text, moments have all their digits.
    """
    import tempfile

    from usrstore.dataset import exporting

    _, name = locate(dataset)
    path = os.path.join(out, f"{name.replace('/', '_')}.{fmt}") if os.path.isdir(out) else out
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise NotFoundError(f"there is no folder {os.path.dirname(path)}; nothing was written")

    def look(view: View) -> tuple[int, int]:
        names = view.choose(split(columns), deleted=include_deleted)
        with tempfile.TemporaryDirectory(prefix="usr-") as scratch:
            batches = view.batches(names, scratch=scratch, deleted=include_deleted)
            kinds = view.project(names)
            rows = exporting.export(batches, kinds, fmt, path, check=view.check)
        return rows, len(names)

    rows, count = read(dataset, look)
    if as_json:
        size = os.path.getsize(path)
        data = {"dataset": name, "path": os.path.abspath(path), "format": fmt}
        print_json({**data, "rows": rows, "columns": count, "bytes": size})
    else:
        click.echo(f"{plural(rows, 'row')}, {plural(count, 'column')} of {name} in {path}")
    return 0
