"""Closure: whatever the refs of any state reach, and what of it is not there (I2).

Metadata must be here and decode; chunks must be here if the state was ever kept. A light
state's chunks lie in the working folder, so that they are in no pack is no finding, unless
the copy of a lost pack's index says that they were in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from usrstore.errors import DecodeError, IntegrityError, ObjectNotFoundError, UsrError
from usrstore.objects import sections
from usrstore.objects.ids import Kind, ManifestId, ObjectId, PackId, RecipeId, TreeId
from usrstore.objects.manifest import Manifest, Signed, Tag
from usrstore.objects.names import RefName
from usrstore.objects.recipe import Recipe
from usrstore.objects.tree import FileEntry, FolderEntry, Tree
from usrstore.odb.database import Database
from usrstore.odb.pack import pack_key
from usrstore.odb.packindex import PackIndex


class Lack(NamedTuple):
    """An object that is needed and cannot be had.

    Attributes:
        ref: the first ref through which it is reached.
        reason: `missing`, or what is wrong with its bytes.
        pack: for a chunk, the lost pack that held it.
    """

    kind: Kind
    oid: ObjectId
    ref: str
    reason: str
    pack: PackId | None = None


class Closure:
    """Walks from refs; remembers every node it has seen, so that shared history costs once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.manifests: dict[ManifestId, Manifest] = {}
        self.signed: dict[ManifestId, tuple[str, Signed]] = {}
        self.lacks: dict[ObjectId, Lack] = {}
        self.absent: dict[ObjectId, tuple[int, str]] = {}
        self._nodes: set[ObjectId] = set()

    def walk(self, refs: Mapping[RefName, ObjectId]) -> None:
        """Everything below some refs, of the newest state or of one before it.

        What a ref names must have its trees here: they came before the ref did, and no
        collection takes them. Of ancestors that no ref ever named only what is here is looked
        at, for their trees may never have come.
        """
        for name, oid in sorted(refs.items()):
            head = self._named(str(name), oid)
            if head is not None:
                self._ancestry(str(name), head)

    def _named(self, ref: str, oid: ObjectId) -> ManifestId | None:
        """The manifest that a ref means: its own, or that of its tag."""
        found = self._database.find(oid)
        if found is None or found.row.kind != Kind.TAG:
            return ManifestId(oid)
        data = self._get(Kind.TAG, oid, ref)
        if data is None:
            return None
        try:
            return Tag.parse(Signed.decode(data).payload).manifest
        except DecodeError as exc:
            self._lack(Kind.TAG, oid, ref, exc.message)
            return None

    def _ancestry(self, ref: str, head: ManifestId) -> None:
        stack = [head]
        while stack:
            oid = stack.pop()
            if oid in self.manifests:
                if oid == head:
                    self._state(ref, self.manifests[oid], whole=True)
                continue
            data = self._get(Kind.MANIFEST, oid, ref)
            if data is None:
                continue
            try:
                signed = Signed.decode(data)
                manifest = Manifest.parse(signed.payload)
            except DecodeError as exc:
                self._lack(Kind.MANIFEST, oid, ref, exc.message)
                continue
            self.manifests[oid] = manifest
            self.signed[oid] = ref, signed
            self._state(ref, manifest, whole=oid == head)
            stack += manifest.parents

    def _state(self, ref: str, manifest: Manifest, *, whole: bool) -> None:
        if manifest.registry is not None and whole:
            self._chunk(manifest.registry.content, manifest.registry.size, ref, kept=True)
        if whole or self._database.has(manifest.tree):
            self._tree(ref, manifest.tree)

    def _tree(self, ref: str, root: TreeId) -> None:
        stack = [root]
        while stack:
            oid = stack.pop()
            if oid in self._nodes:
                continue
            self._nodes.add(oid)
            data = self._get(Kind.TREE, oid, ref)
            if data is None:
                continue
            try:
                entries = Tree.decode(data).entries
            except DecodeError as exc:
                self._lack(Kind.TREE, oid, ref, exc.message)
                continue
            for entry in entries:
                if isinstance(entry, FolderEntry):
                    stack.append(entry.tree)
                elif entry.recipe is not None:
                    self._recipe(ref, entry.recipe)
                elif entry.size:
                    self._chunk(entry.content, entry.size, ref)

    def _recipe(self, ref: str, root: RecipeId) -> None:
        stack = [ObjectId(root)]
        while stack:
            oid = stack.pop()
            if oid in self._nodes:
                continue
            self._nodes.add(oid)
            data = self._get(Kind.RECIPE, oid, ref)
            if data is None:
                continue
            try:
                node = Recipe.decode(data)
            except DecodeError as exc:
                self._lack(Kind.RECIPE, oid, ref, exc.message)
                continue
            for part in node.parts:
                if node.height:
                    stack.append(part.oid)
                else:
                    self._chunk(part.oid, part.size, ref)

    def _chunk(self, oid: ObjectId, size: int, ref: str, *, kept: bool = False) -> None:
        if self._database.has(oid):
            return
        if kept:
            self._lack(Kind.CHUNK, oid, ref, "missing")
        else:
            self.absent.setdefault(oid, (size, ref))

    def _get(self, kind: Kind, oid: ObjectId, ref: str) -> bytes | None:
        try:
            return self._database.get(kind, oid)
        except ObjectNotFoundError:
            self._lack(kind, oid, ref, "missing")
        except UsrError as exc:
            self._lack(kind, oid, ref, exc.message)
        return None

    def _lack(self, kind: Kind, oid: ObjectId, ref: str, reason: str) -> None:
        self.lacks.setdefault(oid, Lack(kind, oid, ref, reason))

    def find_lost_chunks(self) -> None:
        """Of the chunks that are in no pack: those that a lost pack held were kept once."""
        if not self.absent:
            return
        for pack, index in index_copies(self._database):
            if self._database.has_pack(pack):
                continue
            for oid, (_, ref) in self.absent.items():
                if oid not in self.lacks and index.find(oid) is not None:
                    self.lacks[oid] = Lack(Kind.CHUNK, oid, ref, "missing", pack)

    def place_of(self, oid: ObjectId) -> str:
        """The key of the pack that an object lies in."""
        found = self._database.find(oid)
        return pack_key(found.pack.pack) if found is not None else "packs/"

    def affected(self, bad: Mapping[ObjectId, str]) -> Iterator[tuple[str, str]]:
        """Which files of which states cannot be had, newest states first.

        Args:
            bad: objects that cannot be had, each with the group it is counted in.

        Yields:
            A group and a file, once for each group that the file needs something of.
        """
        look = _Affected(self._database, bad)
        for oid, manifest in sorted(
            self.manifests.items(), key=lambda item: (item[1].dataset, -item[1].sequence)
        ):
            state = f"{manifest.dataset} state {manifest.sequence} ({oid.short})"
            if manifest.registry is not None and manifest.registry.content in bad:
                yield bad[manifest.registry.content], f"{state}: registry.yaml"
            for group, path in look.below(manifest.tree, ""):
                yield group, f"{state}: {path}"


