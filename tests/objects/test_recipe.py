"""Recipes: a file is its chunks in order, and sizes that lie are found on the way down."""

from __future__ import annotations

import struct

import msgpack
import pytest

from usrstore.errors import DecodeError
from usrstore.objects import recipe
from usrstore.objects.ids import Kind, RecipeId, hash_object
from usrstore.objects.recipe import Part, Recipe


def parts(count, size=5):
    return [(hash_object(Kind.CHUNK, b"%d" % n), size) for n in range(count)]


class Nodes(dict):
    """Recipe nodes by id, counting what is read."""

    reads = 0

    def put(self, oid, data):
        assert hash_object(Kind.RECIPE, data) == oid
        self[oid] = data

    def add(self, *rows, height=0):
        packed = b"".join(struct.pack(">32sQ", oid, size) for oid, size in rows)
        data = msgpack.packb([1, height, packed])
        oid = RecipeId(hash_object(Kind.RECIPE, data))
        self[oid] = data
        return oid

    def get_node(self, oid):
        self.reads += 1
        return self[oid]


@pytest.mark.spec("F-13")
@pytest.mark.parametrize("count", [2, 16, 17, 300, 9000])
def test_chunks_come_back_in_order_from_the_nodes(count):
    nodes = Nodes()
    root = recipe.build(parts(count), nodes.put)
    found = list(recipe.chunks(root, 5 * count, nodes.get_node))
    assert [tuple(part) for part in found] == parts(count)
    assert set(recipe.node_ids(root, 5 * count, nodes.get_node)) == set(nodes)
    assert next(recipe.walk(root, 5 * count, nodes.get_node))[0] == root


def test_children_are_written_before_their_parents():
    written = set()

    def put(oid, data):
        node = Recipe.decode(data)
        assert node.height == 0 or all(part.oid in written for part in node.parts)
        written.add(oid)

    recipe.build(parts(9000), put)


@pytest.mark.spec("F-14")
def test_a_recipe_that_is_cut_elsewhere_gives_the_same_chunks():
    nodes = Nodes()
    leaves = [nodes.add(part) for part in parts(3)]
    root = nodes.add(*((leaf, 5) for leaf in leaves), height=1)
    assert [tuple(p) for p in recipe.chunks(root, 15, nodes.get_node)] == parts(3)


@pytest.mark.spec("F-14")
def test_sizes_that_do_not_add_up_are_refused():
    nodes = Nodes()
    leaf = nodes.add(*parts(2))
    for walk in (recipe.walk, recipe.node_ids, recipe.chunks):
        for size in (0, 9, 11, (1 << 64) - 1):
            with pytest.raises(DecodeError, match="gives 10 bytes"):
                list(walk(leaf, size, nodes.get_node))
        lying = nodes.add((leaf, 10), (leaf, 11), height=1)
        with pytest.raises(DecodeError, match="gives 10 bytes, not 11"):
            list(walk(lying, 21, nodes.get_node))


@pytest.mark.spec("F-14")
def test_heights_fall_by_one_at_each_step():
    nodes = Nodes()
    leaf = nodes.add(*parts(2))
    for height in (2, 12):
        root = nodes.add((leaf, 10), height=height)
        for walk in (recipe.walk, recipe.node_ids):
            with pytest.raises(DecodeError, match="has height 0"):
                list(walk(root, 10, nodes.get_node))


@pytest.mark.spec("F-9")
def test_a_few_nodes_that_name_each_other_over_and_over_end(monkeypatch):
    nodes = Nodes()
    inner, size = nodes.add(*[(hash_object(Kind.CHUNK, b"x"), 1)] * 256), 256
    for height in range(1, 8):
        inner = nodes.add(*[(inner, size)] * 256, height=height)
        size *= 256
        if size * 256 >= 1 << 64:
            break
    assert set(recipe.node_ids(inner, size, nodes.get_node)) == set(nodes)
    assert nodes.reads == len(nodes)
    monkeypatch.setattr(recipe, "MAX_CHUNKS", 10_000)
    with pytest.raises(DecodeError, match="more than 10000 chunks"):
        list(recipe.chunks(inner, size, nodes.get_node))
    assert nodes.reads < 2 * len(nodes) + 10_000 // 256 + 2


def test_the_same_chunks_have_the_same_recipe_and_others_another():
    put = Nodes().put
    assert recipe.build(parts(300), put) == recipe.build(iter(parts(300)), put)
    assert recipe.build(parts(300), put) != recipe.build(reversed(parts(300)), put)
    assert recipe.build(parts(300), put) != recipe.build(parts(300, size=6), put)


def test_a_recipe_knows_its_size():
    assert Recipe(0, (Part(hash_object(Kind.CHUNK, b"x"), 3),) * 4).size == 12
