"""Where overlay rows belong: a join of keys with the row numbers of the base.

A few rows are looked up in memory, part by part. All rows of a large base are joined by
DuckDB, which holds to a memory limit and spills to a scratch folder; it sees keys and
numbers only, so no value is ever converted. Both give the same places.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from usrstore.errors import StorageError, UsrError

_SQL = """
    SELECT overlay.nth AS nth, base.place AS place
    FROM overlay JOIN base ON overlay.key = base.key
    ORDER BY nth
"""
_STRAYS = """
    SELECT nth, key FROM overlay
    WHERE key IS NOT NULL AND NOT EXISTS (FROM base WHERE base.key = overlay.key)
    ORDER BY nth
"""
_REPEATS = """
    SELECT key, count(*) AS rows, min(nth) AS nth FROM keys WHERE key IS NOT NULL
    GROUP BY key, file HAVING count(*) > 1
    ORDER BY nth
"""
_SUSPECTS = """
    CREATE TEMP TABLE suspects AS
    SELECT hash(key) AS code FROM keys GROUP BY code HAVING count(*) > 1
"""
_TWICE = """
    SELECT key, bit FROM (
        SELECT key, unnest([1, 2, 4]) AS bit, mask FROM keys
        WHERE hash(key) IN (SELECT code FROM suspects)
    )
    WHERE mask & bit > 0 GROUP BY key, bit HAVING count(*) > 1
    ORDER BY key, bit LIMIT ?
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
    with _joining(scratch, memory_bytes) as (connection, watched):
        connection.register("base", _numbered(watched(base), "place"))
        connection.register("overlay", _numbered(watched(overlay), "nth"))
        for batch in _stream(connection.sql(_SQL)):
            yield batch.column("nth"), batch.column("place")


def strays(
    base: Iterable[Any], files: Sequence[Iterable[Any]], *, scratch: str, memory_bytes: int
) -> Iterator[tuple[int, str]]:
    """The rows of some files, counted through, whose key no row of the base has; in order."""
    with _joining(scratch, memory_bytes) as (connection, watched):
        connection.register("base", _numbered(watched(base), "place"))
        connection.register("overlay", _numbered(watched(itertools.chain(*files)), "nth"))
        for batch in _stream(connection.sql(_STRAYS)):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def repeats(
    files: Sequence[Iterable[Any]], *, scratch: str, memory_bytes: int
) -> Iterator[tuple[str, int, int]]:
    """Keys that come more than once in one file: key, how often, and the first such row.

    Rows are counted through all files.
    """
    with _joining(scratch, memory_bytes) as (connection, watched):
        connection.register("keys", _numbered_files([watched(file) for file in files]))
        for batch in _stream(connection.sql(_REPEATS)):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def twice(
    keys: Callable[[], Iterable[tuple[Any, int]]], limit: int, *, scratch: str, memory_bytes: int
) -> list[tuple[str, int]]:
    """Keys that come more than once in one of up to three tables, which share many rows.

    Hashes of keys are grouped first, which is small; the few that come again are looked at.

    Args:
        keys: gives, every time anew, arrays of keys without nulls (large_string), each with the
            bits of the tables that hold these rows: 1, 2 and 4.
        limit: how many are named.
        scratch, memory_bytes: as `join` takes them.

    Returns:
        Keys with the bit of the table, sorted.
    """

    def batches() -> Iterator[Any]:
        for array, mask in keys():
            masks = pa.repeat(pa.scalar(mask, pa.int32()), len(array))
            yield pa.record_batch([array, masks], schema=schema)

    schema = pa.schema([("key", pa.large_string()), ("mask", pa.int32())])
    with _joining(scratch, memory_bytes) as (connection, watched):

        def register() -> None:
            reader = pa.RecordBatchReader.from_batches(schema, watched(batches()))
            connection.register("keys", reader)

        register()
        connection.execute(_SUSPECTS)
        if not connection.execute("SELECT count(*) FROM suspects").fetchall()[0][0]:
            return []
        register()
        return [(key, bit) for key, bit in connection.execute(_TWICE, [limit]).fetchall()]


Watch = Callable[[Iterable[Any]], Iterator[Any]]


@contextlib.contextmanager
def _joining(scratch: str, memory_bytes: int) -> Iterator[tuple[duckdb.DuckDBPyConnection, Watch]]:
    """A connection that spills into `scratch`, and a watch over what it reads.

    Raises:
        UsrError: what reading the keys raised; the engine would make it an error of its own.
        StorageError: the engine ran out of room.
    """
    failures: list[UsrError] = []

    def watched(arrays: Iterable[Any]) -> Iterator[Any]:
        try:
            yield from arrays
        except UsrError as exc:
            failures.append(exc)
            raise

    os.makedirs(scratch, exist_ok=True)
    settings: dict[str, Any] = {
        "threads": min(4, os.cpu_count() or 1),
        "memory_limit": f"{memory_bytes}B",
        "temp_directory": os.path.join(scratch, "join"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with duckdb.connect(":memory:", config=settings) as connection:
            yield connection, watched
    except (duckdb.Error, pa.ArrowException, OSError) as exc:
        if failures:
            raise failures[0] from exc
        raise StorageError(
            f"the join of keys ran out of room in {scratch}: {str(exc).partition(chr(10))[0]}",
            hint="free some space there, or name a roomier folder with TMPDIR",
        ) from exc


def _stream(relation: Any) -> Any:
    return pa.RecordBatchReader.from_stream(relation)


def _numbered_files(files: Sequence[Iterable[Any]]) -> Any:
    """Keys with their running number and the number of their file."""
    schema = pa.schema([("key", pa.large_string()), ("nth", pa.int64()), ("file", pa.int32())])

    def batches() -> Iterator[Any]:
        start = 0
        for number, arrays in enumerate(files):
            for keys in arrays:
                numbers = pa.arange(start, start + len(keys))
                start += len(keys)
                file = pa.repeat(pa.scalar(number, pa.int32()), len(keys))
                yield pa.record_batch([keys, numbers, file], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


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
