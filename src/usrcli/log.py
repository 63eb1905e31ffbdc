"""log: the states of a dataset, newest first, as a list or as a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from usrcli import compare
from usrcli.arguments import PathsCommand, paths_given
from usrcli.context import find_root, infer_dataset, json_option, make_who, now_us, print_json
from usrcli.render import entries
from usrcli.render.graph import Graph
from usrcli.render.text import plural
from usrstore.objects import revision as revisions
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import DatasetId, dataset_of
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs import believing, growth, history
from usrstore.verbs.revisions import parse_moment, peel, resolve

if TYPE_CHECKING:
    from usrstore.verbs.history import LogEntry


@click.command(cls=PathsCommand, short_help="The states of a dataset, newest first")
@click.argument("ranges", metavar="[REV | A..B | ^REV]...", nargs=-1)
@click.option("--graph", is_flag=True, help="Draw how histories part and merge.")
@click.option("--oneline", is_flag=True, help="One line a state.")
@click.option("--stat", is_flag=True, help="Sizes of what each state changed, by section.")
@click.option("--name-status", is_flag=True, help="The files that each state changed: A, M or D.")
@click.option("--rows", is_flag=True, help="How the dataset grew: rows, columns, events, overlays.")
@click.option("-n", "--max-count", type=click.IntRange(1), default=1 << 30, help="At most so many.")
@click.option(
    "--since", "--after", metavar="WHEN", help="Made at WHEN or later: a date, `2 days ago`."
)
@click.option("--until", "--before", metavar="WHEN", help="Made at WHEN or earlier.")
@click.option("--all", "everything", is_flag=True, help="From every ref: heads, tags, remotes.")
@click.option(
    "--decorate/--no-decorate", default=None, help="Name the refs at each state [terminal]."
)
@json_option
def log(
    ranges: tuple[str, ...],
    graph: bool,
    oneline: bool,
    stat: bool,
    name_status: bool,
    rows: bool,
    max_count: int,
    since: str | None,
    until: str | None,
    everything: bool,
    decorate: bool | None,
    as_json: bool,
) -> int:
    """The states that REV descends from, newest first; without REV, of the dataset this is.

    A state is `kept` if every byte of it is in the store, `light` if its bytes are (or were) in
    the working folder only. A..B shows what B has and A has not. With `-- PATH`, only states that
    changed a file there.
    """
    root = find_root(files=True)
    moment = now_us()
    starts, hidden = _ends(root, ranges, moment, everything=everything)
    wanted = history.Wanted(
        limit=max_count,
        since_us=None if since is None else parse_moment(since, moment, end=False),
        until_us=None if until is None else parse_moment(until, moment),
        hidden=tuple(hidden),
        paths=paths_given(),
    )
    found = _rows(root, starts, wanted)
    if as_json:
        changes = stat or name_status
        print_json([_data(root, entry, changes=changes, rows=rows) for entry in found])
        return 0
    decorate = entries.on_terminal() if decorate is None else decorate
    names = entries.names_of(root) if decorate else {}
    show = _Show(oneline=oneline, stat=stat, name_status=name_status, rows=rows)
    blocks = ((entry, _block(root, entry, names, show)) for entry in found)
    for text in _drawn(blocks, oneline) if graph else _listed(blocks, oneline):
        click.echo(text)
    return 0


def _ends(
    root: Root, ranges: tuple[str, ...], moment: int, *, everything: bool
) -> tuple[list[ManifestId], list[ManifestId]]:
    """Where the log starts, and what is left out of it."""

    def look(text: str) -> ManifestId:
        return resolve(root, text, now_us=moment)[0]

    starts: list[ManifestId] = []
    hidden: list[ManifestId] = []
    for text in ranges:
        ends = revisions.split_range(text)
        if ends is None:
            (hidden if text.startswith("^") else starts).append(look(text.removeprefix("^")))
            continue
        since, until = ends
        other = look(since or until)
        head = reach.manifest(root.database.get, other).dataset if not (since and until) else ""
        hidden.append(look(since or head))
        starts.append(look(until or head))
    if everything:
        starts += _everything(root, ranges)
    elif not starts:
        starts.append(look(infer_dataset(root, None)))
    return starts, hidden


def _everything(root: Root, ranges: tuple[str, ...]) -> Iterator[ManifestId]:
    """The states of all refs; of the datasets that were named only, if any were."""
    named = {
        reach.manifest(root.database.get, resolve(root, text, now_us=now_us())[0]).dataset
        for text in ranges
        if revisions.split_range(text) is None
    }
    for name, oid in sorted(root.states.refs().items()) if root.has_store else ():
        if not named or dataset_of(name) in named:
            yield peel(root, oid)


def _rows(root: Root, starts: Iterable[ManifestId], wanted: history.Wanted) -> Iterator[LogEntry]:
    """The states, dataset by dataset: histories of two have nothing in common."""
    grouped: dict[DatasetId, list[ManifestId]] = {}
    for oid in starts:
        dataset = DatasetId(reach.manifest(root.database.get, oid).dataset)
        grouped.setdefault(dataset, []).append(oid)
    left = wanted.limit
    for dataset in sorted(grouped):
        policy = believing.policy_for(root, make_who(root), "", dataset, "none")
        for entry in history.log(root, grouped[dataset], policy, wanted):
            if not left:
                return
            left -= 1
            yield entry


def _data(root: Root, entry: LogEntry, *, changes: bool, rows: bool) -> dict[str, Any]:
    data = entries.data(entry)
    if rows:
        found_growth = growth.growth(root, entry.manifest)
        data["growth"] = {"now": found_growth.now, "since": found_growth.since}
    found = history.changes(root, entry.manifest) if changes else None
    return {**data, "changes": compare.data(found)} if found else data


class _Show(NamedTuple):
    """What is shown of each state."""

    oneline: bool
    stat: bool
    name_status: bool
    rows: bool


def _block(root: Root, entry: LogEntry, names: dict[ManifestId, str], show: _Show) -> list[str]:
    """The lines of one state."""
    name = names.get(entry.oid, "")
    if show.oneline:
        grown = f"  {_grown(root, entry)}" if show.rows else ""
        text = [f"{entries.oneline(entry, name)}{grown}"]
    else:
        text = entries.lines(entry, name, _grown(root, entry) if show.rows else "")
    found = history.changes(root, entry.manifest) if show.stat or show.name_status else None
    if found is None or not found.comparison.changed:
        return text
    rows = compare.stat_lines(found) if show.stat else []
    rows += compare.name_status_lines(found.comparison) if show.name_status else []
    return text + rows if show.oneline else [*text, "", *rows]


def _grown(root: Root, entry: LogEntry) -> str:
    """`1200 rows (+200), 9 columns, 14 events (+2), 3 overlay files (+1)`."""
    found = growth.growth(root, entry.manifest)
    words = {"rows": "row", "columns": "column", "events": "event", "overlays": "overlay file"}
    parts = []
    for name, word in words.items():
        count, since = found.now[name], found.since[name]
        if count is None:
            continue
        more = click.style(f" ({since:+d})", fg="green" if since > 0 else "red") if since else ""
        parts.append(f"{plural(count, word)}{more}")
    return ", ".join(parts)


def _listed(blocks: Iterable[tuple[LogEntry, list[str]]], oneline: bool) -> Iterator[str]:
    for number, (_, text) in enumerate(blocks):
        if number and not oneline:
            yield ""
        yield from text


def _drawn(blocks: Iterable[tuple[LogEntry, list[str]]], oneline: bool) -> Iterator[str]:
    """The same beside a graph; parents that are not shown end their lanes."""
    shown = list(blocks)
    known = {entry.oid for entry, _ in shown}
    drawing = Graph()
    for number, (entry, text) in enumerate(shown):
        parents = [oid for oid in entry.manifest.parents if oid in known]
        first, below, links = drawing.state(entry.oid, parents)
        width = max(map(len, (first, below))) + 2 * len(parents[1:])
        yield f"{first:<{width}} {text[0]}"
        rest = text[1:] if oneline or number == len(shown) - 1 else [*text[1:], ""]
        for line in rest:
            yield f"{below:<{width}} {line}".rstrip()
        yield from links
