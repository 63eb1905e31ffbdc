"""Checking a store, beside the hash that it cannot be faster than."""

from __future__ import annotations

import os
import sys

from lab import DATASET, HERE, Lab, folder_size
from measure import Contender, Sample, Table, in_turn

LIMIT = "blake3, two threads"
AT_MOST = 1 / 0.8  # of the time of the hash alone


def fsck(lab: Lab) -> list[Table]:
    """Scrub every pack of a large store: read, hash, compare with the names.

    Both run in a process that has its modules and has read the bytes once; what is timed is
    the pass over them.
    """
    size = 60 if lab.quick else 600
    root = lab.path(f"fsck-{size}")
    if not os.path.isdir(root):
        lab.new_root(f"fsck-{size}")
        lab.make("dataset", os.path.join(root, DATASET), megabytes=size)
        lab.usr(root, "commit", DATASET, "-m", "x")
    packs = os.path.join(root, ".usr", "packs")
    table = Table(f"Check of every stored byte, {folder_size(packs) / 1e6:.0f} MB in packs")
    passes: dict[str, list[float]] = {}
    for _ in range(lab.rounds):
        for line in lab.run(
            sys.executable, os.path.join(HERE, "scrub.py"), root
        ).output.splitlines():
            name, seconds = line.rsplit(" ", 1)
            passes.setdefault(name, []).append(float(seconds))
    table.add(LIMIT, passes["hash"], "s")
    table.add("scrub", passes["scrub"], "s", against=LIMIT, goal=AT_MOST)

    def whole() -> Sample:
        return lab.usr(root, "fsck", "--deep")

    samples = in_turn([Contender("usr fsck --deep", whole)], lab.rounds)
    table.add_seconds(samples, "usr fsck --deep")
    peak = max(sample.peak_mb for sample in samples["usr fsck --deep"])
    table.notes.append(
        f"The whole command also starts, walks all that refs reach and hashes the folder "
        f"({size} MB more); peak memory {peak:.0f} MB."
    )
    return [table]
