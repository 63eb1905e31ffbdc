"""Reachability: what a manifest needs, and what of that is missing (I2, I5)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator

from usrstore.objects import recipe, tree
from usrstore.objects.ids import ChunkId, Kind, ManifestId, ObjectId, RecipeId, TreeId
from usrstore.objects.manifest import Manifest, Signed
from usrstore.objects.sections import to_tree_path
from usrstore.objects.tree import FileEntry, FolderEntry, Listing, Tree

Get = Callable[[Kind, ObjectId], bytes]


def manifest(get: Get, oid: ManifestId) -> Manifest:
    """Raises: ObjectNotFoundError, IntegrityError."""
    return Manifest.parse(Signed.decode(get(Kind.MANIFEST, oid)).payload)


def ancestry(get: Get, oid: ManifestId) -> Iterator[tuple[ManifestId, Manifest]]:
    """A manifest and all it descends from, greatest sequence first, each once."""
    seen = {oid}
    front = [(oid, manifest(get, oid))]
    while front:
        front.sort(key=lambda pair: (pair[1].sequence, pair[0]))
        oid, found = front.pop()
        yield oid, found
        for parent in found.parents:
            if parent not in seen:
                seen.add(parent)
                front.append((parent, manifest(get, parent)))


def listing(get: Get, root: TreeId) -> Listing:
    return tree.flatten(root, lambda oid: get(Kind.TREE, oid))


def files(get: Get, root: TreeId, paths: Iterable[str]) -> Listing:
    """Some files of a state, those that it has: only the trees on the way to them are read."""
    found: Listing = {}
    for path in paths:
        at: TreeId | None = root
        *above, last = to_tree_path(path).split("/")
        for name in above:
            entry = None if at is None else _entry(get, at, name)
            at = entry.tree if isinstance(entry, FolderEntry) else None
        entry = None if at is None else _entry(get, at, last)
        if isinstance(entry, FileEntry):
            found[path] = entry
    return found


def _entry(get: Get, at: TreeId, name: str) -> tree.Entry | None:
    """An entry of a folder, however many nodes the folder has."""
    key = name.encode()
    while True:
        node = Tree.decode(get(Kind.TREE, at))
        place = bisect_left(node.entries, key, key=lambda entry: entry.name.encode())
        if place == len(node.entries):
            return None
        entry = node.entries[place]
        if not node.height:
            return entry if entry.name == name else None
        assert isinstance(entry, FolderEntry)
        at = entry.tree


def chunks(get: Get, entry: FileEntry) -> Iterator[tuple[ChunkId, int]]:
    """The chunks of a file in order, with their lengths."""
    if entry.recipe is None:
        yield ChunkId(ObjectId(entry.content)), entry.size
        return
    for part in recipe.chunks(entry.recipe, entry.size, lambda oid: get(Kind.RECIPE, oid)):
        yield ChunkId(part.oid), part.size


def recipes(
    get: Get, entries: Iterable[FileEntry], have: Collection[RecipeId] = ()
) -> Iterator[tuple[RecipeId, bytes]]:
    """The recipe nodes of some files with their bytes, parents first, each once.

    Args:
        get: reads them.
        entries: the files.
        have: nodes that are left out.
    """

    def node(oid: RecipeId) -> bytes:
        return get(Kind.RECIPE, oid)

    seen = set(have)
    for entry in entries:
        if entry.recipe is None:
            continue
        for oid, _ in recipe.walk(entry.recipe, entry.size, node):
            if oid not in seen:
                seen.add(oid)
                yield oid, node(oid)


def file_objects(get: Get, entry: FileEntry) -> Iterator[tuple[Kind, ObjectId]]:
    """The recipe nodes and chunks of a file, parents first."""
    if entry.recipe is None:
        if entry.size:
            yield Kind.CHUNK, ObjectId(entry.content)
        return
    for oid, node in recipe.walk(entry.recipe, entry.size, lambda oid: get(Kind.RECIPE, oid)):
        yield Kind.RECIPE, oid
        if node.height == 0:
            yield from ((Kind.CHUNK, part.oid) for part in node.parts)


def metadata(get: Get, oid: ManifestId) -> Iterator[tuple[Kind, ObjectId]]:
    """Every tree and recipe node of one state, parents first."""
    found = manifest(get, oid)
    for node in tree.node_ids(found.tree, lambda o: get(Kind.TREE, o)):
        yield Kind.TREE, node
    seen: set[RecipeId] = set()
    for entry in listing(get, found.tree).values():
        if entry.recipe is None:
            continue
        for node_id in recipe.node_ids(entry.recipe, entry.size, lambda o: get(Kind.RECIPE, o)):
            if node_id not in seen:
                seen.add(node_id)
                yield Kind.RECIPE, node_id
