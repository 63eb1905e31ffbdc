"""One dataset and what happens to it: the same bytes and the same edits for whoever copies it.

python story.py FOLDER STEP --megabytes 60 --count 5000
"""

from __future__ import annotations

import argparse
import os

import datasets

STEPS = {
    "first": "first copy",
    "same": "no change",
    "append": "1 % more rows",
    "column": "one column edited",
    "part": "one overlay part more",
    "small": "{count:,} small files more",
    "rename": "their folder renamed",
}
SEED = 2026
_ROW_GROUP = 65_536


def tell(folder: str, step: str, *, megabytes: int, count: int) -> None:
    """Bring the dataset from the step before to this one."""
    if step == "first":
        datasets.make_dataset(folder, megabytes=megabytes, seed=SEED)
    elif step == "append":
        _append(folder)
    elif step == "column":
        _edit(folder)
    elif step == "part":
        datasets.write(datasets.part_path(folder, 9000), datasets.overlay(200, SEED + 9000))
    elif step == "small":
        _small(folder, count)
    elif step == "rename":
        os.rename(os.path.join(folder, "_artifacts"), os.path.join(folder, "_pictures"))


def _rewrite(folder: str, table: object) -> None:
    """As producers do: a new file beside the old one, then its name."""
    path = os.path.join(folder, "records.parquet")
    datasets.write(f"{path}.new", table, row_group=_ROW_GROUP)
    os.rename(f"{path}.new", path)


def _append(folder: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.read_table(os.path.join(folder, "records.parquet"))
    more = datasets.rows(max(1, table.num_rows // 100), SEED + 1)
    _rewrite(folder, pa.concat_tables([table, more.cast(table.schema)]))


def _edit(folder: str) -> None:
    import pyarrow as pa
    from pyarrow import compute, parquet

    table = parquet.read_table(os.path.join(folder, "records.parquet"))
    where = table.schema.get_field_index("source")
    edited = compute.binary_join_element_wise(table["source"], pa.scalar("checked"), "-")
    _rewrite(folder, table.set_column(where, "source", edited))


def _small(folder: str, count: int) -> None:
    import numpy as np

    random = np.random.default_rng(SEED)
    for number in range(count):
        path = os.path.join(folder, "_artifacts", f"{number // 250:03}", f"{number:06}.bin")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(random.bytes(int(random.integers(2_000, 10_001))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("--megabytes", type=int, default=60)
    parser.add_argument("--count", type=int, default=5000)
    given = parser.parse_args()
    tell(given.folder, given.step, megabytes=given.megabytes, count=given.count)
