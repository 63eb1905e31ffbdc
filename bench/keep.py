"""Keeping a dataset, taking it back, and finding that nothing changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial

import peers
from lab import DATASET, HERE, USR, Lab, files_of, folder_size, remove
from measure import Contender, Table, in_turn

SPREAD = 1.25  # of memory between a dataset and one of ten times its size


def commit(lab: Lab) -> list[Table]:
    """First commit of a large dataset and of many small files."""
    return [_commit(lab, *row) for row in _roots(lab)]


def checkout(lab: Lab) -> list[Table]:
    """The folder is gone; take it back from the store."""
    return [_checkout(lab, *row) for row in _roots(lab)]


def status(lab: Lab) -> list[Table]:
    """A look at very many files that did not change, beside git's."""
    count = 20_000 if lab.quick else 200_000
    root = lab.new_root("status")
    folder = os.path.join(root, DATASET)
    lab.make("tiny", folder, count=count)
    lab.usr(root, "commit", DATASET, "-m", "first")
    lab.shell(f'cd "$1" && git init -q && git add -A && {peers.GIT} commit -q -m x', folder)
    git = lab.path("status-git")
    lab.shell('cp -r "$1" "$2" && rm -rf "$1/.git" && cd "$2" && git status -s', folder, git)
    lab.usr(root, "status", DATASET)
    theirs, ours = f"git status, {count} files", f"usr status, {count} files"
    samples = in_turn(
        [
            Contender(theirs, lambda: lab.run("git", "status", "-s", cwd=git)),
            Contender(ours, lambda: lab.usr(root, "status", DATASET)),
        ],
        3 if lab.quick else 9,
    )
    remove(root)
    remove(git)
    table = Table("Nothing to do, many files")
    table.add_seconds(samples, theirs)
    table.add_seconds(samples, ours, against=theirs, goal=1.5)
    return [table]


def memory(lab: Lab) -> list[Table]:
    """Peak memory of a commit and a checkout, and what ten times the bytes do to it."""
    sizes = (30, 300) if lab.quick else (300, 3000)
    peaks: dict[str, list[float]] = {}
    for size in sizes:
        root = lab.new_root("memory")
        folder = os.path.join(root, DATASET)
        lab.make("streamed", folder, megabytes=size)
        done = lab.usr(root, "commit", DATASET, "-m", "x")
        peaks[f"usr commit, {size} MB"] = [done.peak_mb]
        remove(folder)
        peaks[f"usr checkout, {size} MB"] = [lab.usr(root, "checkout", DATASET, "-y").peak_mb]
        remove(root)
    table = Table("Peak memory of keeping")
    for verb in ("commit", "checkout"):
        small, large = (f"usr {verb}, {size} MB" for size in sizes)
        table.add(small, peaks[small], "MB")
        table.add(large, peaks[large], "MB", against=small, goal=SPREAD)
    return [table]


def _roots(lab: Lab) -> list[tuple[str, str, bool]]:
    size, count = (30, 500) if lab.quick else (600, 5000)
    made = []
    for kind, options, title in (
        ("dataset", {"megabytes": size}, f"{size} MB"),
        ("small", {"count": count}, f"{count} files of 2–40 kB"),
    ):
        root = lab.path(f"keep-{kind}")
        if not os.path.isdir(root):
            lab.new_root(f"keep-{kind}")
            lab.make(kind, os.path.join(root, DATASET), **options)
        made.append((root, title, kind == "dataset"))
    return made


def _commit(lab: Lab, root: str, title: str, large: bool) -> Table:
    folder, copy = os.path.join(root, DATASET), lab.path("copied")
    others, missing = peers.found(lab, slow=large)

    def clean() -> None:
        lab.forget(root)
        remove(copy)

    def limit(*words: str) -> list[str]:
        return [sys.executable, os.path.join(HERE, "limit.py"), *words, folder, copy]

    durable, cached = "hash, copy, sync", "hash, copy"
    acts = {
        cached: (lambda: lab.run(*limit("--no-sync")), clean),
        durable: (lambda: lab.run(*limit()), clean),
        **{
            peer.name: (
                partial(peer.do_keep, lab, folder),
                partial(peer.make_ready, lab, folder),
            )
            for peer in others
        },
        "usr commit": (lambda: lab.usr(root, "commit", DATASET, "-m", "x"), clean),
    }

    def ready(before: Callable[[], object]) -> None:
        """borg has the system forget what it has read: whoever came next read from the disk."""
        before()
        for path in files_of(folder):
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass

    samples = in_turn(
        [Contender(name, act, partial(ready, before)) for name, (act, before) in acts.items()],
        lab.rounds,
    )
    for peer in others:
        remove(peer.repository(lab))
    table = Table(f"First commit, {title}")
    table.add_seconds(samples, cached)
    table.add_seconds(samples, durable)
    for peer in others:
        table.add_seconds(samples, peer.name)
    table.add_seconds(samples, "usr commit", against=durable, goal=1.3 if large else None)
    table.add_seconds(samples, "usr commit", against=cached)
    for peer in others:
        table.add_seconds(samples, "usr commit", against=peer.name, goal=1.0)
    speed = folder_size(folder) / 1e6 / table.rows[-1].median
    peak = max(s.peak_mb for s in samples["usr commit"])
    table.notes.append(f"usr commit kept {speed:.0f} MB a second; peak memory {peak:.0f} MB.")
    if missing:
        table.notes.append(f"Not here: {', '.join(missing)}.")
    return table


def _checkout(lab: Lab, root: str, title: str, large: bool) -> Table:
    folder, copy = os.path.join(root, DATASET), lab.path("copied")
    others = [peer for peer in peers.found(lab, slow=large)[0] if peer.give]
    lab.forget(root)
    lab.usr(root, "commit", DATASET, "-m", "x")
    for peer in others:
        peer.make_ready(lab, folder)
        peer.do_keep(lab, folder)
    aside, out = lab.path("folder-aside"), lab.path("given")
    os.rename(folder, aside)

    def clean() -> None:
        for path in (copy, folder, out):
            remove(path)
        os.makedirs(out)

    durable = "cp -r + sync"
    samples = in_turn(
        [
            Contender("cp -r", lambda: lab.run("cp", "-r", aside, copy), clean),
            Contender(
                durable,
                lambda: lab.shell('cp -r "$1" "$2" && sync -f "$2"', aside, copy),
                clean,
            ),
            *(Contender(peer.name, partial(peer.do_give, lab, out), clean) for peer in others),
            Contender(
                "usr checkout", lambda: lab.run(USR, "--root", root, "checkout", DATASET), clean
            ),
        ],
        lab.rounds,
    )
    remove(folder)
    os.rename(aside, folder)
    for peer in others:
        remove(peer.repository(lab))
    table = Table(f"Checkout, {title}")
    table.add_seconds(samples, "cp -r")
    table.add_seconds(samples, durable)
    for peer in others:
        table.add_seconds(samples, peer.name)
        table.rows[-1].what = f"{peer.name.split()[0]}, the same"
    table.add_seconds(samples, "usr checkout", against=durable)
    table.add_seconds(samples, "usr checkout", against="cp -r", goal=1.25)
    return table
