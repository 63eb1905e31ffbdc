"""Seeded datasets: the same bytes for the same arguments and library versions.

Run as a program, so that the process that measures never loads pyarrow: the peak memory of a
child counts from what its parent held when it was started.

    python datasets.py dataset FOLDER --megabytes 300
    python datasets.py parts FOLDER --count 500
    python datasets.py small FOLDER --count 5000
    python datasets.py tiny FOLDER --count 200000
    python datasets.py streamed FOLDER --megabytes 3000
    python datasets.py changes FOLDER --megabytes 60
    python datasets.py appends FOLDER --megabytes 60 --versions 4 [--row-group 65536]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

BYTES_PER_ROW = 690  # as it comes out: 600 bases at a quarter byte, 128 floats, a 40-digit id
FLOATS = 128
REPEATING = ["bio_type", "alphabet", "source"]
FIRST_DAY_US = 1_760_000_000_000_000


@dataclass(frozen=True)
class Shape:
    """Which share of a dataset's bytes lies where."""

    primary: float = 0.70
    parts: float = 0.15
    snapshots: float = 0.15


def rows(count: int, seed: int) -> Any:
    """A table of sequences with the seven columns of the base and one list of floats."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(seed)
    lengths = random.integers(200, 1001, count)
    ends = np.concatenate(([0], np.cumsum(lengths)))
    bases = np.frombuffer(b"ACGT", "u1")[random.integers(0, 4, int(ends[-1]), dtype="u1")]
    text = bases.tobytes()
    sequences = [text[ends[n] : ends[n + 1]].decode() for n in range(count)]
    ids = [hashlib.sha1(f"dna|{s}".encode()).hexdigest() for s in sequences]
    sources = [f"library-{n:02}" for n in range(12)]
    floats = random.standard_normal(count * FLOATS, dtype="f4")
    offsets = np.arange(0, (count + 1) * FLOATS, FLOATS, dtype="i4")
    stamps = FIRST_DAY_US + np.arange(count, dtype="i8") * 1000
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "bio_type": pa.array(["dna"] * count, pa.string()),
            "sequence": pa.array(sequences, pa.string()),
            "alphabet": pa.array(["dna_4"] * count, pa.string()),
            "length": pa.array(lengths.astype("i4")),
            "source": pa.array([sources[n] for n in random.integers(0, 12, count)], pa.string()),
            "created_at": pa.array(stamps, pa.timestamp("us", tz="UTC")),
            "infer__logits": pa.ListArray.from_arrays(pa.array(offsets), pa.array(floats)),
        }
    )


def overlay(count: int, seed: int) -> Any:
    """A table of an overlay part: keys and one list of floats."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(seed)
    ids = [random.bytes(20).hex() for _ in range(count)]
    floats = pa.array(random.standard_normal(count * FLOATS, dtype="f4"))
    offsets = pa.array(np.arange(0, (count + 1) * FLOATS, FLOATS, dtype="i4"))
    return pa.table({"id": ids, "infer__embedding": pa.ListArray.from_arrays(offsets, floats)})


def write(
    path: str, table: Any, *, row_group: int | None = None, dictionary: bool | list[str] = True
) -> int:
    """Write a table as Parquet, zstd; gives its bytes."""
    from pyarrow import parquet

    os.makedirs(os.path.dirname(path), exist_ok=True)
    parquet.write_table(
        table, path, compression="zstd", row_group_size=row_group, use_dictionary=dictionary
    )
    return os.path.getsize(path)


def write_events(folder: str, count: int) -> None:
    with open(os.path.join(folder, ".events.log"), "w", encoding="utf-8") as file:
        for number in range(count):
            event = {"event_version": 1, "action": "write_overlay_part", "number": number}
            file.write(json.dumps(event, separators=(",", ":")) + "\n")


def make_dataset(folder: str, *, megabytes: int, seed: int, parts: int = 20) -> None:
    """A dataset of about `megabytes` with every section."""
    shape, size = Shape(), megabytes * 1_000_000
    base = rows(int(shape.primary * size / BYTES_PER_ROW), seed)
    write(os.path.join(folder, "records.parquet"), base, row_group=65_536)
    per_part = max(1, int(shape.parts * size / parts / (4 * FLOATS + 24)))
    for number in range(parts):
        write(part_path(folder, number), overlay(per_part, seed + number + 1))
    older = base.slice(0, int(shape.snapshots * size / BYTES_PER_ROW))
    write(os.path.join(folder, "_snapshots", "records-20260101T000000000000.parquet"), older)
    write_events(folder, 2000)
    with open(os.path.join(folder, "meta.md"), "w", encoding="utf-8") as file:
        file.write(f"name: {os.path.basename(folder)}\n")


def part_path(folder: str, number: int) -> str:
    return os.path.join(folder, "_derived", "infer", f"part-{number:06}.parquet")


def make_parts(folder: str, *, count: int, seed: int, first: int = 0) -> None:
    """Overlay parts of about 30 kB each."""
    for number in range(first, first + count):
        write(part_path(folder, number), overlay(200, seed + number))


