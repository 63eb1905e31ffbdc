"""Who changed since both sides last agreed? Nothing is ever chosen silently.

Path by path against a common base; without a base only growth counts: a side that has every
file of the other, and an event log that continues the other's, is ahead of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from usrstore.dataset import archive
from usrstore.objects.compare import compare, same
from usrstore.objects.ids import ContentHash, ContentHasher, ManifestId, TreeId
from usrstore.objects.manifest import Manifest
from usrstore.objects.sections import EVENTS_FILE
from usrstore.objects.tree import Listing


class Relation(StrEnum):
    SAME = "same"
    LOCAL_AHEAD = "local-ahead"
    REMOTE_AHEAD = "remote-ahead"
    DIVERGED = "diverged"


class Judged(NamedTuple):
    """The relation, and how sure it is.

    Attributes:
        guard_log: the receiver must see that the remote's log continues ours.
        guessed: there is no common base, and files differ that only the log vouches for:
            what is replaced must be kept first.
        based: what both had last is known.
        ours, theirs: paths that each side changed, for the error of a divergence.
    """

    relation: Relation
    guard_log: bool = False
    guessed: bool = False
    based: bool = True
    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()


def judge(
    local: Listing,
    remote: Listing,
    *,
    base: Listing | None,
    log_is_prefix: Callable[[int, ContentHash], bool],
) -> Judged:
    """How two listings relate.

    Args:
        local, remote: the two sides now.
        base: what both had when they last agreed; None if that is not known.
        log_is_prefix: whether the first n bytes of the local event log have this hash.
    """
    if base is None:
        return _without_base(local, remote, log_is_prefix)._replace(based=False)
    ours, theirs = [], []
    for path in compare(local, remote).paths():
        before = base.get(path)
        if not same(local.get(path), before):
            ours.append(path)
        if not same(remote.get(path), before):
            theirs.append(path)
    relation = {
        (False, False): Relation.SAME,
        (True, False): Relation.LOCAL_AHEAD,
        (False, True): Relation.REMOTE_AHEAD,
    }.get((bool(ours), bool(theirs)), Relation.DIVERGED)
    return Judged(relation, ours=tuple(ours), theirs=tuple(theirs))


def _without_base(
    local: Listing, remote: Listing, log_is_prefix: Callable[[int, ContentHash], bool]
) -> Judged:
    found = compare(local, remote)
    if not found.changed:
        return Judged(Relation.SAME)
    if not local:
        return Judged(Relation.REMOTE_AHEAD)
    if not remote:
        return Judged(Relation.LOCAL_AHEAD)
    local_only = [path for delta in found.sections.values() for path in delta.local_only]
    remote_only = [path for delta in found.sections.values() for path in delta.remote_only]
    differ = tuple(path for delta in found.sections.values() for path in delta.differ)
    ours, theirs = local.get(EVENTS_FILE), remote.get(EVENTS_FILE)
    local_size, remote_size = (entry.size if entry else 0 for entry in (ours, theirs))
    # Only a log that both sides have, and that one of them continues, vouches for other files.
    log_grew = local_size != remote_size and bool(local_size and remote_size)
    guessed = any(path != EVENTS_FILE for path in differ)
    if log_grew or not guessed:
        if not local_only and (local_size < remote_size or same(ours, theirs)):
            # The remote's log is not here yet; the receiver compares it before it promotes.
            return Judged(Relation.REMOTE_AHEAD, guard_log=bool(local_size), guessed=guessed)
        # A log that was gardened is shorter than the one that it continues.
        log_stands = theirs is None or log_is_prefix(theirs.size, theirs.content)
        if not remote_only and log_stands:
            return Judged(Relation.LOCAL_AHEAD, guessed=guessed)
    return Judged(
        Relation.DIVERGED,
        ours=tuple(local_only) + differ,
        theirs=tuple(remote_only) + differ,
    )


def find_base(
    local: TreeId,
    remote: TreeId,
    *,
    synced: TreeId | None,
    ours: Mapping[ManifestId, Manifest],
    theirs: Mapping[ManifestId, Manifest],
) -> TreeId | None:
    """The tree both sides had last, as far as histories tell.

    Args:
        local, remote: the two trees now.
        synced: the tree of the last sync with this remote.
        ours, theirs: both ancestries, newest first.
    """
    if synced in (local, remote):
        return synced
    if local in {manifest.tree for manifest in theirs.values()}:
        return local
    if remote in {manifest.tree for manifest in ours.values()}:
        return remote
    if synced is not None:
        return synced
    return next((manifest.tree for oid, manifest in ours.items() if oid in theirs), None)


def prefix_hash(*paths: str, size: int) -> ContentHash | None:
    """The hash of the first `size` bytes of files laid end to end; None if they have fewer."""
    hasher = ContentHasher()
    for path in paths:
        try:
            with open(path, "rb") as file:
                while size > 0 and (piece := file.read(min(size, 1 << 20))):
                    hasher.update(piece)
                    size -= len(piece)
        except FileNotFoundError:
            continue
    return hasher.digest() if size == 0 else None


def local_log_is_prefix(folder: str) -> Callable[[int, ContentHash], bool]:
    """Whether the log continues another; a log that was gardened continues what it was."""

    def is_prefix(size: int, content: ContentHash) -> bool:
        log = os.path.join(folder, EVENTS_FILE)
        if prefix_hash(log, size=size) == content:
            return True
        *archives, _ = whole = archive.history(folder)
        return bool(archives) and prefix_hash(*whole, size=size) == content

    return is_prefix
