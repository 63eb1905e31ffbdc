"""Which overlay files a dataset has, by their paths alone: compact ones, and parts.

Archived overlays, ledgers and what other tools are still writing are not among them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from usrstore.dataset.tablefile import Folder
from usrstore.errors import OverlayError
from usrstore.objects.sections import DERIVED_FOLDER

_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_PART = re.compile(r"part-[^/]*\.parquet\Z")


def find(folder: Folder) -> dict[str, tuple[str, ...]]:
    """The overlay files of a dataset by namespace, as paths in its folder, sorted.

    Archived overlays, ledgers and what other tools are still writing are not among them.

    Raises:
        OverlayError: namespaces that have a compact file and parts, all of them named.
    """
    if isinstance(folder, str | os.PathLike):
        name = os.path.basename(folder)
        compact, parts = _in_folder(os.path.join(folder, DERIVED_FOLDER))
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
    found: dict[str, tuple[str, ...]] = {ns: (f"{DERIVED_FOLDER}/{ns}.parquet",) for ns in compact}
    found |= {
        ns: tuple(f"{DERIVED_FOLDER}/{ns}/{name}" for name in names) for ns, names in parts.items()
    }
    return dict(sorted(found.items()))


def _in_folder(derived: str) -> tuple[set[str], dict[str, list[str]]]:
    """Namespaces with a compact file; names of the parts of the others."""
    compact: set[str] = set()
    parts: dict[str, list[str]] = {}
    for entry in _entries(derived):
        stem, dot, suffix = entry.name.partition(".")
        if not _NAMESPACE.match(stem):
            continue
        if dot and suffix == "parquet" and entry.is_file(follow_symlinks=False):
            compact.add(stem)
        elif not dot and entry.is_dir(follow_symlinks=False):
            names = sorted(e.name for e in _entries(entry.path) if _PART.match(e.name))
            if names:
                parts[stem] = names
    return compact, parts


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
