"""op log, op show, undo: what was done here, and how to take it back."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from usrcli.context import find_root, infer_dataset, json_option, make_who, print_json
from usrcli.render.progress import reporter
from usrcli.render.text import moment, plural
from usrstore.objects.ids import ObjectId
from usrstore.objects.names import DatasetId

if TYPE_CHECKING:
    from usrstore.verbs.operations import Move, Operation
    from usrstore.verbs.undo import UndoResult


@click.group(short_help="What was done here, and when")
def op() -> None:
    """Every command that moved a ref is an operation; the chain of states is their log."""


@op.command("log", short_help="Every operation, newest first")
@click.argument("dataset", required=False)
@click.option("-n", "--max-count", type=click.IntRange(1), default=1 << 30, help="At most so many.")
@json_option
def log(dataset: str | None, max_count: int, as_json: bool) -> int:
    """Every operation, newest first: number, when, who, why, and the refs that it moved.

    With DATASET, only those that moved a ref of it. `usr undo --to N` goes back to one.
    """
    from usrstore.verbs.operations import operations

    root = find_root(files=True)
    name = None if dataset is None else DatasetId(infer_dataset(root, dataset))
    rows = list(islice(operations(root, name), max_count))
    if as_json:
        print_json([_data(row) for row in rows])
        return 0
    width = len(str(rows[0].state.number)) if rows else 1
    for row in rows:
        state = row.state
        why = state.reason or state.command
        click.echo(f"{state.number:>{width}}  {moment(state.time_us)}  {state.actor}  {_line(why)}")
        for text in _move_lines(row.moves):
            click.echo(f"{'':>{width}}    {text}")
    if not rows:
        click.echo("nothing was done here yet")
    return 0


@op.command("show", short_help="One operation")
@click.argument("number", type=click.IntRange(1), required=False)
@json_option
def show(number: int | None, as_json: bool) -> int:
    """One operation by its number, or the newest: what was asked for, and what it moved."""
    from usrstore.verbs.operations import operation

    found = operation(find_root(files=True), number)
    state = found.state
    if as_json:
        refs = {name: oid.hex() for name, oid in sorted(state.refs.items())}
        print_json({**_data(found), "refs": refs})
        return 0
    click.echo(f"operation {state.number} ({state.oid.short})")
    click.echo(f"Actor:   {state.actor}")
    click.echo(f"Date:    {moment(state.time_us)}")
    click.echo(f"Command: {_line(state.command)}")
    if state.reason:
        click.echo(f"Reason:  {_line(state.reason)}")
    click.echo()
    for text in _move_lines(found.moves):
        click.echo(text)
    return 0


@click.command(short_help="Go back to before the last operation")
@click.argument("datasets", metavar="[DATASET]...", nargs=-1)
@click.option("--to", type=click.IntRange(0), metavar="N", help="Go back to after operation N.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.", hidden=True)
@json_option
def undo(datasets: tuple[str, ...], to: int | None, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Take the last operation back: refs and folders are again as they were before it.

    That is a new operation, so an undo can be undone. What a folder holds and no state does is
    kept first. With DATASET, only what belongs to it. Remotes stay as they are.

    A state that was never kept may be gone; then nothing is changed, and the command says so.
    """
    from usrstore.verbs.undo import undo as verb

    del yes  # nothing is lost, so nothing is asked
    root = find_root(files=True)
    names = [DatasetId(infer_dataset(root, text)) for text in datasets]
    progress = reporter("auto")
    try:
        result = verb(root, make_who(root), names, to=to, dry_run=dry_run, emit=progress)
    finally:
        progress.done()
    if as_json:
        print_json(_undo_data(result, dry_run))
        return 0
    _print_undo(result, dry_run)
    return 0


def _print_undo(result: UndoResult, dry_run: bool) -> None:
    if not result.steps:
        click.echo(f"nothing to undo: all is as it was after operation {result.to}")
        return
    verb = "would go" if dry_run else "went"
    where = f"to after operation {result.to}" if result.to else "to before the first operation"
    click.echo(f"{verb} back from operation {result.undone} {where}")
    for step in result.steps:
        for text in _move_lines(step.moves):
            click.echo(f"  {text}")
        if step.saved:
            click.echo(f"{step.dataset}: kept what was here as {step.saved.short}")
        if step.folder is not None:
            files = plural(step.changed, "file")
            if dry_run:
                click.echo(f"{step.dataset}: {files} would change, to {step.folder.short}")
            else:
                click.echo(f"{step.dataset}: {files} changed; the folder is at {step.folder.short}")
    if not dry_run:
        click.echo("`usr undo` takes this back")
    for remote, dataset, oid in result.shared:
        click.echo(
            f"warning: {remote} has {oid.short} of {dataset} still; an undo here does not reach it, "
            "and the next pull may bring it again",
            err=True,
        )


def _undo_data(result: UndoResult, dry_run: bool) -> dict[str, Any]:
    return {
        "undone": result.undone,
        "to": result.to,
        "now": result.now,
        "dry_run": dry_run,
        "steps": [
            {
                "dataset": step.dataset,
                "moves": [_move_data(move) for move in step.moves],
                "folder": _hex(step.folder),
                "changed": step.changed,
                "saved": _hex(step.saved),
            }
            for step in result.steps
        ],
        "shared": [
            {"remote": remote, "dataset": dataset, "manifest": oid.hex()}
            for remote, dataset, oid in result.shared
        ],
    }


def _data(found: Operation) -> dict[str, Any]:
    state = found.state
    return {
        "number": state.number,
        "id": state.oid.hex(),
        "time_us": state.time_us,
        "actor": state.actor,
        "command": state.command,
        "reason": state.reason,
        "moves": None if found.moves is None else [_move_data(move) for move in found.moves],
    }


def _move_data(move: Move) -> dict[str, Any]:
    return {"ref": move.name, "before": _hex(move.before), "after": _hex(move.after)}


def _hex(oid: ObjectId | None) -> str | None:
    return oid.hex() if oid else None


def _move_lines(moves: tuple[Move, ...] | None) -> list[str]:
    if moves is None:
        return ["(the operation before is not kept any more)"]
    width = max((len(move.name) for move in moves), default=0)
    return [
        f"{move.name:<{width}}  {_short(move.before):<12} → {_short(move.after)}" for move in moves
    ]


def _short(oid: ObjectId | None) -> str:
    return oid.short if oid else "absent"


def _line(text: str) -> str:
    """The first line of a text."""
    return text.splitlines()[0] if text else ""
