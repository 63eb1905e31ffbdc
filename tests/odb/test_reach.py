"""Reachability: what a state needs is found, each once, and in the order that keeps it safe."""

from __future__ import annotations

import os
import struct

import msgpack
import pytest

from support.people import make_who
from usrstore.errors import DecodeError, ObjectNotFoundError
from usrstore.objects import recipe, tree
from usrstore.objects.ids import ContentHash, Kind, ManifestId, TreeId, hash_object
from usrstore.objects.manifest import Manifest, Signed
from usrstore.objects.tree import FileEntry
from usrstore.odb import durable, reach
from usrstore.root import Root
from usrstore.verbs.commit import commit
from usrstore.verbs.site import Site


class Objects(dict):
    """Objects in memory, by kind and id."""

    def add(self, kind, data):
        oid = hash_object(kind, data)
        self[kind, oid] = data
        return oid

    def get_object(self, kind, oid):
        try:
            return self[kind, oid]
        except KeyError:
            raise ObjectNotFoundError(f"no {kind.word} {oid.short}") from None

    def manifest(self, *parents, number=0, tree_id=None):
        sequence = 1 + max(
            (reach.manifest(self.get_object, p).sequence for p in parents), default=0
        )
        made = Manifest(
            dataset="ns/x",
            sequence=sequence,
            tree=TreeId(tree_id or hash_object(Kind.TREE, b"none")),
            parents=parents,
            author="ada",
            host="lab",
            tool="t",
            time_us=number,
            message="m",
        )
        return ManifestId(self.add(Kind.MANIFEST, Signed(made.payload(), None).encode()))

    def file(self, path, count):
        parts = [(hash_object(Kind.CHUNK, b"%d" % n), 10) for n in range(count)]
        name = path.rpartition("/")[2]
        if count == 1:
            return FileEntry(name, 10, ContentHash(parts[0][0]), None)
        root = recipe.build(parts, lambda _oid, data: self.add(Kind.RECIPE, data))
        return FileEntry(
            name, 10 * count, ContentHash(hash_object(Kind.CHUNK, path.encode())), root
        )

    def tree(self, listing):
        return tree.build(listing, lambda _oid, data: self.add(Kind.TREE, data)).tree


def test_ancestors_come_once_each_and_none_before_its_descendants():
    objects = Objects()
    first = objects.manifest()
    left = objects.manifest(first, number=1)
    right = objects.manifest(first, number=2)
    long = objects.manifest(objects.manifest(right, number=3), number=4)
    merged = objects.manifest(left, long, number=5)
    order = [oid for oid, _ in reach.ancestry(objects.get_object, merged)]
    assert len(order) == len(set(order)) == 6
    assert order[0] == merged
    assert order[-1] == first
    for oid, manifest in reach.ancestry(objects.get_object, merged):
        assert all(order.index(parent) > order.index(oid) for parent in manifest.parents)


def test_a_missing_ancestor_is_named():
    objects = Objects()
    first = objects.manifest()
    second = objects.manifest(first, number=1)
    del objects[Kind.MANIFEST, first]
    with pytest.raises(ObjectNotFoundError, match=first.short):
        list(reach.ancestry(objects.get_object, second))


def test_a_state_needs_every_node_of_its_trees_and_recipes_once():
    objects = Objects()
    listing = {path: objects.file(path, count) for path, count in {
        "records.parquet": 300, "meta.md": 1, "_derived/a/b": 2, "_derived/a/c": 2, "x": 300,
    }.items()}  # fmt: skip
    oid = objects.manifest(tree_id=objects.tree(listing))
    found = list(reach.metadata(objects.get_object, oid))
    assert len(found) == len(set(found))
    assert set(found) == {key for key in objects if key[0] in (Kind.TREE, Kind.RECIPE)}
    assert [size for _, size in reach.chunks(objects.get_object, listing["x"])] == [10] * 300
    assert list(reach.chunks(objects.get_object, listing["meta.md"])) == [
        (listing["meta.md"].content, 10)
    ]


