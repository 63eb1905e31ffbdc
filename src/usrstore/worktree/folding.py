"""Names that a file system cannot tell apart: case, and the spellings of one accented letter.

A state may hold `A.txt` and `a.txt`, for on most disks they are two files. Where the disk of
a folder takes them for one, the second would silently replace the first: such a state is
refused there before anything is staged. Disks are tried out, not guessed at by their name.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from usrstore.errors import UnsafeFileError
from usrstore.odb import durable

_SHOWN = 5
_PROBE = "Caf\u00e9"  # one letter in two spellings: U+00E9, or e and U+0301


class Folding(NamedTuple):
    """What the disk of a folder takes for the same: letters of either case, equal spellings."""

    case: bool
    spelling: bool

    def fold(self, path: str) -> str:
        if self.spelling:
            path = unicodedata.normalize("NFC", path)
        return path.casefold() if self.case else path


def probe(folder: str) -> Folding:
    """Try it out in `folder`; leaves nothing behind."""
    stem = durable.temporary(folder)
    path = f"{stem}-{_PROBE}"
    durable.create(path, b"")
    try:
        other = f"{stem}-{unicodedata.normalize('NFD', _PROBE)}"
        return Folding(os.path.exists(f"{stem}-{_PROBE.swapcase()}"), os.path.exists(other))
    finally:
        durable.remove(path)


def collisions(paths: Iterable[str], folding: Folding) -> list[tuple[str, str]]:
    """Pairs of files, or of folders above them, that such a disk takes for one; sorted."""
    if folding == Folding(case=False, spelling=False):
        return []
    seen: dict[str, str] = {}
    found: set[tuple[str, str]] = set()
    for path in paths:
        stem = path
        while stem:
            folded = folding.fold(stem)
            other = seen.get(folded)
            if other is None:
                seen[folded] = stem
            elif other != stem:
                found.add((min(stem, other), max(stem, other)))
            elif stem != path:
                break  # this folder has been looked at, and all above it
            stem = stem.rpartition("/")[0]
    return sorted(found)


def check(paths: Iterable[str], folder: str) -> None:
    """Refuse files that the disk of `folder` cannot hold side by side.

    Raises:
        UnsafeFileError: with the code `names-collide`, naming the pairs.
    """
    listed = list(paths)
    if not collisions(listed, Folding(case=True, spelling=True)):
        return  # nothing to try out
    pairs = collisions(listed, probe(folder))
    if not pairs:
        return
    shown = "".join(f"\n  {one!r} and {other!r}" for one, other in pairs[:_SHOWN])
    more = f"\n  and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    raise UnsafeFileError(
        f"the disk of {folder} takes {len(pairs)} pairs of names for one file each; "
        f"nothing was changed{shown}{more}",
        hint="take this state on a disk that tells them apart, or have one of each renamed",
        code="names-collide",
    )
