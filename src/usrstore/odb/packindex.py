"""The index at the end of a pack ([F-38]…[F-40]): which objects it holds and where.

    index    count × id (32 bytes, sorted), then count × (offset u64, stored u32, size u32,
             kind u8, encoding u8, 2 zero bytes), big-endian; at most 2^18 objects
    trailer  offset of the index u64, count u32, 4 zero bytes, id of the index, magic
The id of the index names the pack, so a pack whose name and index agree is the one meant.
"""

from __future__ import annotations

import struct
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from math import isqrt
from typing import NamedTuple

from usrstore.errors import DecodeError
from usrstore.objects.ids import ID_BYTES, Kind, ObjectId, PackId, hash_object

MAGIC = b"USRPACK1"
_ROW = struct.Struct(">QIIBB2x")
TRAILER = struct.Struct(">QI4x32s8s")
_ENTRY = ID_BYTES + _ROW.size
_STEP = 64
_OFTEN = 32
ROW_BYTES = ID_BYTES + _ROW.size
MAX_OBJECTS = 1 << 18  # so that an index, itself an object elsewhere, stays below 16 MiB


class Row(NamedTuple):
    """Where one object lies in its pack, and how it is stored there."""

    offset: int
    stored: int
    size: int
    kind: int
    encoding: int


