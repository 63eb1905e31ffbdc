"""Liveness: which states of a store keep their files, which become light, and what goes.

refs, operations, tags, rules → marks

The same for a root and for a bucket; a root has promotions under way and folders besides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from usrstore.objects.ids import ManifestId, ObjectId
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import DatasetId
from usrstore.objects.state import State
from usrstore.odb import reach
from usrstore.odb.database import Database
from usrstore.odb.mark import Marks
from usrstore.odb.states import States
from usrstore.verbs.history import Keeping
from usrstore.verbs.retention import Retention


class Kept(NamedTuple):
    """A store: its objects, and its chain of states."""

    database: Database
    states: States


class Lighter(NamedTuple):
    """A state that gives up its bytes."""

    oid: ManifestId
    manifest: Manifest


def oldest_operation(states: States, retention: Retention, now_s: float) -> int:
    """The oldest state that was still current as long ago as operations can be undone."""
    if retention.ops_s is None:
        return 0
    times = states.times()
    last = max(times, default=0)
    kept = [n for n in times if n + 1 in times and times[n + 1] > now_s - retention.ops_s]
    return min([last, *kept])


def mark(
    store: Kept,
    newest: State | None,
    oldest: int,
    retention: Retention,
    *,
    coming: Iterable[ObjectId] = (),
    lights: Iterable[ManifestId] = (),
) -> tuple[Marks, list[Lighter]]:
    """Everything that is to stay; and which states lose their bytes.

    Args:
        store: of which.
        newest: its state.
        oldest: the number of the oldest operation that can be undone.
        retention: the rules.
        coming: what refs are about to name.
        lights: states of which what they were is to be known, and no more.
    """
    marks = Marks(store.database)
    refs = newest.refs if newest else {}
    targets = {
        marks.named(oid): name.startswith("tags/") and not retention.keep_tagged
        for name, oid in sorted(refs.items(), key=lambda ref: not ref[0].startswith("tags/"))
    }  # a head or folder decides over a tag of the same state
    wholes = {oid: True for oid, light in targets.items() if not light}
    faint = [oid for oid, light in targets.items() if light]
    faint += [oid for oid in lights if oid not in wholes]
    for state in store.states.history() if newest else ():
        if state.number >= oldest:
            named = {marks.named(oid) for oid in state.refs.values()}
            wholes |= dict.fromkeys(named - targets.keys() - wholes.keys(), False)
    for oid in coming:
        wholes.setdefault(marks.named(oid), False)
    past = marks.history([*wholes, *faint])
    chosen, lighter = _choose(store.database, past, wholes, retention)
    for oid, strict in wholes.items():
        marks.whole(oid, strict=strict)
    for oid in chosen - wholes.keys():
        marks.whole(oid)
    for oid in past.keys() - wholes.keys() - chosen:
        marks.light(oid)
    return marks, lighter


def _choose(
    database: Database,
    past: dict[ManifestId, Manifest],
    named: dict[ManifestId, bool],
    retention: Retention,
) -> tuple[set[ManifestId], list[Lighter]]:
    """Of all states in some history, those that keep their files; and those that had them."""
    if not retention.asked:
        return set(past), []
    keeping = Keeping(database)
    kept: dict[DatasetId, dict[ManifestId, int]] = {}
    for oid, manifest in past.items():
        here = database.has(manifest.tree)
        if here and keeping.has_all(reach.listing(database.get, manifest.tree)):
            kept.setdefault(DatasetId(manifest.dataset), {})[oid] = manifest.time_us
    chosen: set[ManifestId] = set()
    for moments in kept.values():
        chosen |= retention.select(moments)
    given_up = [oid for moments in kept.values() for oid in moments]
    trees = {past[oid].tree for oid in chosen | (named.keys() & past.keys())}
    lighter = [
        Lighter(oid, past[oid])
        for oid in given_up
        if oid not in chosen and oid not in named and past[oid].tree not in trees
    ]
    return chosen, sorted(lighter, key=lambda row: (row.manifest.dataset, row.manifest.sequence))
