"""Promotion: the only code that writes into a person's dataset folder (I6).

Everything is staged, verified and on disk before it starts. The old files get a second name
first, then the new ones are renamed over them, then the folder is checked, and only then do
the refs move. Killed at any instant, `resume` finishes; a failed check turns it all back.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from usrstore.errors import (
    ChangedWhileReadError,
    ConflictError,
    OutcomeUnknownError,
    StorageError,
)
from usrstore.odb import durable
from usrstore.worktree import journal as journals
from usrstore.worktree.journal import Journal, Mark, Op
from usrstore.worktree.scan import Stamp

_OLD = "old"


def plan_ops(
    folder: str,
    stage: str,
    new: Iterable[tuple[str, int]],
    gone: Iterable[str],
    stamps: dict[str, Stamp],
) -> tuple[tuple[Op, ...], tuple[str, ...]]:
    """The ops of a promotion and the folders it will make.

    Args:
        folder: the dataset.
        stage: the folder of the staged files.
        new: path and staged number of each file that is added or replaced.
        gone: paths to remove.
        stamps: the files of the folder as they were captured.
    """

    def old(path: str) -> Mark | None:
        return _mark(stamps[path]) if path in stamps else None

    ops = [
        Op(path, number, old(path), _mark(Stamp.of(os.stat(_staged(stage, number)))))
        for path, number in new
    ]
    ops += [Op(path, None, old(path), None) for path in gone]
    made: dict[str, None] = {}
    if not os.path.isdir(os.path.dirname(folder)):
        made[".."] = None  # the namespace of a first dataset
    for path, number, *_ in ops:
        if number is not None:
            for parent in _parents(path):
                if parent not in made and not os.path.isdir(os.path.join(folder, parent)):
                    made[parent] = None
    return tuple(ops), tuple(made)


def _mark(stamp: Stamp) -> Mark:
    return (stamp.size, stamp.mtime_ns, stamp.inode)


def _parents(path: str) -> list[str]:
    """The folders above a path, outermost first; the dataset folder itself is ''."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:n]) for n in range(len(parts) + 1)]


