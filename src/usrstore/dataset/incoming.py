"""Tables that a person brings: CSV, JSON lines, JSON and Parquet, read a batch at a time.

The suffix says which. Rows are counted from 1, the first row of data. A batch of a text
format is columns of Python values, of Parquet it is Arrow's own; nothing is converted here.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from usrstore.errors import InvalidInputError

BATCH_ROWS = 1 << 14
_SUFFIXES = {
    ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet",
}  # fmt: skip
_CHUNK = 1 << 20
_MAX_CELL = 1 << 30

Stray = Callable[[int, str], None]
"""Takes a row that is no row, and why."""


@dataclass(frozen=True)
class Batch:
    """Some rows.

    Attributes:
        first: the number of the first of them.
        rows: how many.
        columns: each a list of Python values or an Arrow array, `rows` long.
    """

    first: int
    rows: int
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A file of rows.

    Attributes:
        path: where it is.
        kind: `csv`, `jsonl`, `json` or `parquet`.
        header: its columns, where the format has them before the rows; else None.
    """

    path: str
    kind: str
    header: tuple[str, ...] | None

    @property
    def cells(self) -> bool:
        """Whether values are cells, all text."""
        return self.kind == "csv"

    def batches(self, stray: Stray) -> Iterator[Batch]:
        """All rows.

        Args:
            stray: takes rows that cannot be one: broken JSON, too many cells.

        Raises:
            InvalidInputError: the file cannot be read on from here.
        """
        reading = {
            "csv": _csv, "jsonl": _jsonl, "json": _json, "parquet": _parquet,
        }[self.kind]  # fmt: skip
        try:
            yield from reading(self.path, stray)
        except UnicodeDecodeError as exc:
            raise _unreadable(self.path, f"it is not UTF-8: {exc}") from exc
        except csv.Error as exc:
            raise _unreadable(self.path, str(exc)) from exc
        except OSError as exc:
            raise _unreadable(self.path, exc.strerror or str(exc)) from exc


@dataclass(frozen=True)
class ArrowTable:
    """A table that a program brings, as `Table` is for a file."""

    header: tuple[str, ...]
    _reader: Any
    path: str = "the table"
    cells: bool = False

    @classmethod
    def of(cls, table: Any) -> ArrowTable:
        """From a `pyarrow.Table`, or from whatever is a stream of Arrow batches.

        Raises:
            InvalidInputError: it is neither.
        """
        import pyarrow as pa

        try:
            reader = pa.RecordBatchReader.from_stream(table)
        except TypeError as exc:
            raise InvalidInputError(
                f"a {type(table).__name__} is no Arrow table; nothing was written",
                hint="pass a pyarrow.Table, a RecordBatchReader, or what exports such a stream",
            ) from exc
        return cls(tuple(reader.schema.names), reader)

    def batches(self, stray: Stray) -> Iterator[Batch]:  # noqa: ARG002  Arrow's rows are rows
        """All rows, once."""
        first = 1
        for batch in self._reader:
            for start in range(0, batch.num_rows, BATCH_ROWS):
                piece = batch.slice(start, BATCH_ROWS)
                columns = dict(zip(piece.schema.names, piece.columns, strict=True))
                yield Batch(first, piece.num_rows, columns)
                first += piece.num_rows


def as_arrow(table: Any) -> Any:
    """Rows in a list, each a mapping, as an Arrow table; whatever is none such, as it is.

    Raises:
        InvalidInputError: rows that are no mappings, or values that make no columns.
    """
    import pyarrow as pa

    if not isinstance(table, list | tuple):
        return table
    if wrong := next((row for row in table if not isinstance(row, Mapping)), None):
        raise InvalidInputError(
            f"a row is a {type(wrong).__name__}, no mapping; nothing was written"
        )
    names = dict.fromkeys(name for row in table for name in row)
    try:
        return pa.table({name: [row.get(name) for row in table] for name in names})
    except (pa.ArrowException, TypeError) as exc:
        raise InvalidInputError(f"the rows make no table: {exc}; nothing was written") from exc