def make_small(folder: str, *, count: int, seed: int) -> None:
    """A small base and `count` files of 2 to 40 kB, 250 to a folder, incompressible."""
    import numpy as np

    random = np.random.default_rng(seed)
    write(os.path.join(folder, "records.parquet"), rows(1000, seed))
    for number in range(count):
        path = os.path.join(folder, "_artifacts", f"{number // 250:03}", f"{number:06}.bin")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(random.bytes(int(random.integers(2_000, 40_001))))
    write_events(folder, 100)


def make_tiny(folder: str, *, count: int, seed: int) -> None:
    """A small base and `count` files of 200 bytes, 1000 to a folder."""
    import numpy as np

    random = np.random.default_rng(seed)
    write(os.path.join(folder, "records.parquet"), rows(1000, seed))
    for number in range(count):
        path = os.path.join(folder, "_artifacts", f"{number // 1000:03}", f"{number:06}.bin")
        if number % 1000 == 0:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(random.bytes(200))


def make_streamed(folder: str, *, megabytes: int, seed: int) -> None:
    """A base of any size in one file and an event log, made in bounded memory."""
    from pyarrow import parquet

    os.makedirs(folder, exist_ok=True)
    left, writer = megabytes * 1_000_000 // BYTES_PER_ROW, None
    while left > 0:
        table = rows(min(left, 65_536), seed + left)
        writer = writer or parquet.ParquetWriter(
            os.path.join(folder, "records.parquet"), table.schema, compression="zstd"
        )
        writer.write_table(table)
        left -= table.num_rows
    writer.close()
    write_events(folder, 2000)


def make_appends(
    folder: str, *, megabytes: int, versions: int, row_group: int | None, seed: int
) -> None:
    """`0.parquet` and then versions of it, each rewritten with 1 % more rows at its end.

    `added.json` holds the bytes of each version's new rows written alone, with dictionaries
    only where values repeat: the least that a Parquet file can hold them in.
    """
    count = megabytes * 1_000_000 // BYTES_PER_ROW
    more = count // 100
    whole = rows(count + more * (versions - 1), seed)
    added = []
    for version in range(versions):
        end = count + more * version
        path = os.path.join(folder, f"{version}.parquet")
        write(path, whole.slice(0, end), row_group=row_group)
        alone = os.path.join(folder, "alone.tmp")
        added.append(write(alone, whole.slice(end - more, more), dictionary=REPEATING))
        os.remove(alone)
    with open(os.path.join(folder, "added.json"), "w", encoding="utf-8") as file:
        json.dump(added, file)


def make_changes(folder: str, *, megabytes: int, seed: int) -> None:
    """A table and three things that may become of it, each with what is new of it by itself.

    `base.parquet`; `rows.parquet` with 1 % more rows, `column.parquet` with one more column, and
    `part.parquet`, an overlay part. `new.json` has the bytes of each one's news, compressed alone.
    """
    import numpy as np
    import pyarrow as pa

    count = megabytes * 1_000_000 // BYTES_PER_ROW
    more = count // 100
    whole = rows(count + more, seed)
    base = whole.slice(0, count)
    floats = np.random.default_rng(seed + 1).standard_normal(count * 16, dtype="f4")
    offsets = np.arange(0, (count + 1) * 16, 16, dtype="i4")
    column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(floats))

    def put(name: str, table: Any) -> int:
        return write(os.path.join(folder, name), table, row_group=65_536)

    def alone(table: Any, dictionary: bool | list[str] = True) -> int:
        path = os.path.join(folder, "alone.tmp")
        size = write(path, table, row_group=65_536, dictionary=dictionary)
        os.remove(path)
        return size

    put("base.parquet", base)
    put("rows.parquet", whole)
    put("column.parquet", base.append_column("infer__embedding", column))
    new = {
        "rows": alone(whole.slice(count, more), REPEATING),
        "column": alone(pa.table({"infer__embedding": column})),
        "part": put("part.parquet", overlay(max(200, count // 50), seed + 2)),
    }
    with open(os.path.join(folder, "new.json"), "w", encoding="utf-8") as file:
        json.dump(new, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "kind", choices=["dataset", "parts", "small", "tiny", "streamed", "appends", "changes"]
    )
    parser.add_argument("folder")
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--versions", type=int, default=4)
    parser.add_argument("--row-group", type=int)
    parser.add_argument("--seed", type=int, default=2026)
    a = parser.parse_args()
    os.makedirs(a.folder, exist_ok=True)
    if a.kind == "dataset":
        make_dataset(a.folder, megabytes=a.megabytes, seed=a.seed)
    elif a.kind == "parts":
        make_parts(a.folder, count=a.count, seed=a.seed, first=a.first)
    elif a.kind == "small":
        make_small(a.folder, count=a.count, seed=a.seed)
    elif a.kind == "tiny":
        make_tiny(a.folder, count=a.count, seed=a.seed)
    elif a.kind == "changes":
        make_changes(a.folder, megabytes=a.megabytes, seed=a.seed)
    elif a.kind == "streamed":
        make_streamed(a.folder, megabytes=a.megabytes, seed=a.seed)
    else:
        make_appends(
            a.folder,
            megabytes=a.megabytes,
            versions=a.versions,
            row_group=a.row_group,
            seed=a.seed,
        )


if __name__ == "__main__":
    main()
