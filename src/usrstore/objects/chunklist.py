"""The chunks of a file in their order, 40 bytes each: what is held while a large file moves."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from usrstore.objects.ids import ID_BYTES, ChunkId, ObjectId


class ChunkList:
    """Ids and lengths, packed: as objects of their own they would take four times the room.

    Args:
        chunks: what it holds at first.
    """

    __slots__ = ("_ends", "_ids")

    def __init__(self, chunks: Iterable[tuple[ChunkId, int]] = ()) -> None:
        self._ids = bytearray()
        self._ends = array("Q")
        for oid, size in chunks:
            self.add(oid, size)

    def add(self, oid: ChunkId, size: int) -> None:
        """One more chunk, behind the others."""
        self._ids += oid
        self._ends.append(self.size + size)

    @property
    def size(self) -> int:
        """Of the file, as far as it is listed, in bytes."""
        return self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[tuple[ChunkId, int]]:
        start = 0
        for number, end in enumerate(self._ends):
            yield self.oid(number), end - start
            start = end

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChunkList):
            return NotImplemented
        return (self._ids, self._ends) == (other._ids, other._ends)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def oid(self, number: int) -> ChunkId:
        """The id of a chunk."""
        return ChunkId(ObjectId(bytes(self._ids[number * ID_BYTES : (number + 1) * ID_BYTES])))

    def holds(self, number: int, oid: bytes) -> bool:
        """Whether a chunk has this id."""
        return self._ids.startswith(oid, number * ID_BYTES)

    def offset(self, number: int) -> int:
        """Where a chunk begins in the file; of the number behind the last, where the file ends."""
        return self._ends[number - 1] if number else 0

    def ids(self) -> bytearray:
        """All ids, one behind the other."""
        return self._ids
