"""Identity: every object is named by the BLAKE3 hash of its bytes. Only this room hashes.

A chunk's id is the plain hash of its bytes, so stock `b3sum` prints it; every other kind
is hashed under a derive-key context of its own, so that no object can pass for one of
another kind ([F-3], [F-4]).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NewType, Self

from blake3 import blake3

from usrstore.errors import DecodeError, InvalidInputError

ID_BYTES = 32
HEX_DIGITS = 64
MIN_PREFIX_DIGITS = 8


class ObjectId(bytes):
    """32 bytes; `str()` is 64 lower-case hex digits."""

    __slots__ = ()

    def __new__(cls, value: bytes) -> Self:
        if len(value) != ID_BYTES:
            raise InvalidInputError(f"an object id has {ID_BYTES} bytes, not {len(value)}")
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 64 lower-case hex digits.

        Raises:
            InvalidInputError: for anything else.
        """
        if len(text) != HEX_DIGITS or not set(text) <= set("0123456789abcdef"):
            raise InvalidInputError(f"not an object id: {text!r} (64 lower-case hex digits)")
        return cls(bytes.fromhex(text))

    @property
    def short(self) -> str:
        return self.hex()[:12]

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.short})"


ChunkId = NewType("ChunkId", ObjectId)
ContentHash = NewType("ContentHash", ObjectId)
RecipeId = NewType("RecipeId", ObjectId)
TreeId = NewType("TreeId", ObjectId)
ManifestId = NewType("ManifestId", ObjectId)
TagId = NewType("TagId", ObjectId)
StateId = NewType("StateId", ObjectId)
PackId = NewType("PackId", ObjectId)


class Kind(IntEnum):
    """What an object is; the number is written in pack indexes and on the wire."""

    CHUNK = 1
    RECIPE = 2
    TREE = 3
    MANIFEST = 4
    TAG = 5
    STATE = 6
    INDEX = 7

    @property
    def word(self) -> str:
        return self.name.lower()


_CONTEXT = {kind: f"usrstore v1 {kind.word}" for kind in Kind if kind is not Kind.CHUNK}


def hash_object(kind: Kind, data: bytes | memoryview) -> ObjectId:
    """The id of `data` as an object of `kind`."""
    if kind is Kind.CHUNK:
        return ObjectId(blake3(data).digest())
    return ObjectId(blake3(data, derive_key_context=_CONTEXT[kind]).digest())


def wrong_chunks(data: memoryview, spans: Iterable[tuple[bytes, int, int]]) -> list[int]:
    """Which of many chunks that lie in `data` are not what their ids say.

    Args:
        data: neighbours, read at once.
        spans: id, begin and end of each.

    Returns:
        Places in `spans`. In few steps each: two threads that do this share one interpreter.
    """
    new = blake3
    return [
        number
        for number, (oid, begin, end) in enumerate(spans)
        if new(data[begin:end]).digest() != oid
    ]


class ContentHasher:
    """The content hash of a file that is seen piece by piece; or another kind's id."""

    __slots__ = ("_state",)

    def __init__(self, *, threads: int = 1, kind: Kind = Kind.CHUNK) -> None:
        if kind is Kind.CHUNK:
            self._state = blake3(max_threads=threads)
        else:
            self._state = blake3(max_threads=threads, derive_key_context=_CONTEXT[kind])

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        self._state.update(piece)

    def digest(self) -> ContentHash:
        return ContentHash(ObjectId(self._state.digest()))


EMPTY_CONTENT = ContentHash(hash_object(Kind.CHUNK, b""))


def seal(data: bytes) -> bytes:
    """`data` with its hash behind it, for records that have no name to be checked against."""
    return data + blake3(data).digest()


def unseal(sealed: bytes, what: str) -> bytes:
    """What was sealed.

    Raises:
        DecodeError: these are not the bytes that were written.
    """
    data, digest = sealed[:-ID_BYTES], sealed[-ID_BYTES:]
    if blake3(data).digest() != digest:
        raise DecodeError(f"a {what} that is not what was written: its hash does not hold")
    return data
