"""Which overlay files a dataset has, by their paths alone: compact ones, and parts.

Archived overlays, ledgers and what other tools are still writing are not among them.

Whoever compacts an overlay puts the compact file there first and removes the parts then; whoever
adds a part to a compact one does it the other way round. No reader takes a lock, so a listing
may fall in between: it is made again until it shows a moment that was.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable

from usrstore.dataset.tablefile import Folder
from usrstore.errors import OverlayError
from usrstore.objects.sections import DERIVED_FOLDER

_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_PART = re.compile(r"part-[^/]*\.parquet\Z")
_PAUSES_S = (0.005, 0.02, 0.1, 0.4, 1.0)
"""Between looks at what ought not to be: who is changing it needs some renames' time, and may
have to wait for a processor in the middle of them."""
_LOOKS = 20  # at a folder that others change all the time

Stamps = dict[str, tuple[int, int, int]]
"""Path in the dataset → inode, size, mtime_ns."""


def find(folder: Folder) -> dict[str, tuple[str, ...]]:
    """The overlay files of a dataset by namespace, as paths in its folder, sorted.

    Archived overlays, ledgers and what other tools are still writing are not among them.

    Raises:
        OverlayError: namespaces that have a compact file and parts, all of them named; a folder
            has them still after a while.
    """
    if isinstance(folder, str | os.PathLike):
        name = os.path.basename(folder)
        compact, parts = _in_folder(folder)
        for pause_s in _PAUSES_S:
            if not compact & parts.keys():
                break
            time.sleep(pause_s)
            compact, parts = _in_folder(folder)
    else:
        name = "the state"
        compact, parts = _in_paths(folder.paths())
    if both := sorted(compact & parts.keys()):
        listed = "; ".join(
            f"{DERIVED_FOLDER}/{ns}.parquet and {DERIVED_FOLDER}/{ns}/{parts[ns][0]}"
            + (f" (of {len(parts[ns])} parts)" if len(parts[ns]) > 1 else "")
            for ns in both
        )
        raise OverlayError(
            f"{name} has a compact overlay and parts at once: {listed}; nothing was changed",
            hint="keep one of the two: move the other out of the dataset",
            code="overlay-both-forms",
        )
    found: dict[str, tuple[str, ...]] = {ns: (_compact_path(ns),) for ns in compact}
    found |= {ns: _part_paths(ns, names) for ns, names in parts.items()}
    return dict(sorted(found.items()))


def listed(folder: str | os.PathLike[str]) -> list[str]:
    """The overlay files of a folder, whatever their form: this refuses nothing."""
    compact, parts = _in_folder(folder)
    paths = [_compact_path(namespace) for namespace in sorted(compact)]
    return paths + [path for ns, names in sorted(parts.items()) for path in _part_paths(ns, names)]


def stamps(folder: str | os.PathLike[str], paths: Iterable[str]) -> Stamps:
    """Files as they are on the disk now; those that are not there are left out."""
    found: Stamps = {}
    for path in paths:
        try:
            row = os.stat(os.path.join(folder, path))
        except FileNotFoundError:
            continue
        found[path] = (row.st_ino, row.st_size, row.st_mtime_ns)
    return found


def _compact_path(namespace: str) -> str:
    return f"{DERIVED_FOLDER}/{namespace}.parquet"


def _part_paths(namespace: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{DERIVED_FOLDER}/{namespace}/{name}" for name in names)


def _in_folder(folder: str | os.PathLike[str]) -> tuple[set[str], dict[str, list[str]]]:
    """Namespaces with a compact file; names of the parts, by namespace.

    Whichever form goes, the other came before, and either changes the folder that both are in:
    if that did not change while it was listed, nothing that a reader needs is missing.
    """
    derived = os.path.join(folder, DERIVED_FOLDER)
    for _ in range(_LOOKS):
        before = _changed_ns(derived)
        compact, homes = _forms(derived)
        parts = {
            namespace: names
            for namespace, home in homes.items()
            if (names := sorted(e.name for e in _entries(home) if _PART.match(e.name)))
        }
        if _changed_ns(derived) == before:
            break
    return compact, parts


def _changed_ns(path: str) -> int | None:
    """When a folder got or lost a name last; None if it is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None


def _forms(derived: str) -> tuple[set[str], dict[str, str]]:
    """Namespaces with a compact file; the folders that parts may lie in, by namespace."""
    compact: set[str] = set()
    homes: dict[str, str] = {}
    for entry in _entries(derived):
        stem, dot, suffix = entry.name.partition(".")
        if not _NAMESPACE.match(stem):
            continue
        if dot and suffix == "parquet" and entry.is_file(follow_symlinks=False):
            compact.add(stem)
        elif not dot and entry.is_dir(follow_symlinks=False):
            homes[stem] = entry.path
    return compact, homes


def _in_paths(paths: Iterable[str]) -> tuple[set[str], dict[str, list[str]]]:
    """The same of the files of a state."""
    compact: set[str] = set()
    parts: dict[str, list[str]] = {}
    for path in sorted(paths):
        match path.split("/"):
            case [top, name] if top == DERIVED_FOLDER and name.endswith(".parquet"):
                if _NAMESPACE.match(name.removesuffix(".parquet")):
                    compact.add(name.removesuffix(".parquet"))
            case [top, stem, name] if top == DERIVED_FOLDER:
                if _NAMESPACE.match(stem) and _PART.match(name):
                    parts.setdefault(stem, []).append(name)
    return compact, parts


def count(paths: Iterable[str]) -> int:
    """How many overlay files there are among the files of a state."""
    compact, parts = _in_paths(paths)
    return len(compact) + sum(map(len, parts.values()))


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
