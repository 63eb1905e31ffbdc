"""Commands that find nothing to do: what a person waits for most often."""

from __future__ import annotations

import os
import sys

from lab import DATASET, USR, Lab
from measure import Contender, Table, in_turn


def startup(lab: Lab) -> list[Table]:
    """Start-up and no-op commands on an unchanged dataset of many small files."""
    count = 1000 if lab.quick else 5000
    root, far = lab.new_root("here"), lab.new_root("there")
    folder = os.path.join(root, DATASET)
    lab.make("small", folder, count=count)
    lab.add_remote("far", far)
    lab.usr(root, "commit", DATASET, "-m", "first")
    lab.usr(root, "push", DATASET, "far", "-y")
    git = _as_git(lab, folder)
    copy = lab.path("copy")
    lab.rsync(folder, f"bench:{copy}")

    python = "python -c 'import click'"
    status, diff = f"usr status, {count} files", f"usr diff over ssh, {count} files"
    rsync, git_status = f"rsync -an over ssh, {count} files", f"git status, {count} files"
    contenders = [
        Contender("python -c pass", lambda: lab.run(sys.executable, "-c", "pass")),
        Contender(python, lambda: lab.run(sys.executable, "-c", "import click")),
        Contender("usr --version", lambda: lab.run(USR, "--version")),
        Contender("usr --help", lambda: lab.run(USR, "--help")),
        Contender(git_status, lambda: lab.run("git", "status", "-s", cwd=git)),
        Contender(status, lambda: lab.usr(root, "status", DATASET)),
        Contender("ssh true", lambda: lab.shell("$SSH true")),
        Contender(rsync, lambda: lab.rsync(folder, f"bench:{copy}", "-n")),
        Contender(diff, lambda: lab.usr(root, "diff", DATASET, "far")),
    ]
    dvc_status = f"dvc status, {count} files"
    if lab.dvc:
        dvc, home = lab.dvc, _as_dvc(lab, folder)
        contenders.append(Contender(dvc_status, lambda: lab.run(dvc, "status", "-q", cwd=home)))
    samples = in_turn(contenders, 3 if lab.quick else 11)

    table = Table("Nothing to do")
    table.add_seconds(samples, "python -c pass")
    table.add_seconds(samples, python)
    table.add_seconds(samples, "usr --version", against=python, goal=2.5)
    table.add_seconds(samples, "usr --help", against=python, goal=2.5)
    table.add_seconds(samples, git_status)
    table.add_seconds(samples, status, against=python, goal=2.5)
    table.add_seconds(samples, "ssh true")
    table.add_seconds(samples, rsync)
    table.add_seconds(samples, diff, against=rsync)
    if lab.dvc:
        table.add_seconds(samples, dvc_status)
    else:
        table.notes.append("dvc was not asked for (`--with-dvc`), or did not install.")
    return [table]


def _as_git(lab: Lab, folder: str) -> str:
    """The same files, committed with git."""
    home = lab.path("git")
    lab.run("cp", "-r", folder, home)
    lab.shell(
        'cd "$1" && git init -q && git add -A && '
        "git -c user.name=bench -c user.email=bench@localhost commit -q -m first && "
        "git status -s",
        home,
    )
    return home


def _as_dvc(lab: Lab, folder: str) -> str:
    home = lab.path("dvc-data")
    os.makedirs(home)
    lab.run("cp", "-r", folder, os.path.join(home, "x"))
    lab.shell('cd "$2" && git init -q && "$1" init -q && "$1" add -q x', str(lab.dvc), home)
    return home