def open_table(path: str) -> Table:
    """Look at a file and its header.

    Raises:
        InvalidInputError: it cannot be read, or its suffix says nothing.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _SUFFIXES:
        raise InvalidInputError(
            f"{path}: {suffix or 'no suffix'} says nothing about its format; nothing was changed",
            hint=f"name it by its format: {', '.join(_SUFFIXES)}",
            code="input-unreadable",
        )
    kind = _SUFFIXES[suffix]
    try:
        if not os.path.isfile(path):
            raise _unreadable(path, "it is a folder" if os.path.isdir(path) else "no such file")
        return Table(path, kind, _header(path, kind))
    except UnicodeDecodeError as exc:
        raise _unreadable(path, f"it is not UTF-8: {exc}") from exc
    except csv.Error as exc:
        raise _unreadable(path, str(exc)) from exc
    except OSError as exc:
        raise _unreadable(path, exc.strerror or str(exc)) from exc


def _unreadable(path: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"{path} cannot be read: {why}; nothing was changed",
        hint="CSV has one header line, JSON lines an object a line, JSON an array of objects",
        code="input-unreadable",
    )


def _header(path: str, kind: str) -> tuple[str, ...] | None:
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return tuple(pq.read_schema(path).names)
        except pa.ArrowException as exc:
            raise _unreadable(path, str(exc)) from exc
    if kind != "csv":
        return None
    with _text(path) as file:
        header = next(csv.reader(file, strict=True), None)
    if header is None:
        raise _unreadable(path, "it is empty")
    names = tuple(name.strip() for name in header)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _unreadable(path, f"its header names {', '.join(map(repr, twice))} twice")
    return names


def _text(path: str) -> IO[str]:
    csv.field_size_limit(_MAX_CELL)
    return open(path, encoding="utf-8-sig", newline="")


def _csv(path: str, stray: Stray) -> Iterator[Batch]:
    with _text(path) as file:
        lines = csv.reader(file, strict=True)
        names = [name.strip() for name in next(lines)]
        first, number = 1, 0
        waiting: list[list[str] | list[None]] = []
        for line in lines:
            if not line:
                continue
            number += 1
            if len(line) == len(names):
                waiting.append(line)
            else:
                stray(number, f"it has {len(line)} cells, the header has {len(names)}")
                waiting.append([None] * len(names))
            if len(waiting) == BATCH_ROWS:
                yield _columns(first, names, waiting)
                first, waiting = number + 1, []
        if waiting:
            yield _columns(first, names, waiting)


def _columns(first: int, names: list[str], rows: list[list[str] | list[None]]) -> Batch:
    columns = map(list, zip(*rows, strict=True))
    return Batch(first, len(rows), dict(zip(names, columns, strict=True)))


def _jsonl(path: str, stray: Stray) -> Iterator[Batch]:
    with _text(path) as file:

        def rows() -> Iterator[dict[str, Any] | None]:
            for number, line in enumerate((line for line in file if line.strip()), 1):
                yield _object(line, number, stray)

        yield from _gathered(rows())


def _object(line: str, number: int, stray: Stray) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as exc:
        stray(number, f"it is not JSON: {exc}")
        return None
    if not isinstance(value, dict):
        stray(number, "it is not a JSON object")
        return None
    return value


def _json(path: str, stray: Stray) -> Iterator[Batch]:
    with _text(path) as file:

        def rows() -> Iterator[dict[str, Any] | None]:
            for number, value in enumerate(_items(path, file), 1):
                if not isinstance(value, dict):
                    stray(number, "it is not a JSON object")
                yield value if isinstance(value, dict) else None

        yield from _gathered(rows())


def _items(path: str, file: IO[str]) -> Iterator[Any]:
    """The items of a JSON array, read piece by piece."""
    decoder, text, place, more, begun = json.JSONDecoder(), "", 0, True, False
    while True:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        if begun and text[place : place + 1] == "]":
            if (text[place + 1 :] + file.read(_CHUNK)).strip():
                raise _unreadable(path, "something follows the end of its array")
            return
        if not begun and place < len(text):
            if text[place] != "[":
                raise _unreadable(path, "it is not a JSON array of objects")
            begun, place = True, place + 1
            continue
        try:
            if place == len(text):
                raise ValueError("it ends early")
            value, end = decoder.raw_decode(text, place)
            if end == len(text) and more:
                raise ValueError("it ends early")  # a number may go on in the next piece
        except (ValueError, RecursionError) as exc:
            if not more:
                raise _unreadable(path, f"it is not JSON: {exc}") from exc
            piece = file.read(max(_CHUNK, len(text) - place))
            text, place, more = text[place:] + piece, 0, bool(piece)
            continue
        yield value
        place = end


def _gathered(rows: Iterator[dict[str, Any] | None]) -> Iterator[Batch]:
    """Rows as batches of columns; a row that is None counts and brings nothing."""
    first, waiting = 1, list[dict[str, Any]]()
    for row in rows:
        waiting.append(row or {})
        if len(waiting) == BATCH_ROWS:
            yield _turned(first, waiting)
            first, waiting = first + BATCH_ROWS, []
    if waiting:
        yield _turned(first, waiting)


def _turned(first: int, rows: list[dict[str, Any]]) -> Batch:
    names = dict.fromkeys(name for row in rows for name in row)
    return Batch(first, len(rows), {name: [row.get(name) for row in rows] for name in names})


def _parquet(path: str, stray: Stray) -> Iterator[Batch]:  # noqa: ARG001  Arrow's rows are rows
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            first = 1
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                yield Batch(first, batch.num_rows, columns)
                first += batch.num_rows
    except pa.ArrowException as exc:
        raise _unreadable(path, str(exc)) from exc
