"""Where a lost object may be had again: the folder, what it is made of, or a remote.

Whatever a source gives is hashed against the name that is wanted, so no source is believed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from usrstore.errors import ObjectNotFoundError, UsrError
from usrstore.objects import recipe, tree
from usrstore.objects.ids import ChunkId, ContentHash, Kind, ObjectId, PackId, TreeId, hash_object
from usrstore.objects.names import DatasetId
from usrstore.objects.progress import Emit, Event
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import compress, mending, reach, salvage
from usrstore.odb.packindex import PackIndex
from usrstore.odb.salvage import PackFile, Wanted
from usrstore.remote.peer import Ask, Compared, Nodes, Peer, Piece
from usrstore.root import Root, Who
from usrstore.verbs.site import Site
from usrstore.worktree.capture import Capture
from usrstore.worktree.source import FolderSource

_MAX_REFUSALS = 8
Need = Mapping[ObjectId, Kind]


class Healed(NamedTuple):
    """A whole object, and where it came from."""

    kind: Kind
    oid: ObjectId
    data: bytes
    source: str


class Aside:
    """Damaged packs that were set aside: one that had another's name may be whole."""

    def __init__(self, store: str, copy: Callable[[PackId], PackIndex | None]) -> None:
        self._store = store
        self._copy = copy

    def give(self, need: Need) -> Iterator[Healed]:
        for path in mending.set_aside_as(self._store, "packs@"):
            with PackFile(path) as file:
                found = salvage.rows_of(file, None, self._copy, Wanted)
                for oid, row in found.rows if found.how != "scan" else ():
                    stored = file.whole(oid, row) if need.get(oid) == row.kind else None
                    if stored is not None:
                        data = bytes(compress.expand(row.encoding, stored, row.size))
                        yield Healed(Kind(row.kind), oid, data, "a pack that was set aside")


class Folders:
    """The working folders, each read anew once: their chunks, and the nodes made of them."""

    def __init__(self, root: Root, who: Who, emit: Emit) -> None:
        self._root = root
        self._who = who
        self._emit = emit
        self._read: dict[DatasetId, tuple[Site, Capture] | None] = {}

    def give(self, need: Need) -> Iterator[Healed]:
        registry = self._root.registry()
        if registry is not None and hash_object(Kind.CHUNK, registry) in need:
            yield Healed(Kind.CHUNK, hash_object(Kind.CHUNK, registry), registry, "registry.yaml")
        for dataset in self._root.datasets():
            captured = self._capture(dataset)
            if captured is None:
                continue
            site, found = captured
            where = f"the folder of {dataset}"
            for oid, kind in list(need.items()):
                if kind in (Kind.TREE, Kind.RECIPE) and (data := site.overlay.find_new(oid)):
                    yield Healed(kind, oid, data, where)
            yield from self._chunks(site, found, need, where)

    def _chunks(self, site: Site, found: Capture, need: Need, where: str) -> Iterator[Healed]:
        with FolderSource(site.folder) as source:
            for path, entry in found.listing.items():
                chunks = list(reach.chunks(site.overlay.get, entry))
                if any(oid in need for oid, _ in chunks):
                    source.add(path, chunks)
                for oid, _ in chunks:
                    if oid in need and (data := source.try_read(oid)) is not None:
                        yield Healed(Kind.CHUNK, oid, data, where)

    def _capture(self, dataset: DatasetId) -> tuple[Site, Capture] | None:
        if dataset not in self._read:
            site = Site.open(self._root, dataset, self._who)
            try:
                found = site.capture(record=False, trusting=False, emit=self._emit)
                found.store(site.overlay.put)
                self._read[dataset] = site, found
            except UsrError as exc:
                self._emit(Event("note", text=f"{dataset} cannot be read: {exc.message}"))
                self._read[dataset] = None
        return self._read[dataset]

    def tree(self, dataset: DatasetId) -> TreeId | None:
        """What a folder holds now."""
        captured = self._capture(dataset)
        return captured[1].tree if captured is not None else None


