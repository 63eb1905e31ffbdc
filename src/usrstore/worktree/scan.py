"""Walk a dataset folder once and say what is in it, without opening a file.

Symlinks, devices, sockets and names that no state can hold are refused, all of them named
in one error: a file that is silently left out would be a file that is silently lost.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from usrstore.errors import DatasetNotFoundError, StorageError, UnsafeFileError
from usrstore.objects.names import MAX_DEPTH, MAX_PATH_BYTES, entry_problem
from usrstore.objects.sections import DERIVED_FOLDER, SNAPSHOTS_FOLDER, is_runtime

_SHOWN = 10


class Stamp(NamedTuple):
    """What stat(2) says of a file; if none of it changed, we take it that the bytes did not."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def scan(folder: str) -> dict[str, Stamp]:
    """Every file below `folder`, by its '/'-separated path. Empty folders do not count.

    Raises:
        DatasetNotFoundError: there is no such folder.
        UnsafeFileError: entries that no state can hold.
        StorageError: a folder that cannot be read.
    """
    files: dict[str, Stamp] = {}
    problems: list[str] = []
    pending = [("", folder)]
    while pending:
        prefix, path = pending.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    _visit(entry, prefix, files, problems, pending)
        except FileNotFoundError:
            if not prefix:
                raise DatasetNotFoundError(f"there is no folder {folder}") from None
        except NotADirectoryError:
            raise DatasetNotFoundError(f"{folder} is not a folder") from None
        except OSError as exc:
            raise StorageError(
                f"cannot list {path}: {exc.strerror}",
                hint="check the owner and mode of that folder",
            ) from exc
    if problems:
        raise _refused(folder, problems)
    return files


def _visit(
    entry: os.DirEntry[str],
    prefix: str,
    files: dict[str, Stamp],
    problems: list[str],
    pending: list[tuple[str, str]],
) -> None:
    name = entry.name
    top = not prefix
    if top and is_runtime(name, top=True):
        return
    path = prefix + name
    problem = entry_problem(name)
    if problem is None and (path.count("/") >= MAX_DEPTH or len(path.encode()) > MAX_PATH_BYTES):
        problem = "its path is too long or too deep"
    if problem is None and not entry.is_dir(follow_symlinks=False):
        if not entry.is_file(follow_symlinks=False):
            problem = "a symlink" if entry.is_symlink() else "a device, socket or pipe"
        elif top and name in (SNAPSHOTS_FOLDER, DERIVED_FOLDER):
            problem = "a file where a folder belongs"
        else:
            try:
                files[path] = Stamp.of(entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                pass  # it went away while we looked
            return
    if problem is not None:
        problems.append(f"{path!r}: {problem}")
    else:
        pending.append((f"{path}/", entry.path))


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
