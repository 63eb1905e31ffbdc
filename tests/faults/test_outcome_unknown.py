"""The disk dies while the refs move, and does not answer when it is asked whether they did.

The state was made, and its folder cannot be read any more (a real error of the kernel: its name
is a link that leads to itself). A folder that were taken back then would contradict its ref: it
stays as the ref may name it, with its journal, and whoever comes next goes on from there.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

import pytest

from support import datasets, several
from support.faults import Counter
from support.pairs import Pair
from usrstore.errors import OutcomeUnknownError
from usrstore.objects.names import head_ref
from usrstore.odb import durable
from usrstore.odb.states import Act, Change
from usrstore.verbs.fsck import fsck

OLD, NEW = datasets.old_files(), datasets.new_files()


@dataclass
class Dying(Counter):
    """Refuse the `nth` creation of a state of one store, made or not, and be dumb afterwards."""

    when: str = "after"
    states: str = ""

    def __call__(self, when, op, path):
        if (when, op) == (self.when, "link") and path.startswith(self.states + "/"):
            os.rename(self.states, f"{self.states}.away")
            os.symlink(self.states, self.states)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def heal(self):
        os.unlink(self.states)
        os.rename(f"{self.states}.away", self.states)


def dying(place, when):
    return Dying(when=when, states=os.path.join(place.root.store, "states"))


def raises_unknown(act, tap):
    try:
        with pytest.raises(OutcomeUnknownError) as caught, durable.tapped(tap):
            act()
    finally:
        tap.heal()
    assert caught.value.code == "outcome-unknown"
    assert "states/" in caught.value.message
    assert caught.value.hint


def sound(*places):
    for place in places:
        assert place.root.journaled() == []
        assert fsck(place.root, place.who).findings == []
        tree = place.manifest().tree
        place.commit()
        assert place.manifest().tree == tree  # the folder is what its ref names


@pytest.fixture
def pair(home):
    """Both at the old state; the new one is at the other end."""
    pair = Pair.make(home, files=OLD)
    pair.push()
    pair.there.write(NEW)
    return pair


WHEN = pytest.mark.parametrize("when", ["after", "before"])


@WHEN
def test_a_pull_that_cannot_tell_is_finished_by_whoever_comes_next(pair, when):
    raises_unknown(pair.pull, dying(pair.here, when))
    assert pair.here.read() == NEW
    assert pair.here.root.journaled()
    moved = pair.here.head()
    pair.here.recover()
    assert pair.here.read() == NEW
    assert pair.here.head() == (moved if when == "after" else pair.there.head())
    sound(pair.here, pair.there)


@WHEN
def test_a_push_that_cannot_tell_is_finished_by_the_next_one(pair, when):
    pair.pull()
    pair.here.write(OLD)
    raises_unknown(pair.push, dying(pair.there, when))
    pair.push()
    assert pair.there.read() == OLD
    assert pair.there.head() == pair.here.head()
    sound(pair.here, pair.there)


@WHEN
def test_of_several_datasets_all_are_finished(home, when):
    pair = Pair.make(home)
    several.write(pair.here, several.OLD)
    several.run("push", pair)
    several.write(pair.there, several.NEW)
    raises_unknown(lambda: several.run("pull", pair), dying(pair.here, when))
    assert several.read(pair.here) == several.NEW
    pair.here.recover()
    assert several.read(pair.here) == several.NEW
    for name in several.NAMES:
        assert pair.here.refs()[head_ref(name)] == pair.there.refs()[head_ref(name)]
    assert fsck(pair.here.root, pair.here.who).findings == []


def test_where_the_ref_was_moved_meanwhile_the_folder_goes_back_to_it(pair):
    raises_unknown(pair.pull, dying(pair.here, "before"))
    away = {head_ref(datasets.DATASET): Change(pair.here.head(), None)}
    pair.here.root.states.advance(away, Act("somebody", "update-ref", 1))
    pair.here.recover()
    assert pair.here.read() == OLD
    assert pair.here.head() is None
    assert pair.here.root.journaled() == []


def test_a_command_that_is_asked_again_goes_on_by_itself(pair):
    raises_unknown(pair.pull, dying(pair.here, "after"))
    pair.pull()
    assert pair.here.read() == NEW
    sound(pair.here, pair.there)
