"""The work of the query benchmark, each in a process of its own; prints rows and values seen.

python joined.py make FOLDER --rows 10000000 --parts 300
python joined.py view FOLDER SCRATCH       our joined view, every column
python joined.py duckdb FOLDER SCRATCH     the same question as one SQL statement
python joined.py scan FOLDER SCRATCH       only decode every file once: the least there is
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import os
import random

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

DNA = str.maketrans("0123456789abcdef", "ACGT" * 4)
BLOCK = 1 << 16
MEMORY_MB = 1024
SQL = """
    WITH overlay AS (
        SELECT id, arg_max(infer__score, filename) FILTER (infer__score IS NOT NULL) AS score,
               arg_max(infer__label, filename) FILTER (infer__label IS NOT NULL) AS label,
               arg_max(infer__vector, filename) FILTER (infer__vector IS NOT NULL) AS vector
        FROM read_parquet($parts, union_by_name = true, filename = true) GROUP BY id)
    SELECT base.* EXCLUDE (file_row_number), score, label, vector
    FROM read_parquet($base, file_row_number = true) AS base LEFT JOIN overlay USING (id)
    ORDER BY file_row_number
"""


def make(folder: str, rows: int, parts: int) -> None:
    """A base, and parts in a random order that cover every row; a fifth of each overwrites."""
    os.makedirs(f"{folder}/_derived/infer", exist_ok=True)
    ids = []
    with pq.ParquetWriter(f"{folder}/records.parquet", block(0, 1).schema, compression="zstd") as w:
        for start in range(0, rows, BLOCK):
            table = block(start, min(rows, start + BLOCK))
            w.write_table(table)
            ids.append(table["id"].combine_chunks())
    everything = pa.concat_arrays(ids)
    order = pa.array(random.Random(1).sample(range(rows), rows))
    each = rows // parts
    for number in range(parts):
        at = order.slice(number * each, each)
        if number:
            fresh, old = at.slice(0, each * 4 // 5), order.slice((number - 1) * each, each // 5)
            at = pa.concat_arrays([fresh, old])
        write_part(folder, number, everything.take(at), at)


def block(start: int, end: int) -> pa.Table:
    digests = [hashlib.blake2b(b"%d" % n, digest_size=48).hexdigest() for n in range(start, end)]
    sequences = [digest.translate(DNA) for digest in digests]
    count = end - start
    moment = pa.scalar(1_760_000_000_000_000, pa.timestamp("us", tz="UTC"))
    return pa.table(
        {
            "id": [hashlib.sha1(f"dna|{text}".encode()).hexdigest() for text in sequences],
            "bio_type": pa.repeat("dna", count),
            "sequence": sequences,
            "alphabet": pa.repeat("dna_4", count),
            "length": pa.repeat(pa.scalar(96, pa.int32()), count),
            "source": pa.repeat("bench", count),
            "created_at": pa.repeat(moment, count),
        }
    )


def write_part(folder: str, number: int, ids: pa.Array, at: pa.Array) -> None:
    clock = f"00:{number // 60:02}:{number % 60:02}"
    vectors = pa.array([0.5] * 8 * len(at), pa.float32())
    pairs = {
        "id": ids,
        "infer__score": pc.divide(at.cast(pa.float64()), 7.0),
        "infer__label": at.cast(pa.string()),
        "infer__vector": pa.FixedSizeListArray.from_arrays(vectors, 8).cast(pa.list_(pa.float32())),
    }
    table = pa.table(pairs).replace_schema_metadata(
        {
            "usr:overlay_namespace": "infer",
            "usr:overlay_key": "id",
            "usr:overlay_created_at": f"2026-01-01T{clock}.000000Z",
        }
    )
    name = f"part-20260101T{clock.replace(':', '')}000000Z-{number:032x}.parquet"
    pq.write_table(table, f"{folder}/_derived/infer/{name}", compression="zstd")


def view(folder: str, scratch: str) -> pa.RecordBatchReader:
    from usrstore.dataset import query

    found = query.open_view(folder)
    schema = found.schema
    return pa.RecordBatchReader.from_batches(schema, found.batches(scratch=scratch))


def duckdb(folder: str, scratch: str) -> pa.RecordBatchReader:
    import duckdb as engine

    settings = {"memory_limit": f"{MEMORY_MB}MB", "temp_directory": scratch}
    connection = engine.connect(":memory:", config=settings)
    params = {"base": f"{folder}/records.parquet", "parts": _parts(folder)}
    return pa.RecordBatchReader.from_stream(connection.sql(SQL, params=params))


def scan(folder: str, scratch: str) -> pa.RecordBatchReader:
    del scratch
    for path in _parts(folder):
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches():
                pass
    file = pq.ParquetFile(f"{folder}/records.parquet")
    return pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches())


def _parts(folder: str) -> list[str]:
    return sorted(glob.glob(f"{folder}/_derived/infer/part-*.parquet"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["make", "view", "duckdb", "scan"])
    parser.add_argument("folder")
    parser.add_argument("scratch", nargs="?")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--parts", type=int, default=300)
    given = parser.parse_args()
    if given.what == "make":
        make(given.folder, given.rows, given.parts)
        return
    rows = values = 0
    for batch in globals()[given.what](given.folder, given.scratch):
        rows += len(batch)
        values += sum(len(batch) - column.null_count for column in batch.columns[7:])
    print(rows, values)


if __name__ == "__main__":
    main()
