"""The stat cache saves reading, and nothing else: lost or damaged, everything is read."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.faults import Fail
from usrstore.errors import DecodeError
from usrstore.objects.ids import ContentHash, ObjectId, RecipeId
from usrstore.odb import durable
from usrstore.worktree.scan import Stamp
from usrstore.worktree.statcache import Facts, Known, StatCache, is_racy, load, save, stamp_of

RULE = "rule-1"
ids = st.binary(min_size=32, max_size=32).map(ObjectId)
numbers = st.integers(0, 2**63 - 1)
knowns = st.builds(
    Known,
    st.builds(Stamp, numbers, numbers, numbers, numbers),
    ids.map(ContentHash),
    st.none() | ids.map(RecipeId),
)
caches = st.builds(
    StatCache,
    st.just(RULE),
    st.dictionaries(st.text(max_size=20), knowns, max_size=5),
    st.none() | ids,
    st.builds(
        Facts, st.none() | numbers, st.none() | numbers, st.none() | ids, st.none() | numbers
    ),
)
SOME = StatCache(
    RULE,
    {"a": Known(Stamp(1, 2, 3, 4), ContentHash(ObjectId(b"c" * 32)), None)},
    ObjectId(b"r" * 32),
    Facts(1, 2, ContentHash(ObjectId(b"s" * 32)), 3),
)


@settings(max_examples=100, deadline=None)
@given(caches)
def test_what_is_kept_is_what_is_loaded(cache):
    assert StatCache.decode(cache.encode(), RULE) == cache


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_cache_or_a_decode_error(data):
    try:
        StatCache.decode(data, RULE)
    except DecodeError:
        return


def test_any_damaged_byte_is_noticed():
    data = SOME.encode()
    for at in range(len(data)):
        for bit in (1, 0x80):
            damaged = bytearray(data)
            damaged[at] ^= bit
            with pytest.raises(DecodeError):
                StatCache.decode(bytes(damaged), RULE)


def test_a_file_is_known_only_under_the_very_same_stamp():
    for field, value in SOME.files["a"].stamp._asdict().items():
        assert SOME.find("a", SOME.files["a"].stamp._replace(**{field: value + 1})) is None
    assert SOME.find("a", Stamp(1, 2, 3, 4)) is SOME.files["a"]
    assert SOME.find("b", Stamp(1, 2, 3, 4)) is None


def test_a_missing_damaged_or_foreign_cache_is_an_empty_one(tmp_path):
    path = str(tmp_path / "cache")
    assert load(None, RULE) == load(path, RULE) == StatCache(RULE)
    save(path, SOME)
    assert load(path, RULE) == SOME
    assert load(path, "rule-2") == StatCache("rule-2")
    with open(path, "r+b") as file:
        file.truncate(20)
    assert load(path, RULE) == StatCache(RULE)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    with durable.tapped(Fail(errno=errno.ENOSPC, forever=True, spared=("unlink",))):
        save(str(tmp_path / "deep" / "cache"), SOME)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("age_ms", "racy"),
    [(0, True), (19, True), (21, False), (10**9, False), (-900, True), (-1100, False)],
)
def test_a_file_read_within_a_clock_tick_of_its_change_is_not_trusted(age_ms, racy):
    """Times from the future are another host's clock, as long as they are far off."""
    then = 10**18
    for stamp in (Stamp(1, then, then - 10**9, 1), Stamp(1, then - 10**9, then, 1)):
        assert is_racy(stamp, then + age_ms * 1_000_000) is racy


def test_facts_of_files_that_are_not_there_are_no_facts():
    facts = SOME.facts
    assert facts.of(["records.parquet", ".events.log"]) == facts
    assert facts.of(["records.parquet"]) == facts._replace(events=None)
    assert facts.of([".events.log"]) == Facts(events=3)
    assert facts.of([]) == Facts()


def test_the_stamp_of_nothing_is_nothing_and_a_link_is_not_followed(tmp_path):
    assert stamp_of(str(tmp_path / "none")) is None
    (tmp_path / "file").write_bytes(b"12345")
    os.symlink("file", tmp_path / "link")
    assert stamp_of(str(tmp_path / "file")).size == 5
    assert stamp_of(str(tmp_path / "link")).size == len("file")
