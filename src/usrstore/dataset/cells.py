"""Values as text and JSON bring them, turned into what a registered type holds.

Nothing is rounded, cut or guessed: a value that the type cannot hold is refused with a reason.
What is written in a CSV cell for "nothing" is null, except in a column of text, where only the
empty cell is.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable
from typing import Any

from usrstore.dataset.types import Type

NOTHING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
"""Cells that say that there is no value, in lower case."""

Read = Callable[[Any], Any]
"""From a value of JSON (or a cell) to one that `pyarrow.array` takes; ValueError says why not."""

_WORDS = {"true": True, "false": False, "1": True, "0": False}
_LARGEST_FLOAT = {"float16": 65504.0, "float32": 3.4028234663852886e38}


def reader(kind: Type, *, cells: bool, parse_json: bool) -> Read:
    """How a column of a type is read.

    Args:
        kind: the registered type.
        cells: whether values are cells of a CSV file, all text.
        parse_json: whether text may hold the lists and structs of a nested type as JSON.
    """
    inner = _json_reader(kind)

    def read(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, str):
            return inner(value)
        text = value.strip()
        if kind.kind in _NESTED:
            if cells and text.lower() in NOTHING:
                return None
            if not parse_json:
                raise ValueError(f"text, not {kind}")
            return inner(_parse(text))
        if not cells:
            return inner(value)
        if kind.kind == "string":
            return value or None
        return None if text.lower() in NOTHING else _read_cell(text, kind)

    return read


_NESTED = ("list", "fixed_size_list", "struct")


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        if "'" in text and '"' not in text:  # as Python writes lists of words
            try:
                return json.loads(text.replace("'", '"'))
            except (ValueError, RecursionError):
                pass
        raise ValueError(f"not JSON: {exc}") from None


def _read_cell(text: str, kind: Type) -> Any:
    if kind.kind == "bool":
        if text.lower() not in _WORDS:
            raise ValueError("not true or false")
        return _WORDS[text.lower()]
    if "int" in kind.kind:
        return _integer(_number(text, int), kind)
    if kind.kind.startswith("float"):
        return _float(_number(text, float), kind)
    return _moment(text, kind)


def _number(text: str, kind: Callable[[str], int | float]) -> int | float:
    if "_" not in text:  # Python's own, but nobody's numbers
        for reading in (kind, float):
            try:
                return reading(text)
            except ValueError:
                continue
    raise ValueError("not a number")


def _integer(value: Any, kind: Type) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unfit(value, kind)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("not a whole number")
    whole = int(value)
    bits = int(kind.kind.rpartition("int")[2])
    low, high = (
        (0, 2**bits - 1) if kind.kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    if not low <= whole <= high:
        raise ValueError(f"outside {kind} ({low} to {high})")
    return whole


def _float(value: Any, kind: Type) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unfit(value, kind)
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"too large for {kind}") from None
    largest = _LARGEST_FLOAT.get(kind.kind, math.inf)
    if math.isfinite(number) and abs(number) > largest:
        raise ValueError(f"too large for {kind}")
    return number


def _moment(value: Any, kind: Type) -> dt.datetime:
    moment = _read_moment(value) if isinstance(value, str) else value
    if not isinstance(moment, dt.datetime):
        raise _unfit(value, kind)
    if kind.zone:
        moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    elif moment.tzinfo:
        raise ValueError(f"it has a time zone, {kind} has none")
    finest = {"s": 1_000_000, "ms": 1000}.get(kind.unit, 1)
    if moment.microsecond % finest:
        raise ValueError(f"finer than {kind}")
    return moment


def _read_moment(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("not a moment like 2026-01-31T12:00:00Z") from None


def _json_reader(kind: Type) -> Read:
    """How a value that JSON gave is read."""

    def scalar(value: Any) -> Any:
        if value is None:
            return None
        if kind.kind in ("string", "bool"):
            if not isinstance(value, str if kind.kind == "string" else bool):
                raise _unfit(value, kind)
            return value
        if kind.kind == "timestamp":
            return _moment(value, kind)
        return _integer(value, kind) if "int" in kind.kind else _float(value, kind)

    if kind.kind not in _NESTED:
        return scalar
    inner = [_json_reader(part) for part in kind.inner]

    def sequence(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise _unfit(value, kind)
        if kind.size and len(value) != kind.size:
            raise ValueError(f"{len(value)} items, not {kind.size}")
        read = inner[0]
        return [read(item) for item in value]

    def struct(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _unfit(value, kind)
        if stray := value.keys() - set(kind.names):
            raise ValueError(f"{kind} has no field {min(stray)!r}")
        return {name: read(value.get(name)) for name, read in zip(kind.names, inner, strict=True)}

    return struct if kind.kind == "struct" else sequence


def _unfit(value: Any, kind: Type) -> ValueError:
    return ValueError(f"{_word(value)}, not {kind}")


def _word(value: Any) -> str:
    """What a value is, for a person."""
    words: dict[type, str] = {
        str: "text", bool: "true or false", int: "a number", float: "a number",
        list: "a list", dict: "a struct",
    }  # fmt: skip
    return words.get(type(value), type(value).__name__)


def guess(values: list[Any], *, cells: bool) -> str:
    """The type that a person would most likely register for such values."""
    kinds = {_guess(value, cells=cells) for value in values} - {""}
    if kinds == {"int64", "float64"}:
        return "float64"
    if kinds == {"list<int64>", "list<float64>"}:
        return "list<float64>"
    return kinds.pop() if len(kinds) == 1 else "string"


def _guess(value: Any, *, cells: bool) -> str:
    if value is None or (isinstance(value, str) and value.strip().lower() in NOTHING):
        return ""
    if isinstance(value, str):
        text = value.strip()
        if text[0] in "[{":
            try:
                return _guess(_parse(text), cells=False)
            except ValueError:
                return "string"
        return _guess_cell(text) if cells else "string"
    if isinstance(value, list):
        inner = guess(value, cells=False)
        return f"list<{inner}>"
    if isinstance(value, dict):
        fields = [f"{name}:{_guess(item, cells=False) or 'string'}" for name, item in value.items()]
        return f"struct<{','.join(fields)}>" if fields else ""
    if isinstance(value, dt.datetime):
        return "timestamp[us, UTC]"
    return {bool: "bool", int: "int64", float: "float64"}.get(type(value), "string")


def _guess_cell(text: str) -> str:
    for kind in ("int64", "float64", "timestamp"):
        try:
            _read_cell(text, Type(kind, unit="us", zone="UTC"))
        except ValueError:
            continue
        if kind == "int64" and not text.lstrip("+-").isdigit():
            continue
        return "timestamp[us, UTC]" if kind == "timestamp" else kind
    return "bool" if text.lower() in ("true", "false") else "string"
