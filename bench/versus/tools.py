"""The programs that are compared: how each is made ready, and how it gives a remote a folder."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from lab import DATASET, RCLONE, USR, Lab
from peers import GIT

_SFTP = "/usr/lib/openssh/sftp-server"


@dataclass(frozen=True)
class Tool:
    """How one program gives a remote what a folder holds.

    Attributes:
        name: as the tables call it; what it is called by.
        ready: makes both ends ready, once; not timed. None: the program is not here.
        give: gives the remote the folder's state. `$1` is the folder, `$2` what the tool keeps
            here, `$3` the place there, `$SSH` the ssh command with its options, `$HOST`.
        copies: works in a folder of its own, which is made equal to the dataset before; not timed.
    """

    name: str
    program: str
    ready: str
    give: str
    copies: bool = False


_ANNEX = "-c annex.largefiles=anything -c annex.addunlocked=true"
TOOLS = [
    Tool("usr push", USR, "", f'{USR} --root "$ROOT" push {DATASET} "$REMOTE" -y --json >"$2.out"'),
    Tool("rsync -a", "rsync", "", 'rsync -a --delete -e "$SSH" "$1/" "$HOST:$3/"'),
    Tool(
        "rclone sync",
        RCLONE,
        "",
        f'{RCLONE} sync --config /dev/null --sftp-ssh "$SSH $HOST" "$1" ":sftp:$3"',
    ),
    Tool(
        "git push",
        "git",
        'git init -q --bare "$2"; git init -q --bare "$3"',
        f'g="{GIT} --git-dir=$2 --work-tree=$1"; $g add -A; $g commit -q --allow-empty -m x; '
        'GIT_SSH_COMMAND="$SSH" $g push -q "$HOST:$3" HEAD:main',
    ),
    Tool(
        "git-annex",
        "git-annex",
        f'git init -q --bare "$3"; cd "$3"; git annex init -q there; '
        f'mkdir -p "$1"; cd "$1"; git init -q; {GIT} annex init -q here; '
        'git remote add there "ssh://$HOST$3"',
        f'cd "$1"; export GIT_SSH_COMMAND="$SSH" GIT_ANNEX_USE_GIT_SSH=1; {GIT} {_ANNEX} annex add -q .; '
        f"{GIT} commit -q --allow-empty -m x; {GIT} annex copy -q --to there; "
        f"{GIT} push -q there HEAD:main git-annex:synced/git-annex",
        copies=True,
    ),
    Tool(
        "restic",
        "restic",
        'restic -q -r "$3" init',
        f'cd "$1"; restic -q -r "sftp:$HOST:$3" -o "sftp.command=$SSH $HOST {_SFTP}" backup .',
    ),
    Tool(
        "borg",
        "borg",
        'borg init -e none "$3"',
        'cd "$1"; BORG_RSH="$SSH" BORG_RELOCATED_REPO_ACCESS_IS_OK=yes borg create "ssh://$HOST$3::x$(date +%s%N)" .',
    ),
    Tool(
        "casync",
        "casync",
        'mkdir -p "$3"; printf \'#!/bin/sh\\nexec %s "$@"\\n\' "$SSH" >"$2.ssh"; chmod +x "$2.ssh"',
        'CASYNC_SSH_PATH="$2.ssh" casync make --without=all '
        '--store="$HOST:$3/x.castr" "$HOST:$3/x.caidx" "$1" >"$2.out"',
    ),
]
_DVC = Tool(
    "dvc push",
    "dvc",
    'mkdir -p "$1"; cd "$1/.."; git init -q; $DVC init -q; '
    '$DVC remote add -q -d there "ssh://$PLACE$3"; $DVC remote modify there keyfile "$KEY"',
    'cd "$1/.."; $DVC add -q "$(basename "$1")"; $DVC push -q',
    copies=True,
)


ALL = (*TOOLS, _DVC)


def find_tools(lab: Lab) -> tuple[list[Tool], list[str]]:
    """The programs that are here, and the names of those that are not."""
    tools = [tool for tool in TOOLS if shutil.which(tool.program)]
    tools += [_DVC] if lab.dvc else []
    missing = [tool.name for tool in ALL if tool not in tools]
    return tools, missing


def versions(lab: Lab) -> dict[str, str]:
    """What each program that is here calls itself."""
    asked = {
        "usr": [USR, "--version"],
        "ssh": ["ssh", "-V"],
        "rsync": ["rsync", "--version"],
        "rclone": [RCLONE, "--version"],
        "git": ["git", "--version"],
        "git-annex": ["git-annex", "version", "--raw"],
        "restic": ["restic", "version"],
        "borg": ["borg", "--version"],
        "casync": ["casync", "--version"],
        **({"dvc": [lab.dvc, "--version"]} if lab.dvc else {}),
    }
    return {name: _said(words) for name, words in asked.items() if shutil.which(words[0])}


def _said(words: list[str]) -> str:
    """The version in the first line, which every program writes in its own way."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    line = done.stdout.decode(errors="replace").splitlines()[0]
    found = re.search(r"\d[\w.]*(?:-\w+)?", line)
    return found[0] if found else line.strip()
