"""Canonical MessagePack: one spelling for each value, and no work beyond the bytes given."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest

from usrstore.errors import DecodeError, InvalidInputError
from usrstore.objects import codec
from usrstore.objects.codec import Fields


@pytest.mark.spec("F-6")
@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, "c0"),
        (True, "c3"),
        (0, "00"),
        (127, "7f"),
        (128, "cc80"),
        (256, "cd0100"),
        (1 << 16, "ce00010000"),
        (1 << 32, "cf0000000100000000"),
        ((1 << 64) - 1, "cfffffffffffffffff"),
        ("", "a0"),
        ("a" * 32, "d920" + "61" * 32),
        (b"", "c400"),
        ([], "90"),
        ((1, 2), "920102"),
        ({"b": 1, "a": {"d": 1, "c": 2}}, "82a16182a16302a16401a16201"),
        ({"\uffff": 1, "\U00010000": 2, "z": 3}, "83a17a03a3efbfbf01a4f090808002"),
    ],
)
def test_a_value_has_its_shortest_form_and_sorted_keys(value, data):
    assert codec.encode(value).hex() == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x01\x02",
        b"\xc4\x05abc",
        b"\xd9",
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",
        b"\x91",
        b"\x81\xa1a",
        b"\x81\x01\x01",
        b"\x81\xc0\xc0",
        b"\x81\x90\xc0",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 5000 + b"\xc0",
    ],
    ids=lambda data: data[:8].hex() or "nothing",
)
def test_what_is_not_one_whole_value_is_refused(data):
    with pytest.raises(DecodeError):
        codec.decode(data)


@pytest.mark.spec("F-9")
def test_an_object_over_its_limit_is_refused_unread():
    with pytest.raises(DecodeError, match="over the limit of 3"):
        codec.decode(b"\xc1" * 4, limit=3)


def test_a_list_or_a_map_longer_than_allowed_is_refused():
    assert codec.decode(b"\x92\x01\x02", longest=2, maps=0) == [1, 2]
    assert codec.decode(b"\x81\xa1a\x01", longest=0, maps=1) == {"a": 1}
    with pytest.raises(DecodeError):
        codec.decode(b"\x93\x01\x02\x03", longest=2)
    with pytest.raises(DecodeError):
        codec.decode(b"\x82\xa1a\x01\xa1b\x01", maps=1)


@pytest.mark.spec("F-9")
@pytest.mark.parametrize(
    "head",
    [
        b"\xdd\x00\x0f\x00\x00",
        b"\xdc\xff\xff",
        b"\xdf\x00\x07\x00\x00\xa1k",
        b"\x91\xdd\x00\x0f\x00\x00",
    ],
    ids=["lists", "short lists", "maps", "lists in lists"],
)
def test_nested_lists_that_claim_more_than_there_is_allocate_nothing(head):
    hostile = (head * 400_000)[:1_000_000]
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            codec.decode(hostile)
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()


FIELDS = {"n": 1, "t": "text", "d": b"data", "s": [1], "m": {"k": 1}, "f": True, "z": None}
READERS = {
    "n": lambda fields: fields.integer("n"),
    "t": lambda fields: fields.text("t", most=4),
    "d": lambda fields: fields.data("d", most=4),
    "s": lambda fields: fields.sequence("s", most=1),
    "m": lambda fields: fields.mapping("m", most=1),
    "f": lambda fields: fields.flag("f"),
}
ODD = [None, True, 1, -1, 1.0, 1 << 63, "text", b"data", [], {}, "\N{GREEK SMALL LETTER MU}" * 3]
ODD += [[1, 2], {"a": 1, "b": 2}, msgpack.Timestamp(1, 0), msgpack.ExtType(5, b"x")]


@pytest.mark.parametrize("name", READERS)
def test_a_field_of_another_type_or_size_is_refused(name):
    right = READERS[name](Fields(FIELDS, "thing"))
    assert right == FIELDS[name]
    for odd in ODD:
        try:
            value = READERS[name](Fields({name: odd}, "thing"))
        except DecodeError:
            continue
        assert type(value) is type(right)
        assert value is odd


@pytest.mark.spec("F-8")
def test_a_missing_field_and_a_field_too_many_are_named():
    fields = Fields({"a": 1, "new": 2}, "thing")
    with pytest.raises(DecodeError, match="without 'b'"):
        fields.integer("b")
    assert fields.integer("a") == 1
    with pytest.raises(DecodeError, match="unknown fields: 'new'"):
        fields.done()
    with pytest.raises(DecodeError, match="is a map"):
        Fields([], "thing")


def test_nil_is_taken_only_where_it_is():
    fields = Fields({"a": None, "b": 0}, "thing")
    assert fields.is_nil("a")
    assert not fields.is_nil("b")
    assert not fields.is_nil("missing")


@pytest.mark.spec("F-8")
@pytest.mark.spec("F-51")
@pytest.mark.parametrize("value", [[2, 0, b""], {"format": 2}, [1 << 40]])
def test_a_later_format_is_told_from_damage(value):
    error = codec.refused(value, "recipe")
    assert "this program reads format 1" in error.message
    assert "upgrade" in error.hint


@pytest.mark.parametrize("value", [[], [1], [0], ["2"], {"format": "2"}, {}, None, b"x", [1.5]])
def test_what_is_no_later_format_is_damage(value):
    error = codec.refused(value, "recipe")
    assert error.message == "not a recipe of format 1"
    assert error.hint is None


def test_bytes_that_could_not_be_read_back_are_not_made():
    def refuse(_data):
        raise DecodeError("thing.name is not a text")

    with pytest.raises(InvalidInputError, match="is not a text"):
        codec.readable(lambda: b"x", refuse, "thing")
    with pytest.raises(InvalidInputError):
        codec.readable(lambda: codec.encode("\ud800"), codec.decode, "thing")
    with pytest.raises(InvalidInputError):
        codec.readable(lambda: codec.encode(1 << 64), codec.decode, "thing")
    assert codec.readable(lambda: codec.encode(1), codec.decode, "thing") == b"\x01"
