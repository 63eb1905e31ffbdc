"""What attaching a file costs beside converting it, and compaction beside writing parts anew."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys

from lab import Lab
from measure import Contender, Table, in_turn

CONVERT = (
    "import sys, pyarrow.csv as c, pyarrow.parquet as q;"
    "q.write_table(c.read_csv(sys.argv[1]), sys.argv[2], compression='zstd')"
)
WRITE = """
import random, sys
import pyarrow as pa
from usrstore import who
from usrstore.root import Root
from usrstore.verbs.attach import write_overlay_part
from usrstore.verbs.site import Site
root, ids, parts = sys.argv[1], open(sys.argv[2]).read().split(), int(sys.argv[3])
rng, step = random.Random(1), len(ids) // parts
for number in range(parts):
    chosen = ids[number * step : (number + 1) * step]
    flat = pa.array([rng.random() for _ in range(16 * len(chosen))], pa.float32())
    ends = pa.array(range(0, len(flat) + 1, 16), pa.int32())
    table = pa.table({"id": chosen, "layer__logits": pa.ListArray.from_arrays(ends, flat)})
    write_overlay_part(Site.open(Root(root), "bench/x", who("bench")), "layer", table)
"""
ANEW = """
import glob, sys, pyarrow.parquet as q
paths = sorted(glob.glob(sys.argv[1] + '/part-*.parquet'))
with q.ParquetWriter(sys.argv[2], q.read_schema(paths[0]), compression='zstd') as writer:
    for path in paths:
        writer.write_table(q.read_table(path))
"""


def overlays(lab: Lab) -> list[Table]:
    """A CSV attached, and parts compacted."""
    rows = 50_000 if lab.quick else 500_000
    root, rng = lab.new_root("overlays"), random.Random(1)
    sequences = ["".join(rng.choices("ACGT", k=60)) for _ in range(rows)]
    ids = [hashlib.sha1(f"dna|{s}".encode(), usedforsecurity=False).hexdigest() for s in sequences]
    many, scores, listed = lab.path("rows.csv"), lab.path("scores.csv"), lab.path("ids.txt")
    with open(many, "w", encoding="utf-8") as file:
        file.write("sequence\n" + "\n".join(sequences) + "\n")
    with open(scores, "w", encoding="utf-8") as file:
        file.write("id,score\n")
        file.writelines(f"{key},{rng.random()}\n" for key in ids)
    with open(listed, "w", encoding="utf-8") as file:
        file.write("\n".join(ids))
    lab.usr(root, "init", "bench/x")
    lab.usr(root, "import", "bench/x", "--from", "csv", "--path", many)
    columns = "score:float64,logits:list<float32>"
    lab.usr(root, "namespace", "register", "layer", "--columns", columns)
    return [_attach(lab, root, scores, rows), _compact(lab, root, listed)]


def _attach(lab: Lab, root: str, scores: str, rows: int) -> Table:
    derived = os.path.join(root, "bench", "x", "_derived")
    flags = ["--path", scores, "--namespace", "layer", "--key", "id"]
    samples = in_turn(
        [
            Contender(
                "CSV to Parquet, unchecked",
                lambda: lab.run(sys.executable, "-c", CONVERT, scores, lab.path("t.parquet")),
            ),
            Contender(
                "usr attach",
                lambda: lab.usr(root, "attach", "bench/x", *flags),
                lambda: shutil.rmtree(derived, ignore_errors=True),
            ),
        ],
        lab.rounds,
    )
    shutil.rmtree(derived)
    table = Table(f"Attach {rows:,} rows of a CSV")
    table.add_seconds(samples, "CSV to Parquet, unchecked")
    table.add_seconds(samples, "usr attach", against="CSV to Parquet, unchecked")
    table.add("usr attach", [s.peak_mb for s in samples["usr attach"]], "MB held")
    return table


def _compact(lab: Lab, root: str, listed: str) -> Table:
    parts = 10 if lab.quick else 50
    derived = os.path.join(root, "bench", "x", "_derived")
    kept = lab.path("kept")
    lab.run(sys.executable, "-c", WRITE, root, listed, str(parts))
    shutil.copytree(derived, kept)
    lab.usr(root, "commit", "bench/x")

    def again() -> None:
        shutil.rmtree(derived)
        shutil.copytree(kept, derived)

    compact = ["maintenance", "overlay-compact", "bench/x", "--namespace", "layer"]
    samples = in_turn(
        [
            Contender(
                "read and write the parts anew",
                lambda: lab.run(
                    sys.executable, "-c", ANEW, os.path.join(kept, "layer"), lab.path("anew")
                ),
            ),
            Contender("overlay-compact", lambda: lab.usr(root, *compact), again),
        ],
        lab.rounds,
    )
    size = os.path.getsize(os.path.join(derived, "layer.parquet"))
    stored = json.loads(lab.usr(root, "commit", "bench/x", "--json").output)["data"]["bytes_stored"]
    table = Table(f"{parts} parts of one namespace as one file")
    table.add_seconds(samples, "read and write the parts anew")
    table.add_seconds(samples, "overlay-compact", against="read and write the parts anew")
    table.add("the compact file", [size / 1e6], "MB")
    table.add("of it new to the store", [stored / 1e6], "MB", against="the compact file")
    return table
