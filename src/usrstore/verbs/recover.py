"""Finish or undo promotions that were interrupted."""

from __future__ import annotations

import contextlib
import os

from usrstore.dataset import locks
from usrstore.errors import ConflictError, LockedError, StorageError
from usrstore.objects.names import DatasetId
from usrstore.odb import durable, flock
from usrstore.root import Root, Who
from usrstore.verbs import finishing, interruption
from usrstore.worktree import journal as journals
from usrstore.worktree import promote
from usrstore.worktree.journal import Journal

_ATTEMPTS = 8


def recover(
    root: Root, who: Who, *, only: DatasetId | None = None, lock_timeout_s: float = 30.0
) -> list[tuple[DatasetId, str]]:
    """Bring every dataset with a journal to exactly one state.

    Returns:
        The datasets concerned, each `finished` or `undone`.

    Raises:
        LockedError: the promotion is still running elsewhere.
        DecodeError: a journal that cannot be read.
    """
    done: dict[DatasetId, str] = {}
    for dataset in interruption.interrupted(root):
        if dataset not in done and only in (None, dataset):
            interruption.restore(root, dataset)
            done |= _recover(root, who, dataset, lock_timeout_s)
    _clear(root, only)
    return sorted(done.items())


def _recover(
    root: Root, who: Who, dataset: DatasetId, lock_timeout_s: float
) -> dict[DatasetId, str]:
    """One dataset, and those that change together with it."""
    for _ in range(_ATTEMPTS):
        seen = journals.find(root.journal_path(dataset))
        group = _group(dataset, seen)
        with contextlib.ExitStack() as held:
            for member in group:
                lock = root.transfer_lock(member)
                durable.make_folder(os.path.dirname(lock))
                what = f"a transfer of {member}"
                held.enter_context(flock.hold(lock, timeout_s=lock_timeout_s, what=what))
            found = {name: _find(root, name) for name in group}
            if _group(dataset, found[dataset]) != group:
                continue  # something else began while we waited
            left = {
                name: journal
                for name, journal in found.items()
                if journal is not None and _group(name, journal) == group
            }
            return _resume(root, who, group, left, lock_timeout_s)
    raise ConflictError(
        f"{dataset} was interrupted again and again while it was recovered; nothing was changed",
        hint="see what else runs on it, then run the same command again",
        code="journal-pending",
    )


def _find(root: Root, dataset: DatasetId) -> Journal | None:
    """The journal of a dataset whose transfers wait; that of a group's member may be lost, too."""
    interruption.restore(root, dataset, held=True)
    return journals.find(root.journal_path(dataset))


def _group(dataset: DatasetId, journal: Journal | None) -> list[DatasetId]:
    """The datasets that change together with one, in the order in which they are locked."""
    others = journal.group if journal is not None else ()
    return sorted({dataset, *(DatasetId(name) for name in others)})


def _clear(root: Root, only: DatasetId | None) -> None:
    """Remove what is left of promotions that had ended but for that; not of running ones."""
    for dataset in root.staged() if only is None else [only]:
        home = root.quarantine_path(dataset)
        if not promote.leftovers(home):
            continue
        try:
            with flock.hold(root.transfer_lock(dataset), timeout_s=0):
                if not interruption.is_interrupted(root, dataset):
                    promote.clear(home)
        except LockedError:
            continue
    _clear_acts(root, only)


def _clear_acts(root: Root, only: DatasetId | None) -> None:
    """Remove what was staged by commands that were cut off before they had a journal."""
    for dataset in root.acted() if only is None else [only]:
        stage = root.stage_path(dataset)
        if not (os.path.isdir(stage) and os.listdir(stage)):
            continue
        lock = os.path.join(root.folder(dataset), locks.DATASET_LOCK)
        try:
            with (
                flock.hold(root.transfer_lock(dataset), timeout_s=0),
                flock.hold(lock, timeout_s=0, create=False),
            ):
                if not interruption.is_interrupted(root, dataset):
                    clear_stage(stage)
        except LockedError:
            continue


def clear_stage(stage: str) -> None:
    """Empty the stage of commands; nobody else may be using it."""
    promote.empty_trash(stage)
    for name in os.listdir(stage):
        durable.remove(os.path.join(stage, name))


def _resume(
    root: Root,
    who: Who,
    group: list[DatasetId],
    left: dict[DatasetId, Journal],
    lock_timeout_s: float,
) -> dict[DatasetId, str]:
    """Finish or undo what is left of a group: all of it the same way."""
    if not left:
        return {}
    one = next(iter(left.values()))
    over = len(group) > 1 and finishing.is_committed(root, one)
    if len(left) < len(group) and not over:  # it had not begun, or is being taken back
        left = {name: journal.turned_back() for name, journal in left.items()}
    undoing = any(journal.undoing for journal in left.values())
    parts = [_part(root, name, journal) for name, journal in left.items()]

    def commit() -> None:
        if not over:
            finishing.commit(root, who, one)

    with contextlib.ExitStack() as held:
        for name in left:
            folder = root.folder(name)
            held.enter_context(
                locks.writing(folder, timeout_s=lock_timeout_s, create=root.makes_locks)
            )
        try:
            promote.resume(root.store, parts, commit=commit)
        except StorageError:
            raise
        except Exception:
            if any(os.path.exists(part.journal_path) for part in parts):
                raise
            undoing = True  # something stood in the way, and all of it was turned back
    return dict.fromkeys(left, "undone" if undoing else "finished")


def _part(root: Root, dataset: DatasetId, journal: Journal) -> promote.Part:
    return promote.Part(
        root.folder(dataset),
        root.journal_path(dataset),
        journal,
        # All of it was verified before the journal was written; whatever differs now was
        # changed since, on top of the new state.
        check=lambda: None,
        append=lambda: finishing.append(root, journal),
        take_back=lambda: finishing.take_back(root, journal),
    )
