"""Arrow values as plain Python and as JSON: nothing is rounded, nothing is elided.

NaN and the infinities, which JSON does not know, become null; moments are ISO 8601 with all
the digits that they have; bytes are hexadecimal.
"""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.types as at


def rows(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of a record batch as dicts of JSON values."""
    columns = [column_values(column) for column in batch.columns]
    names = batch.schema.names
    for number in range(len(batch)):
        yield {name: values[number] for name, values in zip(names, columns, strict=True)}


def column_values(column: Any) -> list[Any]:
    """The values of an array, each as JSON has it."""
    kind = column.type
    if at.is_string(kind) or at.is_large_string(kind) or at.is_integer(kind) or at.is_boolean(kind):
        return list(column.to_pylist())
    if at.is_floating(kind):
        return [plain(value) for value in column.to_pylist()]
    if at.is_fixed_size_list(kind):
        return column_values(column.cast(pa.list_(kind.value_type)))
    if at.is_list(kind) or at.is_large_list(kind):
        return _lists(column)
    if at.is_struct(kind):
        return _structs(column)
    if at.is_timestamp(kind):  # rows that were made at once share their moments
        coded = column.dictionary_encode()
        texts = [scalar_value(scalar) for scalar in coded.dictionary]
        return [None if code is None else texts[code] for code in coded.indices.to_pylist()]
    return [scalar_value(scalar) for scalar in column]


def _lists(column: Any) -> list[Any]:
    ends = column.offsets.to_pylist()
    first = ends[0] if ends else 0
    inner = column_values(column.values.slice(first, ends[-1] - first if ends else 0))
    found: list[Any] = [inner[a - first : b - first] for a, b in itertools.pairwise(ends)]
    return _without(found, column)


def _structs(column: Any) -> list[Any]:
    names = [column.type.field(number).name for number in range(column.type.num_fields)]
    inner = [column_values(part) for part in column.flatten()]
    found = [
        {name: values[row] for name, values in zip(names, inner, strict=True)}
        for row in range(len(column))
    ]
    return _without(found, column)


def _without(found: list[Any], column: Any) -> list[Any]:
    """The same, with None where the column is null."""
    if not column.null_count:
        return found
    present = column.is_valid().to_pylist()
    return [value if there else None for value, there in zip(found, present, strict=True)]


def plain(value: Any) -> Any:
    """A Python value as JSON has it."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case decimal.Decimal():
            return str(value)
        case dict():
            return {str(key): plain(held) for key, held in value.items()}
        case list() | tuple():
            return [plain(held) for held in value]
    return str(value)


def dumps(value: Any) -> str:
    """A JSON value on one line; letters stay as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def scalar_value(scalar: Any) -> Any:
    """An Arrow scalar as JSON has it."""
    if not scalar.is_valid:
        return None
    kind = scalar.type
    if at.is_timestamp(kind) and kind.unit == "ns":
        return _nanoseconds(scalar.value, kind)
    if (at.is_duration(kind) or at.is_time64(kind)) and kind.unit == "ns":
        return str(scalar.cast(pa.string()).as_py())
    return plain(scalar.as_py())


def _nanoseconds(value: int, kind: Any) -> str:
    """`2026-01-31T12:00:00.123456789+00:00`."""
    whole, rest = divmod(value, 1000)
    moment = pa.scalar(whole, pa.int64()).cast(pa.timestamp("us", tz=kind.tz)).as_py()
    text: str = moment.isoformat(timespec="microseconds")
    return f"{text[:26]}{rest:03}{text[26:]}"
