"""du: where the bytes of a store are, what each state costs alone, and what is saved how."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from usrstore.errors import ObjectNotFoundError
from usrstore.objects.ids import ChunkId, ManifestId, ObjectId, PackId
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import DatasetId
from usrstore.objects.tree import FileEntry
from usrstore.odb import reach
from usrstore.odb.mark import Marks
from usrstore.odb.pack import Pack
from usrstore.root import Root
from usrstore.verbs.history import find_listing

_SHARED = -1
PLACES = ("states", "gc", "index", "quarantine", "journal")


@dataclass(slots=True)
class StateUse:
    """What one state weighs.

    Attributes:
        oid, manifest: which.
        size: bytes of its files.
        alone: bytes in packs that no other state reaches: what giving it up would free.
        kept: whether packs have all of it.
        known: whether its trees are here; of others nothing can be said.
    """

    oid: ManifestId
    manifest: Manifest
    size: int = 0
    alone: int = 0
    kept: bool = True
    known: bool = True


@dataclass(slots=True)
class Usage:
    """Where the bytes are.

    Attributes:
        places: bytes on disk by part of the store; `packs` are split into data and metadata.
        packs: how many there are.
        folders: bytes of the working folders, by dataset.
        states: those that refs and operations reach, each dataset's newest first.
        logical: bytes of all their files, each as often as a state has it.
        distinct: bytes of their chunks, each once.
        stored: bytes of those that packs have, as they lie there.
        stored_raw: bytes of those before compression.
        light: bytes of those that no pack has: they rest in working folders, or are nowhere.
    """

    places: dict[str, int] = field(default_factory=dict)
    packs: int = 0
    folders: dict[DatasetId, int] = field(default_factory=dict)
    states: list[StateUse] = field(default_factory=list)
    logical: int = 0
    distinct: int = 0
    stored: int = 0
    stored_raw: int = 0
    light: int = 0


def du(root: Root, dataset: DatasetId | None = None) -> Usage:
    """Measure a store; with a dataset, its states only (what they share is shared with all)."""
    usage = Usage()
    for name in root.datasets():
        if dataset in (None, name):
            usage.folders[name] = _size(root.folder(name))
    if not root.has_store:
        return usage
    for place in PLACES:
        usage.places[place] = _size(os.path.join(root.store, place))
    usage.places |= {"data": 0, "metadata": 0}
    for pack in root.database.packs():
        usage.packs += 1
        usage.places["data" if pack.holds_data else "metadata"] += pack.size
    usage.places["other"] = _size(root.store) - sum(usage.places.values())
    states = [StateUse(oid, manifest) for oid, manifest in _states(root)]
    _weigh(root, states, usage)
    usage.states = sorted(
        (use for use in states if dataset in (None, use.manifest.dataset)),
        key=lambda use: (use.manifest.dataset, -use.manifest.sequence, use.oid),
    )
    return usage


def _states(root: Root) -> list[tuple[ManifestId, Manifest]]:
    marks = Marks(root.database)
    named = {marks.named(oid) for state in root.states.history() for oid in state.refs.values()}
    return list(marks.history(sorted(named)).items())


def _weigh(root: Root, states: list[StateUse], usage: Usage) -> None:
    """Say of every chunk which one state reaches it, or that several do."""
    owners: dict[ObjectId, tuple[int, FileEntry]] = {}
    users: dict[ObjectId, list[int]] = {}
    for number, use in enumerate(states, 1):
        listing = find_listing(root, use.manifest)
        if listing is None:
            use.kept = use.known = False
            continue
        use.size = sum(entry.size for entry in listing.values())
        usage.logical += use.size
        files: dict[ObjectId, FileEntry] = {
            entry.recipe or entry.content: entry for entry in listing.values() if entry.size
        }
        for oid, entry in files.items():
            before = owners.get(oid)
            owners[oid] = (_SHARED if before else number), entry
            users.setdefault(oid, []).append(number)
    cells = _Cells(root)
    for oid, (owner, entry) in owners.items():
        try:
            whole = cells.add(owner, dict(reach.chunks(root.database.get, entry)))
        except ObjectNotFoundError:
            whole = False
        if not whole:
            for number in users[oid]:
                states[number - 1].kept = False
    for pack, row_at, owner in cells.rows():
        row = pack.index.row(row_at)
        usage.stored += row.stored
        usage.stored_raw += row.size
        if owner != _SHARED:
            states[owner - 1].alone += row.stored
    usage.light = sum(cells.light.values())
    usage.distinct = usage.stored_raw + usage.light


class _Cells:
    """One number for each object of each pack: the state that reaches it, or that several do."""

    def __init__(self, root: Root) -> None:
        self._database = root.database
        self._cells: dict[PackId, array[int]] = {}
        self._packs: dict[PackId, Pack] = {}
        self.light: dict[ChunkId, int] = {}

    def add(self, owner: int, chunks: Mapping[ChunkId, int]) -> bool:
        """Note the chunks of a file, with their sizes; whether packs have them all."""
        here = set()
        for oid, pack, at in self._database.locate(chunks):
            here.add(oid)
            cells = self._cells.get(pack.pack)
            if cells is None:
                cells = self._cells[pack.pack] = array("i", bytes(4 * pack.index.count))
                self._packs[pack.pack] = pack
            cells[at] = owner if cells[at] in (0, owner) else _SHARED
        lacking = {oid: size for oid, size in chunks.items() if oid not in here}
        self.light.update(lacking)
        return not lacking

    def rows(self) -> Iterator[tuple[Pack, int, int]]:
        """Each object that is reached: its pack, its number there, and who reaches it."""
        for name, cells in self._cells.items():
            for at, owner in enumerate(cells):
                if owner:
                    yield self._packs[name], at, owner


def _size(path: str) -> int:
    """Bytes of the files below a folder."""
    total = 0
    for at, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(at, name), follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total
