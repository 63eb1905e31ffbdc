"""What two ends say to each other before, beside and instead of the bytes that are new.

Counted by the client, frame by frame: questions that it waited for an answer to, bytes there and
back. ssh's own are not in it. Nothing here is timed.
"""

from __future__ import annotations

import json
import os
import shutil

from datasets import part_path
from lab import DATASET, Lab
from measure import Table

TRIPS, SENT, BACK = "round trips", "kB sent", "kB received"
MOST = 1.3
CHANGES = {
    "rows": "1 % more rows",
    "part": "one more overlay part",
    "column": "one more column",
}


def negotiation(lab: Lab) -> list[Table]:
    """Equal states, and pushes of a few rows, of a part and of a column."""
    size = 10 if lab.quick else 150
    made = lab.path("changes")
    lab.make("changes", made, megabytes=size)
    with open(os.path.join(made, "new.json"), encoding="utf-8") as file:
        new: dict[str, int] = json.load(file)
    table = Table(f"What is said, {size} MB")
    for verb in ("push", "pull"):
        here = _begin(lab, made)
        _, moved = lab.audited(verb, here, "far", "NO-OP")
        name = f"{verb}, nothing new"
        table.add_limit(name, [moved["round_trips"]], TRIPS, 1)
        table.add(name, [moved["sent"] / 1e3], SENT)
        table.add(name, [moved["received"] / 1e3], BACK)
    for change, words in CHANGES.items():
        here = _begin(lab, made)
        _change(here, made, change)
        _, moved = lab.audited("push", here, "far", "TRANSFERRED")
        least = f"{words}, compressed alone"
        table.add_limit(f"push, {words}", [moved["round_trips"]], TRIPS, 4)
        table.add(least, [new[change] / 1e3], SENT)
        table.add(f"push, {words}", [moved["sent"] / 1e3], SENT, against=least, goal=MOST)
        table.add(f"push, {words}", [moved["received"] / 1e3], BACK)
    return [table]


def _begin(lab: Lab, made: str) -> str:
    """Both sides agree on the table and one part."""
    here, there = lab.new_root("here"), lab.new_root("there")
    folder = os.path.join(here, DATASET)
    lab.make("parts", folder, count=1)
    shutil.copyfile(os.path.join(made, "base.parquet"), os.path.join(folder, "records.parquet"))
    lab.add_remote("far", there)
    lab.usr(here, "push", DATASET, "far", "-y")
    return here


def _change(root: str, made: str, change: str) -> None:
    folder = os.path.join(root, DATASET)
    into = part_path(folder, 1) if change == "part" else os.path.join(folder, "records.parquet")
    spare = os.path.join(made, "spare.parquet")
    shutil.copyfile(os.path.join(made, f"{change}.parquet"), spare)
    os.rename(spare, into)
