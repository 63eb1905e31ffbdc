"""Rows on their way into the base table: read from CSV, JSON lines or Parquet, and judged.

Nothing is taken on trust: ids and lengths are computed, and those that a file brings must
agree. Every problem of the whole file is found in one pass, a bounded number of rows at a time.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from usrstore.dataset import parquetfile, schema
from usrstore.dataset.schema import RowProblems
from usrstore.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("csv", "jsonl", "parquet")
BATCH_ROWS = 65_536
_MAX_VALUE_LETTERS = 1 << 30

Columns = dict[str, list[Any]]
"""Some rows of an input: column → values, all of one length."""


def form_of(path: str) -> str:
    """What a file is, as its suffix says.

    Raises:
        InvalidInputError: it says nothing.
    """
    suffix = os.path.splitext(path)[1].lower()
    form = {".ndjson": "jsonl", ".pq": "parquet"}.get(suffix, suffix.removeprefix("."))
    if form not in FORMATS:
        raise InvalidInputError(
            f"{path}: {suffix or 'no suffix'} says nothing about its format; nothing was changed",
            hint=f"say what it is: --from {'|'.join(FORMATS)}",
        )
    return form


def read(path: str, form: str, problems: RowProblems) -> Iterator[tuple[int, Columns]]:
    """The rows of a file, a bounded number at a time, each batch with the number of its first.

    Args:
        path: the file.
        form: one of FORMATS.
        problems: takes rows that cannot be read at all.

    Raises:
        InvalidInputError: the file cannot be read as `form`.
    """
    reader = {"csv": _csv, "jsonl": _json_lines, "parquet": _parquet}[form]
    return reader(path, problems)


def _csv(path: str, problems: RowProblems) -> Iterator[tuple[int, Columns]]:
    """All values as text; what is empty is missing."""
    import csv

    csv.field_size_limit(_MAX_VALUE_LETTERS)
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        try:
            names = next(rows, None)
            if not names:
                raise InvalidInputError(f"{path} is empty; a CSV file begins with column names")
            _check_names(path, names)
            first, number = 1, 0
            held: list[list[str]] = []
            for number, row in enumerate(rows, 1):
                if len(row) != len(names):
                    if row:
                        reason = f"{len(row)} values for {len(names)} columns"
                        problems.add(number, "row", row, reason)
                    row = [""] * len(names)  # noqa: PLW2901  keeps the numbers of the rows
                held.append(row)
                if len(held) >= BATCH_ROWS:
                    yield first, _named(names, held)
                    first, held = number + 1, []
            if held:
                yield first, _named(names, held)
        except (csv.Error, UnicodeDecodeError) as exc:
            raise InvalidInputError(
                f"{path} cannot be read as CSV: {exc}; nothing was changed"
            ) from exc


def _named(names: list[str], rows: list[list[str]]) -> Columns:
    columns = zip(*rows, strict=True)
    return {
        name: [value or None for value in values]
        for name, values in zip(names, columns, strict=True)
    }


def _json_lines(path: str, problems: RowProblems) -> Iterator[tuple[int, Columns]]:
    first, number = 1, 0
    rows: list[dict[str, Any]] = []
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                rows.append(_json_row(number, line, problems))
                if len(rows) >= BATCH_ROWS:
                    yield first, _transposed(rows)
                    first, rows = number + 1, []
    except UnicodeDecodeError as exc:
        raise InvalidInputError(f"{path} is not UTF-8: {exc}; nothing was changed") from exc
    if rows:
        yield first, _transposed(rows)


def _json_row(number: int, line: str, problems: RowProblems) -> dict[str, Any]:
    if not line.strip():
        return {}
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as exc:
        problems.add(number, "row", line.rstrip("\n"), f"not JSON: {exc}")
        return {}
    if not isinstance(row, dict):
        problems.add(number, "row", row, "not an object")
        return {}
    return row


def _transposed(rows: list[dict[str, Any]]) -> Columns:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(path: str, problems: RowProblems) -> Iterator[tuple[int, Columns]]:
    del problems  # a table has no row that cannot be read
    first = 1
    for table in parquetfile.batches(path, rows=BATCH_ROWS):
        _check_names(path, table.column_names)
        yield first, {name: table.column(name).to_pylist() for name in table.column_names}
        first += table.num_rows


def _check_names(path: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(
            f"{path} has columns that come twice: {', '.join(twice)}; nothing was changed"
        )


def given(rows: Any) -> Iterator[tuple[int, Columns]]:
    """Rows that a program brings, as `read` gives those of a file.

    Args:
        rows: an Arrow table, or what exports such a stream (a data frame); or rows in a list,
            each a mapping, or only a sequence.

    Raises:
        InvalidInputError: they are neither.
    """
    if hasattr(rows, "__arrow_c_stream__"):
        import pyarrow as pa

        first = 1
        for batch in pa.RecordBatchReader.from_stream(rows):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                piece = batch.slice(start, BATCH_ROWS)
                _check_names("the table", piece.schema.names)
                columns = zip(piece.schema.names, piece.columns, strict=True)
                yield first, {name: values.to_pylist() for name, values in columns}
                first += piece.num_rows
        return
    for start in range(0, len(rows), BATCH_ROWS):
        held = [
            {"sequence": row} if isinstance(row, str) else row
            for row in rows[start : start + BATCH_ROWS]
        ]
        if wrong := next((row for row in held if not isinstance(row, Mapping)), None):
            raise InvalidInputError(
                f"a row is a {type(wrong).__name__}, neither a mapping nor a sequence; "
                "nothing was changed"
            )
        yield start + 1, _transposed(held)


_NOTHING = (None,) * len(schema.REQUIRED)


class Judge:
    """Turns rows of an input into rows of a base table, and says what is wrong with the rest.

    Args:
        base: the Arrow schema of the base table, columns of namespaces included.
        defaults: bio_type, alphabet and source of rows that do not say.
        now: created_at of rows that do not say.
        known: digests of the ids that are there already; grows by those that are taken.
        skip: whether a record that is there already is passed over, instead of wrong.
    """

    def __init__(
        self,
        base: pa.Schema,
        defaults: Mapping[str, str],
        now: dt.datetime,
        known: set[bytes],
        *,
        skip: bool,
    ) -> None:
        self.problems = RowProblems()
        self.read = 0
        self.skipped = 0
        self.repeated = 0
        self.ignored: dict[str, None] = {}
        self._base = base
        self._defaults = defaults
        self._now = now
        self._known = known
        self._mine: set[bytes] = set()
        self._skip = skip

    def judge(self, first: int, columns: Columns) -> pa.Table:
        """The rows that can be taken; row numbers begin with `first`."""
        import pyarrow as pa

        count = max(map(len, columns.values()), default=0)
        none = [None] * count
        if "sequence" not in columns and count and not self.problems.count:
            self.problems.add(first, "sequence", None, "the input has no column `sequence`")
        given = {name: columns.get(name, none) for name in self._base.names}
        self.ignored.update(dict.fromkeys(name for name in columns if name not in given))
        places, records = [], []
        rows = zip(*(given[name] for name in schema.REQUIRED), strict=True)
        for place, values in enumerate(rows):
            if values == _NOTHING:
                continue  # an empty line, or one that was reported already
            self.read += 1
            record = self._record(first + place, *values)
            if record is not None:
                places.append(place)
                records.append(record)
        kept: Columns = {name: [] for name in schema.REQUIRED}
        if records:
            kept = dict(zip(schema.REQUIRED, map(list, zip(*records, strict=True)), strict=True))
        numbers = [first + place for place in places]
        for name in self._base.names:
            if name not in kept:
                chosen = [given[name][place] for place in places]
                kept[name] = convert(chosen, self._base.field(name), numbers, self.problems)
        return pa.table(kept, schema=self._base.remove_metadata())

    def _record(
        self,
        row: int,
        oid: Any,
        bio_type: Any,
        sequence: Any,
        alphabet: Any,
        length: Any,
        source: Any,
        created_at: Any,
    ) -> tuple[Any, ...] | None:
        """A row of the base table; None if it is wrong, or there already."""
        found = self.problems.count
        if isinstance(sequence, str):
            sequence = schema.normalize(sequence)
        bio_type = bio_type or self._defaults["bio_type"]
        alphabet = alphabet or self._defaults["alphabet"]
        problem = schema.sequence_problem(sequence, bio_type, alphabet)
        if problem:
            self.problems.add(row, *problem)
            return None
        name = schema.record_id(bio_type, sequence)
        if oid is not None and oid != name:
            self.problems.add(row, "id", oid, f"the id of this sequence is {name}")
        if length is not None and str(length) != str(len(sequence)):
            reason = f"the sequence has {len(sequence)} letters"
            self.problems.add(row, "length", length, reason)
        moment = self._now if created_at is None else self._moment(row, created_at)
        if source is None:
            source = self._defaults["source"]
        elif not isinstance(source, str):
            self.problems.add(row, "source", source, "not text")
        if self.problems.count > found or self._is_known(row, name, sequence):
            return None
        return name, bio_type, sequence, alphabet, len(sequence), source, moment

    def _is_known(self, row: int, oid: str, sequence: str) -> bool:
        digest = bytes.fromhex(oid)
        here, mine = digest in self._known, digest in self._mine
        if not (here or mine):
            self._mine.add(digest)
            return False
        if self._skip:
            self.skipped += 1
        else:
            self.repeated += 1
            reason = "is in the dataset already" if here else "comes earlier in this input"
            self.problems.add(row, "sequence", sequence, f"this record {reason} ({oid[:12]}…)")
        return True

    def _moment(self, row: int, value: Any) -> dt.datetime:
        try:
            moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            return aware.astimezone(dt.UTC)
        except (TypeError, ValueError, OverflowError):
            self.problems.add(row, "created_at", value, "not a moment like 2026-11-24T12:00:00Z")
            return self._now


def convert(
    values: list[Any], field: pa.Field, numbers: list[int], problems: RowProblems
) -> list[Any]:
    """Values as a column of some type holds them; what does not fit is a problem, and null."""
    import pyarrow as pa

    def one(value: Any) -> Any:
        if isinstance(value, str) and not pa.types.is_string(field.type):
            if pa.types.is_nested(field.type):
                return pa.array([json.loads(value)], field.type)[0].as_py()
            return pa.array([value]).cast(field.type)[0].as_py()
        return pa.array([value], field.type)[0].as_py()

    try:
        if not any(isinstance(value, str) for value in values) or pa.types.is_string(field.type):
            return pa.array(values, field.type).to_pylist()  # type: ignore[no-any-return]
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        pass  # look for the value that does not fit
    made = []
    for number, value in zip(numbers, values, strict=True):
        try:
            made.append(None if value is None else one(value))
        except (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError):
            problems.add(number, field.name, value, f"not {field.type}")
            made.append(None)
    return made
