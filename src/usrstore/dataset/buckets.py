"""Overlay rows sorted into runs of base rows, on disk: what a large joined read spills.

Rows are added oldest first, wherever they belong; each run's rows come back in that order.
A bucket is one Arrow stream in a scratch folder of the caller's; nothing else is written.
"""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset.winners import PLACE


class Buckets:
    """Rows by run: run `k` has the places from `k * run` to `(k + 1) * run`.

    Args:
        scratch: an empty folder, made if need be; its files are the caller's to remove.
        schema: of the rows, PLACE among them.
        run: base rows in a run.
        hold_bytes: rows are written once so many bytes of them wait.
    """

    def __init__(self, scratch: str, schema: Any, run: int, hold_bytes: int) -> None:
        self._scratch = scratch
        self._schema = schema
        self._run = run
        self._hold = hold_bytes
        self._waiting: list[Any] = []
        self._bytes = 0
        os.makedirs(scratch, exist_ok=True)

    def add(self, rows: Any) -> None:
        """Take a table of rows, in the schema."""
        self._waiting.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= self._hold:
            self.flush()

    def flush(self) -> None:
        """Write what waits, run by run."""
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting, self._bytes = [], 0
        runs = pc.divide(rows.column(PLACE), self._run)
        order = pc.array_sort_indices(runs)  # stable, so older rows stay before newer ones
        rows = rows.take(order)
        ends = pc.run_end_encode(runs.take(order).combine_chunks())
        start = 0
        for number, end in zip(ends.values.to_pylist(), ends.run_ends.to_pylist(), strict=True):
            self._append(number, rows.slice(start, end - start))
            start = end

    def _append(self, number: int, rows: Any) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema) as stream:
            stream.write_table(rows)
        with open(self._path(number), "ab") as file:
            file.write(sink.getvalue())

    def read(self, number: int) -> Any:
        """The rows of a run, oldest first; places count from the run's first row."""
        path = self._path(number)
        if not os.path.exists(path):
            return self._schema.empty_table()
        tables = []
        with pa.OSFile(path) as file:
            size = file.size()
            while file.tell() < size:  # one stream after another
                tables.append(pa.ipc.open_stream(file).read_all())
        rows = pa.concat_tables(tables)
        at = self._schema.get_field_index(PLACE)
        return rows.set_column(at, PLACE, pc.subtract(rows.column(PLACE), number * self._run))

    def _path(self, number: int) -> str:
        return os.path.join(self._scratch, f"{number}.arrows")
