"""commit: keep the folder as it is, for ever.

folder ─scan→ changed files ─cut→ chunks ─put→ recipes → trees ─sign→ manifest ─advance→ state
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from usrstore.errors import DiskFullError
from usrstore.objects.ids import ChunkId, Kind, ManifestId
from usrstore.objects.names import folder_ref, head_ref
from usrstore.objects.progress import Emit, Event, silent
from usrstore.odb import reach, room
from usrstore.odb.database import Batch
from usrstore.odb.states import Change
from usrstore.verbs.recover import recover
from usrstore.verbs.site import Site
from usrstore.worktree.capture import Capture


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What a commit did.

    Attributes:
        manifest: the state of the folder now.
        created: whether it is a new one.
        files, size: of the dataset.
        bytes_stored: what the store grew by.
    """

    manifest: ManifestId
    created: bool
    files: int
    size: int
    bytes_stored: int


def commit(
    site: Site,
    *,
    message: str,
    policy: Sequence[str] = (),
    aside: bool = False,
    emit: Emit = silent,
) -> CommitResult:
    """Keep the dataset's folder as a manifest whose every byte is in packs.

    Args:
        site: the dataset.
        message: why.
        policy: opt-outs in force.
        aside: keep it as what the folder holds, on top of where it was; the head stays.
        emit: progress.
    """
    site.root.check_dataset(site.dataset)
    site.root.create_store()
    recover(site.root, site.who, only=site.dataset, lock_timeout_s=site.lock_timeout_s)
    refs = site.root.states.refs()
    ref = folder_ref(site.dataset) if aside else head_ref(site.dataset)
    before = site.position() if aside else site.head()
    room.check(site.root.store, size=0, files=0, what=f"a state of {site.dataset}")
    with _room_told(site), site.root.database.batch() as batch:

        def keep(oid: ChunkId, data: memoryview) -> None:
            batch.put(Kind.CHUNK, oid, data)

        found = site.capture(record=False, wait=True, sink=keep, prepare=batch.prepare, emit=emit)
        _keep_rest(site, found, batch, emit)
    if aside and before is not None and site.manifest(before).tree == found.tree:
        oid = before
    else:
        oid = site.snapshot(found, message=message, policy=policy, parents=[before])
    site.overlay.flush()
    site.save_cache(found)
    changes = {ref: Change(refs.get(ref), oid)} if oid != before else {}
    if not aside and not changes and folder_ref(site.dataset) in refs:
        folder = folder_ref(site.dataset)  # edited back to what the head holds
        changes[folder] = Change(refs[folder], None)
    if changes:
        site.root.states.advance(changes, site.who.act(message))
    return CommitResult(oid, oid != before, found.root.files, found.root.size, batch.bytes_stored)


@contextlib.contextmanager
def _room_told(site: Site) -> Iterator[None]:
    """What is new can be known only by reading it all; so a full disk is told when it is met."""
    try:
        yield
    except DiskFullError as exc:
        size = sum(stamp.size for stamp in site.scan().values())
        what = f"keeping {site.dataset}"
        raise room.short_of(exc, site.root.store, size=size, what=what) from exc


def _keep_rest(site: Site, found: Capture, batch: Batch, emit: Emit) -> None:
    """Chunks of files that needed no reading but are in no pack yet (light states)."""
    with site.source() as source:
        for path, entry in found.listing.items():
            if path in found.taken:
                continue
            chunks = list(reach.chunks(site.overlay.get, entry))
            lacking = [
                oid for oid, _ in chunks if not (site.root.database.has(oid) or batch.holds(oid))
            ]
            if not lacking:
                continue
            source.add(path, chunks)
            for oid in lacking:
                batch.put(Kind.CHUNK, oid, source.read(oid))
            emit(Event("scan", entry.size, None, path))
