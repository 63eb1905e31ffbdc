"""merge: two states that both went on, as one; and what to do where they conflict."""

from __future__ import annotations

from typing import Any

import click

from usrcli.asking import choices as chosen
from usrcli.asking import choosing
from usrcli.context import (
    find_root,
    infer_dataset,
    json_option,
    make_who,
    now_us,
    parse_seconds,
    print_json,
)
from usrcli.render.merged import lines_of
from usrcli.render.progress import reporter
from usrstore.objects.names import DatasetId
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs import mergestate
from usrstore.verbs.merge import MergeResult
from usrstore.verbs.merge import merge as verb
from usrstore.verbs.revisions import resolve
from usrstore.verbs.site import Site


@click.command(short_help="Merge another state into the folder, by meaning")
@click.argument("names", nargs=-1, metavar="[REV] [DATASET]")
@click.option("--continue", "go_on", is_flag=True, help="Go on with a merge that had conflicts.")
@click.option("--abort", is_flag=True, help="Forget a merge that had conflicts.")
@choosing
@click.option("-n", "--dry-run", is_flag=True, help="Say what would happen, and what conflicts.")
@click.option(
    "--lock-timeout", type=float, metavar="S", help="How long to wait for other programs [30]."
)
@json_option
def merge(
    names: tuple[str, ...],
    go_on: bool,
    abort: bool,
    dry_run: bool,
    lock_timeout: float | None,
    as_json: bool,
    **values: Any,
) -> int:
    """Merge the state REV into the folder of its dataset; both are then its parents.

    A state that follows ours already is simply gone forward to.

    Rows are united by id and cells by column, event logs by line (theirs stays as it is, ours
    follow), overlay parts by name, notes by line, other files by content. What both sides
    changed to something else is a conflict: all of them are shown, nothing is touched, and

    \b
      usr merge --continue --ours-rows DATASET           ours wins where cells differ
      usr merge --continue --theirs meta.md DATASET      theirs wins for a file
      usr merge --abort DATASET                          forget it

    `usr pull` merges like this by itself when both sides changed.
    """  # noqa: D301
    root = find_root()
    if go_on and abort:
        raise click.UsageError("--continue and --abort are two different things")
    if go_on or abort:
        if len(names) > 1:
            raise click.UsageError("--continue and --abort take a DATASET and no REV")
        dataset = DatasetId(infer_dataset(root, names[0] if names else None))
        if abort:
            return _abort(root, dataset, as_json=as_json)
        pending = mergestate.find(root, dataset)
        theirs, name, remote = pending.theirs, pending.name, pending.remote
        decided = pending.choices.with_more(chosen(values))
    else:
        if not 1 <= len(names) <= 2:
            raise click.UsageError("name the state to merge: usr merge REV [DATASET]")
        theirs, path = resolve(root, names[0], now_us=now_us())
        if path is not None:
            raise click.UsageError("REV names a file; whole states are merged")
        dataset = DatasetId(reach.manifest(root.database.get, theirs).dataset)
        if len(names) > 1:
            dataset = DatasetId(infer_dataset(root, names[1]))
        name, remote, decided = names[0], None, chosen(values)
    site = Site.open(root, dataset, make_who(root), lock_timeout_s=parse_seconds(lock_timeout))
    progress = reporter("auto")
    try:
        result = verb(
            site, theirs, name=name, remote=remote, choices=decided, dry_run=dry_run, emit=progress
        )
    finally:
        progress.done()
    _show(dataset, name, result, as_json=as_json)
    return 0


def _abort(root: Root, dataset: DatasetId, *, as_json: bool) -> int:
    mergestate.find(root, dataset)
    mergestate.forget(root, dataset)
    if as_json:
        print_json({"dataset": dataset, "state": "ABORTED"})
    else:
        click.echo(f"forgot the merge of {dataset}; its files are as they were all along")
    return 0


def _show(dataset: DatasetId, name: str, result: MergeResult, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "dataset": dataset,
                "state": result.state,
                "manifest": result.manifest.hex(),
                "ours": result.ours.hex(),
                "theirs": result.theirs.hex(),
                "merge": result.report.data(),
            }
        )
        return
    if result.state == "NO-OP":
        click.echo(f"{name} is in the history of {dataset} already: nothing to merge")
        return
    word = {"DRY-RUN": "would merge", "FAST-FORWARD": "went forward to"}.get(result.state, "merged")
    into = "" if result.state == "FAST-FORWARD" else f" into {dataset}"
    click.echo(f"{word} {name} ({result.theirs.short}){into}")
    for text in lines_of(result.report):
        click.echo(f"  {text}")
    if result.state != "DRY-RUN":
        click.echo(f"[{dataset} {result.manifest.short}] `usr undo {dataset}` takes it back")
