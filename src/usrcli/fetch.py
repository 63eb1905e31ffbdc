"""fetch: a remote's states into the store, and no further."""

from __future__ import annotations

from typing import Any

import click

from usrcli import several, targets
from usrcli.asking import all_option, path_option, section_option
from usrcli.context import make_who, print_json
from usrcli.links import peer_of
from usrcli.render import audit as rendering
from usrcli.render.progress import reporter
from usrcli.render.text import plural
from usrstore.objects.names import DatasetId
from usrstore.objects.sections import Section
from usrstore.trust.policy import Mode
from usrstore.verbs import believing
from usrstore.verbs.fetch import FetchResult
from usrstore.verbs.scope import ALL_SECTIONS, Scope
from usrstore.verbs.site import Site


@click.command(short_help="Bring a remote's state into the store only")
@click.argument("datasets", nargs=-1, metavar="DATASET…")
@click.argument("remote")
@all_option
@section_option
@path_option
@click.option(
    "--trust",
    type=click.Choice(["strict", "tofu", "none"]),
    help="Which signatures to believe [.usr/config, else tofu].",
)
@click.option("--tags/--no-tags", default=True, help="Tags of the state follow it [on].")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fetch(
    datasets: tuple[str, ...],
    remote: str,
    every: bool,
    sections: tuple[str, ...],
    paths: tuple[str, ...],
    trust: Mode | None,
    tags: bool,
    as_json: bool,
) -> int:
    """Bring the state of every DATASET at REMOTE into the store, kept; no folder is touched.

    Look at it with `usr show REMOTE/DATASET`, take it with `usr checkout`. Several datasets,
    'densegen/*' or --all are the remote's; one state says where all of them are.

    With --section or --path the state is known in whole and kept in part: what was left out is
    said, and comes with a later fetch.
    """
    from usrstore.verbs.fetch import fetch_all

    together = several.are_several(datasets, every=every)
    scope = Scope(frozenset(map(Section, sections)) or ALL_SECTIONS, paths)
    root, words = targets.find_all(datasets)
    progress = reporter("auto")
    with peer_of(root, remote) as peer:
        listed = [row.dataset for row in peer.datasets()] if several.needs_list(words) else []
        names = several.names_of(root, words, lambda: listed, where=f"the remote {remote}")
        who, mode = make_who(root), believing.mode_of(root, trust)
        sites = [Site.open(root, name, who) for name in names]
        try:
            done = (
                fetch_all(sites, peer, remote, mode=mode, tags=tags, scope=scope, emit=progress)
                if sites
                else []
            )
        finally:
            progress.done()
    results = dict(zip(names, done, strict=True))
    if as_json:
        rows = [_data(name, remote, result) for name, result in results.items()]
        print_json({"datasets": rows} if together else rows[0])
        return 0
    for name, result in results.items():
        for line in _lines(name, remote, result):
            click.echo(line)
    if together:
        partly = sum(result.left_out is not None for result in done)
        fresh = sum(result.fresh for result in done)
        told = f"{plural(len(done), 'dataset')}: {fresh} new, {len(done) - fresh} as before"
        click.echo(told + (f"; {partly} kept in part" if partly else ""))
    return 0


def _data(name: DatasetId, remote: str, result: FetchResult) -> dict[str, Any]:
    left = result.left_out
    return {
        "dataset": name,
        "remote": remote,
        "manifest": result.manifest.hex(),
        "fresh": result.fresh,
        "payload": result.payload,
        "left_out": None
        if left is None
        else {"sections": list(left.sections), "all_but": list(left.globs), "files": left.files},
    }


def _lines(name: DatasetId, remote: str, result: FetchResult) -> list[str]:
    said = [f"{remote}/{name} {result.manifest.short} ({'new' if result.fresh else 'as before'})"]
    if (left := result.left_out) is not None:
        words = f"{rendering.scope_words(left)}: not fetched ({plural(left.files, 'file')})"
        said.append(rendering.line("Left out", words))
    return said
