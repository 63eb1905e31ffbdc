"""Keeping a dataset and taking it back."""

from __future__ import annotations

import os
import sys

from lab import DATASET, HERE, Lab, folder_size, remove
from measure import Contender, Sample, Table, in_turn

GIT = "git -c user.name=bench -c user.email=bench@localhost"


def commit(lab: Lab) -> list[Table]:
    """First commit of a large dataset and of many small files."""
    return [_commit(lab, root, title) for root, title in _roots(lab)]


def checkout(lab: Lab) -> list[Table]:
    """The folder is gone; take it back from the store."""
    return [_checkout(lab, root, title) for root, title in _roots(lab)]


def _roots(lab: Lab) -> list[tuple[str, str]]:
    size, count = (30, 500) if lab.quick else (300, 5000)
    made = []
    for kind, options, title in (
        ("dataset", {"megabytes": size}, f"{size} MB"),
        ("small", {"count": count}, f"{count} files of 2–40 kB"),
    ):
        root = lab.path(f"keep-{kind}")
        if not os.path.isdir(root):
            lab.new_root(f"keep-{kind}")
            lab.make(kind, os.path.join(root, DATASET), **options)
        made.append((root, title))
    return made


def _commit(lab: Lab, root: str, title: str) -> Table:
    folder, copy, git = os.path.join(root, DATASET), lab.path("copied"), lab.path("git-dir")

    def clean() -> None:
        lab.forget(root)
        remove(copy)
        remove(git)
        lab.run("git", "init", "-q", "--bare", git)

    limit = "blake3 + cp -r + sync"
    samples = in_turn(
        [
            Contender("cp -r", lambda: lab.run("cp", "-r", folder, copy), clean),
            Contender(
                limit,
                lambda: lab.run(sys.executable, os.path.join(HERE, "limit.py"), folder, copy),
                clean,
            ),
            Contender("git add, commit", lambda: _git_commit(lab, git, folder), clean),
            Contender("usr commit", lambda: lab.usr(root, "commit", DATASET, "-m", "x"), clean),
        ],
        lab.rounds,
    )
    table = Table(f"First commit, {title}")
    for name in ("cp -r", limit, "git add, commit"):
        table.add_seconds(samples, name)
    table.add_seconds(samples, "usr commit", against=limit)
    speed = folder_size(folder) / 1e6 / table.rows[-1].median
    peak = max(s.peak_mb for s in samples["usr commit"])
    table.notes.append(f"usr commit kept {speed:.0f} MB a second; peak memory {peak:.0f} MB.")
    return table


def _git_commit(lab: Lab, git: str, folder: str) -> Sample:
    script = f'g="{GIT} --git-dir=$1 --work-tree=$2"; $g add -A; $g commit -q -m x'
    return lab.shell(script, git, folder)


def _checkout(lab: Lab, root: str, title: str) -> Table:
    folder, copy, git = os.path.join(root, DATASET), lab.path("copied"), lab.path("git-dir")
    lab.forget(root)
    lab.usr(root, "commit", DATASET, "-m", "x")
    remove(git)
    lab.run("git", "init", "-q", "--bare", git)
    _git_commit(lab, git, folder)
    aside, out = lab.path("aside"), lab.path("git-out")
    os.rename(folder, aside)

    def clean() -> None:
        for path in (copy, folder, out):
            remove(path)
        os.makedirs(out)

    samples = in_turn(
        [
            Contender("cp -r", lambda: lab.run("cp", "-r", aside, copy), clean),
            Contender(
                "cp -r + sync",
                lambda: lab.shell('cp -r "$1" "$2" && sync -f "$2"', aside, copy),
                clean,
            ),
            Contender(
                "git checkout",
                lambda: lab.run("git", f"--git-dir={git}", f"--work-tree={out}", "checkout", "-f"),
                clean,
            ),
            Contender("usr checkout", lambda: lab.usr(root, "checkout", DATASET, "-y"), clean),
        ],
        lab.rounds,
    )
    remove(folder)
    os.rename(aside, folder)
    table = Table(f"Checkout, {title}")
    for name in ("cp -r", "cp -r + sync", "git checkout"):
        table.add_seconds(samples, name)
    table.add_seconds(samples, "usr checkout", against="cp -r + sync")
    return table
