"""Row differences for people (colours of git) and for scripts (one form, for ever)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from usrcli.render.contrast import contrast, cut, text
from usrcli.render.text import plural

if TYPE_CHECKING:
    from usrstore.dataset.rowsummary import RowChange, Summary
    from usrstore.verbs.rowdiff import TableDiff

_WIDTH = 60
_SHORT = 24


def heading(table: TableDiff, found: Summary) -> list[str]:
    """What changed in a table, in numbers."""
    name = "rows as readers see them" if table.name == "rows" else table.name
    lines = [click.style(f"{name}{_STATUS[table.status]}", bold=True)]
    if table.problem is not None:
        return [*lines, f"  rows      not compared: {table.problem}"]
    rows = [
        click.style(f"{count} {word}", fg=colour)
        for count, word, colour in (
            (found.added, "added", "green"),
            (found.removed, "removed", "red"),
            (found.changed, "changed", "yellow"),
        )
        if count
    ]
    ends = " → ".join(str(n) for n in dict.fromkeys((table.before, table.after)) if n is not None)
    lines.append(f"  rows      {', '.join(rows) or 'none changed'}  (of {ends}; key {table.key})")
    label = "columns"
    for line in _columns(table):
        lines.append(f"  {label:<9} {line}")
        label = ""
    if found.cells:
        counts = sorted(found.cells.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{text(name)} {count}" for name, count in counts[:12])
        more = f" and {len(counts) - 12} more columns" if len(counts) > 12 else ""
        lines.append(f"  values    {listed}{more}")
    return lines


_STATUS = {"M": "", "A": " (new)", "D": " (gone)"}


def _columns(table: TableDiff) -> Iterator[str]:
    if table.schemas is None:
        return
    for fields, mark, colour in (
        (table.schemas.added, "+", "green"),
        (table.schemas.removed, "-", "red"),
    ):
        for field in fields:
            source = table.sources.get(field.name, "base")
            origin = f"  from {source}" if source != "base" else ""
            count = table.values.get(field.name)
            values = f", {plural(count, 'value')}" if count is not None else ""
            line = click.style(f"{mark} {text(field.name)}", fg=colour)
            yield f"{line}  {field.type}{origin}{values}"
    for name, (old, new) in table.schemas.retyped.items():
        yield f"{click.style(f'~ {text(name)}', fg='yellow')}  {old} → {new}"


def rows(table: TableDiff, found: Summary) -> Iterator[str]:
    """The rows that are held, then how many more there are."""
    for held, total, mark, colour in (
        (found.removed_rows, found.removed, "-", "red"),
        (found.added_rows, found.added, "+", "green"),
    ):
        for row in held:
            yield click.style(f"{mark} {_row(table.key, row)}", fg=colour)
        if total > len(held):
            word = "removed" if mark == "-" else "added"
            yield f"… {plural(total - len(held), 'more row')} {word}"
    for change in found.changed_rows:
        yield from _changed(change)
    if found.changed > len(found.changed_rows):
        yield f"… {plural(found.changed - len(found.changed_rows), 'more row')} changed"


def _row(key: str, row: dict[str, Any]) -> str:
    cells = [
        f"{text(name)}={_short(text(value))}"
        for name, value in row.items()
        if name != key and value is not None
    ]
    shown = cells[:6]
    more = f" … {plural(len(cells) - 6, 'more column')}" if len(cells) > 6 else ""
    return f"{cut(text(row.get(key)), _WIDTH)}  {' '.join(shown)}{more}".rstrip()


def _short(shown: str) -> str:
    return shown if len(shown) <= _SHORT else f"{shown[: _SHORT - 1]}…"


def _changed(change: RowChange) -> Iterator[str]:
    yield click.style(f"~ {cut(text(change.key), _WIDTH)}", fg="yellow")
    width = max(len(text(name)) for name in change.cells)
    for name, (old, new) in change.cells.items():
        found = contrast(old, new, _WIDTH)
        before, after = click.style(found.old, fg="red"), click.style(found.new, fg="green")
        if found.plain:
            shown = f"{before} → {after}"
        else:
            shown = f"{found.head}{{{before} → {after}}}{found.tail}"
        yield f"    {text(name):<{width}}  {shown}"


# ── for scripts ─────────────────────────────────────────────────────────────────────────
def porcelain_head(table: TableDiff) -> Iterator[str]:
    """`table` and `column` lines, tabs between, names and values as JSON."""
    yield _line("table", table.status, table.name, table.key, table.before, table.after)
    if table.problem is not None:
        yield _line("problem", table.problem)
    if table.schemas is None:
        return
    for mark, fields in (("+", table.schemas.added), ("-", table.schemas.removed)):
        for field in fields:
            yield _line("column", mark, field.name, str(field.type))
    for name, (old, new) in table.schemas.retyped.items():
        yield _line("column", "~", name, str(old), str(new))


def porcelain_key(mark: str, key: Any) -> str:
    return _line("row", mark, key)


def porcelain_cells(change: RowChange) -> Iterator[str]:
    for name, (old, new) in change.cells.items():
        yield _line("cell", change.key, name, old, new)


def _line(*words: Any) -> str:
    first, *rest = words
    marks = rest[:1] if first in ("table", "column", "row") else []
    fields = rest[len(marks) :]
    return "\t".join([first, *marks, *(_json(word) for word in fields)])


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
