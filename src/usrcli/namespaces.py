"""namespace register, list, show: which columns overlays may bring."""

from __future__ import annotations

from typing import Any

import click

from usrcli.context import find_root, json_option, print_json
from usrcli.render.text import plural
from usrstore.dataset.namespaces import Namespace


@click.group(short_help="Register, list and show namespaces of columns")
def namespace() -> None:
    """A namespace owns columns: their names begin with it, and registry.yaml has their types."""


@namespace.command()
@click.argument("name")
@click.option(
    "--columns",
    metavar="'COLUMN:TYPE,…'",
    required=True,
    help="Its columns in order; types nest: 'score:float32,at:timestamp[us, UTC]'.",
)
@click.option("--owner", default="", help="Whom to ask about it.")
@click.option("--description", default="", help="What it is for.")
@click.option("--overwrite", is_flag=True, help="Let it replace one with other columns.")
@json_option
def register(
    name: str, columns: str, owner: str, description: str, overwrite: bool, as_json: bool
) -> int:
    """Add the namespace NAME to the registry of this root.

    \b
    string  bool  int8…int64  uint8…uint64  float16  float32  float64
    timestamp[unit]  timestamp[unit, zone]  list<T>  fixed_size_list<T>[n]  struct<a:T,…>
    """  # noqa: D301  click's mark, not a backslash
    from usrstore.dataset import namespaces
    from usrstore.verbs.registering import register as verb

    made = namespaces.make(name, columns, owner=owner, description=description)
    changed = verb(find_root(), made, overwrite=overwrite)
    if as_json:
        print_json({**_data(made), "changed": changed})
    else:
        word = "Registered" if changed else "Registered already, and the same:"
        click.echo(f"{word} {name}, {plural(len(made.columns), 'column')}")
    return 0


@namespace.command("list")
@json_option
def list_namespaces(as_json: bool) -> int:
    """Every namespace of this root, and what it is for."""
    from usrstore.verbs.registering import known

    have = sorted(known(find_root()).values(), key=lambda entry: entry.name)
    if as_json:
        print_json([_data(entry) for entry in have])
        return 0
    width = max(map(len, (entry.name for entry in have)), default=0)
    for entry in have:
        columns = plural(len(entry.columns), "column")
        click.echo(
            f"{entry.name:<{width}}  {columns:<11}  {entry.owner}  {entry.description}".rstrip()
        )
    return 0


@namespace.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> int:
    """The columns of the namespace NAME, with their types."""
    from usrstore.verbs.registering import find

    entry = find(find_root(), name)
    if as_json:
        print_json(_data(entry))
        return 0
    for label, value in (("owner", entry.owner), ("description", entry.description)):
        if value:
            click.echo(f"{label}: {value}")
    width = max(map(len, (column.name for column in entry.columns)), default=0)
    for column in entry.columns:
        click.echo(f"{column.name:<{width}}  {column.type}")
    return 0


def _data(entry: Namespace) -> dict[str, Any]:
    from usrstore.dataset.namespaces import contract_hash

    return {"name": entry.name, **entry.to_yaml(), "contract_hash": contract_hash(entry)}
