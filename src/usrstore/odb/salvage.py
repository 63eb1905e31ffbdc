"""Salvage: which whole objects lie in a damaged pack, by every means there is.

tail     its own index, if only something stands behind it or the name is wrong
copy     the copy of its index in a metadata pack ([F-42])
scan     no index: compressed objects end by themselves, and so do metadata; a raw chunk is
         found by the lengths and hashes that recipes give, each beginning where one ended

A scan stops where nothing tells the next beginning; what lies behind that is not found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from usrstore.errors import DecodeError, IntegrityError
from usrstore.objects import codec
from usrstore.objects.ids import ContentHasher, Kind, ObjectId, PackId, hash_object
from usrstore.objects.manifest import Manifest, Signed, Tag
from usrstore.objects.recipe import Recipe
from usrstore.objects.tree import FileEntry, Tree
from usrstore.odb import compress, durable, packindex
from usrstore.odb.pack import checked
from usrstore.odb.packindex import MAGIC, ROW_BYTES, TRAILER, PackIndex, Row

_WINDOW_BYTES = 2 * codec.MAX_OBJECT_BYTES
_SEARCH_BYTES = 1 << 20
_LISTS = (b"\x92", b"\x93")  # how every metadata object begins
_MAX_SKIPS = 64  # damaged raw chunks in a row, passed over by the length of what belongs there
_FLIP_BYTES = 4096  # 32,768 bits to try: a tenth of a second
MAX_FLIPS = 200

Stored = tuple[ObjectId, Row]


class Found(NamedTuple):
    """What a damaged pack lists, as far as it can be known.

    Attributes:
        rows: objects and where they lie, in that order.
        how: `tail`, `copy` or `scan`.
        pack: the name that its own trailer gives it, where there is one.
    """

    rows: list[Stored]
    how: str
    pack: PackId | None

    def is_all_of(self, pack: PackId | None) -> bool:
        """Whether nothing else can have been in the pack of that name."""
        return self.how != "scan" or packindex.encode(self.rows)[0] == pack


@dataclass(slots=True)
class Wanted:
    """What a scan may look for: raw objects that do not say where they end.

    Attributes:
        chunks: every chunk that a recipe or tree names, with its length.
        next: the chunk that follows another in a file.
        indexes: packs whose index copy may lie here.
    """

    chunks: dict[ObjectId, int] = field(default_factory=dict)
    next: dict[ObjectId, ObjectId] = field(default_factory=dict)
    indexes: set[ObjectId] = field(default_factory=set)


class PackFile:
    """A damaged pack as a file. Reads fail as StorageErrors; a missing byte is an empty one."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise durable.storage_error(exc, f"cannot read {path}") from exc
        self.size = os.fstat(self._fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._fd, size, offset)
        except OSError:
            return b""  # a sector that cannot be read holds nothing that can be saved

    def whole(self, oid: ObjectId, row: Row) -> bytes | None:
        """The stored bytes of an object, if they are what its name says."""
        stored = self.read(row.offset, row.stored)
        try:
            checked(oid, row, stored, self.path)
        except IntegrityError:
            return None
        return stored

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def rows_of(
    file: PackFile,
    pack: PackId | None,
    copy: Callable[[PackId], PackIndex | None],
    wanted: Callable[[], Wanted],
) -> Found:
    """Where the objects of a damaged pack lie.

    Args:
        file: the pack.
        pack: the name that its key gives it.
        copy: finds the copy of an index.
        wanted: what to scan for; asked only if there is no index.
    """
    own, index = _tail(file, pack)
    if index is not None:
        return Found(_lying(index), "tail", own)
    for name in (pack, own):
        if name is not None and (index := copy(name)) is not None:
            return Found(_lying(index), "copy", own)
    rows = list(scan(file, wanted()))
    if pack is not None and rows and rows[-1][0] == pack:  # its own index, behind all objects
        _, last = rows[-1]
        index = PackIndex.check(file.read(last.offset, last.stored), pack)
        return Found(_lying(index), "tail", own)
    return Found(rows, "scan", own)


def _lying(index: PackIndex) -> list[Stored]:
    return [(oid, row) for row, oid in index.as_they_lie()]


def _tail(file: PackFile, pack: PackId | None) -> tuple[PackId | None, PackIndex | None]:
    """The name in the last whole trailer, and the index before it if that is whole."""
    trailers = [file.size - TRAILER.size]
    if pack is not None:  # bytes were added behind it: its name and the magic still stand there
        trailers += [at - 16 for at in _places(file, pack + MAGIC)]
    for at in trailers:
        data = file.read(at, TRAILER.size) if at >= len(MAGIC) else b""
        if len(data) < TRAILER.size or not data.endswith(MAGIC):
            continue
        offset, count, name, _ = TRAILER.unpack(data)
        own = PackId(ObjectId(name))
        try:
            return own, PackIndex.check(file.read(offset, count * ROW_BYTES), own)
        except (DecodeError, OverflowError):
            return own, None
    return None, None


def _places(file: PackFile, needle: bytes) -> Iterator[int]:
    for start in range(0, file.size, _SEARCH_BYTES):
        data = file.read(start, _SEARCH_BYTES + len(needle) - 1)
        at = data.find(needle)
        while at >= 0:
            yield start + at
            at = data.find(needle, at + 1)


