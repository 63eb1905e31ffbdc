"""The stat cache: what each file of a folder held when it was last read.

A file whose stamp is unchanged is not read again. A file that changed within a clock tick of
being read could change again without its stamp showing it, so it is not trusted (git calls
such entries racily clean). The cache is only ever a saving: without it everything is read. It
is sealed with its hash, for a flipped bit in it would otherwise become a file's identity.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import NamedTuple

from usrstore.errors import DecodeError, StorageError
from usrstore.objects import codec
from usrstore.objects.ids import ContentHash, ObjectId, RecipeId, seal, unseal
from usrstore.objects.sections import EVENTS_FILE, PRIMARY_FILE
from usrstore.odb import durable
from usrstore.worktree.scan import Stamp

_VERSION = 2
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


@dataclass(slots=True)
class StatCache:
    """Stamps and hashes of one folder; `rule` names the chunking that its recipes follow."""

    rule: str
    files: dict[str, Known] = field(default_factory=dict)
    root: ObjectId | None = None
    facts: Facts = NOTHING

    def find(self, path: str, stamp: Stamp) -> Known | None:
        known = self.files.get(path)
        return known if known is not None and known.stamp == stamp else None

    def encode(self) -> bytes:
        rows = [
            [path, *known.stamp, known.content, known.recipe] for path, known in self.files.items()
        ]
        return seal(codec.encode([_VERSION, self.rule, self.root, list(self.facts), rows]))

    @classmethod
    def decode(cls, data: bytes, rule: str) -> StatCache:
        """Raises: DecodeError."""
        match codec.decode(unseal(data, "stat cache"), limit=1 << 32):
            case [int(version), str(written), root, list(facts), list(rows)] if (
                version == _VERSION and written == rule
            ):
                pass
            case _:
                raise DecodeError("a stat cache of another version")
        cache = cls(rule)
        try:
            for path, size, mtime_ns, ctime_ns, inode, content, recipe in rows:
                cache.files[path] = Known(
                    Stamp(size, mtime_ns, ctime_ns, inode),
                    ContentHash(ObjectId(content)),
                    None if recipe is None else RecipeId(ObjectId(recipe)),
                )
            cache.root = None if root is None else ObjectId(root)
            rows_, columns, schema, events = facts
            cache.facts = Facts(
                rows_, columns, None if schema is None else ContentHash(ObjectId(schema)), events
            )
        except Exception as exc:
            raise DecodeError(f"a damaged stat cache: {exc}") from exc
        return cache


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
