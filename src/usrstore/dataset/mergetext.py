"""Two versions of a text, line by line, over what both began with.

What one side changed is taken. Where both only added at the same place, both additions stay,
theirs first; where both changed the same lines, nobody but a person can choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

MAX_LINES = 20_000
"""Longer texts are not merged: comparing them costs the square of their length."""


class TextConflict(NamedTuple):
    """Lines that both sides changed; `line` counts from 1 in ours."""

    line: int
    base: str
    ours: str
    theirs: str


class MergedText(NamedTuple):
    lines: list[str]
    conflicts: list[TextConflict]


class _Hunk(NamedTuple):
    """base[start:end] became side[low:high]."""

    start: int
    end: int
    low: int
    high: int


def merge(base: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> MergedText:
    """Merge lines, newlines included."""
    mine, yours = _hunks(base, ours), _hunks(base, theirs)
    lines: list[str] = []
    conflicts: list[TextConflict] = []
    at = 0
    while mine or yours:
        start = min(side[0].start for side in (mine, yours) if side)
        lines += base[at:start]
        here, there, end = _overlapping(mine, yours, start)
        before = base[start:end]
        a = _text(base, ours, here, start, end)
        b = _text(base, theirs, there, start, end)
        at = end
        if not there or a == b:
            lines += a
        elif not here:
            lines += b
        elif not before:  # both only added
            lines += (a if len(a) > len(b) else b) if _continues(a, b) else [*b, *a]
        else:
            line = (here[0].low if here else start) + 1
            conflicts.append(TextConflict(line, "".join(before), "".join(a), "".join(b)))
            lines += a
    lines += base[at:]
    return MergedText(lines, conflicts)


def shared(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """A base for two texts whose own is lost: the lines that both have, in their order."""
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    return [line for i, _, size in matcher.get_matching_blocks() for line in ours[i : i + size]]


def _continues(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether one addition is how the other begins: it was made once."""
    size = min(len(a), len(b))
    return list(a[:size]) == list(b[:size])


def _hunks(base: Sequence[str], side: Sequence[str]) -> list[_Hunk]:
    matcher = SequenceMatcher(None, base, side, autojunk=False)
    return [_Hunk(i, j, k, n) for tag, i, j, k, n in matcher.get_opcodes() if tag != "equal"]


def _overlapping(
    mine: list[_Hunk], yours: list[_Hunk], start: int
) -> tuple[list[_Hunk], list[_Hunk], int]:
    """Take the hunks of both sides that touch one another from `start` on, and where they end."""
    taken: tuple[list[_Hunk], list[_Hunk]] = ([], [])
    end, grew = start, True
    while grew:
        grew = False
        for side, found in ((mine, taken[0]), (yours, taken[1])):
            while side and (side[0].start < end or side[0].start == start):
                hunk = side.pop(0)
                found.append(hunk)
                end, grew = max(end, hunk.end), True
    return taken[0], taken[1], end


def _text(
    base: Sequence[str], side: Sequence[str], hunks: list[_Hunk], start: int, end: int
) -> list[str]:
    """What one side has in the place of base[start:end]."""
    lines: list[str] = []
    at = start
    for hunk in hunks:
        lines += base[at : hunk.start]
        lines += side[hunk.low : hunk.high]
        at = hunk.end
    lines += base[at:end]
    return lines