def scan(file: PackFile, wanted: Wanted) -> Iterator[Stored]:
    """The whole objects that can be told apart, from the beginning on."""
    window, begin, at = b"", 0, len(MAGIC)
    sizes = sorted(set(wanted.chunks.values()))
    expected: ObjectId | None = None
    skips = 0
    while at < file.size:
        if at - begin + codec.MAX_OBJECT_BYTES > len(window) and begin + len(window) < file.size:
            window, begin = file.read(at, _WINDOW_BYTES), at
            if not window:
                return
        data = memoryview(window)[at - begin :]
        found = _object_at(data, wanted, expected, sizes)
        if found is not None:
            oid, row = found
            yield oid, row._replace(offset=at)
            at += row.stored
            expected, skips = wanted.next.get(oid), 0
            continue
        step = _step(data, wanted, expected)
        skips += 1
        if not step or skips > _MAX_SKIPS:
            return
        at += step
        expected = wanted.next.get(expected) if expected is not None else None


def _object_at(
    data: memoryview, wanted: Wanted, expected: ObjectId | None, sizes: list[int]
) -> Stored | None:
    if (framed := compress.frame(data, codec.MAX_OBJECT_BYTES)) is not None:
        plain, stored = framed
        named = _identify(plain, wanted)
        if named is not None:
            kind, oid = named
            return oid, Row(0, stored, len(plain), kind, compress.ZSTD)
    if bytes(data[:1]) in _LISTS and (size := codec.span(data)):
        named = _identify(bytes(data[:size]), wanted)
        if named is not None:
            return named[1], Row(0, size, size, named[0], compress.RAW)
    if expected is not None:
        size = wanted.chunks[expected]
        if hash_object(Kind.CHUNK, data[:size]) == expected:
            return expected, Row(0, size, size, Kind.CHUNK, compress.RAW)
    hasher, done = ContentHasher(), 0
    for size in sizes:
        if size > len(data):
            break
        hasher.update(data[done:size])
        done = size
        oid = ObjectId(hasher.digest())
        if wanted.chunks.get(oid) == size:
            return oid, Row(0, size, size, Kind.CHUNK, compress.RAW)
    hasher = ContentHasher(kind=Kind.INDEX)
    for size in range(ROW_BYTES, len(data) + 1 if wanted.indexes else 0, ROW_BYTES):
        hasher.update(data[size - ROW_BYTES : size])
        oid = ObjectId(hasher.digest())
        if oid in wanted.indexes:
            return oid, Row(0, size, size, Kind.INDEX, compress.RAW)
    return None


def _identify(plain: bytes, wanted: Wanted) -> tuple[Kind, ObjectId] | None:
    """What an object is, by its own form; a chunk has none, and must be wanted."""
    oid = hash_object(Kind.CHUNK, plain)
    if oid in wanted.chunks:
        return Kind.CHUNK, oid
    oid = hash_object(Kind.INDEX, plain)
    if oid in wanted.indexes:
        return Kind.INDEX, oid
    for kind, decode in _FORMS:
        try:
            decode(plain)
        except IntegrityError:
            continue
        return kind, hash_object(kind, plain)
    return None


_FORMS: tuple[tuple[Kind, Callable[[bytes], object]], ...] = (
    (Kind.RECIPE, Recipe.decode),
    (Kind.TREE, Tree.decode),
    (Kind.MANIFEST, lambda data: Manifest.parse(Signed.decode(data).payload)),
    (Kind.TAG, lambda data: Tag.parse(Signed.decode(data).payload)),
)


def _step(data: memoryview, wanted: Wanted, expected: ObjectId | None) -> int:
    """How far to go past an object that is damaged; 0 if nothing tells."""
    if bytes(data[:1]) in _LISTS and (size := codec.span(data)) > 32:
        return size
    if expected is not None:
        return wanted.chunks[expected]
    return max(0, bytes(data[1:]).find(b"\x28\xb5\x2f\xfd") + 1)


def chunks_in(kind: Kind, data: bytes) -> list[tuple[ObjectId, int]]:
    """The chunks that a metadata object names, with their lengths, in the order of a file.

    Raises:
        DecodeError: it is no object of that kind.
    """
    if kind is Kind.RECIPE:
        node = Recipe.decode(data)
        return [] if node.height else [(part.oid, part.size) for part in node.parts]
    if kind is Kind.TREE:
        entries = Tree.decode(data).entries
        return [
            (ObjectId(entry.content), entry.size)
            for entry in entries
            if isinstance(entry, FileEntry) and entry.recipe is None and entry.size
        ]
    registry = Manifest.parse(Signed.decode(data).payload).registry
    return [] if registry is None else [(ObjectId(registry.content), registry.size)]


def unflip(data: bytes, is_right: Callable[[bytes], bool]) -> bytes | None:
    """`data` with one bit turned back, if that makes it right: a hash tells which bit it was."""
    if len(data) > _FLIP_BYTES:
        return None
    trial = bytearray(data)
    for at in range(len(trial)):
        for bit in range(8):
            trial[at] ^= 1 << bit
            if is_right(bytes(trial)):
                return bytes(trial)
            trial[at] ^= 1 << bit
    return None
