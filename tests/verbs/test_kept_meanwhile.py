"""A commit that another command makes while a transfer looks at the folder is never forgotten.

Whatever is made of what was seen before it would drop it from history, or take back what it
kept. So the transfer gives way, and says so; run again, it takes the commit with it.
"""

from __future__ import annotations

import contextlib

import pytest

from support.datasets import events, old_files
from support.pairs import Pair, Place
from usrstore.errors import ConflictError, RefConflictError
from usrstore.verbs import checkout, fetch, merge, pull, undo
from usrstore.verbs.options import Options
from usrstore.verbs.site import Site

NEWS = {"_artifacts/news": b"new"}


class Once:
    """Something that is kept at a place once, at the moment that the test says."""

    def __init__(self, place, files=None):
        self.place = place
        self.files = files or {}
        self.kept = None

    def __call__(self):
        if self.kept is None:
            self.kept = True  # a commit captures, too
            self.place.write({**self.place.read(), **self.files})
            self.kept = self.place.commit("meanwhile").manifest


@pytest.fixture
def pair(home):
    """Both ends have gone on, and all can be merged."""
    pair = Pair.make(home / "one", files=old_files())
    pair.push()
    there = Pair(Place(home / "colleague"), pair.there)
    (home / "colleague").mkdir()
    there.pull()
    there.here.write({**there.here.read(), ".events.log": events(1, 2, 3, 7), "theirs": b"new"})
    there.push()
    return pair


def go_on(pair):
    pair.here.write({**pair.here.read(), ".events.log": events(1, 2, 3, 4), "ours": b"new"})


def after_the_capture(monkeypatch, folder, act):
    """Something happens right after a folder was read."""
    capture = Site.capture

    def hooked(self, **options):
        found = capture(self, **options)
        if self.folder == str(folder):
            act()
        return found

    monkeypatch.setattr(Site, "capture", hooked)


def line(place):
    return place.site().ancestry(place.head())


def test_a_commit_in_the_middle_of_a_merge_stays_in_history(pair):
    go_on(pair)
    keep = Once(pair.here)

    def told(event):
        if event.text == ".events.log":  # the clash is being merged
            keep()

    files = pair.here.read()
    with (
        contextlib.closing(pair.there.host()) as peer,
        pytest.raises(RefConflictError, match="moved"),
    ):
        pull.pull(pair.here.site(), peer, "r", Options(), emit=told)
    assert (pair.here.head(), pair.here.read()) == (keep.kept, files)
    assert pair.pull().state == "MERGED"
    assert {keep.kept, pair.there.head()} <= set(line(pair.here))


def test_a_commit_in_the_middle_of_a_merge_of_states_stays_in_history(pair):
    with contextlib.closing(pair.there.host()) as peer:
        fetch.fetch(pair.here.site(), peer, "r")
    go_on(pair)
    keep, theirs = Once(pair.here), pair.there.head()
    with pytest.raises(RefConflictError, match="moved"):
        merge.merge(pair.here.site(), theirs, name="r", emit=lambda _event: keep())
    assert pair.here.head() == keep.kept
    merge.merge(pair.here.site(), theirs, name="r")
    assert {keep.kept, theirs} <= set(line(pair.here))


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_what_was_kept_after_the_folder_was_read_is_not_taken_back(pair, monkeypatch, verb):
    pair.pull()
    pair.here.write({**pair.here.read(), "ours": b"new"})
    there, keep = pair.there.everything(), Once(pair.here, NEWS)
    after_the_capture(monkeypatch, pair.here.folder, keep)
    if verb == "push":
        with pytest.raises(RefConflictError, match="nothing was changed"):
            pair.push()
    else:
        assert pair.pull().state == "NO-OP"
    assert pair.here.head() == keep.kept
    assert pair.there.everything() == there
    pair.push()
    assert NEWS.items() <= pair.there.read().items()
    assert keep.kept in line(pair.there)


def test_what_was_kept_there_after_its_folder_was_read_is_not_taken_back(pair, monkeypatch):
    pair.there.write({**pair.there.read(), "more": b"new"})
    here, keep = pair.here.everything(), Once(pair.there, NEWS)
    after_the_capture(monkeypatch, pair.there.folder, keep)
    with pytest.raises(ConflictError, match="moved"):
        pair.pull()
    assert pair.there.head() == keep.kept
    assert pair.here.everything() == here
    pair.pull()
    assert NEWS.items() <= pair.here.read().items()


def test_an_undo_does_not_take_a_commit_back_that_it_has_not_seen(pair, monkeypatch):
    pair.here.write({**pair.here.read(), "ours": b"new"})
    pair.here.commit()
    pair.here.write({**pair.here.read(), **NEWS})
    keep, capture = Once(pair.here), checkout.capture

    def late(site, emit):
        keep()
        return capture(site, emit)

    monkeypatch.setattr(checkout, "capture", late)
    before = pair.here.read()
    with pytest.raises(RefConflictError, match="moved"):
        undo.undo(pair.here.root, pair.here.who)
    assert (pair.here.head(), pair.here.read()) == (keep.kept, before)
