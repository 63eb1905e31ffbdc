"""Preserving: bytes that a promotion replaces and a state needs go into a pack first (I2).

The states that transfers make are light: their bytes rest in the folder, until a promotion takes
them away. What the new files hold as well stays where it is; the rest, and only that, is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from usrstore.errors import ConfigError, ObjectNotFoundError
from usrstore.objects.compare import same
from usrstore.objects.ids import ChunkId, Kind
from usrstore.objects.tree import FileEntry
from usrstore.odb import reach
from usrstore.verbs.site import Site
from usrstore.worktree.source import FolderSource


def preserve(site: Site, going: Mapping[str, FileEntry], staying: Iterable[ChunkId]) -> int:
    """Keep what would be nowhere afterwards; gives the bytes that were stored.

    Args:
        site: the dataset.
        going: the files of its folder that are replaced or removed, as captured.
        staying: chunks that the folder will hold.

    Raises:
        ConfigError: `[keep] replaced` is neither true nor false.
        ChangedWhileReadError: the folder no longer holds what was captured.
        StorageError: there is no room; nothing was changed.
    """
    if not going or not _asked(site):
        return 0
    needed = _recorded(site, going)
    if not needed:
        return 0
    stays = frozenset(staying)
    with FolderSource(site.folder) as source, site.root.database.batch() as batch:
        for path, entry in needed.items():
            try:
                chunks = list(reach.chunks(site.overlay.get, entry))
            except ObjectNotFoundError:
                continue
            lacking = site.root.database.missing(oid for oid, _ in chunks if oid not in stays)
            if lacking:
                source.add(path, chunks)
                for oid in dict.fromkeys(lacking):
                    batch.put(Kind.CHUNK, oid, source.read(ChunkId(oid)))
    return batch.bytes_stored


def _asked(site: Site) -> bool:
    asked = site.root.config.get("keep", {}).get("replaced", True)
    if not isinstance(asked, bool):
        raise ConfigError(f"[keep] replaced = {asked!r} in .usr/config is not true or false")
    return asked


def _recorded(site: Site, going: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    """Those files that a state holds; what no state ever named is the caller's to look after."""
    listings = []
    for oid in {site.head(), site.position()} - {None}:
        assert oid is not None
        try:
            listings.append(reach.listing(site.overlay.get, site.manifest(oid).tree))
        except ObjectNotFoundError:
            continue
    return {
        path: entry
        for path, entry in going.items()
        if entry.size and any(same(listing.get(path), entry) for listing in listings)
    }
