"""Walk a dataset folder once and say what is in it, without opening a file.

Symlinks, devices, sockets and names that no state can hold are refused, all of them named
in one error: a file that is silently left out would be a file that is silently lost.

What stat(2) says is kept folder by folder as packed bytes, so that a folder nobody touched
costs one comparison of bytes, not a value for each of its files.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from usrstore.errors import DatasetNotFoundError, StorageError, UnsafeFileError
from usrstore.objects.names import MAX_DEPTH, MAX_PATH_BYTES, entry_problem
from usrstore.objects.sections import (
    DERIVED_FOLDER,
    PRIMARY_FILE,
    SNAPSHOTS_FOLDER,
    is_runtime,
)
from usrstore.worktree import scout

STAMP_BYTES = 32
_STAMP = struct.Struct("=4q")
_SHOWN = 10
_TYPE = stat.S_IFMT(0xFFFF)
_HALF = 1 << 63  # what a signed number of 64 bits cannot hold


class Stamp(NamedTuple):
    """What stat(2) says of a file; if none of it changed, we take it that the bytes did not.

    Each is a signed number of 64 bits, wrapped where a file system goes beyond.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        stamp = cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        return stamp if max(stamp) < _HALF else cls._make(map(_wrap, stamp))


def _wrap(number: int) -> int:
    return (number + _HALF) % (2 * _HALF) - _HALF


class Shelf(NamedTuple):
    """The files directly in one folder, in the order in which the file system lists them.

    Attributes:
        names: joined by '/', the one character that no name can hold.
        stamps: 32 bytes for each.
    """

    names: str
    stamps: bytes

    @classmethod
    def of(cls, rows: Sequence[tuple[str, Stamp]]) -> Shelf:
        numbers = [number for _, stamp in rows for number in stamp]
        return cls("/".join(name for name, _ in rows), array("q", numbers).tobytes())

    def __len__(self) -> int:
        return len(self.stamps) // STAMP_BYTES

    def rows(self) -> Iterator[tuple[str, Stamp]]:
        if self.stamps:
            stamps = map(Stamp._make, _STAMP.iter_unpack(self.stamps))
            yield from zip(self.names.split("/"), stamps, strict=True)


Shelves = dict[str, Shelf]
"""A whole dataset: the shelf of each folder that holds files, by its path: '' or 'a/b/'."""


def scan(folder: str, lone: str | None = None) -> dict[str, Stamp]:
    """Every file below `folder`, by its '/'-separated path. Empty folders do not count.

    Args:
        folder: the dataset.
        lone: the name of the one file in it that counts; it stands as the primary.

    Raises:
        DatasetNotFoundError: there is no such folder.
        UnsafeFileError: entries that no state can hold.
        StorageError: a folder that cannot be read.
    """
    return stamps(walk(folder, lone=lone))


def stamps(shelves: Shelves) -> dict[str, Stamp]:
    """The files of all shelves by their paths."""
    return {
        prefix + name: stamp for prefix, shelf in shelves.items() for name, stamp in shelf.rows()
    }


def count(shelves: Shelves) -> tuple[int, int]:
    """How many files there are, and how many bytes they have."""
    sizes = (memoryview(shelf.stamps).cast("q")[::4] for shelf in shelves.values())
    return sum(map(len, shelves.values())), sum(map(sum, sizes))


def walk(folder: str, known: Mapping[str, Shelf] | None = None, lone: str | None = None) -> Shelves:
    """Every file below `folder`, as `scan` says. A shelf that is as it was known is that object."""
    known = known or {}
    if lone is not None:
        return _alone(folder, lone, known)
    found: Shelves = {}
    problems: list[str] = []

    def look(prefix: str) -> list[str]:
        shelf, below = _list(folder, prefix, known.get(prefix), problems)
        if shelf is not None:
            found[prefix] = shelf
        return [f"{prefix}{name}/" for name in below]

    def look_again(prefix: str) -> list[str] | None:
        shelf, below = _list(folder, prefix, known[prefix], problems)
        return below if shelf is known[prefix] and not problems else None

    theirs = _half(known)
    later: list[str] = []
    with contextlib.ExitStack() as held:
        pending = look("")
        scouting = None
        if theirs:
            with contextlib.suppress(OSError):  # no process to be had: we look at all of it
                scouting = held.enter_context(scout.Scout.send(theirs, look_again))
        while pending:
            prefix = pending.pop()
            if scouting is not None and prefix in theirs:
                later.append(prefix)
            else:
                pending += look(prefix)
        seen = scouting.report() if scouting is not None else {}
    while later:
        prefix = later.pop()
        if prefix in seen:
            found[prefix] = known[prefix]
            later += [f"{prefix}{name}/" for name in seen[prefix]]
        else:
            later += look(prefix)
    if problems:
        raise _refused(folder, problems)
    return found


