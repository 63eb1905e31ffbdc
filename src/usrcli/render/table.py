"""Rows for people: aligned columns, values cut to what a line can show. JSON is never cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_FLAT = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "?"})


@dataclass(frozen=True, slots=True)
class Cut:
    """How much of a value is shown.

    Attributes:
        width: characters of a cell.
        items: of a list.
        precision: significant digits of a number with a fraction.
    """

    width: int = 80
    items: int = 6
    precision: int = 4


RAW = Cut(1 << 30, 1 << 30, 17)


def cell(value: Any, cut: Cut) -> str:
    """One value on one line."""
    text = _text(value, cut).translate(_FLAT)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= cut.width else text[: max(cut.width - 1, 0)] + "…"


def _text(value: Any, cut: Cut) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case float():
            return format(value, f".{cut.precision}g") if cut.precision < 17 else repr(value)
        case list():
            shown = ", ".join(_text(item, cut) for item in value[: cut.items])
            more = f", … {len(value)} in all" if len(value) > cut.items else ""
            return f"[{shown}{more}]"
        case dict():
            pairs = (f"{key}: {_text(held, cut)}" for key, held in value.items())
            return f"{{{', '.join(pairs)}}}"
    return str(value)


def lines(names: Sequence[str], rows: Sequence[Sequence[Any]], cut: Cut) -> list[str]:
    """A heading and the rows, each column as wide as it must be; numbers stand to the right."""
    cells = [[cell(value, cut) for value in row] for row in rows]
    widths = [
        max([len(name), *(len(row[at]) for row in cells)], default=0)
        for at, name in enumerate(names)
    ]
    right = [
        any(row[at] is not None for row in rows)
        and all(
            row[at] is None or (isinstance(row[at], int | float) and not isinstance(row[at], bool))
            for row in rows
        )
        for at in range(len(names))
    ]

    def line(row: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return [line(list(names)), *map(line, cells)]


def raw_lines(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """The same between tabs, nothing cut: lists as JSON, nulls empty."""

    def text(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, list | dict | bool):
            return json.dumps(value, ensure_ascii=False)
        return str(value).translate(_FLAT)

    return ["\t".join(names), *("\t".join(map(text, row)) for row in rows)]
