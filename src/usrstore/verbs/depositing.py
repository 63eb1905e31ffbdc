"""The receiving half of a push into a store without folders.

Nothing there names what is new before every chunk has been hashed and all that the manifest
reaches is in packs (I1, I2).

plan   manifest believed? history and registry fit? trees and recipes complete? what is wanted?
take   chunks, each hashed as it goes up; then trees and recipes; then all of it looked for
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from usrstore.dataset import registry
from usrstore.errors import (
    DecodeError,
    GraftError,
    HashMismatchError,
    IncompleteError,
    ObjectNotFoundError,
    ProtocolError,
    UsrError,
)
from usrstore.objects.compare import same
from usrstore.objects.ids import ChunkId, Kind, ManifestId, ObjectId, hash_object
from usrstore.objects.manifest import Manifest, manifest_id
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import compress, reach
from usrstore.odb.database import Batch, Overlay
from usrstore.odb.packindex import Row
from usrstore.remote.peer import Piece, Planned, Proposal
from usrstore.trust import policy as trust
from usrstore.trust.policy import Policy
from usrstore.verbs.problems import Problem, verification_error


class Depositing:
    """One state on its way into a store.

    Args:
        overlay: metadata of that store; takes what the proposal brings.
        proposal: the state.
        head: what it is to replace.
        policy: whom to believe.
        where: the store's name for people.
    """

    def __init__(
        self,
        overlay: Overlay,
        proposal: Proposal,
        head: ManifestId | None,
        *,
        policy: Policy,
        where: str,
    ) -> None:
        self.proposal = proposal
        self._overlay = overlay
        self._database = overlay.database
        self._head = head
        self._where = where
        for oid, (kind, data) in proposal.nodes.items():
            overlay.put(kind, oid, data)
        self.manifest = self._believe(policy)
        self._check_registry()
        self._wanted: dict[ChunkId, int] = {}

    def _get(self, kind: Kind, oid: ObjectId) -> bytes:
        return self._overlay.get(kind, oid)

    # ── plan ────────────────────────────────────────────────────────────────────────────
    def plan(self, before: Listing) -> Planned:
        """Which chunks are wanted, small files first; `before` is what is replaced.

        Raises:
            VerificationError: trees or recipes are missing or do not add up.
        """
        resumed: dict[ChunkId, int] = {}
        try:
            listing = reach.listing(self._get, self.manifest.tree)
            for path, entry in sorted(listing.items(), key=_order):
                for oid, size in _chunks(self._get, entry):
                    found = self._database.find(oid)
                    if found is None or not self._database.keeps(oid):
                        self._wanted[oid] = size
                    elif not same(before.get(path), entry) and not self._database.has(
                        found.pack.pack  # stored once more when the push that made it ends
                    ):
                        resumed[oid] = size
        except (ObjectNotFoundError, DecodeError) as exc:
            raise _incomplete(exc.message) from exc
        return Planned(list(self._wanted), sum(resumed.values()))

    def _believe(self, policy: Policy) -> Manifest:
        """The manifest, if it is signed as it must be and goes on from the head.

        Raises:
            TrustError, IncompleteError.
        """
        proposal, dataset = self.proposal, self.proposal.dataset
        new: dict[ManifestId, Manifest] = {}
        for oid, data in proposal.manifests.items():
            if manifest_id(data) != oid:
                raise IncompleteError(f"manifest {oid.short} is damaged; nothing was changed")
            self._overlay.put(Kind.MANIFEST, oid, data)
            new[oid] = reach.manifest(self._get, oid)
        try:
            data = self._get(Kind.MANIFEST, proposal.manifest)
            verified = trust.believe(data, dataset=dataset, policy=policy)
            above = {
                parent: reach.manifest(self._get, parent)
                for manifest in new.values()
                for parent in manifest.parents
            }
        except ObjectNotFoundError as exc:
            raise IncompleteError(f"the history of {dataset} is incomplete: {exc.message}") from exc
        for oid, manifest in new.items():
            sequence = max((above[parent].sequence for parent in manifest.parents), default=0) + 1
            if manifest.dataset != dataset or manifest.sequence != sequence:
                raise GraftError(f"manifest {oid.short} is not of this history of {dataset}")
        if self._head not in (None, proposal.manifest) and self._head not in above:
            raise GraftError(
                f"manifest {proposal.manifest.short} of {dataset} does not descend from the head "
                f"at {self._where}; nothing was changed",
                hint="pull first, then push again",
            )
        return verified.manifest

    def _check_registry(self) -> None:
        manifest, data = self.manifest, self.proposal.registry
        if data is not None:
            self._overlay.put(Kind.CHUNK, hash_object(Kind.CHUNK, data), data)
        before = reach.manifest(self._get, self._head).registry if self._head else None
        if manifest.registry is None:
            return
        try:
            theirs = self._get(Kind.CHUNK, manifest.registry.content)
        except ObjectNotFoundError as exc:
            raise IncompleteError(f"the registry of {manifest.dataset} did not come along") from exc
        if before is not None and before != manifest.registry:
            registry.merge(
                self._get(Kind.CHUNK, before.content),
                theirs,
                ours_name=f"the registry at {self._where}",
                theirs_name=f"the registry that came with {manifest.dataset}",
            )

    # ── take ────────────────────────────────────────────────────────────────────────────
    def take(self, pieces: Iterable[Piece]) -> None:
        """Chunks as they come, each wanted and hashing to its name; then everything else.

        Raises:
            ProtocolError: a chunk that nobody asked for.
            VerificationError: something is damaged, or missing in the end.
        """
        with self._database.batch() as batch:
            self._take_chunks(batch, pieces)
            self._overlay.pour(batch)
        self._check_complete()

    def _take_chunks(self, batch: Batch, pieces: Iterable[Piece]) -> None:
        left = dict(self._wanted)
        for oid, encoding, size, stored in pieces:
            if left.pop(oid, None) is None:
                raise ProtocolError(f"chunk {oid.short} was not asked for")
            try:
                whole = hash_object(Kind.CHUNK, compress.expand(encoding, stored, size)) == oid
            except DecodeError:
                whole = False
            if not whole:
                raise HashMismatchError(f"chunk {oid.short} is damaged on its way up")
            batch.put_stored(oid, stored, Row(0, len(stored), size, Kind.CHUNK, encoding))
        if left:
            raise _incomplete(f"{len(left)} chunks did not come")

    def _check_complete(self) -> None:
        """I2: all that the manifest reaches is in packs of that place, as their indexes say."""
        get = self._database.get
        try:
            manifest = reach.manifest(get, self.proposal.manifest)
            for kind, oid in reach.metadata(get, self.proposal.manifest):
                get(kind, oid)
            chunks = {
                oid
                for entry in reach.listing(get, manifest.tree).values()
                for oid, _ in _chunks(get, entry)
            }
        except (ObjectNotFoundError, DecodeError) as exc:
            raise _incomplete(exc.message) from exc
        if manifest.registry is not None:
            chunks.add(ChunkId(ObjectId(manifest.registry.content)))
        if missing := self._database.missing(chunks):
            raise _incomplete(f"{len(missing)} chunks are not in its packs")


def _chunks(get: reach.Get, entry: FileEntry) -> Iterator[tuple[ChunkId, int]]:
    return reach.chunks(get, entry) if entry.size else iter(())


def _order(item: tuple[str, FileEntry]) -> tuple[bool, str]:
    """As a pull asks for them again: the primary last."""
    return item[0] == PRIMARY_FILE, item[0]


def _incomplete(detail: str) -> UsrError:
    return verification_error("post-push", [Problem("", "incomplete", detail=detail)])
