"""Other programs that keep folders: how each is made ready, how it keeps, how it gives back."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from lab import Lab, remove
from measure import Sample

GIT = "git -c user.name=bench -c user.email=bench@localhost"
# restic encrypts whatever it stores, so it needs a password; borg is told not to.
SECRETS = "RESTIC_PASSWORD=bench BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes"


@dataclass(frozen=True)
class Peer:
    """One program.

    Attributes:
        name: as the tables call it.
        ready: makes an empty repository `$1` that is to keep the folder `$2`; for one that keeps
            only what lies in its own working folder, copies it there. Not timed.
        keep: keeps `$2` in `$1`.
        give: takes what is kept in `$1` into the empty folder `$3`; None if that cannot be compared.
    """

    name: str
    ready: str
    keep: str
    give: str | None

    def repository(self, lab: Lab) -> str:
        return lab.path(f"repository-{self.name.split()[0]}")

    def make_ready(self, lab: Lab, folder: str) -> None:
        remove(self.repository(lab))
        self._run(lab, self.ready, folder)

    def do_keep(self, lab: Lab, folder: str) -> Sample:
        return self._run(lab, self.keep, folder)

    def do_give(self, lab: Lab, out: str) -> Sample:
        assert self.give is not None
        return self._run(lab, self.give, "", out)

    def _run(self, lab: Lab, script: str, *words: str) -> Sample:
        return lab.shell(f"export {SECRETS}\n{script}", self.repository(lab), *words)


def found(lab: Lab, *, slow: bool) -> tuple[list[Peer], list[str]]:
    """The peers that are here, and the names of those that are not.

    `slow` includes those that take minutes for thousands of small files.
    """
    peers = [
        Peer(
            "git add, commit",
            'git init -q --bare "$1"',
            f'g="{GIT} --git-dir=$1 --work-tree=$2"; $g add -A; $g commit -q -m x',
            'git --git-dir="$1" --work-tree="$3" checkout -q -f',
        ),
        Peer(
            "restic backup",
            'restic -q init -r "$1"',
            'cd "$2" && restic -q -r "$1" backup .',
            'restic -q -r "$1" restore latest --target "$3"',
        ),
        Peer(
            "borg create",
            'borg init -e none "$1"',
            'cd "$2" && borg create "$1::x" .',
            'cd "$3" && borg extract "$1::x"',
        ),
    ]
    missing = [p.name for p in peers if shutil.which(p.name.split()[0]) is None]
    peers = [p for p in peers if p.name not in missing]
    if slow and shutil.which("git-annex"):
        into = 'cp -r "$2" "$1" && cd "$1" && git init -q && git annex init -q'
        keep = f'cd "$1" && git annex add -q . && {GIT} commit -q -m x'
        peers.append(Peer("annex add, commit", into, keep, None))
    elif slow:
        missing.append("git-annex")
    if lab.dvc:
        dvc = lab.dvc
        into = f'mkdir "$1" && cp -r "$2" "$1/x" && cd "$1" && git init -q && {dvc} init -q'
        peers.append(Peer("dvc add", into, f'cd "$1" && {dvc} add -q x', None))
    else:
        missing.append("dvc (`--with-dvc`)")
    return peers, missing


def versions() -> dict[str, str]:
    """What the peers call themselves."""
    said = {}
    for words in (["restic", "version"], ["borg", "--version"], ["git-annex", "version", "--raw"]):
        if shutil.which(words[0]):
            done = subprocess.run(words, capture_output=True, check=False, env=os.environ)
            said[words[0]] = done.stdout.decode().splitlines()[0].strip()
    return said
