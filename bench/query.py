"""Reading a dataset whole: every row, its overlays joined, in bounded memory."""

from __future__ import annotations

import os
import shutil
import sys

from lab import Lab
from measure import Contender, Sample, Table, in_turn

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "joined.py")
PEAK_MB = 1536


def query(lab: Lab) -> list[Table]:
    """The joined view against one SQL statement, and against decoding every file once."""
    rows, parts = (500_000, 30) if lab.quick else (10_000_000, 300)
    folder, scratch = lab.path("joined"), lab.path("scratch")
    lab.run(sys.executable, PROGRAM, "make", folder, "--rows", str(rows), "--parts", str(parts))

    def run(what: str) -> Sample:
        return lab.run(sys.executable, PROGRAM, what, folder, scratch)

    def clean() -> None:
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch)

    names = {"scan": "decode every file once", "view": "the joined view", "duckdb": "DuckDB alone"}
    samples = in_turn(
        [Contender(name, lambda what=what: run(what), clean) for what, name in names.items()],
        3 if lab.quick else 1,
    )
    seen = {name: found[0].output for name, found in samples.items()}
    table = Table(f"Read {rows:,} rows with {parts} overlay parts")
    table.add_seconds(samples, names["scan"])
    table.add_seconds(samples, names["duckdb"], against=names["scan"])
    table.add_seconds(samples, names["view"], against=names["duckdb"], goal=1.0)
    peaks = {name: [s.peak_mb for s in found] for name, found in samples.items()}
    table.add(names["duckdb"], peaks[names["duckdb"]], "MB held")
    table.add_limit(names["view"], peaks[names["view"]], "MB held", PEAK_MB)
    same = "the same" if seen[names["view"]] == seen[names["duckdb"]] else "**not the same**"
    table.notes.append(f"Both joins saw {same} rows and values; DuckDB had 1 GB by its own limit.")
    return [table]
