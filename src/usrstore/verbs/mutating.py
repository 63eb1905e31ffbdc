"""Mutation: the one way in which a command changes a dataset, files and events as one act.

    with mutating(site, "import_rows") as act:
        with parquetfile.appending(act.folder_path("records.parquet"), act.replace("records.parquet")) as w:
            w.write(rows)
        act.snapshot()
        act.event("import_rows", args={"n": 12}, table="records.parquet")
        act.note("imported 12 rows")

lock → recover → stage → journal → promote → append events → forget the journal
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator

from usrstore.dataset import locks
from usrstore.errors import ConflictError
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.odb import flock
from usrstore.verbs import interruption
from usrstore.verbs.mutation import Mutation
from usrstore.verbs.recover import recover
from usrstore.verbs.site import Site

_ATTEMPTS = 8


@contextlib.contextmanager
def mutating(site: Site, *, create: bool = False, whole_log: bool = False) -> Iterator[Mutation]:
    """Change a dataset: all that the block stages and says happens, or nothing.

    While the block runs the dataset's lock is held: other commands wait, readers go on and
    see the old files. When it ends, the staged files are renamed into place and the events are
    appended, both as one: killed at any instant, the next command (or `usr recover`) makes it
    whole or takes it back. If the block raises, nothing was changed. A block that stages
    nothing and says nothing changes nothing.

    An interrupted earlier act or transfer is recovered first. A registry that this dataset
    has not seen yet is frozen into `_registry/`, with its event, by the act itself.

    Args:
        site: the dataset. The store is made if there is none.
        create: the dataset must not exist yet, instead of having to.
        whole_log: keep event writers out from the beginning, for an act that replaces the log.

    Raises:
        DatasetNotFoundError, ConflictError: it does not exist, or does (`create`).
        LockedError: another program kept the dataset for longer than `site.lock_timeout_s`.
        ChangedWhileReadError: a program that knows no locks wrote to a file that is replaced.
        IntegrityError: the event log's last line is torn.
        StorageError: the machine refused; everything is as it was.
    """
    root = site.root
    if not create and not interruption.is_interrupted(root, site.dataset):
        root.check_dataset(site.dataset)  # with a journal it may be about to exist
    root.create_store()
    with _locked(site, create=create):
        act = Mutation(site)
        held = contextlib.ExitStack()
        try:
            if whole_log:
                held.enter_context(act.hold_log())
            yield act
            act.finish()
        finally:
            held.close()
            act.discard()


@contextlib.contextmanager
def holding(site: Site) -> Iterator[Site]:
    """Hold a dataset for several acts; other commands and tools wait meanwhile.

    Gives the site to act on: its acts do not wait for the lock that is held here.

    Raises:
        DatasetNotFoundError, LockedError, ConflictError: as `mutating`.
    """
    site.root.check_dataset(site.dataset)
    site.root.create_store()
    with _locked(site, create=False):
        yield dataclasses.replace(site, held=True)


@contextlib.contextmanager
def _locked(site: Site, *, create: bool) -> Iterator[None]:
    """Hold the dataset, with no interrupted promotion left in it."""
    root, dataset = site.root, site.dataset
    if site.held:
        yield
        return
    for _ in range(_ATTEMPTS):
        if interruption.is_interrupted(root, dataset):
            recover(root, site.who, only=dataset, lock_timeout_s=site.lock_timeout_s)
        with contextlib.ExitStack() as held:
            if create:
                held.enter_context(site.transfer_lock())
                if site.exists:
                    held.enter_context(_dataset_lock(site))
                _check_free(site)
            else:
                held.enter_context(_dataset_lock(site))
            if not interruption.is_interrupted(root, dataset):
                if not create:
                    root.check_dataset(dataset)  # it may have gone while we waited
                yield
                return
    raise ConflictError(
        f"{dataset} was interrupted again and again while it was recovered; nothing was changed",
        hint="see what else runs on it, then run the same command again",
        code="journal-pending",
    )


def _dataset_lock(site: Site) -> contextlib.AbstractContextManager[bool]:
    return flock.hold(
        os.path.join(site.folder, locks.DATASET_LOCK),
        timeout_s=site.lock_timeout_s,
        what=f"the dataset {site.dataset}",
    )


def _check_free(site: Site) -> None:
    if os.path.lexists(os.path.join(site.folder, PRIMARY_FILE)):
        raise ConflictError(
            f"there is a dataset {site.dataset} already; nothing was changed",
            hint="give the new one another name",
            code="dataset-exists",
        )


__all__ = ["Mutation", "holding", "mutating"]
