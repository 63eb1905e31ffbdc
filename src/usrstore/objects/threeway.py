"""Three listings: who changed which path since both sides last agreed.

What only one side changed is settled by that; what both changed to the same is settled, too.
The rest are clashes, and only somebody who knows what is inside can settle those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from usrstore.objects.compare import same
from usrstore.objects.tree import FileEntry, Listing


class Clash(NamedTuple):
    """A path that both sides changed, each to something else; None: it is not there."""

    path: str
    base: FileEntry | None
    ours: FileEntry | None
    theirs: FileEntry | None


@dataclass(frozen=True, slots=True)
class Split:
    """Two listings put together, as far as paths alone decide.

    Attributes:
        settled: the files of the result, without those that clash.
        ours, theirs: paths that one side alone changed, sorted.
        clashes: paths that both changed, sorted.
    """

    settled: Listing
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    clashes: tuple[Clash, ...]


def split(bases: Sequence[Listing], ours: Listing, theirs: Listing) -> Split:
    """Put two listings together.

    Args:
        bases: what both had when they last agreed: none if that is not known (then a file
            that one side lacks was added by the other), several where histories crossed.
        ours, theirs: the two sides now.
    """
    settled: Listing = {}
    changed: tuple[list[str], list[str]] = ([], [])
    clashes: list[Clash] = []
    for path in sorted(ours.keys() | theirs.keys() | {p for base in bases for p in base}):
        here, there = ours.get(path), theirs.get(path)
        if same(here, there):
            winner = here
        else:
            known = [base.get(path) for base in bases] or [None]
            ours_old = any(same(here, entry) for entry in known)
            theirs_old = any(same(there, entry) for entry in known)
            if ours_old == theirs_old:  # both changed it, or crossed histories disagree
                clashes.append(Clash(path, known[0], here, there))
                continue
            winner = there if ours_old else here
            changed[ours_old].append(path)
        if winner is not None:
            settled[path] = winner
    return Split(settled, tuple(changed[0]), tuple(changed[1]), tuple(clashes))