@pytest.mark.parametrize("kind", [Kind.TREE, Kind.RECIPE])
def test_a_missing_node_is_found_whichever_it_is(kind):
    objects = Objects()
    listing = {path: objects.file(path, 300) for path in ("records.parquet", "a/b/c")}
    oid = objects.manifest(tree_id=objects.tree(listing))
    for key in [key for key in objects if key[0] is kind]:
        data = objects.pop(key)
        with pytest.raises(ObjectNotFoundError):
            list(reach.metadata(objects.get_object, oid))
        objects[key] = data
    list(reach.metadata(objects.get_object, oid))


@pytest.mark.spec("F-9")
def test_a_recipe_that_repeats_itself_without_end_costs_what_its_nodes_cost():
    objects = Objects()
    packed = struct.pack(">32sQ", hash_object(Kind.CHUNK, b"x"), 1) * 256
    oid, size = objects.add(Kind.RECIPE, msgpack.packb([1, 0, packed])), 256
    for height in range(1, 7):
        packed = struct.pack(">32sQ", oid, size) * 256
        oid, size = objects.add(Kind.RECIPE, msgpack.packb([1, height, packed])), size * 256
    entry = FileEntry("meta.md", size, ContentHash(hash_object(Kind.CHUNK, b"?")), oid)
    manifest = objects.manifest(tree_id=objects.tree({"meta.md": entry}))
    assert len(list(reach.metadata(objects.get_object, manifest))) == 7 + 2
    lying = objects.manifest(tree_id=objects.tree({"meta.md": entry._replace(size=size - 1)}))
    with pytest.raises(DecodeError):
        list(reach.metadata(objects.get_object, lying))


def changes(act):
    """The changes to the disk that `act` makes."""
    calls = []
    with durable.tapped(
        lambda when, op, path: calls.append((op, path)) if when == "before" else None
    ):
        act()
    return calls


@pytest.mark.spec("F-45")
@pytest.mark.spec("F-47")
def test_a_commit_makes_packs_then_the_state_and_removes_nothing_but_its_own_scratch(home):
    folder = home / "ns" / "x"
    folder.mkdir(parents=True)
    for round_ in range(2):
        (folder / "records.parquet").write_bytes(os.urandom(200_000))
        calls = changes(lambda: commit(Site.open(Root(str(home)), "ns/x", make_who()), message="m"))
        named = [os.path.relpath(path, home) for op, path in calls if op == "link"]
        assert all(path.startswith(".usr/packs/") for path in named[:-1])
        assert named[-1] == f".usr/states/{round_ + 1:020}"
        removed = [os.path.basename(path) for op, path in calls if op in ("unlink", "rmdir")]
        assert all(name.startswith(".tmp-") for name in removed)
        root = Root(str(home))
        (head,) = root.states.refs().values()
        manifest = reach.manifest(root.database.get, ManifestId(head))
        for entry in reach.listing(root.database.get, manifest.tree).values():
            assert not root.database.missing(
                oid for oid, _ in reach.chunks(root.database.get, entry)
            )


def test_single_files_are_found_without_reading_the_other_trees():
    store, listing = Objects(), {}
    for number in range(3000):
        path = f"_derived/infer/part-{number:05d}.parquet"
        content = ContentHash(hash_object(Kind.CHUNK, path.encode()))
        listing[path] = FileEntry(path.rpartition("/")[2], 5, content, None)
    content = ContentHash(hash_object(Kind.CHUNK, b"x"))
    listing["meta.md"] = FileEntry("meta.md", 1, content, None)
    root = tree.build(listing, lambda oid, data: store.__setitem__((Kind.TREE, oid), data)).tree
    read = []

    def get(kind, oid):
        read.append(oid)
        return store.get_object(kind, oid)

    wanted = ["meta.md", "_derived/infer/part-02999.parquet", "_derived/infer/part-00000.parquet"]
    absent = [
        "_derived/infer/part-1.parquet",
        "_derived/other/part",
        "meta.md/x",
        "_derived/a",
        "zz",
    ]
    assert reach.files(get, root, [*wanted, *absent]) == {path: listing[path] for path in wanted}
    assert len(set(read)) < len(store)
