"""bundle create, verify, list, import: states in a file, for where no network goes."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import click

from usrcli.asking import Request, shared, transfer
from usrcli.context import find_root, find_root_or_none, json_option, make_who, now_us, print_json
from usrcli.render.progress import reporter
from usrcli.render.text import human_bytes, plural
from usrcli.sync import run
from usrstore.errors import InvalidInputError
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import DatasetId
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.trust.policy import Policy
from usrstore.verbs import believing
from usrstore.verbs.bundle import Bundle, Content

PLACE = "bundle"
"""What tracking refs and pins call the place that a bundle came from."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@click.group(short_help="States in one file, for where no network goes")
def bundle() -> None:
    """Take states along in a file: a plain tar of packs, verified like any pull.

    \b
      usr bundle create x.usrb densegen/x
      usr bundle verify x.usrb                     # anywhere, without a store
      usr --root there bundle import x.usrb -y
    """  # noqa: D301


@bundle.command()
@click.argument("file")
@click.argument("revisions", nargs=-1, required=True)
@click.option(
    "--since",
    multiple=True,
    metavar="REV",
    help="Leave out what this state holds (again and again).",
)
@click.option("--split", metavar="SIZE", help="Parts of at most SIZE bytes: 700M, 4G.")
@click.option("--tags/--no-tags", default=True, help="Tags of the states go with them [on].")
@json_option
def create(
    file: str,
    revisions: tuple[str, ...],
    since: tuple[str, ...],
    split: str | None,
    tags: bool,
    as_json: bool,
) -> int:
    """Put the states that REVISIONS name into the new FILE.

    A dataset's name stands for its newest state; commit first if the folder has changed since.
    """
    from usrstore.verbs.bundle import create as verb

    root = find_root()
    states = [_state(root, text) for text in revisions]
    most = None if split is None else _bytes(split)
    progress = reporter("auto")
    try:
        made = verb(
            root,
            make_who(root),
            file,
            states,
            since=[_state(root, text)[1] for text in since],
            split=most,
            tags=tags,
            emit=progress,
        )
    finally:
        progress.done()
    if as_json:
        print_json(
            {
                "paths": list(made.paths),
                "size": made.size,
                "states": [_data(content) for content in made.contents],
            }
        )
        return 0
    for content in made.contents:
        click.echo(_line(content))
    for path in made.paths:
        click.echo(f"{path} {human_bytes(os.path.getsize(path))}")
    return 0


def _state(root: Root, text: str) -> tuple[DatasetId, ManifestId]:
    from usrstore.verbs.revisions import resolve

    oid, path = resolve(root, text, now_us=now_us())
    if path is not None:
        raise InvalidInputError(f"{text!r} names a file; a bundle holds whole states")
    return DatasetId(reach.manifest(root.database.get, oid).dataset), oid


def _bytes(text: str) -> int:
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if unit not in _UNITS or not number.isdigit() or not int(number):
        raise InvalidInputError(f"--split {text!r} is no size", hint="for example --split 700M")
    return int(number) * _UNITS[unit]


@bundle.command()
@click.argument("file")
@json_option
def verify(file: str, as_json: bool) -> int:
    """Check every byte of FILE, and whether its states are whole. Needs no store.

    Any part of a split bundle stands for all of them. Exit 1 if something is wrong.
    """
    from usrstore.verbs.bundlecheck import verify as verb

    root = find_root_or_none()
    progress = reporter("auto")
    with Bundle(file) as opened:
        try:
            policy = Policy(allowed=believing.allowed_signers(root)) if root else Policy()
            found = verb(opened, policy, emit=progress)
        finally:
            progress.done()
    bad = any(content.problems for content in found)
    if as_json:
        print_json({"whole": not bad, "states": [_data(content) for content in found]})
        return int(bad)
    for content in found:
        click.echo(_line(content))
        for oid in content.needs:
            click.echo(f"  needs {oid.hex()}")
        for problem in content.problems:
            click.echo(f"  WRONG: {problem}")
    click.echo("damaged: copy it again from where it was made" if bad else "whole")
    return int(bad)


@bundle.command("import")
@click.argument("file")
@click.argument("datasets", nargs=-1)
@shared
@transfer
def import_bundle(file: str, datasets: tuple[str, ...], **values: Any) -> int:
    """Take the states in FILE (or only of DATASETS) into their folders, as a pull would.

    Everything is verified before anything is promoted; what diverged is refused. An older
    bundle than what is here changes nothing.
    """
    root = find_root()
    values["accept_rollback"] = True  # a file cannot go back: it is as old as it is
    with Bundle(file) as opened:
        names = [DatasetId(name) for name in datasets] or list(opened.heads)
        if unknown := [name for name in names if name not in opened.heads]:
            held = ", ".join(opened.heads)
            raise InvalidInputError(
                f"{file} holds no state of {', '.join(unknown)}; nothing was changed",
                hint=f"it holds: {held}",
            )
        who = make_who(root)
        for name in names:
            taken = contextlib.nullcontext(opened.peer(root, who))
            status = run(
                "pull",
                root,
                name,
                PLACE,
                Request(**values),
                lambda taken=taken: taken,  # type: ignore[misc]
            )
            if status:
                return status
    return 0


def _data(content: Content) -> dict[str, Any]:
    return {
        "dataset": content.dataset,
        "manifest": content.manifest.hex(),
        "needs": [oid.hex() for oid in content.needs],
        "files": content.files,
        "size": content.size,
        "carried": content.carried,
        "signature": content.verdict.status,
        "signer": content.verdict.key.fingerprint if content.verdict.key else None,
        "tags": list(content.tags),
        "problems": list(content.problems),
    }


def _line(content: Content) -> str:
    signer = content.verdict.key.fingerprint if content.verdict.key else "nobody"
    what = (
        f"{plural(content.files, 'file')}, {human_bytes(content.size)}; " if content.files else ""
    )
    named = f"; tagged {', '.join(content.tags)}" if content.tags else ""
    return (
        f"{content.dataset} {content.manifest.short}: {what}carries "
        f"{human_bytes(content.carried)}; signed by {signer}{named}"
    )
