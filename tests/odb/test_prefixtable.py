"""The table of small packs names every pack that may hold an id, and few others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from usrstore.odb.prefixtable import PrefixTable

beginnings = st.integers(0, (1 << 32) - 1) | st.sampled_from([0, 1, (1 << 32) - 1])


@given(st.lists(st.lists(st.lists(beginnings, max_size=6), max_size=4), max_size=6), st.data())
def test_it_names_exactly_the_packs_that_hold_a_beginning(arrivals, data):
    table, held = PrefixTable(), []
    for packs in arrivals:
        some = [(f"pack {len(held) + n}", prefixes) for n, prefixes in enumerate(packs)]
        table.add(some)
        held += some
    gone = set(data.draw(st.lists(st.sampled_from([name for name, _ in held])))) if held else set()
    for name in gone:
        table.drop(name)
    for begin in {begin for _, prefixes in held for begin in prefixes} | {7}:
        told = [name for name, prefixes in held if begin in prefixes and name not in gone]
        assert sorted(set(table.find(begin))) == sorted(told)
