"""Numbers are read all at once where that is the same as reading them one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore.dataset import cells, fitting, types

NUMBERS = st.one_of(
    st.text("0123456789+-.eExXnaN_ ", max_size=6),
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(repr),
    st.sampled_from(["", "NA", "null", " 1 ", "1.0", "inf", "-0", "1e400", "+5"]),
)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(["float64", "int64", "int8", "uint16"]), st.lists(NUMBERS, max_size=4))
def test_fast_numbers_are_the_slow_ones(kind, texts):
    parsed = types.parse(kind)
    fast = fitting._numbers(texts, parsed)
    if fast is not None:
        read = cells.reader(parsed, cells=True, parse_json=True)
        assert fast.to_pylist() == [read(text) for text in texts]


@pytest.mark.parametrize("kind", ["float64", "int64"])
def test_plain_numbers_are_read_fast(kind):
    found = fitting._numbers(["1", "", " -2 ", "NA"], types.parse(kind))
    assert found.to_pylist() == [1, None, -2, None]
    assert fitting._numbers(["1"], types.parse("float32")) is None
