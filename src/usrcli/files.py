"""A single file as a target: where it is at the remote, and the way there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from usrcli import links, targets
from usrcli.asking import Request
from usrcli.context import find_root_or_none
from usrstore.errors import InvalidInputError, RemoteError, UnsupportedError
from usrstore.lone import Lone
from usrstore.remote.peer import Peer
from usrstore.remote.profiles import Profile

REPO_ROOT = "DNADESIGN_REPO_ROOT"


class Mapped(NamedTuple):
    """A file here, and the same one at a remote."""

    root: Lone
    far: str
    profile: Profile

    @property
    def ends(self) -> tuple[str, str]:
        """Both, for people."""
        host = f"{self.profile.target}:" if self.profile.type == "ssh" else ""
        return self.root.file, f"{host}{self.far}"

    @contextlib.contextmanager
    def connect(self) -> Iterator[Peer]:
        """Raises: RemoteError: the other end answers, but not for this file."""
        peer = links.connect_to_file(self.profile, self.far)
        try:
            if self.root.name not in {row.dataset for row in peer.datasets()}:
                raise RemoteError(
                    f"the remote {self.profile.name} serves what it was told to, and not "
                    f"{self.far}; nothing was changed",
                    hint="where sshd starts `usr serve` by itself (ForceCommand), only its root "
                    "can be reached: sync the dataset that the file lies in",
                    code="remote-without-files",
                )
            yield peer
        finally:
            peer.close()


def is_file(word: str) -> bool:
    """Whether a word means a file: it says that it is a table, or there is such a file.

    Raises:
        InvalidInputError: there is, and the root has a dataset that is so called.
    """
    if word.endswith(".parquet"):
        return not os.path.isdir(word)
    if not os.path.isfile(os.path.expanduser(word)):
        return False
    root = None if targets.is_path(word) else find_root_or_none()
    if root is not None and os.path.isdir(there := os.path.join(root.path, word)):
        raise InvalidInputError(
            f"{word} is a dataset of the root {root.path}, and a file here; nothing was changed",
            hint=f"say ./{word} for the file, {there} for the dataset",
            code="target-ambiguous",
        )
    return True


def refuse_options(request: Request) -> None:
    """What only a file has. Raises: click.UsageError."""
    if request.values.get("remote_path"):
        raise click.UsageError("--remote-path is of a file: a dataset has the same id everywhere")


def locate(word: str, remote: str, request: Request) -> Mapped:
    """Where a file that was named is, here and at the remote.

    Raises:
        click.UsageError: options that only a dataset has.
        InvalidInputError: nothing says where it is there.
        UnsupportedError: the remote holds no files.
    """
    values = request.values
    for name in ("sections", "paths"):
        if values.get(name):
            option = "--section" if name == "sections" else "--path"
            raise click.UsageError(f"{option} chooses files of a dataset; {word} is one file")
    if values.get("every"):
        raise click.UsageError("--all means datasets; name none beside it")
    file = os.path.abspath(os.path.expanduser(word))
    profile = links.find_profile(Lone(file).above or find_root_or_none(), remote)
    if profile.type == "bucket":
        raise UnsupportedError(
            f"the remote {remote} is a bucket, which holds states of datasets and no files; "
            "nothing was changed",
            hint="sync the dataset that the file lies in",
        )
    far = values["remote_path"] or _mapped(file, profile, values)
    if not far.startswith(("/", "~/")) or far.endswith("/"):
        raise InvalidInputError(
            f"{far!r} is not the whole path of a file at {remote}; nothing was changed",
            hint="--remote-path, and repo_root of a remote, begin with / or ~/",
            code="file-unmapped",
        )
    found = Mapped(Lone(file, far), far, profile)
    request.ends = found.ends
    return found


def _mapped(file: str, profile: Profile, values: dict[str, Any]) -> str:
    """The path that a file of our repository has in the remote's."""
    given = {
        "--repo-root": values["repo_root"],
        f"local_repo_root of {profile.name}": profile.local_repo_root,
        REPO_ROOT: os.environ.get(REPO_ROOT),
    }
    said, local = next(((k, v) for k, v in given.items() if v), (None, None))
    if profile.repo_root is None or local is None:
        lacking = (
            f"the remote {profile.name} has no repo_root"
            if profile.repo_root is None
            else "nothing says which folder here is its repo_root"
        )
        raise InvalidInputError(
            f"{file}: where is it at {profile.name}? {lacking}; nothing was changed",
            hint="name it with --remote-path PATH; or set repo_root in the remote's settings, and "
            f"here --repo-root, local_repo_root in the same settings, or {REPO_ROOT}",
            code="file-unmapped",
        )
    base = os.path.abspath(os.path.expanduser(local))
    for resolve in (os.path.abspath, os.path.realpath):
        inside = os.path.relpath(resolve(file), resolve(base))
        if inside != ".." and not inside.startswith("../"):
            return f"{profile.repo_root.rstrip('/')}/{inside}"
    raise InvalidInputError(
        f"{file} lies outside of {base} ({said}), so that it has no place below "
        f"{profile.repo_root} at {profile.name}; nothing was changed",
        hint="name it with --remote-path PATH, or another --repo-root",
        code="file-unmapped",
    )
