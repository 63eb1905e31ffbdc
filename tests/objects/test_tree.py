"""Trees: one for every folder, whatever order it was listed in; lies are found, and cheaply."""

from __future__ import annotations

import random

import msgpack
import pytest

from usrstore.errors import DecodeError, UnsafeFileError
from usrstore.objects import tree
from usrstore.objects.ids import ContentHash, Kind, TreeId, hash_object
from usrstore.objects.tree import FileEntry, FolderEntry, Tree

MAX_U64 = (1 << 64) - 1


def file(path, word=None, size=None):
    content = ContentHash(hash_object(Kind.CHUNK, (word or path).encode()))
    return FileEntry(path.rpartition("/")[2], len(path) if size is None else size, content, None)


def large(path, size):
    return file(path, size=size)._replace(recipe=hash_object(Kind.RECIPE, path.encode()))


class Nodes(dict):
    """Tree nodes by id, counting what is read."""

    reads = 0

    def put(self, oid, data):
        assert hash_object(Kind.TREE, data) == oid
        self[oid] = data

    def add(self, *rows, height=0):
        data = msgpack.packb([1, height, list(rows)])
        oid = TreeId(hash_object(Kind.TREE, data))
        self[oid] = data
        return oid

    def get_node(self, oid):
        self.reads += 1
        return self[oid]


LISTING = {
    path: file(path)
    for path in [
        "records.parquet",
        ".events.log",
        "meta.md",
        "_snapshots/a.parquet",
        "_derived/infer/b.parquet",
        "_derived/infer.parquet",
        "_derived/infer-2/c",
        "sub/sub/d",
        "sub-x",
        "sub.x",
        "\uffff",
        "\U00010000",
        *(f"many/{n:04}" for n in range(1000)),
    ]
}


@pytest.mark.spec("F-22")
def test_a_listing_comes_back_from_its_trees_and_its_order_means_nothing():
    nodes = Nodes()
    root = tree.build(LISTING, nodes.put)
    assert tree.flatten(root.tree, nodes.get_node) == LISTING
    assert (root.files, root.size) == (len(LISTING), sum(e.size for e in LISTING.values()))
    shuffled = list(LISTING.items())
    random.Random(1).shuffle(shuffled)
    assert tree.build(dict(shuffled), nodes.put) == root


@pytest.mark.spec("F-11")
def test_children_are_written_before_their_parents():
    written = set()

    def put(oid, data):
        for entry in Tree.decode(data).entries:
            assert isinstance(entry, FileEntry) or entry.tree in written
        written.add(oid)

    tree.build(LISTING, put)
    assert len(written) > 15


def test_an_empty_dataset_has_a_tree():
    nodes = Nodes()
    root = tree.build({}, nodes.put)
    assert tree.flatten(root.tree, nodes.get_node) == {}
    assert (root.files, root.size) == (0, 0)
    assert nodes == {root.tree: Tree(0, ()).encode()}


@pytest.mark.spec("F-10")
def test_one_file_among_thousands_costs_a_handful_of_nodes():
    listing = {f"many/{n:05}": file(f"many/{n:05}") for n in range(20_000)}
    before, after = Nodes(), Nodes()
    tree.build(listing, before.put)
    tree.build({**listing, "many/10000": file("many/10000", "changed")}, after.put)
    fresh = after.keys() - before.keys()
    assert len(fresh) <= 10
    assert sum(len(after[oid]) for oid in fresh) < 100_000


@pytest.mark.spec("F-16")
def test_entries_of_one_folder_are_in_order_over_all_its_nodes():
    nodes = Nodes()
    root = tree.build_folder(sorted(file(f"{n:03}") for n in range(500)), nodes.put)
    assert Tree.decode(nodes[root.tree]).height == 1
    assert [entry.name for entry in tree.entries(root.tree, nodes.get_node)] == [
        f"{n:03}" for n in range(500)
    ]


def test_every_node_is_named_once_parents_first():
    nodes = Nodes()
    root = tree.build(LISTING, nodes.put)
    ids = list(tree.node_ids(root.tree, nodes.get_node))
    assert ids[0] == root.tree
    assert len(ids) == len(set(ids))
    assert set(ids) == set(nodes)


# ── hostile trees ───────────────────────────────────────────────────────────────────────
def row(entry):
    return list(entry)