class PackIndex:
    """Sorted ids over bytes that may be mapped: nothing is loaded per object.

    What it says is believed only once its bytes have hashed to the pack's name; `verify` does
    that once, when the first object is found here. Until then only pages that were asked for
    have been read.
    """

    __slots__ = ("_asked", "_bytes", "_steps", "count", "pack", "verified")

    def __init__(self, data: bytes | memoryview, count: int, pack: PackId) -> None:
        self.count = count
        self.pack = pack
        self._bytes = memoryview(data)
        self._steps: list[bytes] = []
        self._asked = 0
        self.verified = False  # whether its bytes are known to hash to the pack's name

    @classmethod
    def check(cls, data: bytes | memoryview, pack: PackId) -> PackIndex:
        """An index whose bytes hash to the pack's name.

        Raises:
            DecodeError: damage.
        """
        index = cls(data, len(data) // _ENTRY, pack)
        index.verify()
        return index

    def verify(self) -> None:
        """Hash the index, once. Raises: DecodeError."""
        if self.verified:
            return
        wrong = len(self._bytes) != self.count * _ENTRY
        if wrong or hash_object(Kind.INDEX, self._bytes) != self.pack:
            raise DecodeError(f"the index of pack {self.pack.short} is damaged")
        self.verified = True

    def find(self, oid: bytes) -> Row | None:
        """Where an object lies; None if it is not here. Raises: DecodeError."""
        at = self.position(oid)
        return None if at is None else self.row(at)

    def position(self, oid: bytes) -> int | None:
        """The number of an id among the sorted ids. Raises: DecodeError."""
        if self._asked < _OFTEN:
            self._asked += 1
            at = bisect_left(_Ids(self), oid, *self._window(oid))
            if at == self.count or self._id(at) != oid:
                return None
        else:
            # Asked often: every 64th id in a list, and one search in the block it leads to.
            self._steps = self._steps or self._read_steps()
            first = max(0, bisect_right(self._steps, oid) - 1) * _STEP
            block = bytes(self._bytes[first * ID_BYTES : self._clip(first + _STEP) * ID_BYTES])
            found = block.find(oid)
            while found % ID_BYTES and found > 0:  # it began inside another id
                found = block.find(oid, found + 1)
            if found < 0:
                return None
            at = first + found // ID_BYTES
        self.verify()
        return at

    def _window(self, oid: bytes) -> tuple[int, int]:
        # Ids are uniform: the place is known to within a few times sqrt(count).
        guess = int.from_bytes(oid[:8], "big") * self.count >> 64
        slack = 4 * isqrt(self.count) + 4
        low, high = max(0, guess - slack), self._clip(guess + slack)
        if (low and self._id(low) > oid) or (high < self.count and self._id(high) < oid):
            return 0, self.count
        return low, high

    def _clip(self, at: int) -> int:
        return min(self.count, at)

    def _read_steps(self) -> list[bytes]:
        return [self._id(at) for at in range(0, self.count, _STEP)]

    def prefixes(self) -> memoryview:
        """The first 4 bytes of every id, as `prefix` gives them: what sets compare quickly."""
        return self._bytes[: self.count * ID_BYTES].cast("I")[:: ID_BYTES // 4]

    def row(self, at: int) -> Row:
        start = self.count * ID_BYTES + at * _ROW.size
        return Row._make(_ROW.unpack(self._bytes[start : start + _ROW.size]))

    def _id(self, at: int) -> bytes:
        return bytes(self._bytes[at * ID_BYTES : (at + 1) * ID_BYTES])

    def oid(self, at: int) -> ObjectId:
        return ObjectId(self._id(at))

    def ids(self) -> Iterator[ObjectId]:
        for at in range(self.count):
            yield ObjectId(self._id(at))

    def items(self) -> Iterator[tuple[ObjectId, Row]]:
        for at in range(self.count):
            yield ObjectId(self._id(at)), self.row(at)

    def as_they_lie(self) -> list[tuple[Row, ObjectId]]:
        """Every object in the order of the pack's bytes."""
        return [(Row._make(row), ObjectId(oid)) for row, oid in self.as_it_lies()]

    def as_it_lies(self) -> list[tuple[tuple[int, int, int, int, int], bytes]]:
        """The same, a row as plain numbers and an id as plain bytes: for who looks at all."""
        ids = bytes(self._bytes[: self.count * ID_BYTES])
        rows = list(_ROW.iter_unpack(self._bytes[self.count * ID_BYTES :]))
        # One number each: what is empty lies where the next one begins, and comes before it.
        places = [row[0] << 32 | row[1] for row in rows]
        return [
            (rows[at], ids[at * ID_BYTES : (at + 1) * ID_BYTES])
            for at in sorted(range(self.count), key=places.__getitem__)
        ]

    def beginning(self, text: str) -> Iterator[tuple[ObjectId, int]]:
        """Ids whose hexadecimal form begins with `text`, with their kinds, in order."""
        for at in range(bisect_left(_Ids(self), bytes.fromhex(text[: len(text) & ~1])), self.count):
            oid = ObjectId(self._id(at))
            if not oid.hex().startswith(text[: len(text) & ~1]):
                return
            if oid.hex().startswith(text):
                yield oid, self.row(at).kind

    def data(self) -> bytes:
        """The bytes of the index."""
        return bytes(self._bytes)

    def disorder(self, end: int) -> str | None:
        """What a well-made index would not say; None if all is well. Reads every entry.

        Args:
            end: where the index begins in its pack: objects lie before it.
        """
        last = b""
        for oid, row in self.items():
            if oid <= last:
                return f"its ids do not rise at {oid.short}"
            last = oid
            if row.offset < len(MAGIC) or row.offset + row.stored > end:
                return f"object {oid.short} would lie outside the pack"
        return None


def prefix(oid: bytes) -> int:
    """The first 4 bytes of an id as a number of this machine; some ids begin alike."""
    return int.from_bytes(oid[:4], sys.byteorder)


class _Ids:
    """The ids of an index as the sequence that bisect asks for."""

    __slots__ = ("_index",)

    def __init__(self, index: PackIndex) -> None:
        self._index = index

    def __len__(self) -> int:
        return self._index.count

    def __getitem__(self, at: int) -> bytes:
        return self._index._id(at)  # noqa: SLF001  one room


def encode(rows: Iterable[tuple[ObjectId, Row]]) -> tuple[PackId, bytes]:
    """The name of a pack and the bytes of its index."""
    ordered = sorted(rows)
    data = b"".join(oid for oid, _ in ordered) + b"".join(_ROW.pack(*row) for _, row in ordered)
    return PackId(hash_object(Kind.INDEX, data)), data


def encode_trailer(offset: int, count: int, pack: PackId) -> bytes:
    return TRAILER.pack(offset, count, pack, MAGIC)


def decode_trailer(data: bytes, pack: PackId, pack_bytes: int) -> tuple[int, int]:
    """Where the index of a pack lies, and how many objects it lists.

    Raises:
        DecodeError: not the trailer of this pack, or one that cannot be true.
    """
    if len(data) != TRAILER.size:
        raise DecodeError(f"pack {pack.short} is cut off")
    offset, count, _name, _magic = TRAILER.unpack(data)
    end = offset + count * _ENTRY + TRAILER.size
    whole = data == encode_trailer(offset, count, pack) and end == pack_bytes
    if not whole or offset < len(MAGIC) or not 1 <= count <= MAX_OBJECTS:
        raise DecodeError(f"pack {pack.short} has a damaged trailer")
    return offset, count
