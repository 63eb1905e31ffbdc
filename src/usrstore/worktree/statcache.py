"""The stat cache: what each file of a folder held when it was last read.

A file whose stamp is unchanged is not read again. A file that changed within a clock tick of
being read could change again without its stamp showing it, so it is not trusted (git calls
such entries racily clean). The cache is only ever a saving: without it everything is read. It
is sealed with its hash, for a flipped bit in it would otherwise become a file's identity.

    file     [version, byte order, rule, root, facts, shelves], sealed
    shelf    [folder, names, stamps, content hashes, recipes]: packed columns, so that a look
             at a hundred thousand files makes no value for any of them
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Container, Iterator
from sys import byteorder
from typing import NamedTuple

from usrstore.errors import DecodeError, StorageError
from usrstore.objects import codec
from usrstore.objects.ids import ID_BYTES, ContentHash, ObjectId, RecipeId, seal, unseal
from usrstore.objects.sections import EVENTS_FILE, PRIMARY_FILE
from usrstore.odb import durable
from usrstore.worktree.scan import Shelf, Shelves, Stamp

_VERSION = 3
_RECIPE = struct.Struct(">I32s")  # which file of the shelf, and its recipe
_TICK_NS = 20_000_000  # kernels stamp files with a clock of 1 to 10 ms
_SKEW_NS = 1_000_000_000  # a stamp further in the future comes from another host's clock


class Known(NamedTuple):
    """A file as it was when it was read."""

    stamp: Stamp
    content: ContentHash
    recipe: RecipeId | None


class Facts(NamedTuple):
    """What a manifest states of the files' insides; None where there is nothing to state."""

    rows: int | None = None
    columns: int | None = None
    schema: ContentHash | None = None
    events: int | None = None

    def of(self, files: Container[str]) -> Facts:
        """Without what is said of files that are not among `files`."""
        facts = self
        if PRIMARY_FILE not in files:
            facts = facts._replace(rows=None, columns=None, schema=None)
        return facts if EVENTS_FILE in files else facts._replace(events=None)


NOTHING = Facts()


class StatCache:
    """Stamps and hashes of one folder, packed as they rest on the disk until somebody asks.

    Args:
        rule: the chunking that its recipes follow.
        files: what is known of each file, by its path.
        root: the tree of the whole folder, if that is known.
        facts: what is known of the insides of files.
    """

    def __init__(
        self,
        rule: str,
        files: dict[str, Known] | None = None,
        root: ObjectId | None = None,
        facts: Facts = NOTHING,
    ) -> None:
        self.rule = rule
        self.root = root
        self.facts = facts
        self.shelves: Shelves = {}
        self._ids: dict[str, tuple[bytes, bytes]] = {}
        self._files = {} if files is None else files

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StatCache) and (
            (self.rule, self.files, self.root, self.facts)
            == (other.rule, other.files, other.root, other.facts)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def files(self) -> dict[str, Known]:
        """Every file that is known, by its path."""
        if self._ids:
            for prefix, shelf in self.shelves.items():
                self._files.update(_unpack(prefix, shelf, *self._ids[prefix]))
            self._ids = {}
        return self._files

    def find(self, path: str, stamp: Stamp) -> Known | None:
        known = self.files.get(path)
        return known if known is not None and known.stamp == stamp else None

    def encode(self) -> bytes:
        rows: dict[str, list[tuple[str, Known]]] = {}
        for path, known in self.files.items():
            above, slash, name = path.rpartition("/")
            rows.setdefault(above + slash, []).append((name, known))
        shelves = [[prefix, *_pack(files)] for prefix, files in rows.items()]
        head = [_VERSION, byteorder, self.rule, self.root, list(self.facts)]
        return seal(codec.encode([*head, shelves]))

    @classmethod
    def decode(cls, data: bytes, rule: str) -> StatCache:
        """Raises: DecodeError."""
        match codec.decode(unseal(data, "stat cache"), limit=1 << 32):
            case [int(version), str(order), str(written), root, list(facts), list(shelves)] if (
                version,
                order,
                written,
            ) == (_VERSION, byteorder, rule):
                pass
            case _:
                raise DecodeError("a stat cache of another version")
        try:
            cache = cls(rule, root=None if root is None else ObjectId(root))
            for prefix, *shelf, contents, recipes in shelves:
                cache.shelves[prefix] = Shelf(*shelf)
                cache._ids[prefix] = (contents, recipes)
            rows, columns, schema, events = facts
            cache.facts = Facts(
                rows, columns, None if schema is None else ContentHash(ObjectId(schema)), events
            )
        except Exception as exc:
            raise DecodeError(f"a damaged stat cache: {exc}") from exc
        return cache


def _pack(files: list[tuple[str, Known]]) -> tuple[str, bytes, bytes, bytes]:
    """The files of one folder: names, stamps, content hashes, and the recipes of those with one."""
    shelf = Shelf.of([(name, known.stamp) for name, known in files])
    contents = b"".join(known.content for _, known in files)
    recipes = b"".join(
        _RECIPE.pack(number, known.recipe)
        for number, (_, known) in enumerate(files)
        if known.recipe is not None
    )
    return (*shelf, contents, recipes)


def _unpack(
    prefix: str, shelf: Shelf, contents: bytes, recipes: bytes
) -> Iterator[tuple[str, Known]]:
    by_number = {number: RecipeId(ObjectId(oid)) for number, oid in _RECIPE.iter_unpack(recipes)}
    for number, (name, stamp) in enumerate(shelf.rows()):
        content = ContentHash(ObjectId(contents[number * ID_BYTES : (number + 1) * ID_BYTES]))
        yield prefix + name, Known(stamp, content, by_number.get(number))


def load(path: str | None, rule: str) -> StatCache:
    """The cache at `path`, or an empty one if it is missing, damaged or of another rule."""
    if path is not None:
        try:
            with open(path, "rb") as file:
                return StatCache.decode(file.read(), rule)
        except (OSError, DecodeError):
            pass
    return StatCache(rule)


def save(path: str, cache: StatCache) -> None:
    """Keep the cache for the next command; a cache that cannot be written is done without."""
    with contextlib.suppress(StorageError):
        durable.replace(path, cache.encode(), sync=False)


def is_racy(stamp: Stamp, now_ns: int) -> bool:
    """Whether a file read at `now_ns` may change again without a change of its stamp."""
    age = now_ns - max(stamp.mtime_ns, stamp.ctime_ns)
    return -_SKEW_NS < age < _TICK_NS


def settle(stamps: Callable[[], dict[str, Stamp]]) -> dict[str, Stamp]:
    """Stamps of files that we have just written ourselves, once their clock tick is over."""
    time.sleep(_TICK_NS / 1e9)
    return stamps()


def stamp_of(path: str) -> Stamp | None:
    try:
        return Stamp.of(os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return None
