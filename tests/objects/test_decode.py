"""Decoders refuse whatever is not exactly what an encoder writes, whoever wrote it."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace
from itertools import count

import msgpack
import pytest

from usrstore.errors import DecodeError, InvalidInputError
from usrstore.objects.ids import (
    ContentHash,
    Kind,
    ManifestId,
    ObjectId,
    StateId,
    TreeId,
    hash_object,
)
from usrstore.objects.manifest import Manifest, Signed, Tag
from usrstore.objects.recipe import Part, Recipe
from usrstore.objects.state import State, state_key
from usrstore.objects.tree import FileEntry, FolderEntry, Tree

MIB = 1 << 20
MAX_U64 = (1 << 64) - 1


def oid(word="x"):
    return hash_object(Kind.CHUNK, word.encode())


MANIFEST = Manifest(
    dataset="ns/x",
    sequence=3,
    tree=TreeId(oid("tree")),
    parents=(ManifestId(oid("a")), ManifestId(oid("b"))),
    author="ada",
    host="lab",
    tool="t",
    time_us=5,
    message="m",
    registry=FileEntry("registry.yaml", 7, ContentHash(oid("r")), None),
    rows=1,
    columns=2,
    schema=ContentHash(oid("s")),
    events=3,
    policy=("a", "b"),
)
TAG = Tag("ns/x", "v1", ManifestId(oid("m")), "ada", 5, "m")
STATE = State(2, StateId(oid("p")), {"heads/ns/x": oid("h")}, 5, "ada", "c", "r")
TREE = Tree(
    0,
    (
        FileEntry("a", 5, ContentHash(oid("a")), None),
        FolderEntry("b", TreeId(oid("b")), 2, 9),
        FileEntry("c", 2 * MIB, ContentHash(oid("c")), oid("recipe")),
    ),
)
RECIPE = Recipe(0, (Part(oid("a"), 5), Part(oid("b"), MIB)))
SIGNED = Signed(MANIFEST.payload(), b"a signature")


def state_payload(data):
    return msgpack.unpackb(msgpack.unpackb(data)[0])


def state_bytes(payload):
    return msgpack.packb([msgpack.packb(payload), None])


# kind → a valid value as plain data, how plain data become bytes, the decoder, the encoder
KINDS = {
    "recipe": (msgpack.unpackb(RECIPE.encode()), msgpack.packb, Recipe.decode, Recipe.encode),
    "tree": (msgpack.unpackb(TREE.encode()), msgpack.packb, Tree.decode, Tree.encode),
    "signed": (msgpack.unpackb(SIGNED.encode()), msgpack.packb, Signed.decode, Signed.encode),
    "manifest": (
        msgpack.unpackb(MANIFEST.payload()),
        msgpack.packb,
        Manifest.parse,
        Manifest.payload,
    ),
    "tag": (msgpack.unpackb(TAG.payload()), msgpack.packb, Tag.parse, Tag.payload),
    "state": (state_payload(STATE.encode()), state_bytes, State.decode, State.encode),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def refused_or_the_same(kind, data):
    """Whether the decoder took it; what it takes, it must write again byte for byte."""
    _, _, decode, encode = KINDS[kind]
    try:
        value = decode(data)
    except DecodeError:
        return False
    assert encode(value) == data
    return True


@kinds
def test_the_valid_one_is_taken(kind):
    value, pack, _, _ = KINDS[kind]
    assert refused_or_the_same(kind, pack(value))


# ── every spelling of a value but the shortest ──────────────────────────────────────────
def spelled(value, fat, at):
    """MessagePack with the value number `fat` in its longest form; `at` counts values."""
    here = next(at) == fat
    if value is None or isinstance(value, bool):
        return msgpack.packb(value)
    if isinstance(value, int):
        return b"\xcf" + value.to_bytes(8, "big") if here else msgpack.packb(value)
    if isinstance(value, str):
        return (
            b"\xdb" + len(value.encode()).to_bytes(4, "big") + value.encode()
            if here
            else msgpack.packb(value)
        )
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4, "big") + value if here else msgpack.packb(value)
    if isinstance(value, list):
        head = (
            b"\xdd" + len(value).to_bytes(4, "big")
            if here
            else msgpack.Packer().pack_array_header(len(value))
        )
        return head + b"".join(spelled(item, fat, at) for item in value)
    head = (
        b"\xdf" + len(value).to_bytes(4, "big")
        if here
        else msgpack.Packer().pack_map_header(len(value))
    )
    return head + b"".join(
        spelled(key, fat, at) + spelled(item, fat, at) for key, item in value.items()
    )


@pytest.mark.spec("F-6")
@pytest.mark.spec("F-7")
@kinds
def test_only_the_shortest_spelling_of_every_value_is_taken(kind):
    value, pack, _, _ = KINDS[kind]
    wrap = (lambda data: msgpack.packb([data, None])) if kind == "state" else (lambda data: data)
    whole = wrap(spelled(value, -1, count()))
    assert whole == pack(value)
    others = {wrap(spelled(value, fat, count())) for fat in range(200)} - {whole}
    assert len(others) >= 3
    for data in others:
        assert not refused_or_the_same(kind, data)


@pytest.mark.spec("F-7")
@kinds
def test_bytes_after_the_end_and_missing_ones_are_refused(kind):
    value, pack, decode, _ = KINDS[kind]
    data = pack(value)
    for bad in (data + b"\0", data + b"\xc0", b"", *(data[:at] for at in range(len(data)))):
        with pytest.raises(DecodeError):
            decode(bad)


# ── every place in a value, filled with what does not belong there ──────────────────────
JUNK = [
    None,
    True,
    False,
    0,
    1,
    2,
    -1,
    1.0,
    MAX_U64,
    "",
    "x",
    "x/y",
    "..",
    "a\0b",
    "x" * 70_000,
    b"",
    b"x",
    bytes(32),
    bytes(33),
    bytes(70_000),
    [],
    [1],
    [[]],
    {},
    {"a": 1},
    {b"a": 1},
    msgpack.Timestamp(1, 0),
    msgpack.ExtType(7, b"x"),
]


def places(value, path=()):
    yield path
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from places(item, (*path, at))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))


def replaced(value, path, junk):
    if not path:
        return junk
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], junk)
    return copy


@kinds
def test_junk_in_any_place_is_refused_or_means_itself(kind):
    value, pack, _, _ = KINDS[kind]
    refused = 0
    for path in places(value):
        for junk in JUNK:
            if type(junk) is type(value) and not path:
                continue
            refused += not refused_or_the_same(kind, pack(replaced(value, path, junk)))
    assert refused > 50


@pytest.mark.spec("F-8")
@pytest.mark.parametrize("kind", ["manifest", "tag", "state"])
def test_a_field_too_many_or_too_few_or_out_of_order_or_twice_is_refused(kind):
    value, pack, decode, _ = KINDS[kind]
    wrap = (lambda data: msgpack.packb([data, None])) if kind == "state" else (lambda data: data)
    bad = [
        pack({**value, "zz": None}),
        pack({"a": 1, **value}),
        pack(dict(reversed(value.items()))),
    ]
    bad += [pack({k: v for k, v in value.items() if k != name}) for name in value]
    pairs = [msgpack.packb(k) + msgpack.packb(v) for k, v in value.items()]
    header = msgpack.Packer().pack_map_header(len(value) + 1)
    bad += [wrap(header + b"".join([*pairs[: at + 1], *pairs[at:]])) for at in range(len(pairs))]
    for data in bad:
        with pytest.raises(DecodeError):
            decode(data)


@pytest.mark.spec("F-8")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "signed"])
def test_an_object_of_a_later_format_is_told_from_damage(kind):
    value, pack, decode, _ = KINDS[kind]
    later = [2, *value[1:]] if isinstance(value, list) else {**value, "format": 2}
    with pytest.raises(DecodeError, match="format 2; this program reads format 1") as caught:
        decode(pack(later))
    assert "upgrade" in caught.value.hint


@pytest.mark.spec("F-9")
@kinds
def test_a_hostile_megabyte_costs_little_memory(kind):
    _, _, decode, _ = KINDS[kind]
    size = 1_000_000
    many = (size - 5).to_bytes(4, "big")
    few = (size - 17).to_bytes(4, "big")
    body = [b"\xdd" + few + item * (size - 17) for item in (b"\x90", b"\x80", b"\xc0")]
    wrapped = [b"\x92\xc6" + (size - 12).to_bytes(4, "big") + data + b"\xc0" for data in body]
    hostile = [
        (b"\xdd\x00\x0f\x00\x00" * 200_000)[:size],
        b"\xdd" + many + b"\x90" * (size - 5),
        b"\xdd" + many + b"\x80" * (size - 5),
        b"\x93\x01\x00\xdd" + many + b"\xc0" * (size - 8),
        b"\xc6" + many + bytes(size - 5),
        *wrapped,
        bytes(size),
    ]
    for data in hostile:
        tracemalloc.start()
        try:
            with pytest.raises(DecodeError):
                decode(data)
            assert tracemalloc.get_traced_memory()[1] < 4 * size
        finally:
            tracemalloc.stop()


# ── recipes ─────────────────────────────────────────────────────────────────────────────
def packed(*parts):
    return b"".join(struct.pack(">32sQ", word, size) for word, size in parts)


@pytest.mark.spec("F-13")
@pytest.mark.parametrize(
    "value",
    [
        [1, 0, b""],
        [1, 0, bytes(39)],
        [1, 0, packed((bytes(32), 5)) + b"\0"],
        [1, 0, packed((bytes(32), 0))],
        [1, 1, packed((bytes(32), 0))],
        [1, 0, packed((bytes(32), MIB + 1))],
        [1, 13, packed((bytes(32), 5))],
        [1, -1, packed((bytes(32), 5))],
        [1, 1, packed((bytes(32), MAX_U64), (bytes(32), 1))],
        [1, 0, packed(*[(bytes(32), 1)] * 257)],
        [True, 0, packed((bytes(32), 5))],
        [1.0, 0, packed((bytes(32), 5))],
        [1, False, packed((bytes(32), 5))],
        [1, 0.0, packed((bytes(32), 5))],
        [1, 0, packed((bytes(32), 5)).decode("latin-1")],
        [1, 0, packed((bytes(32), 5)), None],
        [0, 0, packed((bytes(32), 5))],
        {"format": 1},
    ],
    ids=range(18),
)
def test_a_recipe_that_cannot_be_is_refused(value):
    with pytest.raises(DecodeError):
        Recipe.decode(msgpack.packb(value))


def test_the_greatest_recipe_node_is_taken():
    parts = tuple(Part(oid(str(n)), MIB) for n in range(256))
    assert Recipe.decode(Recipe(0, parts).encode()).size == 256 * MIB
    tall = Recipe(12, (Part(oid(), MAX_U64),))
    assert Recipe.decode(tall.encode()) == tall


# ── trees ───────────────────────────────────────────────────────────────────────────────
ID = bytes(32)


def tree_bytes(rows, height=0):
    return msgpack.packb([1, height, rows])


@pytest.mark.spec("F-18")
@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "/",
        "a\0",
        "\n",
        "a\tb",
        "\x1f",
        "\x7f",
        "\x80",
        "\x9f",
        "x" * 256,
        "é" * 128,
    ],
    ids=ascii,
)
def test_an_entry_with_a_name_that_no_folder_could_hold_is_refused(name):
    for row in ([name, 1, ID, None], [name, ID, 1, 1]):
        with pytest.raises(DecodeError):
            Tree.decode(tree_bytes([row]))


@pytest.mark.spec("F-18")
@pytest.mark.parametrize(
    "name",
    [
        " ",
        "...",
        "-x",
        "a\\b",
        "x" * 255,
        "é" * 127,
        "\xa0",
        "\u2028",
        "\u202e",
        "e\u0301",
        "\U0010ffff",
        "CON",
    ],
    ids=ascii,
)
def test_every_other_name_is_kept_as_it_is(name):
    tree = Tree.decode(tree_bytes([[name, 1, ID, None]]))
    assert tree.entries[0].name == name


@pytest.mark.spec("F-6")
def test_a_name_that_is_not_unicode_is_refused():
    good = tree_bytes([["abc", 1, ID, None]])
    for bad in (b"\xff\xfe\xfd", b"\xed\xa0\x80", b"\xc0\xaf\x61"):
        with pytest.raises(DecodeError):
            Tree.decode(good.replace(b"abc", bad))


@pytest.mark.spec("F-15")
@pytest.mark.spec("F-16")
@pytest.mark.parametrize(
    ("height", "rows"),
    [
        (0, [["b", 1, ID, None], ["a", 1, ID, None]]),
        (0, [["a", 1, ID, None], ["a", 1, ID, None]]),
        (0, [["a", 1, ID, None], ["a", ID, 1, 1]]),
        (0, [["\U00010000", 1, ID, None], ["\uffff", 1, ID, None]]),
        (0, [["a", ID, 0, 0]]),
        (0, [["a", ID, 0, 1]]),
        (0, [["a", MIB + 1, ID, None]]),
        (0, [["a", 1, ID[1:], None]]),
        (0, [["a", 1, ID, ID + b"x"]]),
        (0, [["a", 1, ID, b""]]),
        (0, [["a", ID[1:], 1, 1]]),
        (0, [["a", -1, ID, None]]),
        (0, [["a", 1.0, ID, None]]),
        (0, [["a", True, ID, None]]),
        (0, [["a", ID, True, 1]]),
        (0, [["a", ID, 1, True]]),
        (0, [["a", 1, ID]]),
        (0, [["a", 1, ID, None, None]]),
        (0, [[b"a", 1, ID, None]]),
        (0, [["a", 1, "x" * 32, None]]),
        (0, [None]),
        (0, {}),
        (1, [["a", 1, ID, None]]),
        (13, []),
        (-1, []),
        (True, [["a", ID, 1, 1]]),
        (0, [["a", ID, 1 << 23, 1]]),
        (0, [["a", ID, 1 << 22, 1], ["b", 1, ID, None]]),
        (0, [["a", ID, 1, MAX_U64], ["b", 1, ID, None]]),
        (0, [[f"{n:03}", 1, ID, None] for n in range(257)]),
    ],
    ids=range(30),
)
def test_a_tree_that_cannot_be_is_refused(height, rows):
    with pytest.raises(DecodeError):
        Tree.decode(tree_bytes(rows, height))


def test_the_greatest_tree_node_is_taken():
    rows = tuple(
        FileEntry(f"{n:03}" + "x" * 252, MAX_U64 >> 8, ContentHash(oid()), oid("r"))
        for n in range(256)
    )
    tree = Tree(0, rows)
    assert Tree.decode(tree.encode()) == tree


# ── manifests and tags ──────────────────────────────────────────────────────────────────
def changed(kind, /, **fields):
    value, pack, decode, _ = KINDS[kind]
    return decode(pack({**value, **fields}))


@pytest.mark.spec("F-24")
@pytest.mark.spec("F-25")
@pytest.mark.spec("F-27")
@pytest.mark.parametrize(
    "fields",
    [
        {"format": 0},
        {"format": True},
        {"kind": "tag"},
        {"kind": b"manifest"},
        {"dataset": ""},
        {"dataset": "a/b/c"},
        {"dataset": "/a"},
        {"dataset": "archived/x"},
        {"dataset": "a@b"},
        {"dataset": "../x"},
        {"dataset": "x" * 600},
        {"sequence": 0},
        {"sequence": 1},
        {"sequence": (1 << 53) + 1},
        {"sequence": 3.0},
        {"parents": []},
        {"parents": [bytes(32), bytes(32)]},
        {"parents": [bytes(31)]},
        {"parents": [bytes([n]) * 32 for n in range(17)]},
        {"parents": None},
        {"tree": bytes(31)},
        {"tree": None},
        {"author": "x" * 1025},
        {"host": "x" * 1025},
        {"tool": "x" * 1025},
        {"message": "x" * 65_537},
        {"message": "é" * 32_769},
        {"message": b"m"},
        {"time_us": -1},
        {"time_us": (1 << 60) + 1},
        {"rows": -1},
        {"rows": (1 << 60) + 1},
        {"rows": True},
        {"columns": 1.5},
        {"schema": bytes(33)},
        {"events": "3"},
        {"policy": ["b", "a"]},
        {"policy": ["a", "a"]},
        {"policy": ["x" * 257]},
        {"policy": [f"{n:02}" for n in range(33)]},
        {"policy": [1]},
        {"registry": ["other.yaml", 7, bytes(32), None]},
        {"registry": ["registry.yaml", MIB + 1, bytes(32), None]},
        {"registry": ["registry.yaml", 7, bytes(31), None]},
        {"registry": ["registry.yaml", 7, bytes(32), bytes(32)]},
        {"registry": ["registry.yaml", True, bytes(32), None]},
        {"registry": ["registry.yaml", 7, bytes(32)]},
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_is_refused(fields):
    with pytest.raises(DecodeError):
        changed("manifest", **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"sequence": 1, "parents": []},
        {"sequence": 2, "parents": [bytes(32)]},
        {"parents": [bytes([n]) * 32 for n in range(16)]},
        {"message": "x" * 65_536},
        {"message": "", "author": "", "host": "", "tool": ""},
        {"rows": None, "columns": None, "schema": None, "events": None, "registry": None},
        {"rows": 0, "events": 0},
        {"policy": []},
        {"registry": ["registry.yaml", MIB, bytes(32), None]},
        {"dataset": "flat"},
    ],
    ids=",".join,
)
def test_a_manifest_at_its_limits_is_taken(fields):
    manifest = changed("manifest", **fields)
    assert Manifest.parse(manifest.payload()) == manifest


@pytest.mark.spec("F-28")
@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "manifest"},
        {"name": ""},
        {"name": "a/b"},
        {"name": "../x"},
        {"name": "a@b"},
        {"name": "a{b}"},
        {"name": "x.lock"},
        {"name": "x" * 256},
        {"dataset": "a/b/c"},
        {"manifest": bytes(31)},
        {"tagger": "x" * 1025},
        {"message": "x" * 65_537},
        {"time_us": -1},
    ],
    ids=str,
)
def test_a_tag_that_cannot_be_is_refused(fields):
    with pytest.raises(DecodeError):
        changed("tag", **fields)


@pytest.mark.spec("F-23")
@pytest.mark.parametrize(
    "value",
    [
        [],
        [b"p"],
        [b"p", None, None],
        ["p", None],
        [b"p", "s"],
        [b"p", bytes((1 << 14) + 1)],
        [None, None],
        {b"p": None},
        [bytearray(300_000), None],
        b"p",
    ],
    ids=range(10),
)
def test_what_is_not_a_payload_and_a_signature_is_refused(value):
    with pytest.raises(DecodeError):
        Signed.decode(msgpack.packb(value))


# ── states ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.spec("F-30")
@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "manifest"},
        {"number": 0},
        {"number": 1},
        {"number": 2, "previous": None},
        {"number": True},
        {"previous": bytes(31)},
        {"refs": []},
        {"refs": {"heads/x": bytes(31)}},
        {"refs": {"heads/x": None}},
        {"refs": {"heads/x": "x" * 32}},
        {"refs": {"x": bytes(32)}},
        {"refs": {"": bytes(32)}},
        {"refs": {"heads/a/b/c": bytes(32)}},
        {"refs": {"heads/../x": bytes(32)}},
        {"refs": {b"heads/x": bytes(32)}},
        {"refs": {"heads/b": bytes(32), "heads/a": bytes(32)}},
        {"time_us": (1 << 60) + 1},
        {"actor": "x" * 4097},
        {"command": "x" * 65_537},
        {"reason": "x" * 65_537},
    ],
    ids=str,
)
def test_a_state_that_cannot_be_is_refused(fields):
    with pytest.raises(DecodeError):
        changed("state", **fields)


@pytest.mark.spec("F-30")
def test_a_state_has_no_signature_in_this_format():
    payload, _ = msgpack.unpackb(STATE.encode())
    for signature in (b"", b"x", False, "x"):
        with pytest.raises(DecodeError):
            State.decode(msgpack.packb([payload, signature]))


@pytest.mark.spec("F-31")
def test_states_rest_under_keys_that_sort_as_their_numbers():
    numbers = [1, 2, 9, 10, 99, 100, 10**9, MAX_U64]
    keys = [state_key(number) for number in numbers]
    assert keys == sorted(keys)
    assert keys[0] == "states/00000000000000000001"
    assert all(len(key) == 27 for key in keys)
    last = State(MAX_U64, StateId(ObjectId(bytes(32))))
    assert State.decode(last.encode()) == last


# ── nothing is written that could not be read ───────────────────────────────────────────
@pytest.mark.spec("F-9")
@pytest.mark.parametrize(
    "fields",
    [
        {"message": "x" * 65_537},
        {"author": "\udcff"},
        {"time_us": -1},
        {"rows": 1 << 61},
        {"policy": ("b", "a")},
        {"parents": ()},
        {"dataset": "a/b/c"},
        {"sequence": 1 << 70},
    ],
    ids=str,
)
def test_a_manifest_that_nobody_could_read_is_never_written(fields):
    with pytest.raises(InvalidInputError):
        replace(MANIFEST, **fields).payload()


def test_a_tag_or_a_state_that_nobody_could_read_is_never_written():
    for fields in ({"name": "a/b"}, {"message": "x" * 65_537}, {"tagger": "\ud800"}):
        with pytest.raises(InvalidInputError):
            replace(TAG, **fields).payload()
    for fields in (
        {"command": "x" * 65_537},
        {"refs": {"x": oid()}},
        {"actor": "\ud800"},
        {"number": 0},
    ):
        with pytest.raises(InvalidInputError):
            replace(STATE, **fields).encode()
