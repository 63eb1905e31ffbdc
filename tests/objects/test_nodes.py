"""Nodes: the cut follows the items, so a change costs what changed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrstore.objects import nodes


def by_the_rule(keys):
    """The rule once more, said plainly."""
    runs, run = [], []
    for key in keys:
        run.append(key)
        if len(run) == 256 or (len(run) >= 16 and key[-1] % 64 == 0):
            runs.append(run)
            run = []
    if run or not runs:
        runs.append(run)
    return runs


def random_keys(count, seed=0):
    source = random.Random(seed)
    return [source.randbytes(32) for _ in range(count)]


@pytest.mark.spec("F-10")
@given(st.lists(st.binary(min_size=1, max_size=1), max_size=1000), st.integers(0, 255))
def test_a_list_is_split_where_the_rule_says(keys, fill):
    for items in (keys, [bytes([fill])] * len(keys)):
        runs = [list(run) for run in nodes.split(items, bytes)]
        assert runs == by_the_rule(items)
        assert [item for run in runs for item in run] == items


@pytest.mark.spec("F-10")
def test_any_items_give_nodes_of_16_to_256():
    for items in (random_keys(20_000), [b"\0"] * 20_000, [b"\1"] * 20_000):
        runs = [len(run) for run in nodes.split(items, bytes)]
        assert all(16 <= run <= 256 for run in runs[:-1])
    lengths = [len(run) for run in nodes.split(random_keys(100_000), bytes)]
    assert 70 < sum(lengths) / len(lengths) < 90


def grown(keys):
    """Every node made of `keys`: height and items, in the order of writing."""
    made = []

    def store(height, run):
        made.append((height, tuple(run)))
        return bytes([height]) + random.Random(repr(run)).randbytes(31)

    return nodes.grow(keys, bytes, store), made


@pytest.mark.spec("F-11")
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 300, 20_000])
def test_nodes_grow_until_one_is_left(count):
    root, made = grown(random_keys(count))
    heights = [height for height, _ in made]
    assert heights == sorted(heights)
    assert heights.count(heights[-1]) == 1
    assert root[0] == heights[-1]
    for height in range(1, heights[-1] + 1):
        assert sum(len(run) for at, run in made if at == height) == heights.count(height - 1) > 1


def test_a_change_in_a_long_list_makes_a_handful_of_nodes():
    keys = random_keys(50_000)
    before = set(grown(keys)[1])
    for at in (0, 25_000, 49_999):
        for changed in (
            [*keys[:at], *random_keys(1, seed=7), *keys[at:]],
            [*keys[:at], *keys[at + 1 :]],
            [*keys[:at], *random_keys(1, seed=8), *keys[at + 1 :]],
        ):
            assert len(set(grown(changed)[1]) - before) <= 12
