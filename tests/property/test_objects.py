"""For every object: what is written is read back, what is read is written again, and no bytes
do more than be refused."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import KINDS

from usrstore.errors import DecodeError, UnsafeFileError
from usrstore.objects import codec, recipe, tree
from usrstore.objects.ids import Kind, TreeId, hash_object
from usrstore.objects.tree import FolderEntry, Tree

kinds = pytest.mark.parametrize("kind", KINDS)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, (1 << 64) - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=40), inner, max_size=20
        )
    ),
    max_leaves=30,
)


@pytest.mark.spec("F-6")
@given(plain)
def test_plain_values_come_back_and_have_one_encoding(value):
    data = codec.encode(value)
    assert codec.decode(data) == value
    assert codec.encode(codec.decode(memoryview(data))) == data
    assert msgpack.unpackb(data) == value


@pytest.mark.spec("F-7")
@kinds
@settings(max_examples=60)
@given(data=st.data())
def test_an_object_comes_back_from_its_bytes(kind, data):
    values, encode, decode = KINDS[kind]
    value = data.draw(values)
    written = encode(value)
    assert decode(written) == value
    assert (
        encode(decode(memoryview(written) if kind not in ("manifest", "tag") else written))
        == written
    )


@pytest.mark.spec("F-7")
@kinds
@settings(max_examples=150)
@given(data=st.data())
def test_bytes_that_were_tampered_with_are_refused_or_mean_themselves(kind, data):
    values, encode, decode = KINDS[kind]
    written = bytearray(encode(data.draw(values)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(written)))
        match data.draw(st.sampled_from(["flip", "set", "cut", "add", "drop"])):
            case "flip" if at < len(written):
                written[at] ^= 1 << data.draw(st.integers(0, 7))
            case "set" if at < len(written):
                written[at] = data.draw(
                    st.sampled_from([0, 1, 0x7F, 0x80, 0x90, 0xC0, 0xC4, 0xCB, 0xDD, 0xFF])
                )
            case "cut":
                del written[at:]
            case "add":
                written[at:at] = data.draw(st.binary(min_size=1, max_size=4))
            case _:
                del written[at : at + 1]
    with contextlib.suppress(DecodeError):
        assert encode(decode(bytes(written))) == bytes(written)


@kinds
@settings(max_examples=100)
@given(data=st.one_of(st.binary(max_size=200), plain.map(msgpack.packb)))
def test_any_bytes_are_refused_and_nothing_worse(kind, data):
    _, encode, decode = KINDS[kind]
    with contextlib.suppress(DecodeError):
        assert encode(decode(data)) == data


@pytest.mark.spec("F-22")
@settings(max_examples=60)
@given(strategies.listings(), st.randoms(use_true_random=False))
def test_a_listing_comes_back_from_its_trees_in_whatever_order_it_was_given(listing, random):
    nodes = {}
    root = tree.build(listing, nodes.__setitem__)
    assert tree.flatten(root.tree, nodes.__getitem__) == listing
    assert all(hash_object(Kind.TREE, data) == oid for oid, data in nodes.items())
    shuffled = list(listing.items())
    random.shuffle(shuffled)
    assert tree.build(dict(shuffled), lambda _oid, _data: None) == root
    assert set(tree.node_ids(root.tree, nodes.__getitem__)) == set(nodes)


@settings(max_examples=40)
@given(strategies.chunk_lists)
def test_chunks_come_back_from_their_recipe(chunks):
    nodes = {}
    root = recipe.build(chunks, nodes.__setitem__)
    size = sum(size for _, size in chunks)
    assert [tuple(part) for part in recipe.chunks(root, size, nodes.__getitem__)] == chunks
    assert set(recipe.node_ids(root, size, nodes.__getitem__)) == set(nodes)


@settings(max_examples=150)
@given(strategies.listings(), st.data())
def test_any_graph_of_valid_nodes_is_a_folder_or_refused(listing, data):
    """Nodes that are each well made, put together as nobody should."""
    nodes = {}
    root = tree.build(listing, nodes.__setitem__)
    pool = {root.tree: nodes[root.tree], **nodes}

    def add(node):
        written = node.encode()
        oid = TreeId(hash_object(Kind.TREE, written))
        pool[oid] = written
        return oid

    last = root.tree
    for _ in range(data.draw(st.integers(1, 5))):
        node = data.draw(strategies.trees())
        entries = []
        for entry in node.entries:
            if isinstance(entry, FolderEntry):
                below = data.draw(st.sampled_from(sorted(pool)))
                found = Tree.decode(pool[below])
                honest = data.draw(st.booleans()) and found.files
                entries.append(
                    entry._replace(tree=below, files=found.files, size=found.size)
                    if honest
                    else entry._replace(tree=below)
                )
            else:
                entries.append(entry)
        last = add(Tree(node.height, tuple(entries)))
    top = Tree.decode(pool[last])
    if top.files:
        section = data.draw(st.sampled_from(["auxiliary", "derived", "primary", "x"]))
        last = add(Tree(0, (FolderEntry(section, last, top.files, top.size),)))
    try:
        found = tree.flatten(last, pool.__getitem__)
    except (DecodeError, UnsafeFileError):
        return
    assert tree.build(found, lambda _oid, _data: None).tree == last
