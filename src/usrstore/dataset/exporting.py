"""Rows of a joined view as a file for other programs: CSV, JSON lines or Parquet.

The file appears whole or not at all. Lists and structs stand in a CSV as JSON text, complete;
nulls and NaN are empty cells there, and null in JSON.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal

import pyarrow.parquet as pq
import pyarrow.types as at

from usrstore.dataset import values
from usrstore.odb import durable

Format = Literal["csv", "jsonl", "parquet"]
FORMATS: tuple[Format, ...] = ("csv", "jsonl", "parquet")


def export(
    batches: Iterable[Any], schema: Any, form: Format, path: str, *, check: Callable[[], None]
) -> int:
    """Write all rows to a file, which is replaced if there is one.

    Args:
        batches: record batches.
        schema: theirs.
        form: how.
        path: where; the folder must exist.
        check: a last look at what was read, before the file gets its name.

    Returns:
        How many rows there were.

    Raises:
        StorageError: it could not be written; what was there is as it was.
    """
    folder = os.path.dirname(os.path.abspath(path))
    scratch = durable.temporary(folder)
    try:
        with durable.Spool.create(scratch) as spool:
            rows = _WRITERS[form](batches, schema, spool)
            spool.sync()
        check()
        durable.rename(scratch, path)
    except BaseException:
        durable.remove(scratch)
        raise
    durable.sync_folder(folder)
    return rows


def _write_csv(batches: Iterable[Any], schema: Any, spool: durable.Spool) -> int:
    rows = 0
    spool.write(_csv_lines([schema.names]))
    for batch in batches:
        columns = [_cells(column) for column in batch.columns]
        spool.write(_csv_lines(zip(*columns, strict=True) if columns else [()] * len(batch)))
        rows += len(batch)
    return rows


def _csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _cells(column: Any) -> list[Any]:
    plain = values.column_values(column)
    if at.is_nested(column.type):
        return ["" if value is None else values.dumps(value) for value in plain]
    return plain


def _write_jsonl(batches: Iterable[Any], schema: Any, spool: durable.Spool) -> int:
    del schema
    rows = 0
    for batch in batches:
        lines = [values.dumps(row) + "\n" for row in values.rows(batch)]
        spool.write("".join(lines).encode())
        rows += len(batch)
    return rows


def _write_parquet(batches: Iterable[Any], schema: Any, spool: durable.Spool) -> int:
    rows = 0
    with pq.ParquetWriter(_Sink(spool), schema, compression="zstd") as writer:
        for batch in batches:
            if len(batch):
                writer.write_batch(batch)
                rows += len(batch)
    return rows


class _Sink(io.RawIOBase):
    """A spool as Arrow wants a file."""

    def __init__(self, spool: durable.Spool) -> None:
        self._spool = spool

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._spool.size

    def write(self, data: Any) -> int:
        self._spool.write(data)
        return len(data)


_WRITERS: dict[Format, Callable[[Iterable[Any], Any, durable.Spool], int]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
