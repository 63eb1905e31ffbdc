"""Marking: what the roots of a store reach, as one bit for each object of each pack (I7).

A root is marked *whole*, with all its files, or *light*: its manifest, trees and recipes, which
say what it was. All that is whole is marked before anything light: what was seen is not seen
again.
An object that is stored twice is marked in one place, in a pack that is not condemned if there
is one; so a pack without marks can go.
"""

from __future__ import annotations

from collections.abc import Iterable

from usrstore.errors import IncompleteError
from usrstore.objects.ids import ChunkId, Kind, ManifestId, ObjectId, PackId, RecipeId, TreeId
from usrstore.objects.manifest import Manifest, Signed, Tag
from usrstore.objects.recipe import Recipe
from usrstore.objects.tree import FileEntry, Tree
from usrstore.odb import reach
from usrstore.odb.database import Database

_AT_ONCE = 1 << 18  # chunks that are looked up together


class Marks:
    """What has been reached so far."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._chunks: set[ObjectId] = set()
        self.bits: dict[PackId, bytearray] = {
            pack.pack: bytearray(pack.index.count) for pack in database.packs()
        }

    def _mark(self, oid: ObjectId) -> bool | None:
        """True the first time, False after it, None for an object that is not here."""
        found = self._database.find(oid)
        if found is None:
            return None
        bits = self.bits.setdefault(found.pack.pack, bytearray(found.pack.index.count))
        if bits[found.at]:
            return False
        bits[found.at] = 1
        return True

    def _must(self, oid: ObjectId, kind: Kind, *, strict: bool) -> bool:
        """Mark an object; True if what it names is still to be marked.

        Raises:
            IncompleteError: it is not here, and without it nobody knows what it reaches.
        """
        first = self._mark(oid)
        if first is None and strict:
            raise IncompleteError(
                f"{kind.word} {oid.short}, which a ref reaches, is not in this store; nothing "
                "was collected",
                hint="run `usr fsck` to see what is missing, and bring it back first",
            )
        return bool(first)

    def named(self, oid: ObjectId) -> ManifestId:
        """The manifest that a ref names, itself or by a tag, which is marked."""
        found = self._database.find(oid)
        if found is not None and found.row.kind == Kind.TAG:
            self._mark(oid)
            return Tag.parse(Signed.decode(self._database.get(Kind.TAG, oid)).payload).manifest
        return ManifestId(oid)

    def whole(self, oid: ManifestId, *, strict: bool = False) -> None:
        """Mark a manifest and all its files."""
        self._state(oid, strict=strict, light=False)

    def light(self, oid: ManifestId) -> None:
        """Mark a manifest, its trees and its recipes."""
        self._state(oid, strict=False, light=True)

    def _state(self, oid: ManifestId, *, strict: bool, light: bool) -> None:
        self._must(oid, Kind.MANIFEST, strict=strict)
        manifest = self.manifest(oid)
        if manifest is None:
            return
        if manifest.registry is not None:
            self._add(manifest.registry.content)
        self._tree(manifest.tree, strict=strict, light=light)

    def manifest(self, oid: ManifestId) -> Manifest | None:
        """The manifest, if it is here."""
        return reach.manifest(self._database.get, oid) if self._database.has(oid) else None

    def history(self, oids: Iterable[ManifestId]) -> dict[ManifestId, Manifest]:
        """Manifests and all their ancestors, as far as they are here; marks none."""
        seen: dict[ManifestId, Manifest] = {}
        front = list(oids)
        while front:
            oid = front.pop()
            manifest = None if oid in seen else self.manifest(oid)
            if manifest is not None:
                seen[oid] = manifest
                front += manifest.parents
        return seen

    def _tree(self, root: TreeId, *, strict: bool, light: bool) -> None:
        stack = [root]
        while stack:
            oid = stack.pop()
            if not self._must(oid, Kind.TREE, strict=strict):
                continue
            for entry in Tree.decode(self._database.get(Kind.TREE, oid)).entries:
                if not isinstance(entry, FileEntry):
                    stack.append(entry.tree)
                elif entry.recipe is not None:
                    self.recipe(entry.recipe, strict=strict, light=light)
                elif entry.size and not light:
                    self._add(entry.content)

    def recipe(self, root: RecipeId, *, strict: bool = False, light: bool = True) -> None:
        """Mark the nodes of a recipe, and unless `light` its chunks as far as packs have them."""
        stack: list[ObjectId] = [root]
        while stack:
            oid = stack.pop()
            if not self._must(oid, Kind.RECIPE, strict=strict):
                continue
            node = Recipe.decode(self._database.get(Kind.RECIPE, oid))
            if node.height:
                stack += [part.oid for part in node.parts]
            elif not light:
                for part in node.parts:
                    self._add(ChunkId(part.oid))

    def _add(self, oid: ObjectId) -> None:
        self._chunks.add(oid)
        if len(self._chunks) >= _AT_ONCE:
            self.settle()

    def objects(self, oids: Iterable[ObjectId]) -> None:
        """Mark single objects."""
        for oid in oids:
            self._mark(oid)

    def settle(self) -> None:
        """Look up the chunks that were only noted so far; call it before reading `bits`."""
        for _, pack, at in self._database.locate(self._chunks):
            self.bits.setdefault(pack.pack, bytearray(pack.index.count))[at] = 1
        self._chunks.clear()
