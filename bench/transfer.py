"""First transfers: everything has to travel."""

from __future__ import annotations

import functools
import os
import sys

from lab import DATASET, HERE, RCLONE, USR, Lab, folder_size, remove
from measure import Contender, Sample, Table, in_turn

MOST_MEMORY_MB = 250
ABOUT_EQUAL = 1.25
DELAY_MS = 25
TAR, RSYNC, RCLONE_COPY = "tar, ssh, tar", "rsync -a", "rclone copy"
FLOOR = "read, hash, ssh, hash, write, sync; AES-GCM"
AES = ("-c", "aes128-gcm@openssh.com")  # what `usr push` asks for, unless somebody chose
TAR_AES, RSYNC_AES = "tar, ssh, tar; AES-GCM", "rsync -a; AES-GCM"
SYNCED, AFTERWARDS = "rsync -a --fsync", "rsync -a, then sync -f"


def push(lab: Lab) -> list[Table]:
    """First push of a small and of a large dataset, and what it holds in memory."""
    sizes = (5, 30) if lab.quick else (30, 600)
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
    # rclone asks its far end several things for each file: minutes.
    return [_push(lab, root, f"First push, {count} files of 2–40 kB", many=True)]


def far(lab: Lab) -> list[Table]:
    """The same over a link with 25 ms each way: 30 MB, and many small files."""
    count = 500 if lab.quick else 5000
    small = lab.path("small")
    if not os.path.isdir(small):
        lab.make("small", os.path.join(lab.new_root("small"), DATASET), count=count)
    large = _dataset(lab, 5 if lab.quick else 30)
    with lab.far_away(DELAY_MS) as there:
        where = f"{DELAY_MS} ms away"
        return [
            _push(there, large, f"First push, {5 if lab.quick else 30} MB, {where}"),
            _push(there, small, f"First push, {count} files of 2–40 kB, {where}", many=True),
        ]


def _dataset(lab: Lab, size: int) -> str:
    root = lab.path(f"source-{size}")
    if not os.path.isdir(root):
        lab.new_root(f"source-{size}")
        lab.make("dataset", os.path.join(root, DATASET), megabytes=size)
    return root


def _push(lab: Lab, root: str, title: str, *, many: bool = False) -> Table:
    """A first push, again and again; of `many` files nothing is deleted in between."""
    folder, far, copy = os.path.join(root, DATASET), lab.path("far-root"), lab.path("far-copy")
    lab.add_remote("far", far)

    def clean() -> None:
        lab.forget(root)
        for place in (copy, far) if many else ():
            lab.set_aside(place)
        remove(copy)
        lab.new_root("far-root")

    acts = {
        FLOOR: lambda: lab.floor_push(folder, copy, AES),
        TAR: lambda: lab.tar_push(folder, copy),
        TAR_AES: lambda: lab.tar_push(folder, copy, AES),
        RSYNC_AES: lambda: lab.rsync(folder, f"bench:{copy}", ssh=AES),
        RSYNC: lambda: lab.rsync(folder, f"bench:{copy}"),
        SYNCED: lambda: lab.rsync(folder, f"bench:{copy}", "--fsync"),
        AFTERWARDS: lambda: lab.synced(lab.rsync(folder, f"bench:{copy}"), copy),
        "usr push": lambda: lab.sync("push", root, "far"),
    }
    contenders = [
        Contender(name, functools.partial(lab.both_ends, act), clean) for name, act in acts.items()
    ]
    if os.path.exists(RCLONE) and not many:
        contenders.append(Contender(RCLONE_COPY, lambda: lab.rclone_push(folder, copy), clean))
    return _table(title, in_turn(contenders, lab.rounds), "usr push", folder)


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
    for name in (TAR, TAR_AES, RSYNC, RSYNC_AES, SYNCED, AFTERWARDS, RCLONE_COPY, FLOOR):
        if name in samples:
            table.add_seconds(samples, name)
    table.add_seconds(samples, ours, against=RSYNC, goal=1.0)
    table.add_seconds(samples, ours, against=TAR, goal=round(1 / 0.9, 2))
    for name in (TAR_AES, RSYNC_AES, AFTERWARDS, FLOOR):
        if name in samples:
            table.add_seconds(samples, ours, against=name)
    if FLOOR in samples:
        for name in (TAR, RSYNC, FLOOR):
            table.add_cpu(samples, name)
        for name in (TAR, RSYNC, FLOOR):
            table.add_cpu(samples, ours, against=name)
    for name in ("tar, ssh, tar", "rsync -a"):
        table.add_wire(samples, name)
    table.add_wire(samples, ours, against="rsync -a")
    speed = folder_size(folder) / 1e6 / next(r for r in table.rows if r.what == ours).median
    table.notes.append(f"{ours} moved {speed:.0f} MB of dataset a second.")
    return table


def _memory(lab: Lab, verb: str, sizes: tuple[int, int]) -> Table:
    """Peak memory of both ends. Not timed: each runs inside a small program that looks at it.

    To the kernel, what whoever starts a process holds by then is a peak of that process.
    """
    table = Table(f"Peak memory, first {verb}")
    peaks = {end: lab.path(f"peak-{end}") for end in ("client", "server")}
    watched = {
        end: [sys.executable, "-I", "-S", os.path.join(HERE, "peak.py"), path]
        for end, path in peaks.items()
    }
    command = " ".join([*watched["server"], USR])
    held: dict[str, float] = {}
    for size in sizes:
        source, far = _dataset(lab, size), lab.new_root("far-root")
        lab.forget(source)
        if verb == "push":
            lab.add_remote("watched", far, command=command)
            lab.sync("push", source, "watched", under=watched["client"])
        else:
            lab.add_remote("watched", source, command=command)
            lab.usr(source, "commit", DATASET, "-m", "first")
            lab.sync("pull", far, "watched", under=watched["client"])
        for end, path in peaks.items():
            with open(path, encoding="utf-8") as file:
                held[f"{end}, {size} MB"] = float(file.read())
    small, large = sizes
    for end in ("client", "server"):
        name = f"{end}, {small} MB"
        table.add(name, [held[name]], "MB")
        larger = f"{end}, {large} MB"
        table.add(larger, [held[larger]], "MB", against=name, goal=ABOUT_EQUAL)
    table.add_limit("the most of all", [max(held.values())], "MB", MOST_MEMORY_MB)
    return table