def _nothing() -> None:
    """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """One dataset in a promotion of one or several.

    Attributes:
        folder: the dataset.
        journal_path: where its journal rests.
        journal: what to do.
        check: raises if the folder is not what it should be by now.
        append: adds the journal's lines to the event log; repeated after a crash, so it must not
            mind having been done.
        take_back: undoes what `append` may have begun; repeated likewise.
    """

    folder: str
    journal_path: str
    journal: Journal
    check: Callable[[], None] = _nothing
    append: Callable[[], None] = _nothing
    take_back: Callable[[], None] = _nothing


def promote(
    store: str,
    parts: Sequence[Part],
    *,
    commit: Callable[[], None] = _nothing,
    along: Collection[str] = (),
) -> None:
    """Take staged states to their folders, all of them, or leave everything as it was.

    Every journal is written before any folder changes, and one `commit` speaks for all; so a
    group of which a journal is missing and no ref has moved did not begin.

    Args:
        store: where each `journal.stage` is relative to.
        parts: what goes where.
        commit: moves the refs; repeated after a crash, so it must not mind having been done.
        along: staged files, and folders of theirs, that are not durable yet.

    Raises:
        ChangedWhileReadError: a file of a folder is not what was captured.
        ConflictError: an interrupted promotion has still to be finished.
        OutcomeUnknownError: `commit` cannot say; the folders are new, the journals stay.
        UsrError: whatever else `check` or `commit` raised; the folders are then as before.
    """
    for part in parts:
        if os.path.exists(part.journal_path):
            raise ConflictError(
                f"a promotion of {part.journal.dataset} was interrupted and is not over; "
                "nothing was changed",
                hint="run `usr recover`, then the same command again",
                code="journal-pending",
            )
    try:
        for part in parts:
            journals.write(part.journal_path, part.journal, along=along)
        for part in parts:  # once all of them are there: a copy means that it has begun
            if _moves_old_files(part.journal):
                journals.copy(_copy(store, part.journal), part.journal)
    except Exception:
        with contextlib.suppress(StorageError):  # what stays lacks a member, and is taken back
            for part in parts:
                durable.remove(_copy(store, part.journal))
            for part in reversed(parts):  # a write that failed may have left it there
                journals.remove(part.journal_path)
        raise
    resume(store, parts, commit=commit)


def resume(store: str, parts: Sequence[Part], *, commit: Callable[[], None] = _nothing) -> None:
    """Finish what journals began: forwards, or backwards if that was decided for any of them."""
    if any(part.journal.undoing for part in parts):
        _take_back(store, parts)
        return
    try:
        for part in parts:
            _apply(part.folder, os.path.join(store, part.journal.stage), part.journal)
            part.append()
            _sync_folders(part.folder, part.journal)
            part.check()
        commit()
    except OutcomeUnknownError:
        raise  # the folder must not contradict a ref that may have moved: the journal stays
    except Exception:
        _take_back(store, parts)
        raise
    for part in parts:
        _finish(store, part.journal_path, part.journal)


def _take_back(store: str, parts: Sequence[Part]) -> None:
    """Undo every part; what one of them meets does not keep the others from it.

    Raises:
        ConflictError: somebody has written to a promoted file since; that part's journal stays.
    """
    turned = []
    for part in parts:
        journal = part.journal
        if not journal.undoing:
            journal = journal.turned_back()
            journals.write(part.journal_path, journal)
        if _moves_old_files(journal):
            journals.copy(_copy(store, journal), journal, lasting=True)
        turned.append(journal)
    met: Exception | None = None
    for part, journal in zip(parts, turned, strict=True):
        try:
            part.take_back()
            _undo(part.folder, os.path.join(store, journal.stage), journal)
            _finish(store, part.journal_path, journal)
        except Exception as exc:
            met = met or exc
    if met is not None:
        raise met


def _apply(folder: str, stage: str, journal: Journal) -> None:
    for path in journal.made:
        durable.make_folder(os.path.normpath(os.path.join(folder, path)))
    # What a file is moved into has to be on disk before it is: its own folder, the trash.
    sync = {os.path.normpath(os.path.join(folder, path, "..")) for path in journal.made}
    # The trash tells what a stage was once its journal is gone; a command's stage stays anyway.
    if journal.tree is not None or any(op.old is not None for op in journal.ops):
        trash = _trash(stage)
        durable.make_folder(trash)
        for number, op in enumerate(journal.ops):
            if op.old is not None and not _done(stage, op, folder):
                _set_aside(os.path.join(folder, op.path), _kept(stage, number), op)
        sync |= {trash, stage}
    durable.sync_files(sorted(sync))
    for op in journal.ops:
        path = os.path.join(folder, op.path)
        if op.staged is None:
            durable.remove(path)
        elif os.path.exists(_staged(stage, op.staged)):
            durable.rename(_staged(stage, op.staged), path)
    _drop_empty(folder, [op.path for op in journal.ops if op.staged is None])


def _done(stage: str, op: Op, folder: str) -> bool:
    """Whether an earlier, interrupted run did this op already.

    A power cut may leave a renamed file its old name beside the new one.
    """
    if op.staged is not None:
        return not os.path.exists(_staged(stage, op.staged)) or _now(folder, op) == op.new
    return not os.path.lexists(os.path.join(folder, op.path))


def _set_aside(path: str, kept: str, op: Op) -> None:
    """Give the file that is about to go a second name, and the new one its mode."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        if os.path.exists(kept):
            return  # moved there by an interrupted run
        raise _changed(op.path, "went away") from None
    if _mark(Stamp.of(found)) != op.old:
        raise _changed(op.path, "was written")
    durable.remove(kept)
    try:
        durable.link(path, kept)
    except StorageError:
        durable.rename(path, kept)  # a file system without hard links
    if op.staged is not None:
        staged = _staged(os.path.dirname(os.path.dirname(kept)), op.staged)
        durable.set_mode(staged, stat.S_IMODE(found.st_mode))


def _undo(folder: str, stage: str, journal: Journal) -> None:
    """Put back what was moved. What was not done yet is left alone.

    Raises:
        ConflictError: somebody has written to a promoted file since; both copies are kept.
    """
    done = [
        (number, op)
        for number, op in enumerate(journal.ops)
        if _done(stage, op, folder) or _is_away(stage, number, op, folder)
    ]
    written = [
        op.path for _, op in done if op.new and _now(folder, op) not in (op.new, op.old, None)
    ]
    if written:
        raise ConflictError(
            f"the interrupted promotion of {journal.dataset} cannot be taken back: "
            f"{', '.join(written[:5])} changed since; both copies are kept",
            hint="move your copy aside, run `usr recover`, then put it back",
            code="journal-blocked",
        )
    for number, op in done:
        path = os.path.join(folder, op.path)
        if op.old is not None and os.path.exists(_kept(stage, number)):
            durable.rename(_kept(stage, number), _made_parent(path))
        elif op.old is None:
            durable.remove(path)
    for made in reversed(journal.made):
        durable.remove_folder(os.path.normpath(os.path.join(folder, made)))
    _sync_folders(folder, journal)


