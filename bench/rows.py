"""What changed in a large table: the row diff beside a full outer join of both files."""

from __future__ import annotations

import json
import os
import shutil
import sys

from lab import USR, Lab
from measure import Contender, Sample, Table, in_turn

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rowdiffs.py")
DATASET = "bench/rows"
PEAK_MB = 512


def rows(lab: Lab) -> list[Table]:
    """1,000 changed rows, and 1 % more rows; time and memory, and what both found."""
    count = 500_000 if lab.quick else 10_000_000
    root = lab.new_root("rows")
    path = os.path.join(root, DATASET, "records.parquet")
    os.makedirs(os.path.dirname(path))
    lab.run(sys.executable, PROGRAM, "make", path, str(count))
    lab.usr(root, "commit", DATASET, "-m", "before")
    before, scratch = lab.path("before.parquet"), lab.path("scratch")
    shutil.copyfile(path, before)
    found = []
    for act, title in (
        ("change", f"1,000 changed rows in {count:,}"),
        ("append", f"{count // 100:,} rows appended to {count:,}"),
    ):
        shutil.copyfile(before, path)
        lab.run(sys.executable, PROGRAM, act, path)
        lab.usr(root, "commit", DATASET, "-m", act)
        base = f"{DATASET}~1" if act == "change" else f"{DATASET}~2"
        found.append(_compare(lab, root, base, (before, path, scratch), title))
    return found


def _compare(lab: Lab, root: str, base: str, files: tuple[str, str, str], title: str) -> Table:
    def clean() -> None:
        shutil.rmtree(files[2], ignore_errors=True)
        os.makedirs(files[2])

    def diff() -> Sample:
        return lab.run(USR, "--root", root, "diff", base, DATASET, "--rows", "--json")

    def join() -> Sample:
        return lab.run(sys.executable, PROGRAM, "join", *files)

    ours, theirs = "usr diff --rows", "a full outer join in DuckDB"
    samples = in_turn([Contender(ours, diff), Contender(theirs, join, clean)], lab.rounds)
    table = Table(title)
    table.add_seconds(samples, theirs)
    table.add_seconds(samples, ours, against=theirs, goal=0.2)
    table.add(theirs, [s.peak_mb for s in samples[theirs]], "MB held")
    table.add_limit(ours, [s.peak_mb for s in samples[ours]], "MB held", PEAK_MB)
    counts = json.loads(samples[ours][0].output)["data"]["tables"][0]["counts"]
    seen = [counts["added"], counts["removed"], counts["changed"]]
    same = "the same" if samples[theirs][0].output.split() == list(map(str, seen)) else "**not**"
    table.notes.append(f"Both found {same} rows: {seen[0]} added, {seen[2]} changed.")
    return table
