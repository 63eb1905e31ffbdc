"""Small changes of large datasets: cost should follow the change."""

from __future__ import annotations

import json
import os
import shutil

from datasets import part_path
from lab import DATASET, Lab
from measure import WIRE, Contender, Table, in_turn


def append(lab: Lab) -> list[Table]:
    """Push after 1 % more rows, the file rewritten whole as writers do."""
    layouts = {"writer's default row groups": None, "row groups of 65,536": 65_536}
    return [_append(lab, title, row_group) for title, row_group in layouts.items()]


def _append(lab: Lab, title: str, row_group: int | None) -> Table:
    versions = lab.rounds + 1
    size = 40 if lab.quick else 300
    made = lab.path(f"appends-{row_group}")
    lab.make("appends", made, megabytes=size, versions=versions, row_group=row_group)
    root, far, copy = lab.new_root("here"), lab.new_root("there"), lab.path("copy")
    shutil.rmtree(copy, ignore_errors=True)
    folder = os.path.join(root, DATASET)
    primary = os.path.join(folder, "records.parquet")
    lab.add_remote("far", far)
    os.makedirs(folder)
    shutil.copyfile(os.path.join(made, "0.parquet"), primary)
    lab.usr(root, "push", DATASET, "far", "-y")
    lab.rsync(folder, f"bench:{copy}")

    def one_more(number: int) -> None:
        spare = lab.path("spare.parquet")
        shutil.copyfile(os.path.join(made, f"{number + 1}.parquet"), spare)
        os.rename(spare, primary)

    samples = in_turn(
        [
            Contender("rsync -a", lambda: lab.rsync(folder, f"bench:{copy}")),
            Contender("usr push", lambda: lab.sync("push", root, "far")),
        ],
        lab.rounds,
        one_more,
    )
    with open(os.path.join(made, "added.json"), encoding="utf-8") as file:
        added = [size / 1e6 for size in json.load(file)[1:]]
    shutil.rmtree(made)
    table = Table(f"Push after 1 % more rows of {size} MB, {title}")
    least = "the new rows alone, compressed"
    table.add(least, added, WIRE)
    table.add_wire(samples, "rsync -a", against=least)
    table.add_wire(samples, "usr push", against=least, goal=1.3)
    table.add_seconds(samples, "rsync -a")
    table.add_seconds(samples, "usr push", against="rsync -a")
    return table


def part(lab: Lab) -> list[Table]:
    """Pull after one more overlay part among many."""
    count = 100 if lab.quick else 500
    root, far, copy = lab.new_root("here"), lab.new_root("there"), lab.path("copy")
    shutil.rmtree(copy, ignore_errors=True)
    folder = os.path.join(far, DATASET)
    lab.make("dataset", folder, megabytes=20)
    lab.make("parts", folder, count=count, first=1000)
    lab.add_remote("far", far)
    lab.usr(root, "pull", DATASET, "far", "-y")
    lab.rsync(f"bench:{folder}", copy)
    spare = lab.path("spare")
    lab.make("parts", spare, count=lab.rounds, first=5000)

    def one_more(number: int) -> None:
        os.rename(part_path(spare, 5000 + number), part_path(folder, 5000 + number))
        with open(os.path.join(folder, ".events.log"), "a", encoding="utf-8") as file:
            file.write(f'{{"event_version":1,"action":"write_overlay_part","part":{number}}}\n')

    samples = in_turn(
        [
            Contender("rsync -a", lambda: lab.rsync(f"bench:{folder}", copy)),
            Contender("usr pull", lambda: lab.sync("pull", root, "far")),
        ],
        lab.rounds,
        one_more,
    )
    size = os.path.getsize(part_path(folder, 5000)) / 1e6
    table = Table(f"Pull after one more part among {count}")
    table.add("the part", [size], WIRE)
    table.add_wire(samples, "rsync -a", against="the part")
    table.add_wire(samples, "usr pull", against="the part")
    table.add_seconds(samples, "rsync -a")
    table.add_seconds(samples, "usr pull", against="rsync -a")
    return [table]
