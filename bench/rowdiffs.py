"""The work of the rows benchmark, each in a process of its own; prints what it found.

python rowdiffs.py make ROOT DATASET --rows 10000000   records.parquet, committed by the caller
python rowdiffs.py change ROOT DATASET                 1,000 of its rows changed, in place
python rowdiffs.py append ROOT DATASET                 1 % more rows
python rowdiffs.py join BEFORE AFTER SCRATCH           a full outer join of both files in DuckDB
"""

from __future__ import annotations

import os
import random
import sys

import joined
import pyarrow as pa
from joined import BLOCK, MEMORY_MB

from usrstore.dataset import parquetfile

CHANGED = 1000
COMPARED = ("bio_type", "sequence", "alphabet", "length", "source", "created_at")
SQL = """
    SELECT count(*) FILTER (a.id IS NULL), count(*) FILTER (b.id IS NULL),
           count(*) FILTER (a.id IS NOT NULL AND b.id IS NOT NULL)
    FROM read_parquet($before) AS a FULL OUTER JOIN read_parquet($after) AS b ON a.id = b.id
    WHERE a.id IS NULL OR b.id IS NULL OR {differs}
"""


def make(path: str, rows: int) -> None:
    with parquetfile.writing(path, joined.block(0, 1).schema) as writer:
        for start in range(0, rows, BLOCK):
            writer.write(joined.block(start, min(rows, start + BLOCK)))


def change(path: str) -> None:
    """Rows all over the file have another source and another length."""
    facts = parquetfile.facts(path)
    chosen = sorted(random.Random(2).sample(range(facts.rows), min(CHANGED, facts.rows)))
    with parquetfile.writing(f"{path}.new", facts.schema, facts.metadata) as writer:
        start = 0
        for table in parquetfile.batches(path):
            hits = [n - start for n in chosen if start <= n < start + len(table)]
            source, length = (table[name].to_pylist() for name in ("source", "length"))
            for at in hits:
                source[at], length[at] = f"edited {at}", length[at] + 1
            edited = table.set_column(4, "length", pa.array(length, pa.int32()))
            writer.write(edited.set_column(5, "source", pa.array(source)))
            start += len(table)
    os.replace(f"{path}.new", path)


def append(path: str) -> None:
    rows = parquetfile.facts(path).rows
    with parquetfile.appending(path, f"{path}.new") as writer:
        for start in range(rows, rows + rows // 100, BLOCK):
            writer.write(joined.block(start, min(rows + rows // 100, start + BLOCK)))
    os.replace(f"{path}.new", path)


def join(before: str, after: str, scratch: str) -> None:
    import duckdb as engine

    settings = {"memory_limit": f"{MEMORY_MB}MB", "temp_directory": scratch}
    connection = engine.connect(":memory:", config=settings)
    differs = " OR ".join(f"a.{name} IS DISTINCT FROM b.{name}" for name in COMPARED)
    params = {"before": before, "after": after}
    print(*connection.sql(SQL.format(differs=differs), params=params).fetchall()[0])


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "make":
        make(words[0], int(words[1]))
    else:
        globals()[what](*words)
