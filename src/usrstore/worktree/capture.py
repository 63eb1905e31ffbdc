"""Capture a folder: which files it holds, what they hash to, which tree that is.

One pass over the bytes of the files that changed, none over the rest. A file that changes
under our hands is read again; a folder that does not come to rest is an error, never a
state that was not there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from usrstore.errors import ChangedWhileReadError, StorageError
from usrstore.objects import recipe, tree
from usrstore.objects.chunklist import ChunkList
from usrstore.objects.ids import ChunkId, Kind, ObjectId, RecipeId, TreeId
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.sections import EVENTS_FILE, PRIMARY_FILE
from usrstore.objects.tree import FileEntry, FolderEntry, Listing
from usrstore.worktree import scan as scanning
from usrstore.worktree.scan import Shelves, Stamp, scan
from usrstore.worktree.statcache import Facts, Known, StatCache, is_racy

if TYPE_CHECKING:
    from usrstore.worktree.parquet import Footer

Put = Callable[[Kind, ObjectId, bytes], object]
Sink = Callable[[ChunkId, memoryview], None]
_ROUNDS = 4
_TELL_BYTES = 16 << 20  # of a large file: how often it is told how far it has been read


class _Take(NamedTuple):
    """Who takes what a read brings."""

    put: Put
    sink: Sink | None
    prepare: Sink | None


def _watched(take: _Take, begun: Event, emit: Emit) -> _Take:
    """The same, telling on the way how much of a large file has been read."""
    read = told = 0

    def sink(oid: ChunkId, data: memoryview) -> None:
        nonlocal read, told
        read += len(data)
        if read - told >= _TELL_BYTES:
            told = read
            emit(begun._replace(done=begun.done + read))
        if take.sink is not None:
            take.sink(oid, data)

    return take._replace(sink=sink)


class Capture:
    """A folder as it was at one moment.

    Attributes:
        root: tree id, number of files and bytes of the whole.
        cache: the stat cache that makes the next capture cheap.
        taken: the files that had to be read.
    """

    def __init__(
        self,
        root: FolderEntry,
        cache: StatCache,
        taken: frozenset[str] = frozenset(),
        files: tuple[Listing, dict[str, Stamp]] | None = None,
        nodes: dict[TreeId, bytes] | None = None,
    ) -> None:
        self.root = root
        self.cache = cache
        self.taken = taken
        self._files = files
        self._nodes = nodes

    @property
    def tree(self) -> TreeId:
        return self.root.tree

    @property
    def facts(self) -> Facts:
        """Rows, columns and schema of the primary; lines of the event log."""
        return self.cache.facts

    @property
    def read(self) -> int:
        """How many files had to be read."""
        return len(self.taken)

    @property
    def hashed(self) -> dict[str, Stamp]:
        """What this very capture read to the end, as far as its stamps can be relied on."""
        known = self.cache.files
        return {path: known[path].stamp for path in self.taken if path in known}

    @property
    def listing(self) -> Listing:
        """Every file by its path."""
        return self._all()[0]

    @property
    def stamps(self) -> dict[str, Stamp]:
        """What stat(2) said of every file."""
        return self._all()[1]

    def _all(self) -> tuple[Listing, dict[str, Stamp]]:
        if self._files is None:  # nothing changed, and nobody has asked so far
            known = self.cache.files
            self._files = (
                {path: _entry(path, found) for path, found in known.items()},
                {path: found.stamp for path, found in known.items()},
            )
        return self._files

    @property
    def nodes(self) -> dict[TreeId, bytes]:
        """Every tree node, children before parents (I3)."""
        if self._nodes is None:
            self._nodes = {}
            tree.build(self.listing, self._nodes.__setitem__)
        return self._nodes

    def store(self, put: Put) -> None:
        """Give every tree node to `put`, children before parents (I3)."""
        for oid, data in self.nodes.items():
            put(Kind.TREE, oid, data)


def capture(
    folder: str,
    cache: StatCache,
    put: Put,
    *,
    sink: Sink | None = None,
    prepare: Sink | None = None,
    lone: str | None = None,
    emit: Emit = silent,
) -> Capture:
    """Capture `folder`; recipe nodes of the files that were read go to `put`, children first.

    The trees are left to `Capture.store`: a folder that nobody touched needs none of them.

    Args:
        folder: the dataset.
        cache: what is known from before; it is not changed.
        put: takes recipe nodes.
        sink: takes the chunks of the files that had to be read.
        prepare: may be shown a chunk before `sink` takes it, on any thread.
        lone: the name of the one file that counts; it is captured as the primary.
        emit: progress.

    Raises:
        DatasetNotFoundError, UnsafeFileError, StorageError: see `scan`.
        ChangedWhileReadError: a file keeps changing.
    """
    shelves = scanning.walk(folder, cache.shelves, lone)
    if cache.root is not None and _same(shelves, cache.shelves):
        files, size = scanning.count(shelves)
        return Capture(FolderEntry("", TreeId(cache.root), files, size), cache)
    take = _Take(put, sink, prepare)
    return _capture_changed(folder, lone, scanning.stamps(shelves), cache, take, emit)


def _same(found: Shelves, known: Shelves) -> bool:
    """Whether every file is as it was known: then no value need be made for any of them."""
    return len(found) == len(known) and all(known.get(at) is shelf for at, shelf in found.items())


def _capture_changed(
    folder: str,
    lone: str | None,
    files: dict[str, Stamp],
    cache: StatCache,
    take: _Take,
    emit: Emit,
) -> Capture:
    known: dict[str, Known] = {}
    facts = cache.facts
    taken: set[str] = set()
    racy: set[str] = set()
    for _ in range(_ROUNDS):
        todo = []
        for path, stamp in files.items():
            hit = known.get(path)
            if hit is None or hit.stamp != stamp:
                hit = cache.find(path, stamp)
                if hit is None:
                    todo.append(path)
                else:
                    known[path] = hit
                    taken.discard(path)
        if not todo:
            break
        total, done = sum(files[path].size for path in todo), 0
        for number, path in enumerate(todo, 1):
            now_ns = time.time_ns()
            watched = take
            if files[path].size >= _TELL_BYTES:
                begun = Event("scan", done, total, path, number, len(todo))
                watched = _watched(take, begun, emit)
            result = _read(os.path.join(folder, lone or path), path, watched)
            if result is None:
                continue  # it changed or went away; the next scan tells
            hit, seen = result
            known[path] = hit
            facts = _note(facts, path, seen)
            taken.add(path)
            (racy.add if is_racy(hit.stamp, now_ns) else racy.discard)(path)
            done += hit.stamp.size
            emit(Event("scan", done, total, path, number, len(todo)))
        files = scan(folder, lone)
        _keep_log(files, known)
    else:
        restless = sorted(p for p, s in files.items() if p not in known or known[p].stamp != s)
        if restless:
            restless = [lone] if lone else restless
            raise ChangedWhileReadError(
                f"{folder} is being written: {', '.join(restless[:5])} changed while it was read; "
                "nothing was changed",
                hint="wait for the program that writes there to finish, then run it again",
            )
    listing = {path: _entry(path, known[path]) for path in files}
    nodes: dict[TreeId, bytes] | None = None
    if not taken and len(files) == len(cache.files) and cache.root is not None:
        size = sum(stamp.size for stamp in files.values())
        root = FolderEntry("", TreeId(cache.root), len(files), size)
    else:
        nodes = {}
        root = tree.build(listing, nodes.__setitem__)
    settled = {path: known[path] for path in files if path not in racy}
    fresh = StatCache(
        cache.rule,
        settled,
        # A file that is left out could go away unnoticed, and the tree would still name it.
        root.tree if len(settled) == len(files) else None,
        facts.of(files),
    )
    return Capture(root, fresh, frozenset(taken), (listing, files), nodes)


def _entry(path: str, known: Known) -> FileEntry:
    return FileEntry(path.rpartition("/")[2], known.stamp.size, known.content, known.recipe)


def _keep_log(files: dict[str, Stamp], known: dict[str, Known]) -> None:
    """A log that only grew while it was read is captured as it was: its prefix still stands."""
    now, then = files.get(EVENTS_FILE), known.get(EVENTS_FILE)
    if now and then and now.inode == then.stamp.inode and now.size > then.stamp.size:
        files[EVENTS_FILE] = then.stamp


def _read(full: str, path: str, take: _Take) -> tuple[Known, tuple[Footer | None, int]] | None:
    """Hash one file; None if it did not hold still."""
    from usrstore.worktree import cut  # a folder that nobody touched needs none of it

    lines = 0

    def count(oid: ChunkId, data: memoryview) -> None:
        nonlocal lines
        lines += bytes(data).count(b"\n")
        if take.sink is not None:
            take.sink(oid, data)

    try:
        fd = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageError(
            f"cannot read {full}: {exc.strerror}; nothing was changed",
            hint="check the owner and mode of that file",
        ) from exc
    try:
        before = Stamp.of(os.fstat(fd))
        try:
            result = cut.cut_file(
                fd, before.size, count if path == EVENTS_FILE else take.sink, take.prepare
            )
        except ChangedWhileReadError:
            return None
        after = Stamp.of(os.fstat(fd))
        if after != before and not (path == EVENTS_FILE and after.size > before.size):
            return None
    except OSError as exc:
        raise StorageError(f"cannot read {full}: {exc.strerror}; nothing was changed") from exc
    finally:
        os.close(fd)
    return Known(before, result.content, store_recipe(result.chunks, take.put)), (
        result.facts,
        lines,
    )


def store_recipe(chunks: ChunkList, put: Put) -> RecipeId | None:
    """The recipe of a file from its chunks; None for a file of one chunk."""
    if len(chunks) == 1:
        return None
    return recipe.build(chunks, lambda oid, data: put(Kind.RECIPE, oid, data))


def _note(facts: Facts, path: str, seen: tuple[Footer | None, int]) -> Facts:
    footer, lines = seen
    if path == PRIMARY_FILE:
        if footer is not None:
            return facts._replace(rows=footer.rows, columns=footer.columns, schema=footer.schema)
        return facts._replace(rows=None, columns=None, schema=None)
    return facts._replace(events=lines) if path == EVENTS_FILE else facts
