"""Preserving: bytes that a promotion replaces and a state needs go into a pack first (I2).

The states that transfers make are light: their bytes rest in the folder, until a promotion takes
them away. A transfer makes a new state, so what its new files hold as well stays where it is; an
act on the folder makes none, so only files of the old state can vouch for bytes of it. The rest,
and only that, is kept.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping

from usrstore.errors import ChangedWhileReadError, ConfigError, ObjectNotFoundError
from usrstore.objects.compare import same
from usrstore.objects.ids import ChunkId, ContentHash, Kind, ManifestId
from usrstore.objects.recipe import RULE
from usrstore.objects.sections import EVENTS_FILE
from usrstore.objects.tree import FileEntry
from usrstore.odb import reach
from usrstore.verbs.site import Site
from usrstore.worktree import cut, statcache
from usrstore.worktree.scan import Stamp
from usrstore.worktree.statcache import StatCache


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
    with site.source() as source, site.root.database.batch() as batch:
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


def preserve_before_act(site: Site, going: Collection[str], *, appends: bool) -> int:
    """Keep what an act on the folder takes away from light states; gives the bytes stored.

    A file that another program has changed since is no longer what the states say: what of it
    still is gets kept, the rest is not ours to save.

    Args:
        site: the dataset; its lock is held.
        going: paths that are replaced or removed.
        appends: whether the event log will grow: its last chunk is then cut elsewhere.

    Raises:
        ConfigError, StorageError: as `preserve`.
    """
    paths = [*going, EVENTS_FILE] if appends and EVENTS_FILE not in going else list(going)
    named = list(_named(site, paths)) if paths and site.root.has_store else []
    if not named or not _asked(site):
        return 0
    with site.source() as source, site.root.database.batch() as batch:
        for oid, path, entry in named:
            try:
                chunks = list(reach.chunks(site.overlay.get, entry))
            except ObjectNotFoundError:
                continue
            going_chunks = chunks if path in going else chunks[-1:]
            lacking = site.root.database.missing(chunk for chunk, _ in going_chunks)
            if not lacking or (path in going and _stays_elsewhere(site, oid, entry, going)):
                continue
            source.add(path, chunks)
            for chunk in dict.fromkeys(lacking):
                data = source.try_read(ChunkId(chunk))
                if data is not None:
                    batch.put(Kind.CHUNK, chunk, data)
    return batch.bytes_stored


def _named(site: Site, paths: Iterable[str]) -> Iterator[tuple[ManifestId, str, FileEntry]]:
    """These files, as the states at hand name them: state, path, entry."""
    for oid in {site.head(), site.position()} - {None}:
        assert oid is not None
        try:
            found = reach.files(site.overlay.get, site.manifest(oid).tree, paths)
        except ObjectNotFoundError:
            continue
        for path, entry in found.items():
            if entry.size:
                yield oid, path, entry


def _stays_elsewhere(site: Site, oid: ManifestId, entry: FileEntry, going: Collection[str]) -> bool:
    """Whether another file of the state has the same content, in the folder as in the state.

    A snapshot usually has that of the base. It is asked for when it goes, in its turn.
    """
    listing = reach.listing(site.overlay.get, site.manifest(oid).tree)
    known = statcache.load(site.root.cache_path(site.dataset), RULE)
    return any(
        other.content == entry.content
        and path not in going
        and _content(os.path.join(site.folder, path), path, known) == entry.content
        for path, other in listing.items()
    )


def _content(full: str, path: str, known: StatCache) -> ContentHash | None:
    """What a file hashes to now; a stamp that is known spares reading it."""
    try:
        fd = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        stamp = Stamp.of(os.fstat(fd))
        hit = known.find(path, stamp)
        return cut.cut_file(fd, stamp.size).content if hit is None else hit.content
    except (ChangedWhileReadError, OSError):
        return None
    finally:
        os.close(fd)


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