def _alone(folder: str, lone: str, known: Mapping[str, Shelf]) -> Shelves:
    try:
        found = os.stat(os.path.join(folder, lone), follow_symlinks=False)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise StorageError(f"cannot look at {os.path.join(folder, lone)}: {exc.strerror}") from exc
    if problem := _problem("", lone, found.st_mode):
        raise _refused(folder, [problem])
    shelf = Shelf.of([(PRIMARY_FILE, Stamp.of(found))])
    return {"": known[""] if known.get("") == shelf else shelf}


def _half(known: Mapping[str, Shelf]) -> dict[str, None]:
    """The folders that a second process is to look at, if one is worth its price."""
    total = sum(map(len, known.values()))
    chosen: dict[str, None] = {}
    if scout.worth_sending(total):
        files = 0
        for prefix, shelf in known.items():
            if prefix and files < total // 2:
                chosen[prefix] = None
                files += len(shelf)
    return chosen


def _list(
    folder: str, prefix: str, known: Shelf | None, problems: list[str]
) -> tuple[Shelf | None, list[str]]:
    """What lies directly in one folder: the shelf of its files, and the names of its folders."""
    path = os.path.join(folder, prefix[:-1]) if prefix else folder
    names: list[str] = []
    numbers: list[int] = []
    others: list[tuple[str, int]] = []
    top = not prefix
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if top and is_runtime(entry.name, top=True):
                    continue
                try:
                    said = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # it went away while we looked
                if said.st_mode & _TYPE == stat.S_IFREG:
                    names.append(entry.name)
                    numbers += (said.st_size, said.st_mtime_ns, said.st_ctime_ns, said.st_ino)
                else:
                    others.append((entry.name, said.st_mode))
    except FileNotFoundError:
        if top:
            raise DatasetNotFoundError(f"there is no folder {folder}") from None
        return None, []
    except NotADirectoryError:
        raise DatasetNotFoundError(f"{folder} is not a folder") from None
    except OSError as exc:
        raise StorageError(
            f"cannot list {path}: {exc.strerror}",
            hint="check the owner and mode of that folder",
        ) from exc
    shelf = Shelf("/".join(names), _pack(numbers)) if names else None
    if shelf is not None and shelf == known:
        shelf = known  # whose names were found to be good when it became known
    else:
        problems += filter(None, (_problem(prefix, name, stat.S_IFREG) for name in names))
    below = []
    for name, mode in others:
        problem = _problem(prefix, name, mode)
        if problem is None:
            below.append(name)
        else:
            problems.append(problem)
    return shelf, below


def _pack(numbers: list[int]) -> bytes:
    try:
        return array("q", numbers).tobytes()
    except OverflowError:
        return array("q", map(_wrap, numbers)).tobytes()


def _problem(prefix: str, name: str, mode: int) -> str | None:
    """Why no state can hold this entry of the folder `prefix`; None if one can."""
    problem = entry_problem(name)
    if problem is None and (
        prefix.count("/") >= MAX_DEPTH or len(f"{prefix}{name}".encode()) > MAX_PATH_BYTES
    ):
        problem = "its path is too long or too deep"
    elif problem is None and not stat.S_ISDIR(mode):
        if stat.S_ISLNK(mode):
            problem = "a symlink"
        elif not stat.S_ISREG(mode):
            problem = "a device, socket or pipe"
        elif not prefix and name in (SNAPSHOTS_FOLDER, DERIVED_FOLDER):
            problem = "a file where a folder belongs"
    return problem and f"{prefix + name!r}: {problem}"


def _refused(folder: str, problems: list[str]) -> UnsafeFileError:
    problems.sort()
    more = len(problems) - _SHOWN
    lines = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
    return UnsafeFileError(
        f"{folder} holds {len(problems)} {'entry' if len(problems) == 1 else 'entries'} that "
        f"cannot be part of a state:{lines}" + (f"\n  … and {more} more" if more > 0 else ""),
        hint="replace links by the files they point to, rename or remove the rest; "
        "nothing was changed",
    )
