"""gc and repack: what a store may do without.

refs, operations, tags, rules → marks → repack → condemn → sweep, then what crashes left behind
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from usrstore.errors import LockedError
from usrstore.objects.ids import ObjectId
from usrstore.objects.progress import Emit, silent
from usrstore.objects.recipe import RULE
from usrstore.objects.state import State
from usrstore.odb import durable, flock, gc
from usrstore.odb.docket import Docket
from usrstore.odb.gc import Collected, Rules
from usrstore.odb.mark import Marks
from usrstore.root import Root, Who
from usrstore.verbs import interruption, memory
from usrstore.verbs.liveness import Kept, Lighter, mark, oldest_operation
from usrstore.verbs.retention import DAY_S, Retention, from_settings
from usrstore.worktree import statcache

_STALE_STAGE_S = 14 * DAY_S
_STALE_FILE_S = 3600.0
_PLACES = ("", "packs", "states", "gc", "index", "journal", "far")


@dataclass(slots=True)
class GcResult:
    """What a collection did, or would do.

    Attributes:
        collected: packs.
        lighter: kept states that are light from now on.
        operations: states of the operation log that were forgotten.
        leftovers: stages and temporary files of commands that are long dead.
        leftover_bytes: theirs.
    """

    collected: Collected = field(default_factory=Collected)
    lighter: list[Lighter] = field(default_factory=list)
    operations: int = 0
    leftovers: int = 0
    leftover_bytes: int = 0


def collect(
    root: Root,
    who: Who,
    retention: Retention,
    *,
    dry_run: bool = False,
    lock_timeout_s: float = 30.0,
    emit: Emit = silent,
) -> GcResult:
    """Delete what nothing reaches and retention does not ask for.

    Raises:
        LockedError: another collection runs.
        IntegrityError: something is damaged or missing; nothing was deleted.
    """
    result = GcResult()
    if not root.has_store:
        return result
    with _alone(root, dry_run=dry_run, timeout_s=lock_timeout_s):
        act = who.act("collection")
        now_s = act.time_us / 1e6 if dry_run else Docket(root.database.backend).now_s()
        oldest = oldest_operation(root.states, retention, now_s)

        def marked(newest: State | None) -> Marks:
            marks, result.lighter = _mark(root, newest, oldest, retention)
            if not dry_run:  # I2: what names bytes goes before the bytes do
                root.states.forget(oldest)
            return marks

        result.operations = sum(1 for number in root.states.times() if number < oldest)
        rules = Rules(retention.grace, dry_run=dry_run)
        result.collected = gc.collect(root.database, root.states, marked, rules, act, emit)
        for path, size in _leftovers(root, retention, now_s):
            result.leftovers += 1
            result.leftover_bytes += size
            if not dry_run:
                (durable.remove_tree if os.path.isdir(path) else durable.remove)(path)
    return result


def repack(root: Root, who: Who, *, lock_timeout_s: float = 30.0, emit: Emit = silent) -> Collected:
    """Merge small and half-dead packs; the old ones go with the next collections."""
    if not root.has_store:
        return Collected()
    everything = Retention()
    with _alone(root, dry_run=False, timeout_s=lock_timeout_s):

        def marked(newest: State | None) -> Marks:
            return _mark(root, newest, 0, everything)[0]

        grace = from_settings(root.config.get("gc", {}), {}).grace
        rules = Rules(grace, small=4 * gc.SMALL_BYTES, many=2, sweep=False)
        return gc.collect(root.database, root.states, marked, rules, who.act("collection"), emit)


@contextlib.contextmanager
def _alone(root: Root, *, dry_run: bool, timeout_s: float) -> Iterator[None]:
    """One collection at a time is enough; more would only be in each other's way."""
    path = root.gc_lock()
    if dry_run:
        yield
        return
    durable.make_folder(os.path.dirname(path))
    with flock.hold(path, timeout_s=timeout_s, what="the collection of this store"):
        yield


def _mark(
    root: Root, newest: State | None, oldest: int, retention: Retention
) -> tuple[Marks, list[Lighter]]:
    """Everything that is to stay, promotions under way and what the folders' caches name too."""
    coming: list[ObjectId] = []
    for dataset in interruption.interrupted(root):
        journal = interruption.find(root, dataset)
        coming += [change.new for change in journal.refs if change.new] if journal else []
    marks, lighter = mark(
        Kept(root.database, root.states),
        newest,
        oldest,
        retention,
        coming=coming,
        lights=memory.offered(root),
    )
    for dataset in root.captured():
        cache = statcache.load(root.cache_path(dataset), RULE)
        for known in cache.files.values():
            if known.recipe is not None:
                marks.recipe(known.recipe)
    return marks, lighter


def _leftovers(root: Root, retention: Retention, now_s: float) -> Iterator[tuple[str, int]]:
    """Files of commands that died long ago: stages nobody came back for, and temporary files."""
    for place in _PLACES:
        folder = os.path.join(root.store, place)
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if not name.startswith(durable.TEMPORARY_PREFIX):
                continue
            with contextlib.suppress(FileNotFoundError):  # its writer is done with it
                found = os.stat(path, follow_symlinks=False)
                if now_s - found.st_mtime >= max(_STALE_FILE_S, retention.grace):
                    yield path, found.st_size
    for dataset in root.staged():
        home = root.quarantine_path(dataset)
        newest, size = _age_and_size(home)
        if now_s - newest < max(_STALE_STAGE_S, retention.grace):
            continue
        try:
            with flock.hold(root.transfer_lock(dataset), timeout_s=0):
                if not interruption.is_interrupted(root, dataset):
                    yield home, size
        except LockedError:
            continue


def _age_and_size(home: str) -> tuple[float, int]:
    newest, size = os.stat(home).st_mtime, 0
    for at, _, names in os.walk(home):
        for name in names:
            found = os.stat(os.path.join(at, name), follow_symlinks=False)
            newest, size = max(newest, found.st_mtime), size + found.st_size
    return newest, size
