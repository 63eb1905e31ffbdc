"""What a cell or a JSON value becomes under a registered type, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
import math
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore.dataset import cells, types

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def cell(kind, text, *, parse_json=True):
    return cells.reader(types.parse(kind), cells=True, parse_json=parse_json)(text)


def given_json(kind, value, *, parse_json=True):
    return cells.reader(types.parse(kind), cells=False, parse_json=parse_json)(value)


CELLS = [
    ("string", "NA", "NA"),
    ("string", " x ", " x "),
    ("string", "", None),
    ("string", "[1, 2]", "[1, 2]"),
    ("bool", "True", True),
    ("bool", "0", False),
    ("int8", "-128", -128),
    ("int64", "1.0", 1),
    ("int64", "9007199254740993", 9007199254740993),
    ("uint64", str(2**64 - 1), 2**64 - 1),
    ("float64", " 1.5e3 ", 1500.0),
    ("float32", "inf", math.inf),
    ("float64", "NaN", None),
    ("int64", "NULL", None),
    ("bool", "n/a", None),
    ("timestamp[us, UTC]", "2026-01-31T13:00:00+01:00", NOON),
    ("timestamp[us, UTC]", "2026-01-31 12:00:00", NOON),
    ("timestamp[s]", "2026-01-31", dt.datetime(2026, 1, 31)),
    ("list<float32>", "[1, 2.5, null]", [1.0, 2.5, None]),
    ("list<string>", "['a', 'b']", ["a", "b"]),
    ("list<string>", "", None),
    ("fixed_size_list<int8>[2]", "[1,2]", [1, 2]),
    ("struct<a:int8,b:list<string>>", '{"b": ["x"]}', {"a": None, "b": ["x"]}),
]


@pytest.mark.parametrize(("kind", "text", "found"), CELLS)
def test_what_a_cell_becomes(kind, text, found):
    assert cell(kind, text) == found
    pa.array([cell(kind, text)], types.to_arrow(types.parse(kind)))


REFUSED_CELLS = [
    ("bool", "yes", "not true or false"),
    ("int8", "128", "outside int8 (-128 to 127)"),
    ("uint8", "-1", "outside uint8"),
    ("int64", "1.5", "not a whole number"),
    ("int64", "1_000", "not a number"),
    ("float64", "abc", "not a number"),
    ("float32", "1e39", "too large for float32"),
    ("timestamp[us, UTC]", "noon", "not a moment"),
    ("timestamp[us]", "2026-01-31T12:00:00Z", "it has a time zone"),
    ("timestamp[s, UTC]", "2026-01-31T12:00:00.5Z", "finer than timestamp[s, UTC]"),
    ("list<float32>", "1,2", "not JSON"),
    ("list<float32>", '["a"]', "text, not float32"),
    ("list<float32>", '{"a": 1}', "a struct, not list<float32>"),
    ("fixed_size_list<int8>[2]", "[1]", "1 items, not 2"),
    ("struct<a:int8>", '{"z": 1}', "no field 'z'"),
]


@pytest.mark.parametrize(("kind", "text", "says"), REFUSED_CELLS)
def test_what_a_cell_cannot_become(kind, text, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        cell(kind, text)


def test_without_parse_json_text_is_no_list():
    assert cell("list<int8>", "", parse_json=False) is None
    for read in (cell, given_json):
        with pytest.raises(ValueError, match="text, not list<int8>"):
            read("list<int8>", "[1]", parse_json=False)
    assert given_json("list<int8>", "[1]") == [1]
    assert given_json("list<int8>", [1], parse_json=False) == [1]


REFUSED_JSON = [
    ("string", 1, "a number, not string"),
    ("float64", "1.5", "text, not float64"),
    ("float64", True, "true or false, not float64"),
    ("float64", 10**400, "too large for float64"),
    ("int64", True, "true or false, not int64"),
    ("bool", 1, "a number, not bool"),
    ("int8", [1], "a list, not int8"),
    ("timestamp[us, UTC]", 12, "a number, not timestamp"),
]


@pytest.mark.parametrize(("kind", "value", "says"), REFUSED_JSON)
def test_what_json_cannot_become(kind, value, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        given_json(kind, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KINDS = sorted({kind for kind, *_ in CELLS + REFUSED_CELLS + REFUSED_JSON})


@settings(deadline=None)
@given(st.sampled_from(KINDS), JSON)
def test_any_json_is_taken_as_arrow_takes_it_or_refused_with_a_reason(kind, value):
    parsed = types.parse(kind)
    try:
        read = cells.reader(parsed, cells=False, parse_json=True)(value)
    except ValueError as exc:
        assert str(exc)
        return
    pa.array([read], types.to_arrow(parsed))


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.text())
def test_any_text_is_a_value_or_refused_with_a_reason(kind, text):
    try:
        read = cell(kind, text)
    except ValueError as exc:
        assert str(exc)
        return
    pa.array([read], types.to_arrow(types.parse(kind)))


@settings(deadline=None)
@given(st.lists(st.none() | st.floats(allow_nan=False, width=32)))
def test_a_vector_written_as_json_comes_back(vector):
    text = json.dumps(vector)
    assert cell("list<float32>", text) == vector


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "", "2"], "int64"),
        (["1", "2.5"], "float64"),
        (["true", "False"], "bool"),
        (["2026-01-31T12:00:00Z"], "timestamp[us, UTC]"),
        (["[1, 2]", "[0.5]"], "list<float64>"),
        (["['a']"], "list<string>"),
        (['{"a": 1, "b": ["x"]}'], "struct<a:int64,b:list<string>>"),
        (["1", "x"], "string"),
        (["", "NA"], "string"),
    ],
)
def test_a_type_is_guessed_that_can_be_registered_and_holds_the_cells(texts, kind):
    assert cells.guess(texts, cells=True) == kind
    read = cells.reader(types.parse(kind), cells=True, parse_json=True)
    for text in texts:
        read(text)
