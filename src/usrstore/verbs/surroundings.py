"""What lies beside packs and states: journals, caches, quarantine, settings, memories.

None of it is needed to read a kept state, but a damaged one stops or misleads a command. The
first group a repair can set right by itself, for it can be made anew; the second holds what
a person said, and only a person can say it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from usrstore.dataset import locks
from usrstore.errors import DecodeError, LockedError, UsrError
from usrstore.objects.ids import Kind, hash_object
from usrstore.objects.names import DatasetId
from usrstore.objects.recipe import RULE
from usrstore.odb import flock
from usrstore.remote import profiles
from usrstore.root import Root
from usrstore.verbs import believing, interruption
from usrstore.verbs.findings import REPAIR, Finding
from usrstore.worktree import journal as journals
from usrstore.worktree import statcache
from usrstore.worktree.stagelog import landed


def look(root: Root) -> Iterator[Finding]:
    """Everything beside packs and states that is damaged or waits."""
    yield from _settings(root)
    yield from _journals(root)
    for dataset in root.cached():
        if (reason := damaged_cache(root, dataset)) is not None:
            yield Finding("cache-damaged", f"index/{dataset}", reason, REPAIR)
    for dataset in root.staged():
        for stage, reason in damaged_stages(root, dataset):
            where = os.path.relpath(stage, root.store)
            yield Finding("quarantine-damaged", where, reason, REPAIR)


def _settings(root: Root) -> Iterator[Finding]:
    def said(act: Callable[[], object], where: str, remedy: str) -> Iterator[Finding]:
        try:
            act()
        except (UsrError, UnicodeDecodeError, OSError) as exc:
            reason = exc.message if isinstance(exc, UsrError) else str(exc)
            hint = exc.hint if isinstance(exc, UsrError) else None
            yield Finding("settings-damaged", where, reason, hint or remedy)

    mend = "mend that file, or restore it from a copy"
    yield from said(lambda: believing.mode_of(root, None), "config", mend)
    yield from said(root.notes, "seen.json", mend)
    yield from said(lambda: believing.allowed_signers(root), "allowed_signers", mend)
    path = os.path.join(root.store, "remotes.yaml")
    yield from said(lambda: profiles.load(path), "remotes.yaml", mend)


def _journals(root: Root) -> Iterator[Finding]:
    for dataset in interruption.interrupted(root):
        try:
            found = journals.find(root.journal_path(dataset))
        except DecodeError as exc:
            yield Finding("journal-damaged", f"journal/{dataset}", exc.message, REPAIR)
            continue
        if _is_left(root, dataset):
            message = f"a promotion of {dataset} was interrupted"
            if found is None:
                lost = f"{message}, and its journal is lost; its stage has a copy"
                yield Finding("journal-missing", f"journal/{dataset}", lost, REPAIR)
            yield Finding("interrupted", dataset, message, "usr recover")


def _is_left(root: Root, dataset: DatasetId) -> bool:
    """Whether the journal is one that nobody is at work on; who promotes holds a lock."""
    lock = os.path.join(root.folder(dataset), locks.DATASET_LOCK)
    try:
        with (
            flock.hold(root.transfer_lock(dataset), timeout_s=0, create=False),
            flock.hold(lock, timeout_s=0, create=False),
        ):
            return interruption.is_interrupted(root, dataset)
    except LockedError:
        return False


def damaged_cache(root: Root, dataset: DatasetId) -> str | None:
    """Why the stat cache of a dataset cannot be read; None if it can."""
    try:
        with open(root.cache_path(dataset), "rb") as file:
            statcache.StatCache.decode(file.read(), RULE)
    except FileNotFoundError:
        return None
    except DecodeError as exc:
        return f"{exc.message}; until it is mended every file of {dataset} is read anew"
    except OSError as exc:
        return f"it cannot be read: {exc.strerror}"
    return None


def damaged_stages(root: Root, dataset: DatasetId) -> Iterator[tuple[str, str]]:
    """Stages of interrupted transfers in which a chunk that landed is not what its log says."""
    home = root.quarantine_path(dataset)
    for name in sorted(os.listdir(home)) if os.path.isdir(home) else []:
        stage = os.path.join(home, name)
        log = os.path.join(stage, "landed")
        if not os.path.isfile(log):
            continue
        try:
            with open(log, "rb") as file:
                data = file.read()
        except OSError as exc:
            yield stage, f"its log cannot be read: {exc.strerror}"
            continue
        bad = sum(
            1
            for oid, spot in landed(data)
            if not _is_there(stage, oid, spot.file, spot.offset, spot.size)
        )
        if bad:
            yield stage, f"{bad} chunks of an interrupted transfer are not what its log says"


def _is_there(stage: str, oid: bytes, number: int, offset: int, size: int) -> bool:
    try:
        fd = os.open(os.path.join(stage, str(number)), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True  # a promotion took it out; nobody will read it here
    except OSError:
        return False
    try:
        return hash_object(Kind.CHUNK, os.pread(fd, min(size, 1 << 20), offset)) == oid
    except OSError:
        return False
    finally:
        os.close(fd)
