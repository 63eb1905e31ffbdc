"""clone, ls-remote: what a remote holds, and all of it here."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict
from typing import Any

import click

from usrcli import links, several
from usrcli.asking import Request, shared, transfer
from usrcli.context import find_root_or_none, json_option, print_json
from usrstore.errors import (
    ConflictError,
    InvalidInputError,
    RemoteNotFoundError,
    UsrError,
)
from usrstore.objects.names import DatasetId
from usrstore.odb import durable
from usrstore.remote import places, profiles
from usrstore.remote.peer import Peer
from usrstore.remote.profiles import Profile
from usrstore.root import STORE_FOLDER, Root

ORIGIN = "origin"


@click.command("ls-remote", short_help="The datasets of a remote and their heads")
@click.argument("remote")
@click.argument("patterns", nargs=-1)
@json_option
def ls_remote(remote: str, patterns: tuple[str, ...], as_json: bool) -> int:
    """List the datasets at REMOTE (a name, or a place as `usr clone` takes it) and their heads.

    PATTERNS choose: `densegen/*`. A dataset without a signed state yet has `-` for a head.
    Nothing is read of the datasets themselves, and nothing is created.
    """
    root = find_root_or_none()
    profile = _profile(root, remote)
    peer = links.connect(profile, root)
    try:
        listed = {row.dataset: row for row in peer.datasets()}
        names = several.chosen(listed, patterns, where=f"the remote {remote}")
        held = [listed[DatasetId(name)] for name in names]
    finally:
        peer.close()
    if as_json:
        rows = [
            {"dataset": row.dataset, "head": row.head.hex() if row.head else None} for row in held
        ]
        print_json({"remote": remote, "place": profile.place, "datasets": rows})
        return 0
    for row in held:
        click.echo(f"{row.head.hex() if row.head else '-':<64}\theads/{row.dataset}")
    return 0


def _profile(root: Root | None, text: str) -> Profile:
    """A remote by its name, or the place itself."""
    try:
        return links.find_profile(root, text)
    except RemoteNotFoundError:
        try:
            body = places.parse(text)
        except InvalidInputError:
            pass
        else:
            return profiles.parse(ORIGIN, body, text)
        raise
    except InvalidInputError:  # a place is no remote's name
        return profiles.parse(ORIGIN, places.parse(text), text)


@click.command(short_help="A new root that holds what a remote holds")
@click.argument("remote")
@click.argument("folder")
@click.argument("patterns", nargs=-1)
@shared
@transfer
def clone(remote: str, folder: str, patterns: tuple[str, ...], **values: Any) -> int:
    """Make FOLDER a root with the datasets of REMOTE: all, or those that PATTERNS name.

    \b
      usr clone me@cluster:/project/lab/datasets datasets
      usr clone cluster datasets 'densegen/*'

    REMOTE is a place, or the name of a remote that is written down already. The new root knows
    it as `origin`. All of it is pulled over one connection, verified, and becomes one state. A clone that was interrupted goes
    on when the same command is run again.
    """  # noqa: D301
    values["yes"] = True
    profile = _profile(find_root_or_none(), remote)
    before = os.listdir(folder) if os.path.isdir(folder) else None
    root, origin = _new_root(folder, profile)

    def connect() -> contextlib.closing[Peer]:
        return contextlib.closing(links.connect(origin, root))

    request = Request(**values)
    try:
        status = several.run("pull", root, patterns, ORIGIN, request, connect)
    except UsrError:
        if not before and not (root.states.refs() or root.staged()):  # nothing has come
            _forget(root, folder_too=before is None)
        raise
    if not status and not request.as_json:
        click.echo(f"{root.path} is a clone of {profile.place}; it calls that {ORIGIN}")
    return status


def _new_root(folder: str, profile: Profile) -> tuple[Root, Profile]:
    """The root to clone into, and its remote: new, empty, or an earlier clone of the same place.

    Raises:
        ConflictError: the folder holds something else.
    """
    path = os.path.abspath(folder)
    remotes = os.path.join(path, STORE_FOLDER, "remotes.yaml")
    body = _body(profile)
    if os.path.isdir(path) and os.listdir(path):
        known = profiles.load(remotes).get(ORIGIN)
        if known is None or _body(known) != body:
            raise ConflictError(
                f"{path} is there and is no clone of {profile.place}; nothing was changed",
                hint="name a folder that does not exist yet",
            )
        return Root(path), known
    durable.make_folder(path)
    root = Root(path)
    root.create_store()
    origin = profiles.parse(ORIGIN, body, remotes)
    profiles.add(remotes, origin)
    return root, origin


def _forget(root: Root, *, folder_too: bool) -> None:
    """Take back a root that was made a moment ago, and holds nothing."""
    durable.remove_tree(root.store)
    if folder_too:
        durable.remove_folder(root.path)


def _body(profile: Profile) -> dict[str, Any]:
    body = {key: value for key, value in asdict(profile).items() if key != "name"}
    if profile.type == "folder":
        body["base_dir"] = os.path.abspath(os.path.expanduser(profile.base_dir))
    return body
