"""Bundles: states in one file, for where no network goes.

A bundle is a store without folders, rolled into a tar: packs, and one state that names the
heads. Making one is a push into it; taking one is a pull from it, with every check of a pull,
so nothing of a bundle is believed for being in a file. `verify` needs no store at all.

An *incremental* bundle leaves out what earlier states hold; it says which states it needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from usrstore.errors import (
    UNREADABLE,
    ConflictError,
    DecodeError,
    IncompleteError,
    InvalidInputError,
    ObjectNotFoundError,
)
from usrstore.objects.ids import ChunkId, Kind, ManifestId, ObjectId
from usrstore.objects.manifest import Signed
from usrstore.objects.names import DatasetId, RefName, head_ref, heads_of
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.tree import FileEntry
from usrstore.odb import durable, reach
from usrstore.odb.backend.archive import ArchiveBackend, parts_of
from usrstore.odb.backend.archivewriter import ArchiveWriter, publish
from usrstore.odb.database import Batch, Database
from usrstore.odb.reach import Get
from usrstore.odb.states import Change, States
from usrstore.remote.peer import Ask, Compared
from usrstore.root import TOOL, Root, Who
from usrstore.trust.policy import Policy, Verdict, judge
from usrstore.verbs import tagging
from usrstore.verbs.bare import Bare
from usrstore.verbs.sending import Sending
from usrstore.verbs.site import Site

ABOUT = "about.json"
_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """One state in a bundle.

    Attributes:
        needs: the states that an incremental bundle builds on.
        files, size: of the state; `carried`: bytes of it that are in the bundle.
        verdict: what its signature is worth.
        tags: the names that it has in the bundle.
        problems: what is wrong with it; empty for a good one.
    """

    dataset: DatasetId
    manifest: ManifestId
    needs: tuple[ManifestId, ...]
    files: int
    size: int
    carried: int
    verdict: Verdict
    tags: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleResult:
    """A bundle that was made: its files, their bytes together, what is in it."""

    paths: tuple[str, ...]
    size: int
    contents: tuple[Content, ...]


# ── create ──────────────────────────────────────────────────────────────────────────────
def create(
    root: Root,
    who: Who,
    path: str,
    states: Sequence[tuple[DatasetId, ManifestId]],
    *,
    since: Sequence[ManifestId] = (),
    split: int | None = None,
    tags: bool = True,
    emit: Emit = silent,
) -> BundleResult:
    """Put states into one new file, or into parts of at most `split` bytes.

    Args:
        root: where they are; light states give the bytes of their working folder.
        who: who acts, for the state inside.
        path: the new file.
        states: at most one of each dataset.
        since: states whose objects are left out.
        split: the most that one file may have.
        tags: those of the states go with them.
        emit: progress.

    Raises:
        ConflictError: there is such a file.
        IncompleteError: a light state whose bytes are nowhere any more.
        StorageError: nothing is left of what was written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise InvalidInputError(f"there is no folder {folder}; nothing was written")
    if os.path.exists(path):
        raise ConflictError(f"{path} is there already; it was not changed", hint="name another")
    doubled = {name for name, _ in states if sum(name == other for other, _ in states) > 1}
    if doubled:
        raise InvalidInputError(f"two states of {', '.join(sorted(doubled))} in one bundle")
    left_out = _closure(root.database.get, since)
    scratch = durable.temporary(folder)
    durable.make_folder(scratch)
    try:
        with ArchiveWriter(os.path.join(scratch, "bundle")) as archive:
            database = Database(archive, scratch)
            contents = []
            changes: dict[RefName, Change] = {}
            for dataset, oid in states:
                named = tagging.offered(Site.open(root, dataset, who), oid) if tags else {}
                with database.batch() as batch:
                    content = _put_state(
                        root, who, dataset, oid, batch, left_out, tuple(since), emit
                    )
                    for tag, (_, data) in named.items():
                        batch.put(Kind.TAG, tag, data)
                refs = tagging.refs_of(dataset, named, oid)
                contents.append(replace(content, tags=tagging.names(refs)))
                changes |= {head_ref(dataset): Change(None, oid), **refs}
            States(archive).advance(changes, who.act("bundle"))
            archive.create(ABOUT, _about(contents))
            archive.finish()
            paths = publish(archive, path, split)
            return BundleResult(tuple(paths), archive.size, tuple(contents))
    finally:
        durable.remove_tree(scratch)


def _closure(get: Get, oids: Sequence[ManifestId]) -> set[ObjectId]:
    """Everything that states hold, with the states before them."""
    found: set[ObjectId] = set()
    for oid in oids:
        found |= {older for older, _ in reach.ancestry(get, oid)}
        found |= {node for _, node in reach.metadata(get, oid)}
        listing = reach.listing(get, reach.manifest(get, oid).tree)
        for entry in listing.values():
            found |= {chunk for chunk, _ in _chunks(get, entry)}
    return found


def _chunks(get: Get, entry: FileEntry) -> Iterator[tuple[ChunkId, int]]:
    return reach.chunks(get, entry) if entry.size else iter(())