class _Affected:
    """Goes down only where something bad lies; remembers which nodes are clean."""

    def __init__(self, database: Database, bad: Mapping[ObjectId, str]) -> None:
        self._database = database
        self._bad = bad
        self._clean: set[ObjectId] = set()

    def below(self, tree: ObjectId, prefix: str) -> Iterator[tuple[str, str]]:
        if tree in self._clean:
            return
        if tree in self._bad:
            yield self._bad[tree], f"{prefix}* (its list of files)"
            return
        dirty = False
        for entry in self._entries(tree):
            if isinstance(entry, FolderEntry):
                # A node of a long folder goes by its last entry's name, and adds no level.
                for row in self.below(
                    entry.tree, f"{prefix}{entry.name}/" if entry.name else prefix
                ):
                    dirty = True
                    yield row
                continue
            for group in sorted(self._groups(entry)):
                dirty = True
                yield group, sections.from_tree_path(prefix + entry.name)
        if not dirty:
            self._clean.add(tree)

    def _entries(self, tree: ObjectId) -> Iterator[FileEntry | FolderEntry]:
        try:
            node = Tree.decode(self._database.get(Kind.TREE, tree))
        except (IntegrityError, ObjectNotFoundError):
            return
        for entry in node.entries:
            if node.height and isinstance(entry, FolderEntry):
                yield entry._replace(name="")
            else:
                yield entry

    def _groups(self, entry: FileEntry) -> set[str]:
        if entry.recipe is None:
            return {self._bad[entry.content]} if entry.content in self._bad else set()
        stack, passed, groups = [ObjectId(entry.recipe)], [], set()
        while stack:
            oid = stack.pop()
            if oid in self._bad:
                groups.add(self._bad[oid])
                continue
            if oid in self._clean:
                continue
            try:
                node = Recipe.decode(self._database.get(Kind.RECIPE, oid))
            except (IntegrityError, ObjectNotFoundError):
                continue
            passed.append(oid)
            if node.height:
                stack += [part.oid for part in node.parts]
            else:
                groups.update(self._bad[part.oid] for part in node.parts if part.oid in self._bad)
        if not groups:
            self._clean.update(passed)
        return groups


def index_copies(database: Database) -> Iterator[tuple[PackId, PackIndex]]:
    """The copies of data packs' indexes that metadata packs hold ([F-42])."""
    for pack in list(database.packs()):
        for oid, row in pack.index.items():
            if row.kind == Kind.INDEX:
                try:
                    yield PackId(oid), PackIndex.check(pack.read(oid, row), PackId(oid))
                except IntegrityError:
                    continue
