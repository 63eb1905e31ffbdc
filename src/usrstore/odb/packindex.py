"""The index at the end of a pack ([F-38]…[F-40]): which objects it holds and where.

    index    count × id (32 bytes, sorted), then count × (offset u64, stored u32, size u32,
             kind u8, encoding u8, 2 zero bytes), big-endian; at most 2^18 objects
    trailer  offset of the index u64, count u32, 4 zero bytes, id of the index, magic
The id of the index names the pack, so a pack whose name and index agree is the one meant.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from math import isqrt
from typing import NamedTuple

from usrstore.errors import DecodeError
from usrstore.objects.ids import ID_BYTES, Kind, ObjectId, PackId, hash_object

MAGIC = b"USRPACK1"
_ROW = struct.Struct(">QIIBB2x")
TRAILER = struct.Struct(">QI4x32s8s")
MAX_OBJECTS = 1 << 18  # so that an index, itself an object elsewhere, stays below 16 MiB


class Row(NamedTuple):
    """Where one object lies in its pack, and how it is stored there."""

    offset: int
    stored: int
    size: int
    kind: int
    encoding: int


class PackIndex:
    """Sorted ids over bytes that may be mapped; finding one costs a dozen steps."""

    __slots__ = ("_bytes", "count", "pack")

    def __init__(self, data: bytes | memoryview, count: int, pack: PackId) -> None:
        self._bytes = data
        self.count = count
        self.pack = pack

    @classmethod
    def check(cls, data: bytes | memoryview, pack: PackId) -> PackIndex:
        """An index whose bytes hash to the pack's name.

        Raises:
            DecodeError: damage.
        """
        count, rest = divmod(len(data), ID_BYTES + _ROW.size)
        if rest or hash_object(Kind.INDEX, data) != pack:
            raise DecodeError(f"the index of pack {pack.short} is damaged")
        return cls(data, count, pack)

    def find(self, oid: bytes) -> Row | None:
        # Ids are uniform: the place is known to within a few times sqrt(count).
        guess = int.from_bytes(oid[:8], "big") * self.count >> 64
        slack = 4 * isqrt(self.count) + 4
        low, high = max(0, guess - slack), min(self.count, guess + slack)
        if (low and self._id(low) > oid) or (high < self.count and self._id(high) < oid):
            low, high = 0, self.count
        at = bisect_left(_Ids(self), oid, low, high)
        if at < self.count and self._id(at) == oid:
            return self.row(at)
        return None

    def row(self, at: int) -> Row:
        start = self.count * ID_BYTES + at * _ROW.size
        return Row._make(_ROW.unpack(self._bytes[start : start + _ROW.size]))

    def _id(self, at: int) -> bytes:
        return bytes(self._bytes[at * ID_BYTES : (at + 1) * ID_BYTES])

    def ids(self) -> Iterator[ObjectId]:
        for at in range(self.count):
            yield ObjectId(self._id(at))

    def items(self) -> Iterator[tuple[ObjectId, Row]]:
        for at in range(self.count):
            yield ObjectId(self._id(at)), self.row(at)

    def as_they_lie(self) -> list[tuple[Row, ObjectId]]:
        """Every object in the order of the pack's bytes."""
        rows = map(Row._make, _ROW.iter_unpack(self._bytes[self.count * ID_BYTES :]))
        return sorted(zip(rows, self.ids(), strict=True))


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
    end = offset + count * (ID_BYTES + _ROW.size) + TRAILER.size
    whole = data == encode_trailer(offset, count, pack) and end == pack_bytes
    if not whole or offset < len(MAGIC) or not 1 <= count <= MAX_OBJECTS:
        raise DecodeError(f"pack {pack.short} has a damaged trailer")
    return offset, count