def _put_state(
    root: Root,
    who: Who,
    dataset: DatasetId,
    oid: ManifestId,
    batch: Batch,
    left_out: set[ObjectId],
    needs: tuple[ManifestId, ...],
    emit: Emit,
) -> Content:
    get = root.database.get
    manifest = reach.manifest(get, oid)
    listing = reach.listing(get, manifest.tree)
    site = Site.open(root, dataset, who)
    sending = _sending(site, listing, get)
    carried, total = 0, sum(entry.size for entry in listing.values())
    try:
        for path, entry in sorted(listing.items()):
            for chunk, size in _chunks(get, entry):
                if chunk in left_out or batch.holds(chunk):
                    continue
                try:
                    batch.put(Kind.CHUNK, chunk, sending.read(chunk))
                except (ObjectNotFoundError, ConflictError) as exc:
                    raise IncompleteError(
                        f"{path} of {oid.short} cannot be bundled: the state is light, and the "
                        "folder no longer holds its bytes; nothing was written",
                        hint=f"bundle a kept state (`usr log {dataset}` marks them), or commit",
                        code="not-kept",
                    ) from exc
                carried += size
            emit(Event("move", carried, total, path))
    finally:
        sending.close()
    if manifest.registry is not None:
        registry = ObjectId(manifest.registry.content)
        batch.put(Kind.CHUNK, registry, get(Kind.CHUNK, registry))
    for kind, node in reach.metadata(get, oid):
        if node not in left_out:
            batch.put(kind, node, get(kind, node))
    for older, _ in reach.ancestry(get, oid):
        if older not in left_out:
            batch.put(Kind.MANIFEST, older, get(Kind.MANIFEST, older))
    verdict = judge(Signed.decode(get(Kind.MANIFEST, oid)), Policy())
    return Content(dataset, oid, needs, len(listing), total, carried, verdict)


def _sending(site: Site, listing: dict[str, FileEntry], get: Get) -> Sending:
    """Chunks from packs, or from the files of the folder that are as the state says."""
    sending = Sending(site.folder, listing, get)
    list(sending.nodes({entry.content: None for entry in listing.values() if entry.size}))
    return sending


def _about(contents: Sequence[Content]) -> bytes:
    """What is in here, for people who look with tar; nothing is believed of it."""
    value = {
        "usr_bundle": 1,
        "tool": TOOL,
        "states": [
            {
                "dataset": content.dataset,
                "manifest": content.manifest.hex(),
                "needs": [oid.hex() for oid in content.needs],
                "files": content.files,
                "size": content.size,
                "carried": content.carried,
                "tags": list(content.tags),
            }
            for content in contents
        ],
    }
    return json.dumps(value, indent=1).encode() + b"\n"


# ── look and take ───────────────────────────────────────────────────────────────────────
class Bundle:
    """A bundle that is there, opened. Use as a context."""

    def __init__(self, path: str) -> None:
        """Raises: DecodeError, StorageError."""
        self.paths = parts_of(path)
        self.backend = ArchiveBackend(self.paths)
        try:
            self.database = Database(self.backend, None)
            newest = States(self.backend).newest()
            if newest is None:
                raise DecodeError(f"{path} is no bundle: it names no state")
            self.refs = newest.refs
            self.heads = dict(sorted(heads_of(newest.refs).items()))
            self.needs = self._read_needs()
        except BaseException:
            self.close()
            raise

    def _read_needs(self) -> dict[str, tuple[ManifestId, ...]]:
        """What the file says it needs; only used to say so."""
        found = self.backend.stat(ABOUT)
        if found is None or found.size > _LIMIT_BYTES:
            return {}
        try:
            return {
                str(row["dataset"]): tuple(
                    ManifestId(ObjectId(bytes.fromhex(oid))) for oid in row["needs"]
                )
                for row in json.loads(self.backend.read(ABOUT))["states"]
            }
        except UNREADABLE as exc:
            raise DecodeError(f"{self.paths[0]}: {ABOUT} is damaged") from exc

    def peer(self, root: Root, who: Who) -> BundlePeer:
        """The bundle as a peer to pull from, on top of what `root` has already."""
        return BundlePeer(self, root, who)

    def close(self) -> None:
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class BundlePeer(Bare):
    """A bundle answers as a bucket would; what it leaves out is looked for in our own store."""

    def __init__(self, bundle: Bundle, root: Root, who: Who) -> None:
        super().__init__(bundle.backend, bundle.paths[0], who)
        self._bundle = bundle
        self._ours = root.database

    def compare(self, ask: Ask) -> Compared:
        """As a bucket, but without a chain of states: a file is as old as it is."""
        return replace(super().compare(ask), state=None, seen=None, writable=False)

    def _get(self, kind: Kind, oid: ObjectId) -> bytes:
        try:
            return super()._get(kind, oid)
        except ObjectNotFoundError:
            try:
                return self._ours.get(kind, oid)
            except ObjectNotFoundError as exc:
                raise self._lacking(f"{kind.word} {oid.short}") from exc

    def _lacking(self, what: str) -> IncompleteError:
        needed = {oid.short for oids in self._bundle.needs.values() for oid in oids}
        if not needed:
            return IncompleteError(f"{self._bundle.paths[0]} is incomplete: no {what}")
        return IncompleteError(
            f"{self._bundle.paths[0]} builds on {', '.join(sorted(needed))}, which is not here "
            f"whole: no {what}; nothing was changed",
            hint="import the bundle of that state first, or ask for one that needs nothing",
            code="bundle-needs",
        )