def refused(nodes, root, error=DecodeError, match=None):
    with pytest.raises(error, match=match):
        tree.flatten(root, nodes.get_node)


def in_section(nodes, *rows, section="auxiliary", files=None, size=None, height=0):
    """A root with one section that holds these rows."""
    inner = nodes.add(*rows, height=height)
    node = Tree.decode(nodes[inner])
    files = node.files if files is None else files
    return nodes.add([section, inner, files, node.size if size is None else size])


@pytest.mark.spec("F-21")
@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("auxiliary", "records.parquet"),
        ("primary", "other"),
        ("events", "meta.md"),
        ("other", "x"),
        ("auxiliary", "_derived"),
        ("auxiliary", ".usr.lock"),
        ("auxiliary", ".usr"),
    ],
)
def test_a_file_in_a_section_that_is_not_its_own_is_unsafe(section, name):
    nodes = Nodes()
    refused(nodes, in_section(nodes, row(file(name)), section=section), UnsafeFileError)


@pytest.mark.spec("F-21")
@pytest.mark.parametrize("name", ["records.parquet", ".events.log"])
def test_a_folder_under_the_name_of_a_section_file_is_unsafe(name):
    nodes = Nodes()
    inner = nodes.add(row(file("x")))
    refused(nodes, in_section(nodes, [name, inner, 1, 1]), UnsafeFileError)


def test_a_file_beside_the_sections_is_unsafe():
    nodes = Nodes()
    refused(nodes, nodes.add(row(file("records.parquet"))), UnsafeFileError)


@pytest.mark.spec("F-17")
@pytest.mark.parametrize("lie", [{"files": 2}, {"size": 7}, {"size": 0}])
def test_a_folder_that_does_not_hold_what_is_said_of_it_is_refused(lie):
    nodes = Nodes()
    refused(nodes, in_section(nodes, row(file("abc")), **lie), match="not")


@pytest.mark.spec("F-17")
def test_an_empty_folder_is_refused_whatever_is_said_of_it():
    nodes = Nodes()
    empty = nodes.add()
    refused(nodes, nodes.add(["auxiliary", empty, 1, 0]))
    with pytest.raises(DecodeError):
        Tree.decode(msgpack.packb([1, 0, [["auxiliary", empty, 0, 0]]]))


@pytest.mark.spec("F-22")
def test_nodes_that_are_cut_elsewhere_are_refused():
    nodes = Nodes()
    rows = [row(file(f"{n:03}")) for n in range(40)]
    halves = [nodes.add(*rows[:20]), nodes.add(*rows[20:])]
    cut = [["019", halves[0], 20, 60], ["039", halves[1], 20, 60]]
    refused(nodes, in_section(nodes, *cut, height=1), match="not built by the rules")


@pytest.mark.spec("F-22")
def test_a_node_above_a_single_node_is_refused():
    nodes = Nodes()
    inner = nodes.add(row(file("a")))
    refused(nodes, in_section(nodes, ["a", inner, 1, 1], height=1), match="not built by the rules")


@pytest.mark.spec("F-22")
def test_a_node_under_another_name_than_its_last_entry_is_refused():
    nodes = Nodes()
    good = Nodes()
    root = tree.build_folder(sorted(file(f"{n:03}") for n in range(300)), good.put)
    nodes.update(good)
    top = Tree.decode(good[root.tree])
    rows = [row(entry) for entry in top.entries]
    rows[0][0] += "x"
    refused(nodes, in_section(nodes, *rows, height=1), match="not built by the rules")


@pytest.mark.spec("F-16")
@pytest.mark.parametrize("second", [["a", "c"], ["b", "c"], ["0", "1"]])
def test_names_that_repeat_or_go_back_from_node_to_node_are_refused(second):
    nodes = Nodes()
    first = nodes.add(row(file("a")), row(file("b")))
    other = nodes.add(*(row(file(name)) for name in second))
    rows = [["x", first, 2, 2], ["y", other, 2, 2]]
    refused(nodes, in_section(nodes, *rows, height=1), match="sorted")


def test_a_file_and_a_folder_of_one_name_are_refused():
    nodes = Nodes()
    inner = nodes.add(row(file("x")))
    first = nodes.add(row(file("a")))
    second = nodes.add(["a", inner, 1, 1])
    rows = [["a", first, 1, 1], ["b", second, 1, 1]]
    refused(nodes, in_section(nodes, *rows, height=1))


