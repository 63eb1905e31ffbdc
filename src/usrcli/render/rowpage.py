"""Row differences as one page that needs nothing else: no script, no font, no address.

All that comes from a dataset is hostile until it is escaped, and everything passes `_e`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from usrcli.render.contrast import contrast, cut, text
from usrcli.render.rowstyle import STYLE
from usrcli.render.text import moment

if TYPE_CHECKING:
    from usrstore.dataset.rowsummary import RowChange, Summary
    from usrstore.verbs.rowdiff import TableDiff

_CELL = 64
_COLUMNS = 10


def page(
    ends: dict[str, Any],
    mode: str,
    tables: Iterable[tuple[TableDiff, Summary]],
    now_us: int,
) -> str:
    """The whole page.

    Args:
        ends: `dataset`, `from`, `to` and `remote`, as the JSON output has them.
        mode: `resolved` or `raw`.
        tables: what differs.
        now_us: UTC microseconds since 1970.
    """
    found = list(tables)
    title = f"{ends['dataset']}: rows that differ"
    body = "\n".join(_body(ends, mode, found, now_us))
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{_e(title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _e(value: Any) -> str:
    """Escaped; what would be invisible, or would turn the text around, is shown as such."""
    return html.escape(text(value))


def _number(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f")


def _body(
    ends: dict[str, Any], mode: str, tables: list[tuple[TableDiff, Summary]], now_us: int
) -> Iterator[str]:
    sums = [sum(getattr(s, word) for _, s in tables) for word in ("added", "removed", "changed")]
    yield f'<header><p class="eyebrow">Row diff</p><h1>{_e(ends["dataset"])}</h1>'
    yield f'<p class="ends">{_ends(ends)}</p>'
    if mode == "resolved":
        yield '<p class="muted">Rows as readers see them: the newest overlay values joined.</p>'
    else:
        yield '<p class="muted">File by file.</p>'
    yield '</header><section class="tiles">'
    for count, word in zip(sums, ("added", "removed", "changed"), strict=True):
        yield (
            f'<div class="tile {word}"><b>{_number(count)}</b>'
            f"<span>{'row' if count == 1 else 'rows'} {word}</span></div>"
        )
    values = sum(sum(s.cells.values()) for _, s in tables)
    yield f'<div class="tile"><b>{_number(values)}</b><span>values changed</span></div></section>'
    if not tables:
        yield '<p class="empty">No row or column differs.</p>'
    for table, found in tables:
        yield from _table(table, found)
    yield f"<footer>usr diff --rows · {_e(moment(now_us))}</footer>"


def _ends(ends: dict[str, Any]) -> str:
    if ends["remote"]:
        return f"from <code>{_e(ends['remote'])}</code> to the folder here"
    names = [
        f'<code title="{_e(ends[end])}">{_e(ends[end][:12])}</code>' if ends[end] else other
        for end, other in (("from", "nothing"), ("to", "the folder"))
    ]
    return f"from {names[0]} to {names[1]}"


_STATUS = {"M": "", "A": '<em class="added">new</em>', "D": '<em class="removed">gone</em>'}


def _table(table: TableDiff, found: Summary) -> Iterator[str]:
    name = "Rows" if table.name == "rows" else f"<code>{_e(table.name)}</code>"
    yield f'<section class="table"><h2>{name} {_STATUS[table.status]}</h2>'
    if table.problem is not None:
        yield f'<p class="muted">Not compared: {_e(table.problem)}</p></section>'
        return
    ends = [_number(n) for n in (table.before, table.after) if n is not None]
    ends = ends[:1] if len(set(ends)) == 1 else ends
    yield (
        f'<p class="muted">{" → ".join(ends)} rows, told apart by <code>{_e(table.key)}</code></p>'
    )
    yield from _columns(table)
    yield from _cells(found)
    if found.changed_rows:
        yield from _changed(table, found)
    for rows, total, word in (
        (found.added_rows, found.added, "added"),
        (found.removed_rows, found.removed, "removed"),
    ):
        if rows:
            yield from _rows(table, rows, total, word)
    yield "</section>"


def _columns(table: TableDiff) -> Iterator[str]:
    if table.schemas is None or not table.schemas.changed:
        return
    yield '<h3>Columns</h3><ul class="columns">'
    for fields, word, mark in (
        (table.schemas.added, "added", "+"),
        (table.schemas.removed, "removed", "−"),
    ):
        for field in fields:
            source = table.sources.get(field.name, "base")
            count = table.values.get(field.name)
            facts = [f"<i>{_e(str(field.type))}</i>"]
            facts += [f"from {_e(source)}"] if source != "base" else []
            facts += [f"{_number(count)} values"] if count is not None else []
            yield (
                f'<li class="{word}"><b>{mark}</b> <code>{_e(field.name)}</code> '
                f"<span>{' · '.join(facts)}</span></li>"
            )
    for name, (old, new) in table.schemas.retyped.items():
        yield (
            f'<li class="changed"><b>~</b> <code>{_e(name)}</code> <span><del>{_e(str(old))}</del>'
            f" → <ins>{_e(str(new))}</ins></span></li>"
        )
    yield "</ul>"


def _cells(found: Summary) -> Iterator[str]:
    """Which columns changed how often, as bars."""
    if not found.cells:
        return
    counts = sorted(found.cells.items(), key=lambda item: (-item[1], item[0]))
    most = counts[0][1]
    yield '<h3>Values changed</h3><div class="bars">'
    for name, count in counts[:24]:
        share = max(1, round(100 * count / most))
        yield (
            f"<code>{_e(name)}</code>"
            f'<span class="bar"><i style="width:{share}%"></i></span><b>{_number(count)}</b>'
        )
    yield "</div>"
    if len(counts) > 24:
        yield f'<p class="muted">and {len(counts) - 24} more columns</p>'


def _heading(word: str, shown: int, total: int) -> str:
    more = "" if shown == total else f", the first {_number(shown)} of them"
    return (
        f"<h3>{'Row' if total == 1 else 'Rows'} {word} "
        f'<span class="muted">{_number(total)}{more}</span></h3>'
    )


def _changed(table: TableDiff, found: Summary) -> Iterator[str]:
    yield _heading("changed", len(found.changed_rows), found.changed)
    yield '<div class="scroll"><table class="changes"><thead><tr>'
    yield f"<th>{_e(table.key)}</th><th>column</th><th>before</th><th>after</th></tr></thead>"
    for change in found.changed_rows:
        yield "<tbody>"
        yield from _change(change)
        yield "</tbody>"
    yield "</table></div>"


def _change(change: RowChange) -> Iterator[str]:
    first = f'<th scope="rowgroup" rowspan="{len(change.cells)}">{_value(change.key, 48)}</th>'
    for name, (old, new) in change.cells.items():
        found = contrast(old, new, _CELL)
        before = _side(old, found.head, found.old, found.tail, "del")
        after = _side(new, found.head, found.new, found.tail, "ins")
        yield f"<tr>{first}<td><code>{_e(name)}</code></td><td>{before}</td><td>{after}</td></tr>"
        first = ""


def _side(value: Any, head: str, middle: str, tail: str, tag: str) -> str:
    if value is None:
        return f'<{tag} class="null">null</{tag}>'
    marked = f"<{tag}>{_e(middle)}</{tag}>" if middle else f'<{tag} class="nil"></{tag}>'
    return f"{_e(head)}{marked}{_e(tail)}"


def _rows(table: TableDiff, rows: list[dict[str, Any]], total: int, word: str) -> Iterator[str]:
    names = [table.key, *(name for name in rows[0] if name != table.key)]
    told = [n for n in names if n == table.key or any(row[n] is not None for row in rows)]
    shown, left = told[:_COLUMNS], len(told) - _COLUMNS
    yield _heading(word, len(rows), total)
    yield f'<div class="scroll"><table class="rows {word}"><thead><tr>'
    yield "".join(f"<th>{_e(name)}</th>" for name in shown)
    yield f"<th>{left} more columns</th>" if left > 0 else ""
    yield "</tr></thead><tbody>"
    for row in rows:
        cells = "".join(f"<td>{_value(row[name], 40)}</td>" for name in shown)
        yield f"<tr>{cells}{'<td>…</td>' if left > 0 else ''}</tr>"
    yield "</tbody></table></div>"


def _value(value: Any, width: int) -> str:
    if value is None:
        return '<span class="null">null</span>'
    return _e(cut(text(value), width))
