"""First transfers: everything has to travel."""

from __future__ import annotations

import os
import sys

from lab import DATASET, HERE, USR, Lab, folder_size, remove
from measure import Contender, Sample, Table, in_turn

MOST_MEMORY_MB = 250
ABOUT_EQUAL = 1.25


def push(lab: Lab) -> list[Table]:
    """First push of a small and of a large dataset, and what it holds in memory."""
    sizes = (5, 30) if lab.quick else (30, 300)
    tables = [_push(lab, _dataset(lab, size), f"First push, {size} MB") for size in sizes]
    return [*tables, _memory(lab, "push", sizes)]


def pull(lab: Lab) -> list[Table]:
    """First pull of a small and of a large dataset, and what it holds in memory."""
    sizes = (5, 30) if lab.quick else (30, 300)
    tables = [_pull(lab, _dataset(lab, size), f"First pull, {size} MB") for size in sizes]
    return [*tables, _memory(lab, "pull", sizes)]


def many(lab: Lab) -> list[Table]:
    """First push of many small files."""
    count = 500 if lab.quick else 5000
    root = lab.new_root("small")
    lab.make("small", os.path.join(root, DATASET), count=count)
    return [_push(lab, root, f"First push, {count} files of 2–40 kB")]


def _dataset(lab: Lab, size: int) -> str:
    root = lab.path(f"source-{size}")
    if not os.path.isdir(root):
        lab.new_root(f"source-{size}")
        lab.make("dataset", os.path.join(root, DATASET), megabytes=size)
    return root


def _push(lab: Lab, root: str, title: str) -> Table:
    folder, far, copy = os.path.join(root, DATASET), lab.path("far-root"), lab.path("far-copy")
    lab.add_remote("far", far)

    def clean() -> None:
        lab.forget(root)
        remove(copy)
        lab.new_root("far-root")

    samples = in_turn(
        [
            Contender("tar, ssh, tar", lambda: lab.tar_push(folder, copy), clean),
            Contender("rsync -a", lambda: lab.rsync(folder, f"bench:{copy}"), clean),
            Contender(
                "rsync -a --fsync", lambda: lab.rsync(folder, f"bench:{copy}", "--fsync"), clean
            ),
            Contender("usr push", lambda: lab.sync("push", root, "far"), clean),
        ],
        lab.rounds,
    )
    return _table(title, samples, "usr push", folder)


def _pull(lab: Lab, source: str, title: str) -> Table:
    """The far root knows its files from an earlier push; once it has to hash them first."""
    folder, here, copy = os.path.join(source, DATASET), lab.path("here-root"), lab.path("here-copy")
    lab.add_remote("far", source)
    lab.forget(source)
    lab.usr(source, "commit", DATASET, "-m", "first")

    def clean() -> None:
        remove(copy)
        lab.new_root("here-root")

    def forgotten() -> None:
        clean()
        lab.forget(source)

    known = "usr pull"
    samples = in_turn(
        [
            Contender("tar, ssh, tar", lambda: lab.tar_pull(folder, copy), clean),
            Contender("rsync -a", lambda: lab.rsync(f"bench:{folder}", copy), clean),
            Contender(
                "rsync -a --fsync", lambda: lab.rsync(f"bench:{folder}", copy, "--fsync"), clean
            ),
            Contender(known, lambda: lab.sync("pull", here, "far"), clean),
        ],
        lab.rounds,
    )
    fresh = "usr pull, a remote without a store"
    samples |= in_turn([Contender(fresh, lambda: lab.sync("pull", here, "far"), forgotten)], 2)
    table = _table(title, samples, known, folder)
    table.add_seconds(samples, fresh, against="rsync -a")
    return table


def _table(title: str, samples: dict[str, list[Sample]], ours: str, folder: str) -> Table:
    table = Table(title)
    for name in ("tar, ssh, tar", "rsync -a", "rsync -a --fsync"):
        table.add_seconds(samples, name)
    table.add_seconds(samples, ours, against="rsync -a")
    for name in ("tar, ssh, tar", "rsync -a"):
        table.add_wire(samples, name)
    table.add_wire(samples, ours, against="rsync -a")
    speed = folder_size(folder) / 1e6 / table.rows[3].median
    table.notes.append(f"{ours} moved {speed:.0f} MB of dataset a second.")
    return table


def _memory(lab: Lab, verb: str, sizes: tuple[int, int]) -> Table:
    """Peak memory of both ends. Not timed: the far end runs inside a program that looks at it."""
    table = Table(f"Peak memory, first {verb}")
    peak = lab.path("peak")
    command = f"{sys.executable} -I -S {os.path.join(HERE, 'peak.py')} {peak} {USR}"
    held: dict[str, float] = {}
    for size in sizes:
        source, far = _dataset(lab, size), lab.new_root("far-root")
        lab.forget(source)
        if verb == "push":
            lab.add_remote("watched", far, command=command)
            done = lab.sync("push", source, "watched")
        else:
            lab.add_remote("watched", source, command=command)
            lab.usr(source, "commit", DATASET, "-m", "first")
            done = lab.sync("pull", far, "watched")
        held[f"client, {size} MB"] = done.peak_mb
        with open(peak, encoding="utf-8") as file:
            held[f"server, {size} MB"] = float(file.read())
    small, large = sizes
    for end in ("client", "server"):
        name = f"{end}, {small} MB"
        table.add(name, [held[name]], "MB")
        larger = f"{end}, {large} MB"
        table.add(larger, [held[larger]], "MB", against=name, goal=ABOUT_EQUAL)
    table.add_limit("the most of all", [max(held.values())], "MB", MOST_MEMORY_MB)
    return table
