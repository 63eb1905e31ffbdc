"""Interruption: whether a dataset is between two states, and the journal that knows (I6).

Where a promotion moves old files aside, its stage has a copy of its journal: it comes as soon as
the journal is durable, and goes before the journal does. So a copy without a readable journal
says that the journal was lost while it was needed, and the old files may be nowhere else.
"""

from __future__ import annotations

import os

from usrstore.dataset import locks
from usrstore.errors import DecodeError, LockedError
from usrstore.objects.names import DatasetId
from usrstore.odb import durable, flock
from usrstore.root import Root
from usrstore.worktree import journal as journals
from usrstore.worktree.journal import Journal


def copies(root: Root, dataset: DatasetId) -> list[str]:
    """Copies of a dataset's journal, in the stages of promotions that are not over."""
    home = root.quarantine_path(dataset)
    try:
        names = sorted(os.listdir(home))
    except (FileNotFoundError, NotADirectoryError):
        names = []
    stages = [root.stage_path(dataset), *(os.path.join(home, name) for name in names)]
    paths = (os.path.join(stage, journals.COPY) for stage in stages)
    return [path for path in paths if os.path.exists(path)]


def is_interrupted(root: Root, dataset: DatasetId) -> bool:
    """Whether a promotion is at work, or was interrupted, even if its journal is lost."""
    return os.path.exists(root.journal_path(dataset)) or bool(copies(root, dataset))


def interrupted(root: Root) -> list[DatasetId]:
    """Every dataset with a promotion that is at work or was interrupted."""
    lost = (name for name in {*root.staged(), *root.acted()} if copies(root, name))
    return sorted({*root.journaled(), *lost})


def find(root: Root, dataset: DatasetId) -> Journal | None:
    """What a dataset's journal says, or the copy of one that is lost.

    Raises:
        DecodeError: nothing of it can be read; a person must look.
    """
    paths = [root.journal_path(dataset), *copies(root, dataset)]
    met: DecodeError | None = None
    for path in paths:
        try:
            journal = journals.find(path)
        except DecodeError as exc:
            met = met or exc
        else:
            if journal is not None:
                return journal
    if met is not None:
        raise met
    return None


def restore(root: Root, dataset: DatasetId, *, held: bool = False) -> bool:
    """Write a journal anew that is lost or damaged, from the copy in its stage; True if so.

    Args:
        root, dataset: where.
        held: whether transfers of the dataset wait for the caller already.

    Raises:
        DecodeError: neither it nor the copy can be read.
    """
    if not copies(root, dataset) or _is_readable(root, dataset):
        return False
    lock = root.transfer_lock(dataset)
    durable.make_folder(os.path.dirname(lock))
    try:
        if held:
            return _restore(root, dataset)
        with flock.hold(lock, timeout_s=0):
            return _restore(root, dataset)
    except LockedError:
        return False  # it is no one's loss: somebody promotes


def _restore(root: Root, dataset: DatasetId) -> bool:
    lock = os.path.join(root.folder(dataset), locks.DATASET_LOCK)
    with flock.hold(lock, timeout_s=0, create=False):  # nor does a command promote
        if not copies(root, dataset) or _is_readable(root, dataset):
            return False
        journal = find(root, dataset)
        if journal is not None:
            journals.write(root.journal_path(dataset), journal)
        return journal is not None


def _is_readable(root: Root, dataset: DatasetId) -> bool:
    try:
        return journals.find(root.journal_path(dataset)) is not None
    except DecodeError:
        return False