def test_a_node_of_a_height_that_does_not_follow_is_refused():
    nodes = Nodes()
    inner = nodes.add(row(file("a")))
    middle = nodes.add(["a", inner, 1, 1], height=1)
    refused(nodes, in_section(nodes, ["a", middle, 1, 1], height=3), match="height")
    refused(nodes, in_section(nodes, ["a", inner, 1, 1], height=12), match="height")


@pytest.mark.spec("F-9")
def test_sums_over_64_bits_are_refused_wherever_they_arise():
    nodes = Nodes()
    over = nodes.add(row(large("a", MAX_U64)), row(file("b")))
    refused(nodes, nodes.add(["auxiliary", over, 2, 5]), match="over the limits")
    half = MAX_U64 // 2 + 1
    one, two = nodes.add(row(large("a", half))), nodes.add(row(large("b", half)))
    refused(nodes, nodes.add(["auxiliary", one, 1, half], ["derived", two, 1, half]))
    # Each part within bounds, and said to be small: found on the way down.
    refused(nodes, nodes.add(["auxiliary", one, 1, 5], ["derived", two, 1, 5]), match="not 1 of 5")


@pytest.mark.spec("F-19")
def test_folders_in_folders_without_end_are_refused():
    nodes = Nodes()
    inner = nodes.add(row(file("x")))
    for _ in range(63):
        inner = nodes.add(["d", inner, 1, 1])
    assert len(tree.flatten(nodes.add(["auxiliary", inner, 1, 1]), nodes.get_node)) == 1
    inner = nodes.add(["d", inner, 1, 1])
    refused(nodes, nodes.add(["auxiliary", inner, 1, 1]), match="deeper")


def bomb(nodes, inner, files, size, levels, width, *, height=None):
    """`levels` nodes, each naming the one below it `width` times."""
    for level in range(levels):
        rows = [[f"{n:03}", inner, files, size] for n in range(width)]
        inner = nodes.add(*rows, height=0 if height is None else height + level)
        files, size = (files * width, size * width) if files > 1 else (files, size)
    return inner


@pytest.mark.spec("F-17")
@pytest.mark.parametrize("height", [None, 1], ids=["folders", "nodes"])
def test_a_few_nodes_that_name_each_other_over_and_over_end_at_once(height):
    nodes = Nodes()
    # Empty at the bottom: without a file there is nothing that a count of files would stop.
    inner = bomb(nodes, nodes.add(), 1, 0, 10, 256, height=height)
    refused(nodes, nodes.add(["auxiliary", inner, 1, 0]))
    # Files at the bottom, and honest sums: over the limit long before the top.
    leaf, files = nodes.add(row(file("x")), row(file("y"))), 2
    level = 0
    with pytest.raises(DecodeError, match="over the limits"):
        while True:
            rows = [[f"{n:03}", leaf, files, files] for n in range(256)]
            leaf = nodes.add(*rows, height=0 if height is None else height + level)
            Tree.decode(nodes[leaf])
            files, level = files * 256, level + 1
    assert level == 2
    # Files at the bottom, and lies above them: the first lie ends it.
    rows = [[f"{n:03}", leaf, 2, 2] for n in range(256)]
    refused(nodes, in_section(nodes, *rows))
    assert nodes.reads < 2000


@pytest.mark.spec("F-9")
def test_a_state_has_no_more_files_than_the_limit(monkeypatch):
    nodes = Nodes()
    root = tree.build({f"{n}": file(f"{n}") for n in range(5)}, nodes.put)
    monkeypatch.setattr(tree, "MAX_FILES", 5)
    assert len(tree.flatten(root.tree, nodes.get_node)) == 5
    monkeypatch.setattr(tree, "MAX_FILES", 4)
    refused(nodes, root.tree)
    refused(nodes, nodes.add(*(row(file(f"{n}")) for n in range(5))), match="over the limits")


def test_an_entry_that_stands_for_a_node_is_a_folder_entry():
    nodes = Nodes()
    root = tree.build_folder(sorted(file(f"{n:03}") for n in range(300)), nodes.put)
    for entry in Tree.decode(nodes[root.tree]).entries:
        assert isinstance(entry, FolderEntry)
        below = Tree.decode(nodes[entry.tree])
        assert (entry.name, entry.files, entry.size) == (
            below.entries[-1].name,
            below.files,
            below.size,
        )