def _is_away(stage: str, number: int, op: Op, folder: str) -> bool:
    """Whether the old file has only its second name, as where there are no hard links."""
    return os.path.exists(_kept(stage, number)) and not os.path.lexists(
        os.path.join(folder, op.path)
    )


def _now(folder: str, op: Op) -> Mark | None:
    try:
        return _mark(Stamp.of(os.stat(os.path.join(folder, op.path), follow_symlinks=False)))
    except FileNotFoundError:
        return None


def _made_parent(path: str) -> str:
    durable.make_folder(os.path.dirname(path))
    return path


def _finish(store: str, journal_path: str, journal: Journal) -> None:
    # A journal that a power cut brings back finds everything done; only a removal, done once
    # more, could meet a file that another program has made since.
    removes = journal.undoing or any(op.staged is None for op in journal.ops)
    lasting = removes or journal.tree is not None
    stage, copy = os.path.join(store, journal.stage), _copy(store, journal)
    if os.path.exists(copy):
        journals.remove(copy)  # durably: one that outlived its journal would say that it was lost
    journals.remove(journal_path, sync=lasting)
    if journal.tree is None:  # the stage of commands is used again and again
        empty_trash(stage)
        return
    home = os.path.dirname(stage)
    clear(home)
    durable.remove_tree(home)


def empty_trash(stage: str) -> None:
    """Remove the old files of a promotion that is over; the rest of its stage stays."""
    durable.remove_tree(_trash(stage))


def leftovers(home: str) -> list[str]:
    """Stages below `home` that hold old files: of a promotion that is not over, or was cut off.

    Args:
        home: where one dataset's stages are.
    """
    names = os.listdir(home) if os.path.isdir(home) else []
    stages = [os.path.join(home, name) for name in sorted(names)]
    return [stage for stage in stages if os.path.isdir(_trash(stage))]


def clear(home: str) -> None:
    """Remove the stages of promotions that had ended when they were cut off: no journal is left."""
    for stage in leftovers(home):
        for name in os.listdir(stage):
            if name != _OLD:
                durable.remove(os.path.join(stage, name))
        durable.remove_tree(stage)  # the old files last: they tell what this was


def _drop_empty(folder: str, removed: list[str]) -> None:
    """Remove the folders that a removal left empty."""
    parents = {parent for path in removed for parent in _parents(path) if parent}
    for parent in sorted(parents, key=len, reverse=True):
        durable.remove_folder(os.path.join(folder, parent))


def _sync_folders(folder: str, journal: Journal) -> None:
    """Make the names that a promotion changed durable."""
    changed = {os.path.dirname(op.path) for op in journal.ops}
    changed |= {os.path.join(path, "..") for path in journal.made}
    gone = [op.path for op in journal.ops if op.staged is None]
    changed |= {parent for path in gone for parent in _parents(path)}
    for parent in sorted({os.path.normpath(os.path.join(folder, path)) for path in changed}):
        if os.path.isdir(parent):
            durable.sync_folder(parent)


def _moves_old_files(journal: Journal) -> bool:
    """Whether something would be lost with the journal; what a group's member does is its own."""
    return bool(journal.group) or any(op.old is not None for op in journal.ops)


def _copy(store: str, journal: Journal) -> str:
    return os.path.join(store, journal.stage, journals.COPY)


def _staged(stage: str, number: int) -> str:
    return f"{stage}/{number}"


def _trash(stage: str) -> str:
    return os.path.join(stage, _OLD)


def _kept(stage: str, number: int) -> str:
    return os.path.join(_trash(stage), str(number))


def check_writable(folder: str) -> None:
    """Raises: StorageError if files cannot be renamed into `folder` or its first parent."""
    at = folder
    while not os.path.isdir(at):
        at = os.path.dirname(at)
    if not os.access(at, os.W_OK | os.X_OK):
        raise StorageError(
            f"{at} may not be written; nothing was changed",
            hint="check the owner and mode of that folder",
        )


def _changed(path: str, how: str) -> ChangedWhileReadError:
    return ChangedWhileReadError(
        f"{path} {how} by another program just now; the folder is as it was",
        hint="run the same command again once that program is done",
    )
