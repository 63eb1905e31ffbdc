"""fetch: bring a remote's state into the store, kept in packs; the folder is not touched."""

from __future__ import annotations

from dataclasses import dataclass

from usrstore.errors import (
    DatasetNotFoundError,
    DecodeError,
    HashMismatchError,
    ObjectNotFoundError,
    ProtocolError,
)
from usrstore.objects.compare import same
from usrstore.objects.ids import ContentHasher, Kind, ManifestId, hash_object
from usrstore.objects.names import remote_ref
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import compress, reach, room
from usrstore.odb.database import Batch
from usrstore.odb.states import Change
from usrstore.remote.peer import Peer
from usrstore.trust.policy import Mode
from usrstore.verbs import believing
from usrstore.verbs.history import Keeping
from usrstore.verbs.meeting import Meeting, meet
from usrstore.verbs.problems import Problem, verification_error
from usrstore.verbs.site import Site


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What arrived: the remote's manifest, whether it is new here, payload bytes."""

    manifest: ManifestId
    fresh: bool
    payload: int


def fetch(
    site: Site, peer: Peer, remote: str, *, mode: Mode = "tofu", emit: Emit = silent
) -> FetchResult:
    """Raises: as `pull`; a remote without a signed state of its folder cannot be fetched."""
    site.root.create_store()
    met = meet(site, peer, remote, "pull", emit=emit)
    head, root = met.answer.head, met.answer.root
    if root is None or head is None:
        raise DatasetNotFoundError(
            f"the remote {remote} has no signed state of {site.dataset} to fetch",
            hint=f"usr pull {site.dataset} {remote} takes its folder as it is",
        )
    verified = believing.check_incoming(
        site, met.answer.manifests, head, None, place=remote, mode=mode
    )
    if verified.manifest.tree != root.tree:
        raise DatasetNotFoundError(
            f"the folder at {remote} has changed since its last signed state, and may not be "
            "snapshotted there",
            hint=f"usr pull {site.dataset} {remote} takes its folder as it is",
        )
    payload = _receive(met, peer, emit)
    tracking = remote_ref(remote, site.dataset)
    before = site.root.states.refs().get(tracking)
    site.root.states.advance({tracking: Change(before, head)}, site.who.act("fetch"))
    believing.remember_pin(site.root, remote, site.dataset, verified)
    believing.remember(site.root, remote, site.dataset, met.answer.state, head)
    return FetchResult(head, before != head, payload)


def _receive(met: Meeting, peer: Peer, emit: Emit) -> int:
    site, there = met.site, met.there
    site.registry_entry(met.answer.registry)
    keeping = Keeping(site.root)
    new: Listing = {
        path: entry
        for path, entry in there.items()
        if entry.size and not (same(met.local.get(path), entry) and keeping.has(entry))
    }
    contents = {entry.content: entry for entry in new.values()}
    for oid, data in peer.want(list(contents), frozenset()) if contents else ():
        site.overlay.put(Kind.RECIPE, oid, data)
    sizes = {
        oid: size
        for entry in contents.values()
        for oid, size in reach.chunks(site.overlay.get, entry)
    }
    wanted = [oid for oid in sizes if not site.root.database.has(oid)]
    total, done = sum(sizes[oid] for oid in wanted), 0
    room.check(
        site.root.store, size=total, files=8, what=f"what {met.remote} has of {site.dataset}"
    )
    with site.root.database.batch() as batch:
        expected = set(wanted)
        for piece in peer.send(wanted) if wanted else ():
            if piece.oid not in expected:
                raise ProtocolError(f"chunk {piece.oid.short} was not asked for")
            data = bytes(compress.expand(piece.encoding, piece.stored, piece.size))
            if hash_object(Kind.CHUNK, data) != piece.oid:
                raise HashMismatchError(f"chunk {piece.oid.short} arrived damaged")
            batch.put(Kind.CHUNK, piece.oid, data)
            expected.discard(piece.oid)
            done += len(data)
            emit(Event("move", done, total))
        problems = [p for path, e in new.items() if (p := _check(site, batch, path, e))]
        if problems:
            raise verification_error("post-pull", problems)
    site.overlay.flush()
    return done


def _check(site: Site, batch: Batch, path: str, entry: FileEntry) -> Problem | None:
    """The chunks of a file, put together, must hash to its content (I1)."""
    hasher = ContentHasher()
    try:
        for oid, _ in reach.chunks(site.overlay.get, entry):
            hasher.update(batch.get(Kind.CHUNK, oid))
    except DecodeError as exc:
        return Problem(path, "incomplete", detail=exc.message)
    except ObjectNotFoundError:
        return Problem(path, "missing", expected=entry)
    if hasher.digest() != entry.content:
        return Problem(path, "different", expected=entry, detail="its recipe gives other bytes")
    return None
