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
    """Lines behind the common beginning: theirs, and those of ours that theirs lacked."""

    theirs: int
    ours: int


def merge(ours: str, theirs: str, out: str) -> MergedLog:
    """Write the merged log to `out`, which must be free.

    Memory is 16 bytes for each line behind the common beginning.

    Raises:
        IntegrityError: a log ends in the middle of a line.
    """
    start = _common(ours, theirs)
    known = Counter(_mark(line) for line in _lines(theirs, start))
    counted, added = known.total(), 0
    with durable.Spool.create(out) as spool, open(theirs, "rb") as file:
        while piece := file.read(_BLOCK_BYTES):
            spool.write(piece)
        for line in _lines(ours, start):
            mark = _mark(line)
            if known[mark]:
                known[mark] -= 1
            else:
                spool.write(line)
                added += 1
    return MergedLog(counted, added)


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
