"""undo: a new state with the refs of an earlier one, and the folders that belong to it.

check    are the old states and all their bytes still here? else nothing at all is done
keep     what a folder holds and no state does
take     stage → verify, dataset by dataset; then all folders and refs as one

Nothing is deleted and nothing is forgotten, so an undo can be undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from usrstore.errors import IncompleteError, UsrError
from usrstore.objects.compare import compare, same
from usrstore.objects.ids import ManifestId, ObjectId
from usrstore.objects.names import DatasetId, RefName, dataset_of, folder_ref, head_ref
from usrstore.objects.progress import Emit, silent
from usrstore.objects.state import State
from usrstore.odb import reach
from usrstore.odb.states import Change
from usrstore.root import Root, Who
from usrstore.verbs import checkout
from usrstore.verbs.history import Keeping
from usrstore.verbs.operations import (
    Move,
    Refs,
    difference,
    operation,
    operations,
    position,
    state_of,
)
from usrstore.verbs.recover import recover
from usrstore.verbs.revisions import peel
from usrstore.verbs.site import Site
from usrstore.verbs.together import Together
from usrstore.worktree.capture import Capture


class Step(NamedTuple):
    """What is done to one dataset.

    Attributes:
        moves: its refs.
        folder: the state that its folder is taken to; None if it stays as it is.
        changed: how many of its files change.
        saved: the state that keeps what the folder held, if one was made for that.
    """

    dataset: DatasetId
    moves: tuple[Move, ...]
    folder: ManifestId | None
    changed: int
    saved: ManifestId | None


@dataclass(frozen=True, slots=True)
class UndoResult:
    """What an undo did, or would do.

    Attributes:
        undone: the newest operation before it.
        to: the number of the operation whose refs count again; 0 for none at all.
        now: the number of the newest operation after it.
        steps: dataset by dataset.
        shared: (remote, dataset, manifest): what a remote has of what was undone here.
    """

    undone: int
    to: int
    now: int
    steps: tuple[Step, ...]
    shared: tuple[tuple[str, DatasetId, ManifestId], ...]


def undo(
    root: Root,
    who: Who,
    datasets: Sequence[DatasetId] = (),
    *,
    to: int | None = None,
    dry_run: bool = False,
    lock_timeout_s: float = 30.0,
    emit: Emit = silent,
) -> UndoResult:
    """Go back to how refs and folders were after an earlier operation.

    Args:
        root: where.
        who: who does it.
        datasets: only these; all that differ without any.
        to: the number of that operation; by default the one before the newest (that touched
            `datasets`); 0 for before the first.
        dry_run: say what would be done.
        lock_timeout_s: how long to wait for other programs.
        emit: progress.

    Raises:
        NotFoundError: there is no such operation, or not any more.
        IncompleteError: a state it would go back to is not here in whole; nothing was changed.
    """
    newest = operation(root).state
    number, then = _target(root, newest, datasets, to)
    moves: dict[DatasetId, list[Move]] = {}
    for move in difference(newest.refs, then):
        if not datasets or dataset_of(move.name) in datasets:
            moves.setdefault(dataset_of(move.name), []).append(move)
    sites = {
        name: Site.open(root, name, who, lock_timeout_s=lock_timeout_s) for name in sorted(moves)
    }
    if not dry_run:
        for name in sites:
            recover(root, who, only=name, lock_timeout_s=lock_timeout_s)
    found: dict[DatasetId, Capture | None] = {}
    for name, site in sites.items():
        _check_whole(site, moves[name])
        goal = _goal(newest.refs, then, name)
        if goal is not None:
            found[name] = checkout.capture(site, emit)
            _check_bytes(site, found[name], goal)
    shared = tuple(_shared(root, sites, newest.refs, then))
    reason = f"undo to {number}"
    steps, together = [], Together(root, who)
    try:
        for name, site in sites.items():
            goal = _goal(newest.refs, then, name)
            changed, saved = 0, None
            if goal is not None and dry_run:
                changed = _count(site, found[name], goal)
            elif goal is not None:
                back = _Back(site, moves[name], then)
                changed, saved = checkout.take(
                    site, found[name], goal, back, reason=reason, together=together, emit=emit
                )
            else:
                together.move({m.name: Change(m.before, m.after) for m in moves[name]})
            steps.append(Step(name, tuple(moves[name]), goal, changed, saved))
        if not dry_run:
            together.promote(reason, emit=emit)
    finally:
        together.close()
    now = newest.number if dry_run else operation(root).state.number
    return UndoResult(newest.number, number, now, tuple(steps), shared)


def _target(
    root: Root, newest: State, datasets: Sequence[DatasetId], to: int | None
) -> tuple[int, Refs]:
    """The number and the refs to go back to."""
    if to is None:
        if datasets:
            candidates = (o for o in operations(root) if any(map(o.touches, datasets)))
        else:  # a collection is an operation that moves nothing
            candidates = (o for o in operations(root) if o.moves != ())
        last = next((found.state for found in candidates), newest)
        to = last.number - 1
    if to == 0 and newest.number >= 1:
        return 0, {}
    return to, state_of(root, to, newest).refs


class _Back:
    """How the refs of a dataset go back, once what its folder held has been kept."""

    def __init__(self, site: Site, moves: Sequence[Move], then: Refs) -> None:
        self._site = site
        self._moves = moves
        self._then = then

    def __call__(self) -> dict[RefName, Change]:
        folder = folder_ref(self._site.dataset)
        changes = {move.name: Change(move.before, move.after) for move in self._moves}
        now = self._site.root.states.refs().get(folder)  # moved, if something had to be kept
        changes[folder] = Change(now, self._then.get(folder))
        return changes


def _goal(now: Refs, then: Refs, dataset: DatasetId) -> ManifestId | None:
    """The state that the folder goes to; None if it stays: it was there, or nowhere."""
    goal = position(then, dataset)
    return goal if goal != position(now, dataset) else None


def _check_whole(site: Site, moves: Sequence[Move]) -> None:
    """I2: whatever the refs will name is here.

    Raises:
        IncompleteError: not any more.
    """
    get = site.root.database.get
    for move in moves:
        if move.after is None:
            continue
        try:
            manifest = peel(site.root, move.after)
            if not move.name.startswith("remotes/"):  # those may be known by name only
                for _ in reach.metadata(get, manifest):
                    pass
        except UsrError as exc:
            raise _gone(move.name, move.after, exc.message) from exc


def _check_bytes(site: Site, found: Capture | None, goal: ManifestId) -> None:
    """Every byte of the state must be in packs or in the folder.

    Raises:
        IncompleteError: some are nowhere.
    """
    get, keeping = site.overlay.get, Keeping(site.root.database)
    here = found.listing if found else {}
    wanted = [
        entry
        for path, entry in reach.listing(get, site.manifest(goal).tree).items()
        if not same(here.get(path), entry) and not keeping.has(entry)
    ]
    if not wanted:
        return
    inside = {oid for entry in here.values() if entry.size for oid, _ in reach.chunks(get, entry)}
    lacking = {
        oid
        for entry in wanted
        for oid, _ in reach.chunks(get, entry)
        if oid not in inside and not site.root.database.has(oid)
    }
    if lacking:
        what = f"{len(lacking)} chunks of it are nowhere"
        raise _gone(head_ref(site.dataset), goal, what)


def _gone(name: str, oid: ObjectId, why: str) -> IncompleteError:
    return IncompleteError(
        f"this cannot be undone: {name} would go back to {oid.short}, and {why}; nothing was changed",
        hint="only states made by `usr commit` are kept; a remote that has it can send it with "
        "`usr fetch`",
        code="undo-impossible",
    )


def _count(site: Site, found: Capture | None, goal: ManifestId) -> int:
    after = reach.listing(site.overlay.get, site.manifest(goal).tree)
    return sum(1 for _ in compare(found.listing if found else {}, after).paths())


def _shared(
    root: Root, sites: dict[DatasetId, Site], now: Refs, then: Refs
) -> list[tuple[str, DatasetId, ManifestId]]:
    """What remotes were seen to have that the new heads will not."""
    found = []
    for remote, mark in sorted(root.notes().get("remotes", {}).items()):
        for name, site in sites.items():
            seen, before, after = (
                mark["heads"].get(name),
                *(refs.get(head_ref(name)) for refs in (now, then)),
            )
            if seen is None or before is None or before == after:
                continue
            oid = ManifestId(ObjectId.parse(seen))
            kept = site.ancestry(ManifestId(after)) if after else {}
            if oid not in kept and oid in site.ancestry(ManifestId(before)):
                found.append((remote, name, oid))
    return found
