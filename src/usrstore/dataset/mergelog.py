"""Two event logs as one: the other side's stays as it is, and our own lines follow.

A log only grows, so the log of whoever we merge with must stay a byte prefix of the result:
then the merge is an ordinary growth for them. Lines that both logs hold behind what they have
in common are taken once, so merging twice, or from both sides, adds nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from usrstore.errors import IntegrityError
from usrstore.odb import durable

_BLOCK_BYTES = 1 << 20
_MARK_BYTES = 16


class MergedLog(NamedTuple):
    """Lines behind the common beginning: theirs, and those of ours that were put behind it."""

    theirs: int
    ours: int


def merge(first: str, second: str, out: str, *, start: int | None = None) -> tuple[int, int]:
    """Write `first` to `out`, which must be free, and behind it what only `second` has.

    Args:
        first: the log that stays as it is.
        second: the log whose lines follow.
        out: the result.
        start: where the lines of `second` begin that are new; by default behind what both
            begin with. A log whose front was put into an archive begins with nothing of that.

    Returns:
        Lines of `first` behind that place, and lines of `second` that followed.

    Raises:
        IntegrityError: a log ends in the middle of a line.
    """
    common = _common(first, second)
    known = Counter(_mark(line) for line in _lines(first, common))
    counted, added = known.total(), 0
    with durable.Spool.create(out) as spool, open(first, "rb") as file:
        while piece := file.read(_BLOCK_BYTES):
            spool.write(piece)
        for line in _lines(second, common if start is None else max(start, common)):
            mark = _mark(line)
            if known[mark]:
                known[mark] -= 1
            else:
                spool.write(line)
                added += 1
    return counted, added


def _common(ours: str, theirs: str) -> int:
    """How many bytes of whole lines both logs begin with."""
    at = whole = 0
    with open(ours, "rb") as a, open(theirs, "rb") as b:
        while True:
            here, there = a.read(_BLOCK_BYTES), b.read(_BLOCK_BYTES)
            size = min(len(here), len(there))
            if size == 0:
                return whole
            if here[:size] != there[:size]:
                size = next(n for n in range(size) if here[n] != there[n])
                return max(
                    whole, at + here.rfind(b"\n", 0, size) + 1 if b"\n" in here[:size] else 0
                )
            end = here.rfind(b"\n", 0, size)
            if end >= 0:
                whole = at + end + 1
            at += size
            if len(here) != len(there):
                return whole


def _lines(path: str, start: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                raise IntegrityError(
                    "the last line of an event log is torn: an append to it was cut off; "
                    "nothing was changed",
                    hint="usr maintenance events-repair, on the side that has it",
                    code="events-torn",
                )
            yield line


def _mark(line: bytes) -> bytes:
    return blake2b(line, digest_size=_MARK_BYTES).digest()
