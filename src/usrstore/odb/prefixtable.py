"""Which of many small packs an id may lie in: eight bytes for each of their objects.

The beginning of an id and the number of its pack are one number. Sorted runs of these are
searched; a new pack is a run of its own, and runs of about one length become one, so there are
never more than a handful.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_PACK_BITS = 24


class PrefixTable(Generic[T]):
    """Packs by the beginnings of the ids that they hold. It may name a pack that lacks an id."""

    def __init__(self) -> None:
        self._packs: list[T | None] = []
        self._runs: list[array[int]] = []

    def add(self, packs: Iterable[tuple[T, Iterable[int]]]) -> None:
        """Packs, each with the beginnings of its ids: numbers of 32 bits."""
        entries: list[int] = []
        for pack, prefixes in packs:
            number = len(self._packs)
            self._packs.append(pack)
            entries += [begin << _PACK_BITS | number for begin in prefixes]
        if not entries:
            return
        entries.sort()
        self._runs.append(array("Q", entries))
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(array("Q", heapq.merge(before, last)))

    def drop(self, pack: T) -> None:
        """Name a pack no more."""
        self._packs = [None if known == pack else known for known in self._packs]

    def find(self, begin: int) -> Iterator[T]:
        """The packs that may hold an id that begins so."""
        low, high = begin << _PACK_BITS, (begin + 1) << _PACK_BITS
        for run in self._runs:
            at = bisect_left(run, low)
            while at < len(run) and run[at] < high:
                pack = self._packs[run[at] - low]
                if pack is not None:
                    yield pack
                at += 1
