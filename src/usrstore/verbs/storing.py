"""Take what a remote holds into the store, as packs: hashed, whole, and named by no ref yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from usrstore.errors import DecodeError, HashMismatchError, ObjectNotFoundError, ProtocolError
from usrstore.objects.ids import ChunkId, ContentHasher, Kind, hash_object
from usrstore.objects.progress import Emit, Event
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import compress, reach, room
from usrstore.odb.database import Batch
from usrstore.remote.peer import Peer, Piece
from usrstore.verbs.meeting import Meeting
from usrstore.verbs.problems import Problem, verification_error
from usrstore.verbs.site import Site

Read = Callable[[ChunkId], bytes | None]


def store(
    met: Meeting,
    peer: Peer,
    new: Listing,
    emit: Emit,
    *,
    here: Read = lambda _oid: None,
    named: Listing | None = None,
) -> int:
    """Bring files of the remote into packs; gives the bytes that travelled.

    Args:
        met: both sides.
        peer: the remote.
        new: its files that are wanted.
        emit: progress.
        here: chunks that need no pack, for they are at hand elsewhere; None for one that is not.
        named: its files whose recipes are wanted, if those are more than `new`.

    Raises:
        VerificationError: what arrived is not what the remote's manifest says; nothing of it
            is in the store.
    """
    site = met.site
    site.registry_entry(met.answer.registry)
    contents = {entry.content: entry for entry in new.values()}
    recipes = {entry.content for entry in (named or new).values()}
    for oid, data in peer.want(list(recipes), frozenset()) if recipes else ():
        site.overlay.put(Kind.RECIPE, oid, data)
    sizes = {
        oid: size
        for entry in contents.values()
        for oid, size in reach.chunks(site.overlay.get, entry)
    }
    wanted = [oid for oid in sizes if not site.root.database.has(oid) and here(oid) is None]
    room.check(
        site.root.store,
        size=sum(sizes[oid] for oid in wanted),
        files=8,
        what=f"what {met.remote} has of {site.dataset}",
    )
    with site.root.database.batch() as batch:
        done = take(batch, wanted, peer.send(wanted) if wanted else (), sizes, emit)
        problems = [p for path, e in new.items() if (p := _check(site, batch, path, e, here))]
        if problems:
            raise verification_error("post-pull", problems)
    site.overlay.flush()
    return done


def take(
    batch: Batch,
    wanted: Iterable[ChunkId],
    pieces: Iterable[Piece],
    sizes: dict[ChunkId, int],
    emit: Emit,
) -> int:
    """Chunks as they come, each wanted and hashing to its name.

    Raises:
        ProtocolError, HashMismatchError.
    """
    expected = set(wanted)
    total, done = sum(sizes[oid] for oid in expected), 0
    for piece in pieces:
        if piece.oid not in expected:
            raise ProtocolError(f"chunk {piece.oid.short} was not asked for")
        data = bytes(compress.expand(piece.encoding, piece.stored, piece.size))
        if hash_object(Kind.CHUNK, data) != piece.oid:
            raise HashMismatchError(f"chunk {piece.oid.short} arrived damaged")
        batch.put(Kind.CHUNK, piece.oid, data)
        expected.discard(piece.oid)
        done += len(data)
        emit(Event("move", done, total))
    return done


def _check(site: Site, batch: Batch, path: str, entry: FileEntry, here: Read) -> Problem | None:
    """The chunks of a file, put together, must hash to its content (I1)."""
    hasher = ContentHasher()
    try:
        for oid, _ in reach.chunks(site.overlay.get, entry):
            data = here(oid)
            hasher.update(batch.get(Kind.CHUNK, oid) if data is None else data)
    except DecodeError as exc:
        return Problem(path, "incomplete", detail=exc.message)
    except ObjectNotFoundError:
        return Problem(path, "missing", expected=entry)
    if hasher.digest() != entry.content:
        return Problem(path, "different", expected=entry, detail="its recipe gives other bytes")
    return None
