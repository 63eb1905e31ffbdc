"""Where the chunks of some files belong, and which of them have landed: a few bytes for each.

Chunks are numbered through all files in their order. A table of the beginnings of their ids,
sorted, leads from an id to the numbers that have it; the first of these stands for the chunk.
"""

from __future__ import annotations

import heapq
import itertools
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from usrstore.objects.chunklist import ChunkList
from usrstore.objects.ids import ID_BYTES, ChunkId
from usrstore.worktree.stagelog import Spot

_NUMBER_BITS = 26  # as many chunks as the new files of a state may have
_LANDED, _REPEAT = 1, 2
_SORT_AT_ONCE = 1 << 14  # entries; sorted as objects they take five times the room


class Spots:
    """The spots of all chunks of some files.

    Args:
        files: their chunks, by the number of the file; 2^26 together at most.
    """

    def __init__(self, files: Sequence[ChunkList]) -> None:
        self._files = files
        self._starts = list(itertools.accumulate(map(len, files), initial=0))
        entries = self._entries()
        runs = [array("Q", sorted(run)) for run in iter(lambda: _some(entries), [])]
        self._table = array("Q", heapq.merge(*runs))
        self._marks = bytearray(self._starts[-1])
        self._mark_repeats()

    def _entries(self) -> Iterator[int]:
        number = 0
        for chunks in self._files:
            ids = chunks.ids()
            for start in range(0, len(ids), ID_BYTES):
                yield _begin(ids[start : start + 8]) | number
                number += 1

    def _mark_repeats(self) -> None:
        before = -1
        for entry in self._table:
            if entry >> _NUMBER_BITS == before >> _NUMBER_BITS:
                number = entry & ~(~0 << _NUMBER_BITS)
                if self.numbers(self._oid(number))[0] != number:
                    self._marks[number] |= _REPEAT
            before = entry

    def _oid(self, number: int) -> ChunkId:
        file = bisect_right(self._starts, number) - 1
        return self._files[file].oid(number - self._starts[file])

    def numbers(self, oid: bytes) -> list[int]:
        """The numbers of the chunks with this id, rising; none if it is none of theirs."""
        found = []
        begin = _begin(oid)
        at = bisect_left(self._table, begin)
        beyond = begin + (1 << _NUMBER_BITS)
        while at < len(self._table) and (entry := self._table[at]) < beyond:
            number = entry - begin
            file = bisect_right(self._starts, number) - 1
            if self._files[file].holds(number - self._starts[file], oid):
                found.append(number)
            at += 1
        return found

    def spot(self, number: int) -> Spot:
        """Where a chunk belongs."""
        file = bisect_right(self._starts, number) - 1
        chunks, at = self._files[file], number - self._starts[file]
        offset = chunks.offset(at)
        return Spot(file, offset, chunks.offset(at + 1) - offset)

    def of(self, oid: ChunkId) -> list[Spot]:
        """Where all chunks with an id belong, in the order of the files."""
        return [self.spot(number) for number in self.numbers(oid)]

    def land(self, number: int) -> None:
        """Note that a chunk has landed, wherever it belongs; `number` is its first."""
        self._marks[number] |= _LANDED

    def has_landed(self, number: int) -> bool:
        """The same, asked."""
        return bool(self._marks[number] & _LANDED)

    def lacking(self) -> Iterator[tuple[ChunkId, int]]:
        """Chunks that have not landed, with their sizes, in the order of the files, each once."""
        marks = iter(self._marks)
        for chunks in self._files:
            for number, mark in zip(range(len(chunks)), marks, strict=False):
                if not mark:
                    size = chunks.offset(number + 1) - chunks.offset(number)
                    yield chunks.oid(number), size

    def landed(self) -> Iterator[tuple[ChunkId, Spot]]:
        """Chunks that have landed, each with its first spot."""
        for number, mark in enumerate(self._marks):
            if mark & _LANDED:
                yield self._oid(number), self.spot(number)

    def lose(self, file: int) -> None:
        """Forget that chunks of a file have landed, wherever else they did."""
        for number in range(self._starts[file], self._starts[file + 1]):
            self._marks[self.numbers(self._oid(number))[0]] &= ~_LANDED


def _some(entries: Iterator[int]) -> list[int]:
    return list(itertools.islice(entries, _SORT_AT_ONCE))


def _begin(oid: bytes | bytearray) -> int:
    """The first 38 bits of an id, where a table entry has them."""
    return int.from_bytes(oid[:8], "big") >> _NUMBER_BITS << _NUMBER_BITS
