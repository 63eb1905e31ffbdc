"""Two people keep the same folder: one tree, two states. Neither history is lost."""

from __future__ import annotations

import shutil

import pytest

from support.datasets import events, old_files
from support.pairs import Pair, Place


@pytest.fixture
def both(home):
    """`pair` has kept what a colleague, in a root of their own, has pushed meanwhile."""
    pair = Pair.make(home / "one", files=old_files())
    pair.push()
    colleague = Pair(Place(home / "colleague"), pair.there)
    shutil.copytree(pair.here.path, colleague.here.path)
    for place in (pair.here, colleague.here):
        place.write({**old_files(), "meta.md": b"# the same at both\n"})
    kept = pair.here.commit("mine").manifest
    colleague.push()
    assert pair.there.head() != kept
    return pair, colleague, kept


def line(place):
    return place.site().ancestry(place.head())


def test_what_is_equal_moves_nothing_and_the_own_commit_stays(both):
    pair, _, kept = both
    there = pair.there.everything()
    assert (pair.push().state, pair.pull().state) == ("NO-OP", "NO-OP")
    assert pair.here.head() == kept
    assert pair.there.everything() == there


def test_the_own_commit_travels_with_the_next_push_that_has_anything_new(both):
    pair, _, kept = both
    before = pair.there.head()
    pair.push()
    pair.here.write({**pair.here.read(), "notes.txt": b"new"})
    assert pair.push().state == "TRANSFERRED"
    assert {kept, before} <= set(line(pair.there))


def test_the_own_commit_stays_in_the_history_that_a_pull_brings_forward(both):
    pair, colleague, kept = both
    colleague.here.write({**colleague.here.read(), ".events.log": events(1, 2, 3, 4)})
    colleague.push()
    pair.pull()
    assert {kept, pair.there.head()} <= set(line(pair.here))
    assert pair.here.read() == colleague.here.read()
