"""What a small change of a dataset costs, and what an import of a few rows into many."""

from __future__ import annotations

import os
import random
import sys

from lab import HERE, Lab
from measure import Contender, Sample, Table, in_turn

ACT_MS = 20.0  # what the tool before this one needed at least was 70


def acts(lab: Lab) -> list[Table]:
    """A part and its event as one act, and an append to a base table."""
    return [_acts(lab), _imports(lab)]


def _acts(lab: Lab) -> Table:
    root, count = lab.new_root("acts"), 50 if lab.quick else 250

    def child(way: str) -> Sample:
        done = lab.run(sys.executable, os.path.join(HERE, "act.py"), way, root, str(count))
        return Sample(float(done.output.splitlines()[-1]), done.peak_mb)

    ways = {"file and line, each fsynced": "plain", "one act": "acts"}
    samples = in_turn(
        [Contender(name, lambda way=way: child(way)) for name, way in ways.items()], lab.rounds
    )
    table = Table(f"A part of 16 kB and its event, {count} in one process, milliseconds each")
    for name in ways:
        values = [sample.seconds * 1000 for sample in samples[name]]
        table.add(name, values, "ms", against=_first(table))
    table.add_limit(
        "one act, at most", [s.seconds * 1000 for s in samples["one act"]], "ms", ACT_MS
    )
    return table


def _first(table: Table) -> str | None:
    return table.rows[0].what if table.rows else None


def _imports(lab: Lab) -> Table:
    rows = 50_000 if lab.quick else 500_000
    root, rng = lab.new_root("imports"), random.Random(1)
    many, few = lab.path("many.csv"), lab.path("few.csv")

    def write(path: str, count: int) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.write("sequence\n")
            file.writelines("".join(rng.choices("ACGT", k=100)) + "\n" for _ in range(count))

    write(many, rows)
    lab.usr(root, "init", "bench/x")
    first = lab.usr(root, "import", "bench/x", "--from", "csv", "--path", many)
    base = os.path.join(root, "bench", "x", "records.parquet")
    script = (
        "import sys, pyarrow.parquet as q; t = q.read_table(sys.argv[1]);"
        "q.write_table(t, sys.argv[2], compression='zstd', row_group_size=65536)"
    )

    samples = in_turn(
        [
            Contender(
                "read and write the table anew",
                lambda: lab.run(sys.executable, "-c", script, base, lab.path("anew.parquet")),
            ),
            Contender(
                "usr import of 1 %",
                lambda: lab.usr(root, "import", "bench/x", "--from", "csv", "--path", few),
                lambda: write(few, rows // 100),
            ),
        ],
        lab.rounds,
    )
    table = Table(f"1 % more rows into a base table of {rows:,}")
    table.add_seconds(samples, "read and write the table anew")
    table.add_seconds(samples, "usr import of 1 %", against="read and write the table anew")
    table.add("rows a second of a first import", [rows / first.seconds], "rows/s")
    return table
