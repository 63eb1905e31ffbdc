"""blame: which state brought a row, and each of its values."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

from usrcli import compare
from usrcli.context import find_root, infer_dataset, json_option, make_who, print_json
from usrcli.render import table
from usrcli.render.contrast import cut, text
from usrcli.tables import split
from usrstore.errors import RevisionNotFoundError
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import DatasetId
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs.site import Site

if TYPE_CHECKING:
    from usrstore.verbs.blame import Origin


@click.command(short_help="Which state brought a row, and each of its values")
@click.argument("revision", metavar="DATASET|REV", required=False)
@click.option("--id", "row_id", required=True, metavar="ID", help="The row.")
@click.option("--key", default="id", show_default=True, metavar="COLUMN", help="Where ID stands.")
@click.option("--columns", default="", metavar="A,B", help="Only these columns.")
@json_option
def blame(revision: str | None, row_id: str, key: str, columns: str, as_json: bool) -> int:
    """Say of a row of DATASET, and of each of its values, which state brought it.

    Values are those that a reader sees: the newest of the overlays, else the base's. Histories
    are followed through merges. Of a state whose bytes are gone nothing is known: what may have
    come with it is marked with ≤, and stands at the latest state that can have brought it.
    """
    from usrstore.verbs import blame as verb

    root = find_root()
    site, start = _start(root, revision)
    found = verb.blame(site, start, row_id, key=key)
    wanted = split(columns)
    found = [o for o in found if not wanted or o.column in (verb.THE_ROW, *wanted)]
    if as_json:
        print_json([_data(origin) for origin in found])
        return 0
    whole, *cells = found
    click.echo(f"row {text(whole.value)} came with {_state(whole)}")
    names = ["state", "date", "author", "column", "value", "from"]
    rows = [
        [
            f"{'≤ ' if o.unread else ''}{o.state.short}",
            _date(o),
            text(o.manifest.author),
            text(o.column),
            cut(text(o.value), 48),
            "" if o.source == "base" else o.source.split("/")[1].removesuffix(".parquet"),
        ]
        for o in cells
    ]
    for line in table.lines(names, rows, table.Cut()):
        click.echo(line)
    unread = list(dict.fromkeys(oid for origin in found for oid in origin.unread))
    if unread:
        listed = ", ".join(oid.short for oid in unread[:5])
        more = f" and {len(unread) - 5} more" if len(unread) > 5 else ""
        click.echo(f"≤ at the latest: the bytes of {listed}{more} are not here", err=True)
    return 0


def _start(root: Root, revision: str | None) -> tuple[Site, ManifestId]:
    dataset = compare.plain_dataset(root, revision) if revision else infer_dataset(root, None)
    if dataset is None:
        assert revision is not None
        oid, _ = compare.state(root, revision)
        dataset = reach.manifest(root.database.get, oid).dataset
        return Site.open(root, DatasetId(dataset), make_who(root)), oid
    site = Site.open(root, DatasetId(dataset), make_who(root))
    head = site.head() if root.has_store else None
    if head is None:
        raise RevisionNotFoundError(
            f"{dataset} has no state yet, so nothing says who brought what",
            hint=f"usr commit {dataset} makes the first",
        )
    return site, head


def _date(origin: Origin) -> str:
    return dt.datetime.fromtimestamp(origin.manifest.time_us / 1e6).astimezone().date().isoformat()


def _state(origin: Origin) -> str:
    first = origin.manifest.message.splitlines()[0] if origin.manifest.message else ""
    mark = "≤ " if origin.unread else ""
    words = [f"{mark}{origin.state.short}", _date(origin), text(origin.manifest.author)]
    return f"{' '.join(words)}{f': {cut(text(first), 60)}' if first else ''}"


def _data(origin: Origin) -> dict[str, Any]:
    return {
        "column": origin.column or None,
        "value": origin.value,
        "source": origin.source or None,
        "state": origin.state.hex(),
        "sequence": origin.manifest.sequence,
        "time_us": origin.manifest.time_us,
        "author": origin.manifest.author,
        "message": origin.manifest.message,
        "unread": [oid.hex() for oid in origin.unread],
    }
