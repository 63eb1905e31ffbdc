"""The Thrift reader: right on what Parquet writes, bounded and calm on everything else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore.worktree.thrift import MAX_DEPTH, MAX_ITEMS, ThriftError, read_struct

I64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.recursive(
    st.booleans() | I64 | st.binary(max_size=40),
    lambda inner: (
        st.dictionaries(st.integers(1, 32000), inner, max_size=5)
        | st.lists(st.booleans(), max_size=20)
        | st.lists(I64, max_size=20)
        | st.lists(st.binary(max_size=9), max_size=20)
    ),
    max_leaves=20,
)
STRUCTS = st.dictionaries(st.integers(1, 32000), VALUES, max_size=6)


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def zigzag(value):
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def kind_of(value):
    if isinstance(value, bool):
        return 1 if value else 2
    return {int: 6, bytes: 8, list: 9, dict: 12}[type(value)]


def encode(value):
    """An encoder of our own, the plain way round, to read back what it wrote."""
    if isinstance(value, dict):
        fields = [
            bytes([kind_of(item)])
            + zigzag(number)
            + (b"" if isinstance(item, bool) else encode(item))
            for number, item in value.items()
        ]
        return b"".join(fields) + b"\0"
    if isinstance(value, list):
        kind = kind_of(value[0]) if value else 6
        head = [len(value) << 4 | kind] if len(value) < 15 else [0xF0 | kind]
        length = b"" if len(value) < 15 else varint(len(value))
        return bytes(head) + length + b"".join(map(encode, value))
    if isinstance(value, bool):
        return b"\1" if value else b"\2"
    if isinstance(value, int):
        return zigzag(value)
    return varint(len(value)) + value


@settings(deadline=None)
@given(STRUCTS)
def test_what_was_written_is_read_back(struct):
    data = encode(struct)
    assert read_struct(data, 0, None) == (struct, len(data))


@settings(deadline=None)
@given(STRUCTS, st.binary(max_size=9), st.binary(max_size=9))
def test_a_struct_is_found_at_its_offset_and_ends_where_it_ends(struct, before, after):
    data = before + encode(struct) + after
    assert read_struct(memoryview(data), len(before), None) == (struct, len(data) - len(after))


@settings(deadline=None)
@given(STRUCTS, st.data())
def test_a_shape_keeps_what_it_names_and_the_end_is_the_same(struct, data):
    wanted = data.draw(st.sets(st.sampled_from(sorted(struct)))) if struct else set()
    kept, end = read_struct(encode(struct), 0, dict.fromkeys(wanted))
    assert kept == {number: struct[number] for number in wanted}
    assert end == len(encode(struct))


def test_a_shape_reaches_into_structs_and_into_the_items_of_lists():
    inner = b"\x15\x02\x15\x04\x00"  # {1: 1, 2: 2}
    data = b"\x1c" + inner + b"\x19\x2c" + inner + inner + b"\x00"
    assert read_struct(data, 0, {1: {2: None}, 2: {1: None}})[0] == {1: {2: 2}, 2: [{1: 1}, {1: 1}]}


@settings(deadline=None)
@given(STRUCTS.filter(bool), st.data())
def test_a_message_cut_short_is_refused(struct, data):
    whole = encode(struct)
    with pytest.raises(ThriftError):
        read_struct(whole[: data.draw(st.integers(0, len(whole) - 1))], 0, None)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_thrift_errors(data):
    try:
        _, end = read_struct(data, 0, None)
    except ThriftError:
        return
    assert end <= len(data)


@settings(deadline=None)
@given(STRUCTS, st.data())
def test_flipped_bits_raise_nothing_but_thrift_errors(struct, data):
    damaged = bytearray(encode(struct))
    for _ in range(3):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read_struct(bytes(damaged), 0, None)
    except ThriftError:
        pass


def test_doubles_and_bytes_keep_their_bits():
    data = b"\x17" + bytes(range(8)) + b"\x13\xff\x00"
    assert read_struct(data, 0, None)[0] == {1: bytes(range(8)), 2: 255}


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("nothing at all", b""),
        ("no end", b"\x15\x02"),
        ("an unknown kind", b"\x1e\x00\x00"),
        ("a map", b"\x1b\x00\x00"),
        ("an integer of eleven bytes", b"\x16" + b"\xff" * 10 + b"\x01\x00"),
        ("an integer of 65 bits", b"\x16" + b"\xff" * 9 + b"\x02\x00"),
        ("a string longer than the data", b"\x18\x7fabc\x00"),
        ("a string of 2^63 bytes", b"\x18" + b"\xff" * 9 + b"\x00\x00"),
        ("a list longer than the data", b"\x19\xf5\xff\xff\xff\x7f\x00"),
        ("structs without end", b"\x1c" * 100_000),
        ("lists without end", b"\x19" + b"\x19" * 100_000),
    ],
)
def test_malformed_messages_are_refused(what, data):
    for shape in (None, {}):
        with pytest.raises(ThriftError):
            read_struct(data, 0, shape)


def test_nesting_is_read_as_deep_as_the_limit_and_no_deeper():
    def nested(depth):
        return b"\x1c" * (depth - 1) + b"\x00" * depth

    read_struct(nested(MAX_DEPTH), 0, None)
    with pytest.raises(ThriftError, match="deep"):
        read_struct(nested(MAX_DEPTH + 1), 0, None)


def test_all_lists_of_a_message_share_one_limit():
    half = MAX_ITEMS // 2 + 1
    items = b"\x19\xf1" + varint(half) + b"\1" * half
    assert len(read_struct(items + b"\0", 0, None)[0][1]) == half
    with pytest.raises(ThriftError, match="no room"):
        read_struct(items + items + b"\0", 0, None)
