"""Finish or undo promotions that were interrupted."""

from __future__ import annotations

import os

from usrstore.dataset import locks
from usrstore.errors import LockedError, StorageError
from usrstore.objects.names import DatasetId
from usrstore.odb import durable, flock
from usrstore.root import Root, Who
from usrstore.verbs import finishing
from usrstore.worktree import journal as journals
from usrstore.worktree import promote
from usrstore.worktree.journal import Journal


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
    done = []
    for dataset in root.journaled():
        if only is not None and dataset != only:
            continue
        lock = root.transfer_lock(dataset)
        durable.make_folder(os.path.dirname(lock))
        with flock.hold(lock, timeout_s=lock_timeout_s, what=f"a transfer of {dataset}"):
            journal = journals.find(root.journal_path(dataset))
            if journal is not None:
                done.append((dataset, _resume(root, who, dataset, journal, lock_timeout_s)))
    _clear(root, only)
    return done


def _clear(root: Root, only: DatasetId | None) -> None:
    """Remove what is left of promotions that had ended but for that; not of running ones."""
    for dataset in root.staged() if only is None else [only]:
        home = root.quarantine_path(dataset)
        if not promote.leftovers(home):
            continue
        try:
            with flock.hold(root.transfer_lock(dataset), timeout_s=0):
                if journals.find(root.journal_path(dataset)) is None:
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
                if journals.find(root.journal_path(dataset)) is None:
                    clear_stage(stage)
        except LockedError:
            continue


def clear_stage(stage: str) -> None:
    """Empty the stage of commands; nobody else may be using it."""
    promote.empty_trash(stage)
    for name in os.listdir(stage):
        durable.remove(os.path.join(stage, name))


def _resume(
    root: Root, who: Who, dataset: DatasetId, journal: Journal, lock_timeout_s: float
) -> str:
    folder = root.folder(dataset)
    with locks.writing(folder, timeout_s=lock_timeout_s):
        try:
            promote.resume(
                folder,
                root.store,
                root.journal_path(dataset),
                journal,
                # All of it was verified before the journal was written; whatever differs now
                # was changed since, on top of the new state.
                check=lambda: None,
                commit=lambda: finishing.commit(root, who, journal),
                append=lambda: finishing.append(root, journal),
                take_back=lambda: finishing.take_back(root, journal),
            )
        except StorageError:
            raise
        except Exception:
            if os.path.exists(root.journal_path(dataset)):
                raise
            return "undone"  # something stood in the way, and all of it was turned back
    return "undone" if journal.undoing else "finished"