class Remote:
    """A remote, asked dataset by dataset for what it has of what is needed."""

    def __init__(
        self,
        root: Root,
        name: str,
        connect: Callable[[], Peer],
        datasets: Iterable[DatasetId],
        emit: Emit,
    ) -> None:
        self._root = root
        self.name = name
        self._connect = connect
        self._datasets = sorted(set(datasets))
        self._emit = emit

    def give(self, need: Need) -> Iterator[Healed]:
        """Raises: RemoteError: it cannot be reached."""
        for dataset in self._datasets:
            with contextlib.closing(self._connect()) as peer:
                try:
                    yield from self._of(peer, dataset, need)
                except ObjectNotFoundError as exc:
                    text = f"{self.name} lacks some of {dataset}: {exc.message}"
                    self._emit(Event("note", text=text))
            yield from self._kept(dataset, need)

    def _kept(self, dataset: DatasetId, need: Need) -> Iterator[Healed]:
        """Chunks of older states, which a remote may have in its packs.

        It answers in the order of the question, and stops at the first that it lacks.
        """
        left = [oid for oid, kind in need.items() if kind is Kind.CHUNK]
        for _ in range(_MAX_REFUSALS):
            if not left:
                return
            asked, left, done = left, [], 0
            with contextlib.closing(self._connect()) as peer:
                try:
                    if not peer.compare(Ask(dataset, "diff")).exists:
                        return
                    for piece in peer.send([ChunkId(oid) for oid in asked]):
                        done += 1
                        yield self._chunk(piece)
                except ObjectNotFoundError:
                    left = asked[done + 1 :]

    def _chunk(self, piece: Piece) -> Healed:
        data = bytes(compress.expand(piece.encoding, piece.stored, piece.size))
        return Healed(Kind.CHUNK, ObjectId(piece.oid), data, self.name)

    def _of(self, peer: Peer, dataset: DatasetId, need: Need) -> Iterator[Healed]:
        where = self.name
        answer = peer.compare(Ask(dataset, "diff"))
        for manifest, data in answer.manifests.items():
            if need.get(manifest) is Kind.MANIFEST:
                yield Healed(Kind.MANIFEST, manifest, data, where)
        for node, (kind, data) in answer.nodes.items():
            if fits(need.get(node), kind):
                yield Healed(kind, node, data, where)
        if answer.registry is not None:
            oid = hash_object(Kind.CHUNK, answer.registry)
            if oid in need:
                yield Healed(Kind.CHUNK, oid, answer.registry, where)
        yield from self._files(peer, answer, need, where)

    def _files(self, peer: Peer, answer: Compared, need: Need, where: str) -> Iterator[Healed]:
        listing = _listing(answer)
        contents: dict[ContentHash, FileEntry] = {}
        for entry in listing.values():
            if entry.size and self._concerns(entry, need):
                contents.setdefault(entry.content, entry)
        if not contents:
            return
        nodes = {ObjectId(oid): data for oid, data in peer.want(list(contents), frozenset())}
        for oid, data in nodes.items():
            if need.get(oid) is Kind.RECIPE:
                yield Healed(Kind.RECIPE, oid, data, where)
        ask: dict[ChunkId, None] = {}
        for entry in contents.values():
            for oid, _ in reach.chunks(lambda _kind, node: nodes[node], entry):
                if oid in need:
                    ask[oid] = None
        for piece in peer.send(list(ask)) if ask else ():
            yield self._chunk(piece)

    def _concerns(self, entry: FileEntry, need: Need) -> bool:
        """Whether something of a file is needed; of one whose recipe is unknown, perhaps."""
        if entry.recipe is None:
            return entry.content in need
        try:
            database = self._root.database
            for oid, node in recipe.walk(
                entry.recipe, entry.size, lambda node: database.get(Kind.RECIPE, node)
            ):
                if oid in need or any(part.oid in need for part in node.parts):
                    return True
        except UsrError:
            return True
        return False


def _listing(answer: Compared) -> Listing:
    if answer.root is None:
        return {}
    nodes: Nodes = answer.nodes
    return tree.flatten(answer.root.tree, lambda oid: nodes[oid][1])


def fits(needed: Kind | None, kind: Kind) -> bool:
    """Whether an object may be the one needed: what a ref names and nobody has may be a tag."""
    return needed is kind or (needed is Kind.MANIFEST and kind is Kind.TAG)


def is_whole(healed: Healed) -> bool:
    """Whether a source gave what was asked for (I1)."""
    return hash_object(healed.kind, healed.data) == healed.oid
