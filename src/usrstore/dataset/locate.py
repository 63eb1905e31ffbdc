"""Where overlay rows belong: a join of keys with the row numbers of the base.

A few rows are looked up in memory, part by part. All rows of a large base are joined by
DuckDB, which holds to a memory limit and spills to a scratch folder; it sees keys and
numbers only, so no value is ever converted. Both give the same places.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import duckdb
import pyarrow as pa

_SQL = """
    SELECT overlay.nth AS nth, base.place AS place
    FROM overlay JOIN base ON overlay.key = base.key
    ORDER BY nth
"""


def join(
    base: Iterable[Any], overlay: Iterable[Any], *, scratch: str, memory_bytes: int
) -> Iterator[tuple[Any, Any]]:
    """For each overlay row that has a place: its number and the base row's, in overlay order.

    Args:
        base: arrays of the base's normalized keys (large_string), in row order.
        overlay: the same of all overlay files, oldest first.
        scratch: a folder to spill into.
        memory_bytes: what the join may hold.

    Yields:
        Pairs of int64 arrays `(nth, place)`, nth rising from one pair to the next. A base key
        that occurs twice gives its overlay row two places.
    """
    folder = os.path.join(scratch, "join")
    settings: dict[str, Any] = {
        "threads": min(4, os.cpu_count() or 1),
        "memory_limit": f"{memory_bytes}B",
        "temp_directory": folder,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(":memory:", config=settings) as connection:
        connection.register("base", _numbered(base, "place"))
        connection.register("overlay", _numbered(overlay, "nth"))
        for batch in pa.RecordBatchReader.from_stream(connection.sql(_SQL)):
            yield batch.column("nth"), batch.column("place")


def _numbered(arrays: Iterable[Any], name: str) -> Any:
    """Keys with their running number, as a stream of record batches."""
    schema = pa.schema([("key", pa.large_string()), (name, pa.int64())])

    def batches() -> Iterator[Any]:
        start = 0
        for keys in arrays:
            numbers = pa.arange(start, start + len(keys))
            start += len(keys)
            yield pa.record_batch([keys, numbers], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())
