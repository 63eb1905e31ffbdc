"""pull and push, and how they and diff tell what became of it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

import click

from usrcli import files, targets
from usrcli.asking import (
    Request,
    all_option,
    choosing,
    path_option,
    shared,
    transfer,
)
from usrcli.context import make_who, parse_seconds, print_json
from usrcli.links import peer_of
from usrcli.render import audit as rendering
from usrstore.errors import MergeConflictError, UsrError
from usrstore.objects.names import DatasetId
from usrstore.remote.peer import Peer
from usrstore.root import Root
from usrstore.verbs import audit
from usrstore.verbs.audit import SyncResult
from usrstore.verbs.options import Options
from usrstore.verbs.site import Site


@contextlib.contextmanager
def refusal(
    request: Request, action: audit.Action, dataset: str, options: Options
) -> Iterator[None]:
    """A failed run writes its audit, too."""
    try:
        yield
    except UsrError as exc:
        if request.seen is not None:
            refused = SyncResult(
                action, "REFUSED", request.seen, options.checks, scope=options.scope
            )
            data = {**audit.data(refused), "policy": list(options.policy)}
            if not request.as_json:
                for text in rendering.audit_lines(refused):
                    click.echo(text)
        else:
            data = {"action": action, "transfer_state": "REFUSED", "dataset": dataset}
        write_audit(request, {**data, **_ends(request), "error": error_data(exc)})
        raise


def error_data(exc: UsrError) -> dict[str, Any]:
    from usrcli.main import exit_status

    error: dict[str, Any] = {
        "code": exc.code,
        "message": exc.message,
        "hint": exc.hint,
        "exit": exit_status(exc),
    }
    if isinstance(exc, MergeConflictError):
        error["conflicts"] = list(exc.conflicts)
    return error


def write_audit(request: Request, data: dict[str, Any]) -> None:
    path = request.values["audit_json_out"]
    if path is None:
        return
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"usr_output_version": 1, "data": data}, file, separators=(",", ":"))
            file.write("\n")
    except OSError as exc:
        click.echo(f"warning: the audit could not be written to {path}: {exc.strerror}", err=True)


def show(request: Request, result: SyncResult, policy: tuple[str, ...] = ()) -> None:
    data = {**audit.data(result), "policy": list(policy), **_ends(request)}
    write_audit(request, data)
    for text in rendering.policy_warnings(policy):
        click.echo(text, err=True)
    if request.as_json:
        print_json(data)
        return
    for text in rendering.audit_lines(result):
        click.echo(text)
    if request.ends is not None:
        here, there = request.ends
        click.echo(rendering.line("File", f"here={here} there={there}"))


def _ends(request: Request) -> dict[str, Any]:
    """Of a file, where it is."""
    if request.ends is None:
        return {}
    return {"file": dict(zip(("local", "remote"), request.ends, strict=True))}


def site_of(root: Root, dataset: DatasetId, request: Request) -> Site:
    seconds = parse_seconds(request.values["lock_timeout"])
    return Site.open(root, dataset, make_who(root), lock_timeout_s=seconds)


_NOTHING_CHOSEN = "What differs was left out; all else is equal."


def _sync(
    action: Literal["pull", "push"], datasets: tuple[str, ...], remote: str, request: Request
) -> int:
    from usrcli import several

    every = request.values["every"]
    if len(datasets) == 1 and files.is_file(datasets[0]):
        file = files.locate(datasets[0], remote, request)
        return run(action, file.root, file.root.name, remote, request, file.connect)
    files.refuse_options(request)
    if several.are_several(datasets, every=every):
        root, words = targets.find_all(datasets)
        return several.run(action, root, words, remote, request, lambda: peer_of(root, remote))
    root, name = targets.find(datasets[0])
    return run(action, root, name, remote, request, lambda: peer_of(root, remote))


def run(
    action: Literal["pull", "push"],
    root: Root,
    name: DatasetId,
    remote: str,
    request: Request,
    connect: Callable[[], contextlib.AbstractContextManager[Peer]],
) -> int:
    """One transfer as the options ask for it, shown as they ask; gives the exit status."""
    options = request.options(root)
    progress = request.progress
    if action == "pull":
        from usrstore.verbs.pull import pull as verb
    else:
        from usrstore.verbs.push import push as verb
    from usrstore.verbs.recover import recover

    with refusal(request, action, name, options):
        site = site_of(root, name, request)
        if root.has_store:
            recover(root, site.who, only=name)
        with connect() as peer:
            try:
                result = verb(
                    site,
                    peer,
                    remote,
                    options,
                    agree=request.agree,
                    on_meeting=request.note,
                    emit=progress,
                )
            finally:
                progress.done()
    if result is None:
        return 130
    if not request.as_json:
        if not result.changed:
            click.echo("Already up to date.")
        elif result.state == "NO-OP":
            ahead = action == "pull" and options.whole
            click.echo("Nothing to pull: this side is ahead." if ahead else _NOTHING_CHOSEN)
        for text in rendering.change_lines(result) if result.state == "DRY-RUN" else ():
            click.echo(text)
        if said := rendering.both_changed(result):
            click.echo(said)
    show(request, result, options.policy)
    if result.state != "DRY-RUN" and not request.as_json:
        part = "" if options.whole else ", of what was asked for: the rest was left out"
        click.echo(f"{action.capitalize()} complete{part}.")
    return 0


@click.command(short_help="Take a remote's state, whole and verified")
@click.argument("datasets", nargs=-1, metavar="DATASET…")
@click.argument("remote")
@all_option
@shared
@transfer
@choosing
@path_option
@targets.file_options
@click.option(
    "--strict-bootstrap-id",
    is_flag=True,
    envvar="USR_SYNC_STRICT_BOOTSTRAP_ID",
    help="A first pull needs the whole id, namespace/name.",
)
def pull(datasets: tuple[str, ...], remote: str, **values: Any) -> int:
    """Make every DATASET here what it is at REMOTE, or leave everything as it was.

    Several datasets, 'densegen/*' or --all come as one: all of them or none, in one state.

    Everything is verified before anything is promoted. A pull that was interrupted goes on
    where it stopped. If both sides changed, they are merged by meaning: rows by id, logs by line,
    overlays by part. What both changed to something else is a conflict: it is named, nothing is
    touched, and --ours, --theirs or `usr merge` decide.
    """
    return _sync("pull", datasets, remote, Request(**values))


@click.command(short_help="Give a remote our state, whole and verified")
@click.argument("datasets", nargs=-1, metavar="DATASET…")
@click.argument("remote")
@all_option
@shared
@transfer
@targets.file_options
def push(datasets: tuple[str, ...], remote: str, **values: Any) -> int:
    """Make every DATASET at REMOTE what it is here, or leave everything there as it was.

    Several datasets, 'densegen/*' or --all go as one: all of them or none, in one state.

    The remote receives, verifies the whole tree, and only then swaps its folder and refs.
    """
    return _sync("push", datasets, remote, Request(**values))
