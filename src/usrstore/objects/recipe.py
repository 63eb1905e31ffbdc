"""Recipe: how one file is rebuilt from chunks. Below identity, like a delta in git ([F-12]…[F-14]).

A recipe node lists parts of 40 bytes (id, length): chunks at height 0, recipe nodes above.
What the file *is* (size and content hash) stands in its tree entry; a recipe says only how
it is stored, so a better chunking rule never changes what two files being equal means.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from usrstore.errors import DecodeError
from usrstore.objects import codec, nodes
from usrstore.objects.ids import ChunkId, Kind, ObjectId, RecipeId, hash_object

MAX_NODE_BYTES = 1 << 16
MAX_CHUNKS = 1 << 26  # of one file: 4 TiB in chunks of 64 KiB
RULE = "parquet-pages-1"
"""The rule by which files are cut today. Any recipe of the format can be read, whatever cut it."""

_PART = struct.Struct(">32sQ")


class Part(NamedTuple):
    """A chunk (height 0) or a recipe node (above), and how many bytes of the file it gives."""

    oid: ObjectId
    size: int


@dataclass(frozen=True, slots=True)
class Recipe:
    height: int
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def encode(self) -> bytes:
        packed = b"".join(_PART.pack(*part) for part in self.parts)
        return codec.encode([codec.FORMAT, self.height, packed])

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Recipe:
        """Raises: DecodeError."""
        match codec.decode(data, limit=MAX_NODE_BYTES, longest=3, maps=0):
            case [codec.FORMAT, int(height), bytes(packed)] if (
                not isinstance(height, bool)
                and 0 <= height <= nodes.MAX_HEIGHT
                and len(packed) % _PART.size == 0
                and 0 < len(packed) <= nodes.MAX_ITEMS * _PART.size
            ):
                parts = tuple(Part(ObjectId(oid), size) for oid, size in _PART.iter_unpack(packed))
            case other:
                raise codec.refused(other, "recipe")
        for part in parts:
            if part.size == 0 or (height == 0 and part.size > codec.MAX_CHUNK_BYTES):
                raise DecodeError(f"a recipe part of {part.size} bytes")
        if sum(part.size for part in parts) > codec.MAX_U64:
            raise DecodeError("a recipe over 2^64 bytes")
        recipe = cls(height, parts)
        return codec.same(recipe, recipe.encode(), data, "recipe")


def build(
    chunks: Iterable[tuple[ChunkId, int]], put: Callable[[RecipeId, bytes], object]
) -> RecipeId:
    """Write the nodes of a file of two or more chunks; children go to `put` before parents (I3)."""

    def store(height: int, parts: object) -> Part:
        recipe = Recipe(height, tuple(parts))  # type: ignore[arg-type]
        data = recipe.encode()
        oid = RecipeId(hash_object(Kind.RECIPE, data))
        put(oid, data)
        return Part(oid, recipe.size)

    leaves = (Part(oid, size) for oid, size in chunks)
    return RecipeId(nodes.grow(leaves, lambda part: part.oid, store).oid)


def walk(
    root: RecipeId, size: int, get: Callable[[RecipeId], bytes]
) -> Iterator[tuple[RecipeId, Recipe]]:
    """The nodes below `root`, parents first, left to right; sizes must agree on the way down.

    Raises:
        DecodeError: a node whose parts do not add up to what its parent said.
    """
    stack: list[tuple[ObjectId, int, int | None]] = [(root, size, None)]
    while stack:
        oid, wanted, height = stack.pop()
        node = Recipe.decode(get(RecipeId(oid)))
        _agree(oid, (node.size, node.height), wanted, height)
        yield RecipeId(oid), node
        if node.height:
            stack.extend((p.oid, p.size, node.height - 1) for p in reversed(node.parts))


def _agree(oid: ObjectId, actual: tuple[int, int], size: int, height: int | None) -> None:
    if actual[0] != size:
        raise DecodeError(f"recipe {oid.short} gives {actual[0]} bytes, not {size}")
    if height is not None and actual[1] != height:
        raise DecodeError(f"recipe {oid.short} has height {actual[1]}, not {height}")


def node_ids(root: RecipeId, size: int, get: Callable[[RecipeId], bytes]) -> Iterator[RecipeId]:
    """Every node below and including `root`, each once however often it is used.

    Raises:
        DecodeError: as `walk` does.
    """
    seen: dict[ObjectId, tuple[int, int]] = {}
    stack: list[tuple[ObjectId, int, int | None]] = [(root, size, None)]
    while stack:
        oid, wanted, height = stack.pop()
        if oid not in seen:
            node = Recipe.decode(get(RecipeId(oid)))
            seen[oid] = node.size, node.height
            if node.height:
                stack.extend((p.oid, p.size, node.height - 1) for p in reversed(node.parts))
            yield RecipeId(oid)
        _agree(oid, seen[oid], wanted, height)


def chunks(root: RecipeId, size: int, get: Callable[[RecipeId], bytes]) -> Iterator[Part]:
    """The chunks of a file in order.

    Raises:
        DecodeError: as `walk` does, and for more chunks than a file may have: a few nodes
            that name each other over and over can spell out any number of them.
    """
    left = MAX_CHUNKS
    for _, node in walk(root, size, get):
        if node.height == 0:
            left -= len(node.parts)
            if left < 0:
                raise DecodeError(f"a file of more than {MAX_CHUNKS} chunks")
            yield from node.parts
