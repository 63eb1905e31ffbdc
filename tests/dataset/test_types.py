"""The registry's types: one spelling each, and the same values in Arrow."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrstore.dataset import types
from usrstore.dataset.types import Type, of_arrow, parse, parse_columns, to_arrow
from usrstore.errors import RegistryError

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_ ]{0,6}[A-Za-z0-9_]", fullmatch=True)
scalars = st.sampled_from(types.SCALARS).map(Type)
stamps = st.builds(
    Type,
    st.just("timestamp"),
    unit=st.sampled_from(types.UNITS),
    zone=st.sampled_from(["", "UTC", "Europe/Berlin", "+02:00"]),
)


def nested(inner):
    fields = st.lists(st.tuples(names, inner), min_size=1, max_size=3, unique_by=lambda f: f[0])
    return st.one_of(
        inner.map(lambda t: Type("list", (t,))),
        st.tuples(inner, st.integers(1, 4096)).map(
            lambda p: Type("fixed_size_list", (p[0],), size=p[1])
        ),
        fields.map(lambda f: Type("struct", tuple(t for _, t in f), tuple(n for n, _ in f))),
    )


kinds = st.recursive(scalars | stamps, nested, max_leaves=6)


@given(kinds)
def test_every_type_is_read_back_from_its_spelling(kind):
    assert parse(str(kind)) == kind


@given(kinds)
def test_every_type_is_found_again_in_arrow(kind):
    assert of_arrow(to_arrow(kind)) == kind


@given(st.lists(st.tuples(names, kinds), min_size=1, max_size=4, unique_by=lambda c: c[0]))
def test_columns_are_split_at_the_commas_between_them_only(columns):
    text = ", ".join(f"{name} : {kind}" for name, kind in columns)
    assert parse_columns(text) == columns


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("timestamp[us,UTC]", "timestamp[us, UTC]"),
        ("timestamp[us, tz=UTC]", "timestamp[us, UTC]"),
        (" list< float > ", "list<float32>"),
        ("double", "float64"),
        ("struct< a : int8 , b:list<string> >", "struct<a:int8,b:list<string>>"),
        ("fixed_size_list<float16> [ 8 ]", "fixed_size_list<float16>[8]"),
    ],
)
def test_people_may_write_blanks_and_arrow_words(text, canonical):
    assert str(parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "", "text", "int", "int128", "list", "list<>", "list<string", "list<string>>", "list<a,b>",
        "list<string>[3]", "fixed_size_list<int8>", "fixed_size_list<int8>[0]", "struct<>",
        "struct<a>", "struct<a:int8,a:int8>", "struct<:int8>", "timestamp", "timestamp[]",
        "timestamp[min]", "timestamp[us,]", "timestamp[us, a b]", "<", ">", "list<" * 40,
        "list<" * 30 + "int8" + ">" * 30,
    ],
)  # fmt: skip
def test_what_is_no_type_is_refused_with_the_types_there_are(text):
    with pytest.raises(RegistryError) as caught:
        parse(text)
    assert "is no type" in caught.value.message
    assert "struct<a:T" in caught.value.hint


@given(st.text(alphabet="list<>[],: intus8a", max_size=30))
def test_no_text_is_read_as_anything_but_a_type_or_an_error(text):
    try:
        kind = parse(text)
    except RegistryError:
        return
    assert parse(str(kind)) == kind


@pytest.mark.parametrize("text", ["a", "a:", ":int8", "a:int8,,b:int8", "a:int8,a:int16", ""])
def test_columns_that_cannot_be_read_are_refused(text):
    with pytest.raises(RegistryError):
        parse_columns(text)


def test_ways_to_hold_the_same_values_are_one_type():
    for arrow in (
        pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
    ):  # fmt: skip
        assert of_arrow(arrow) == types.STRING
    assert of_arrow(pa.large_list(pa.field("element", pa.int8()))) == parse("list<int8>")
    with pytest.raises(RegistryError, match="decimal"):
        of_arrow(pa.decimal128(5))
