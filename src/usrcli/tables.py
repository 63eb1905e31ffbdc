"""ls, info, schema, cols, describe: what datasets there are and what is in them. They only read."""

from __future__ import annotations

import datetime as dt
import fnmatch
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from usrcli.context import find_root, infer_dataset, json_option, print_json
from usrcli.render import table
from usrcli.render.text import human_bytes, plural
from usrstore.errors import InvalidInputError
from usrstore.objects.names import DatasetId
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.root import Root

if TYPE_CHECKING:
    from usrstore.dataset.query import View

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "rich", "plain", "json"]),
    default="auto",
    help="`json` is --json; the others are all plain text.",
)
columns_option = click.option(
    "--columns", default="", metavar="A,B", help="Only these columns, in this order."
)
deleted_option = click.option("--include-deleted", is_flag=True, help="Show deleted rows, too.")


def cut_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How values are cut to fit a line."""
    for option in (
        click.option("--precision", default=4, show_default=True, help="Digits of a fraction."),
        click.option("--max-list-items", default=6, show_default=True, help="Items of a list."),
        click.option("--max-colwidth", default=80, show_default=True, help="Width of a cell."),
    ):
        command = option(command)
    return command


def locate(text: str | None) -> tuple[Root, DatasetId]:
    """The root, and the dataset that was named or that we stand in."""
    root = find_root()
    if text is not None and set(text) & set("@~^:"):
        raise InvalidInputError(
            f"{text!r} names a state; rows are read from the folder as it is now",
            hint=f"usr checkout {text}, then read; or usr show {text}",
            code="revision-unreadable",
        )
    named = None if text in (None, ".") else text
    return root, DatasetId(infer_dataset(root, named))


def read(text: str | None, act: Callable[[View], Any]) -> Any:
    """What `act` reads of a dataset, all from one set of files."""
    from usrstore.verbs import reading

    root, dataset = locate(text)
    return reading.read(root, dataset, act)


def split(columns: str) -> list[str]:
    return [name.strip() for name in columns.split(",") if name.strip()]


@click.command(short_help="The datasets of this root")
@format_option
@json_option
def ls(form: str, as_json: bool) -> int:
    """List the datasets of the root: rows, columns and size of their records, last change."""
    root = find_root()
    rows = [_row(root, name) for name in root.datasets()]
    if as_json or form == "json":
        print_json(rows)
    elif not rows:
        click.echo(f"(no datasets under {root.path})")
    else:
        names = ["dataset", "rows", "cols", "size", "updated"]
        shown = [
            [r["dataset"], r["rows"], r["cols"], human_bytes(r["size_bytes"]), r["updated"]]
            for r in rows
        ]
        for line in table.lines(names, shown, table.Cut()):
            click.echo(line)
    return 0


def _row(root: Root, dataset: DatasetId) -> dict[str, Any]:
    """Of a footer that cannot be read only the file's size and time are known."""
    from usrstore.worktree import parquet

    path = os.path.join(root.folder(dataset), PRIMARY_FILE)
    with open(path, "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        fd = file.fileno()
        footer = parquet.read_footer(lambda at, size: os.pread(fd, size, at), found.st_size)
    moment = dt.datetime.fromtimestamp(found.st_mtime)  # local and without a zone, as ever
    return {
        "dataset": dataset,
        "rows": footer.rows if footer else None,
        "cols": footer.columns if footer else None,
        "size_bytes": found.st_size,
        "updated": moment.isoformat(timespec="seconds"),
    }


@click.command(short_help="Name, size and columns of a dataset")
@click.argument("dataset", required=False)
@format_option
@json_option
def info(dataset: str | None, form: str, as_json: bool) -> int:
    """Say what DATASET is: where it lies, its rows, its columns, its overlays."""
    _, name = locate(dataset)
    data = read(dataset, lambda view: _info(view, name))
    if as_json or form == "json":
        print_json(data)
        return 0
    for label in ("name", "path", "rows"):
        click.echo(f"{label:<11}: {data[label]}")
    click.echo(f"{'namespaces':<11}: {', '.join(data['namespaces']) or '-'}")
    click.echo(f"{'columns':<11}: {', '.join(data['columns'])}")
    return 0


def _info(view: View, name: DatasetId) -> dict[str, Any]:
    return {
        "name": name,
        "path": view.folder,
        "rows": view.rows,
        "columns": list(view.schema.names),
        "namespaces": sorted(view.overlays),
    }


@click.command(short_help="The columns of a dataset and their types")
@click.argument("dataset", required=False)
@click.option("--tree", is_flag=True, help="Show what is inside lists and structs.")
@format_option
@json_option
def schema(dataset: str | None, tree: bool, form: str, as_json: bool) -> int:
    """Show the schema of DATASET as a reader sees it: overlay columns included."""
    fields = read(dataset, lambda view: list(view.schema))
    if as_json or form == "json":
        rows = [{"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in fields]
        print_json({"fields": rows})
    elif tree:
        for field in fields:
            _print_tree(field, 0)
    else:
        for line in table.lines(
            ["name", "type", "nullable"],
            [[f.name, str(f.type), f.nullable] for f in fields],
            table.Cut(),
        ):
            click.echo(line)
    return 0


def _print_tree(field: Any, depth: int) -> None:
    inner = [field.type.field(number) for number in range(field.type.num_fields)]
    kind = str(field.type).partition("<")[0] if inner else str(field.type)
    click.echo(f"{'  ' * depth}{field.name}: {kind}{'' if field.nullable else ' not null'}")
    for below in inner:
        _print_tree(below, depth + 1)


@click.command(short_help="The columns of a dataset and where they come from")
@click.argument("target", default=".")
@click.option("--glob", "pattern", default="*", metavar="PATTERN", help="Only such names.")
@format_option
@json_option
def cols(target: str, pattern: str, form: str, as_json: bool) -> int:
    """List the columns of TARGET, a dataset or the folder of one, overlay columns included."""

    def look(view: View) -> list[dict[str, Any]]:
        return [
            {"name": field.name, "type": str(field.type), "source": view.source(field.name)}
            for field in view.schema
            if fnmatch.fnmatchcase(field.name, pattern)
        ]

    rows = read(target, look)
    if as_json or form == "json":
        print_json(rows)
    elif not rows:
        click.echo(f"no column is named like {pattern!r}")
    else:
        for line in table.lines(
            ["name", "type", "source"], [list(row.values()) for row in rows], table.Cut()
        ):
            click.echo(line)
    return 0


@click.command(short_help="What the columns of a dataset hold")
@click.argument("dataset", required=False)
@columns_option
@click.option("--sample", default=1024, show_default=True, help="Values that `distinct` looks at.")
@deleted_option
@cut_options
@format_option
@json_option
def describe(
    dataset: str | None,
    columns: str,
    sample: int,
    include_deleted: bool,
    max_colwidth: int,
    max_list_items: int,
    precision: int,
    form: str,
    as_json: bool,
) -> int:
    """Say of each column of DATASET how many values it has, their range and an example.

    All rows are read. The range of a text or a list is that of its length.
    """
    import tempfile

    from usrstore.dataset import describing

    def look(view: View) -> list[dict[str, Any]]:
        names = view.choose(split(columns), deleted=include_deleted)
        kinds = [view.schema.field(name) for name in names]
        sources = {name: view.source(name) for name in names}
        with tempfile.TemporaryDirectory(prefix="usr-") as scratch:
            batches = view.batches(names, scratch=scratch, deleted=include_deleted)
            return [
                {
                    "name": d.name,
                    "type": d.type,
                    "source": d.source,
                    "rows": d.rows,
                    "nulls": d.nulls,
                    "min": d.least,
                    "max": d.greatest,
                    "mean": d.mean,
                    "distinct": d.distinct,
                    "sampled": d.sampled,
                    "example": d.example,
                }
                for d in describing.describe(batches, kinds, sources, sample=sample)
            ]

    rows = read(dataset, look)
    if as_json or form == "json":
        print_json(rows)
        return 0
    cut = table.Cut(min(max_colwidth, 40), max_list_items, precision)
    names = ["name", "type", "source", "nulls", "distinct", "min", "max", "mean", "example"]
    click.echo(plural(rows[0]["rows"] if rows else 0, "row"))
    for line in table.lines(names, [[row[name] for name in names] for row in rows], cut):
        click.echo(line)
    return 0
