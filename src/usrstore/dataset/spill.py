"""Rows sorted into parts by their keys, on disk: equal keys are in one part, whatever the file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

_HOLD_BYTES = 64 << 20


class Spill:
    """Tables of one schema in `parts` parts.

    Args:
        folder: made if need be; removed with all that is in it when the block is left.
        parts: how many.
    """

    def __init__(self, folder: str, parts: int) -> None:
        self._folder = folder
        self._parts = parts
        self._waiting: list[tuple[Any, Any]] = []
        self._bytes = 0
        self.written: set[int] = set()
        """The parts that have rows on the disk."""

    def add(self, rows: Any, key: str) -> None:
        """Take some rows; `key` names the column that decides where they go."""
        if not len(rows):
            return
        self._waiting.append((rows, self._places(rows.column(key))))
        self._bytes += rows.nbytes
        if self._bytes >= _HOLD_BYTES:
            self.flush()

    def _places(self, keys: Any) -> Any:
        """The part of each key: the same for equal keys, and spread evenly."""
        whole = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
        if pa.types.is_string(whole.type) or pa.types.is_large_string(whole.type):
            values = whole.cast(pa.large_binary()).to_pylist()
        else:
            values = [repr(value).encode() for value in whole.to_pylist()]
        crc, parts = zlib.crc32, self._parts
        return pa.array([crc(value or b"") % parts for value in values], pa.int32())

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            rows = pa.concat_tables([table for table, _ in self._waiting])
            places = pa.chunked_array([found for _, found in self._waiting])
            order = pc.sort_indices(places)  # stable: rows of a part stay in their order
            sorted_rows = rows.take(order)
            counts = _counts(places)
            start = 0
            for number in sorted(counts):
                self._append(number, sorted_rows.slice(start, counts[number]))
                start += counts[number]
        self._waiting, self._bytes = [], 0

    def _append(self, number: int, rows: Any) -> None:
        os.makedirs(self._folder, exist_ok=True)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        with open(self._path(number), "ab") as file:
            file.write(sink.getvalue())
        self.written.add(number)

    def read(self, number: int, nothing: Callable[[], Any]) -> Any:
        """The rows of a part, in the order they came; `nothing` makes an empty table."""
        if number not in self.written:
            return nothing()
        tables = []
        with pa.OSFile(self._path(number)) as file:
            size = file.size()
            while file.tell() < size:
                tables.append(pa.ipc.open_stream(file).read_all())
        return pa.concat_tables(tables).combine_chunks()

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, f"{number}.arrows")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for number in self.written:
            os.unlink(self._path(number))
        if self.written:
            os.rmdir(self._folder)


def _counts(places: Any) -> dict[int, int]:
    """How many rows go to each part."""
    counted = pc.value_counts(places)
    return dict(
        zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    )
