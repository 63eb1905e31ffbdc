"""diff: the folder, a state or a remote, compared with another, by content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import click

from usrcli import compare, files, several, targets
from usrcli.arguments import PathsCommand, paths_given
from usrcli.asking import Request, all_option, shared
from usrcli.context import find_root, infer_dataset, remotes_path
from usrcli.links import peer_of
from usrcli.render import audit as rendering
from usrcli.sync import refusal, show, site_of, write_audit
from usrstore.objects.names import DatasetId
from usrstore.remote import profiles
from usrstore.remote.peer import Peer
from usrstore.root import Root
from usrstore.verbs import audit
from usrstore.verbs.audit import SyncResult
from usrstore.verbs.history import Changes


def _row_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What concerns --rows."""
    for option in (
        click.option("--html", metavar="FILE", help="Write the row diff as a page to FILE."),
        click.option(
            "--limit",
            type=click.IntRange(min=0),
            metavar="N",
            help="Show at most N rows of each kind [20; --html 200; --porcelain all].",
        ),
        click.option(
            "--raw/--resolved",
            "raw",
            default=None,
            help="Rows file by file, or as readers see them, overlays joined [resolved].",
        ),
        click.option("--key", metavar="COLUMN", help="What tells rows apart [id]."),
        click.option("--columns", default="", metavar="A,B", help="Only these columns."),
        click.option("--rows", is_flag=True, help="Rows and columns that differ, not files."),
    ):
        command = option(command)
    return command


@click.command(
    cls=PathsCommand, short_help="Compare a dataset with a remote, its last state, or two states"
)
@click.argument("words", nargs=-1, metavar="[THIS] [OTHER]")
@all_option
@shared
@click.option("--name-status", is_flag=True, help="One line a file: A, M or D, and its path.")
@click.option("--stat", is_flag=True, help="Sizes of what changed, by section.")
@click.option("--porcelain", is_flag=True, help="As --name-status, in a form that never changes.")
@_row_options
@targets.file_options
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
def diff(words: tuple[str, ...], **values: Any) -> int:
    """Compare THIS with OTHER, by content. Nothing is written anywhere but our stat cache.

    \b
    usr diff DATASET REMOTE   the folder here with the folder at the remote
    usr diff DATASET… REMOTE  several of them; also 'densegen/*', or --all
    usr diff DATASET          the folder with its last state; inside it the name may go
    usr diff REV              the folder with any state
    usr diff REV REV          two states, the older one first; also A..B

    With `-- PATH`, only files there. With --rows, the rows and columns that differ instead of
    the files: as readers see them, newest overlay values joined, or with --raw file by file.
    """  # noqa: D301
    request = Request(**values)
    paths = paths_given()
    if values["every"] or len(words) > 2 or (words and targets.is_pattern(words[0])):
        return _several(words, request, paths)
    this = words[0] if words else infer_dataset(find_root(), None)
    other = words[1] if len(words) > 1 else None
    if other is not None and files.is_file(this):
        return _file(this, other, request)
    files.refuse_options(request)
    root, this = targets.find(this) if targets.is_folder(this) else (find_root(), this)
    far = other is not None and other in profiles.load(remotes_path(root))
    if other is not None and not far and not compare.is_revision(root, other):
        profiles.find(remotes_path(root), other)  # says that there is no such remote
    if _asks_for_rows(values):
        from usrcli import rowdiff

        return rowdiff.run(root, this, other, request, paths, far=far)
    if other is None or not far:
        return compare.local_diff(
            root, this, other, request.values, paths=paths, as_json=request.as_json
        )
    name = DatasetId(infer_dataset(root, this))
    return _remote(root, name, other, request, paths, lambda: peer_of(root, other))


def _file(word: str, remote: str, request: Request) -> int:
    """One file with the same one at a remote."""
    if _asks_for_rows(request.values):
        raise click.UsageError(f"--rows compares datasets; {word} is one file")
    file = files.locate(word, remote, request)
    return _remote(file.root, file.root.name, remote, request, (), file.connect)


def _remote(
    root: Root,
    name: DatasetId,
    remote: str,
    request: Request,
    paths: Sequence[str],
    connect: Callable[[], AbstractContextManager[Peer]],
) -> int:
    """A dataset, or a file, with the same one at a remote."""
    values, options, progress = request.values, request.options(root), request.progress
    from usrstore.verbs.diff import diff as verb

    with refusal(request, "diff", name, options), connect() as peer:
        try:
            result = verb(
                site_of(root, name, request),
                peer,
                remote,
                checks=options.checks,
                accept_rollback=options.accept_rollback,
                emit=progress,
            )
        finally:
            progress.done()
    if request.as_json:
        show(request, result)
    elif values["name_status"] or values["porcelain"]:
        write_audit(request, audit.data(result))
        compare.print_name_status(_limited(result, paths).comparison, root.lone)
    elif values["stat"]:
        write_audit(request, audit.data(result))
        for text in compare.stat_lines(_limited(result, paths)):
            click.echo(text)
    else:
        show(request, result)
        for text in rendering.change_lines(result):
            click.echo(text)
        click.echo(rendering.status_line(result))
    changed = _limited(result, paths).comparison.changed if paths else result.changed
    return 1 if values["exit_code"] and changed else 0


def _asks_for_rows(values: dict[str, Any]) -> bool:
    """Whether rows are asked for, in so many words or by an option that only concerns them."""
    return bool(
        values["rows"]
        or values["html"] is not None
        or values["columns"]
        or values["key"] is not None
        or values["limit"] is not None
        or values["raw"] is not None
    )


def _several(words: Sequence[str], request: Request, paths: Sequence[str]) -> int:
    *datasets, remote = words or [""]
    several.are_several(datasets, every=request.values["every"])
    single = [f"--{name}" for name in ("name-status", "stat", "porcelain")
              if request.values[name.replace("-", "_")]]  # fmt: skip
    if _asks_for_rows(request.values):
        single.append("--rows")
    if single or paths:
        raise click.UsageError(f"{single[0] if single else '-- PATH'} is of one dataset; name one")
    root, names = targets.find_all(datasets)
    return several.diff(root, names, remote, request, lambda: peer_of(root, remote))


def _limited(result: SyncResult, paths: Sequence[str]) -> Changes:
    """What of a comparison concerns some files or folders."""
    met = result.meeting
    return Changes(met.local, met.there, met.comparison).limited(paths)
