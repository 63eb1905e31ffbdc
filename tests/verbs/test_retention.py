"""Which states keep their files."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrstore.errors import ConfigError
from usrstore.objects.ids import ManifestId, ObjectId
from usrstore.verbs.retention import DAY_S, Retention, from_settings, parse_duration

DAY_US = 86_400_000_000
START_US = 1_700_000_000_000_000 - 1_700_000_000_000_000 % (7 * DAY_US) + 4 * DAY_US  # a Monday


def state(number):
    return ManifestId(ObjectId(number.to_bytes(32, "big")))


def at(*days):
    """States made at these days (fractions count), by number."""
    return {state(number): START_US + int(day * DAY_US) for number, day in enumerate(days)}


def chosen(moments, **rules):
    return sorted(int.from_bytes(oid, "big") for oid in Retention(**rules).select(moments))


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ({}, []),
        ({"keep_last": 2}, [5, 6]),
        ({"keep_last": 0}, []),
        ({"keep_last": 99}, [0, 1, 2, 3, 4, 5, 6]),
        ({"keep_daily": 2}, [4, 6]),
        ({"keep_weekly": 2}, [3, 6]),
        ({"keep_weekly": 1, "keep_daily": 3}, [3, 4, 6]),
        ({"keep_monthly": 3}, [6]),
        ({"keep_within": DAY_S}, [4, 5, 6]),
        ({"keep_within": 0.0}, [6]),
    ],
    ids=str,
)
def test_each_rule_names_the_newest_of_its_kind(rules, kept):
    moments = at(0, 1, 1.25, 2.5, 7.5, 8, 8.5)
    assert chosen(moments, **rules) == kept


def test_rules_add_up_and_a_clock_that_went_back_matters_to_times_only():
    moments = at(3, 2, 1)
    assert chosen(moments, keep_last=1, keep_within=DAY_S) == [0, 1]


RULES = st.fixed_dictionaries(
    {
        "keep_last": st.none() | st.integers(0, 5),
        "keep_daily": st.none() | st.integers(0, 5),
        "keep_weekly": st.none() | st.integers(0, 3),
        "keep_monthly": st.none() | st.integers(0, 3),
        "keep_within": st.none() | st.floats(0, 40 * DAY_S),
    }
)


@given(st.lists(st.floats(0, 60), max_size=20), RULES)
def test_a_second_collection_by_the_same_rules_gives_up_nothing_more(days, rules):
    moments = at(*days)
    once = Retention(**rules).select(moments)
    assert once <= moments.keys()
    assert Retention(**rules).select({oid: moments[oid] for oid in once}) == once


def test_nothing_is_given_up_unless_a_rule_asks():
    assert not Retention().asked
    assert not Retention(keep_tagged=False, grace=0.0, keep_ops=1.0).asked
    assert Retention(keep_within=0.0).asked
    assert Retention(keep_last=0).asked
    assert Retention().ops_s is None
    assert Retention(keep_last=3).ops_s == 7 * DAY_S
    assert Retention(keep_last=3, keep_ops=0.0).ops_s == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90s", 90), ("15m", 900), ("12h", 43200), ("14d", 14 * DAY_S), ("1d12h", 129600)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "d", "-1d", "1.5d", "1d ", "1D", "99999999999d", "1d1"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match="is no duration"):
        parse_duration(text)


def test_settings_are_read_and_what_is_given_counts_more():
    section = {"grace": "2h", "keep-last": 3, "keep-tagged": False}
    assert from_settings(section, {}) == Retention(grace=7200.0, keep_last=3, keep_tagged=False)
    given = {"grace": 60.0, "keep_last": None, "keep_tagged": True}
    assert from_settings(section, given) == Retention(grace=60.0, keep_last=3)
    assert from_settings({}, {}) == Retention()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Retention)])
def test_a_setting_of_another_type_is_refused(name):
    with pytest.raises(ConfigError):
        from_settings({name.replace("_", "-"): [1]}, {})
