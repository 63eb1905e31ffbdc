"""Logs merge line by line: none is lost, none comes twice, and the first stays as it is."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore.dataset import mergelog
from usrstore.errors import IntegrityError

lines = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"longer line\n"]), max_size=6)


def merged(first, second, **options):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "1").write_bytes(b"".join(first))
        (folder / "2").write_bytes(b"".join(second))
        out = folder / "out"
        counts = mergelog.merge(str(folder / "1"), str(folder / "2"), str(out), **options)
        return out.read_bytes().splitlines(keepends=True), counts


@settings(deadline=None)
@given(lines, lines, lines)
def test_no_line_is_lost_and_none_of_both_comes_twice(common, one, two):
    first, second = common + one, common + two
    found, (_, added) = merged(first, second)
    assert found[: len(first)] == first
    assert len(found) == len(first) + added
    wanted = Counter(first) | Counter(second)
    assert Counter(found) == wanted
    rest = list(second)
    for line in found[len(first) :]:  # in their order
        rest = rest[rest.index(line) + 1 :]


@settings(deadline=None)
@given(lines, lines, lines)
def test_merging_again_adds_nothing(common, one, two):
    found, _ = merged(common + one, common + two)
    for other in (common + one, common + two):
        assert merged(found, other)[0] == found


@settings(deadline=None)
@given(lines, lines)
def test_only_lines_behind_a_place_follow(first, second):
    start = len(b"".join(second[:2]))
    found, (_, added) = merged(first, second, start=start)
    assert added <= len(second[2:])
    assert found[: len(first)] == first


def test_a_torn_line_is_refused():
    with pytest.raises(IntegrityError) as caught:
        merged([b"a\n"], [b"a\n", b"torn"])
    assert caught.value.code == "events-torn"


def test_lines_longer_than_a_block(monkeypatch):
    monkeypatch.setattr(mergelog, "_BLOCK_BYTES", 8)
    common = [b"x" * 30 + b"\n", b"y\n"]
    found, counts = merged([*common, b"one\n"], [*common, b"two\n"])
    assert found == [*common, b"one\n", b"two\n"]
    assert counts == (1, 1)
