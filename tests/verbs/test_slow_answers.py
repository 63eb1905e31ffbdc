"""Two commands of one root at one remote, and the slower one's answer is older than what is known.

The slow one asks, another sees something newer at the remote, and only then does the answer of
the first come in: old, but honest. It accuses nobody, and it takes no mark back.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil

import pytest

from support.datasets import DATASET, new_files, old_files
from support.pairs import Pair, Place
from usrstore.errors import RollbackError
from usrstore.objects.ids import Kind, ManifestId, ObjectId, StateId, hash_object
from usrstore.remote.peer import Seen
from usrstore.root import Root
from usrstore.verbs import memory
from usrstore.verbs.fetch import fetch
from usrstore.verbs.memory import Mark


class Slow:
    """A peer whose answer comes in after something else was done."""

    def __init__(self, peer, meanwhile):
        self._peer = peer
        self._meanwhile = meanwhile

    def compare(self, ask):
        answer = self._peer.compare(ask)
        self._meanwhile()
        return answer

    def __getattr__(self, name):
        return getattr(self._peer, name)


@pytest.fixture
def pair(home):
    pair = Pair.make(home / "one", files=old_files())
    pair.push()
    return pair


def mark(pair):
    return memory.mark(pair.here.root, "r", DATASET)


def bring(pair, meanwhile=lambda: None):
    with contextlib.closing(pair.there.host()) as peer:
        fetch(pair.here.site(), Slow(peer, meanwhile), "r")


def test_what_another_command_published_meanwhile_is_no_rollback(pair):
    def meanwhile():
        pair.here.write(new_files())
        pair.push()

    result = pair.diff(Slow(pair.there.host(), meanwhile))
    assert result.meeting.answer.head != pair.there.head() == mark(pair).head


def test_a_slow_answer_takes_no_mark_back_so_a_rollback_is_still_refused(home, pair):
    shutil.copytree(pair.there.path, home / "backup")
    colleague = Pair(Place(home / "colleague"), pair.there)
    shutil.copytree(pair.here.path, colleague.here.path)

    def meanwhile():
        colleague.here.write(new_files())
        colleague.push()
        bring(pair)

    bring(pair, meanwhile)
    assert mark(pair).head == pair.there.head()
    shutil.rmtree(pair.there.path)
    shutil.copytree(home / "backup", pair.there.path)
    with pytest.raises(RollbackError, match="went back"):
        pair.diff()


def seen(number, name=""):
    return Seen(number, StateId(oid(f"state {number} {name}")))


def oid(name):
    return ObjectId(hash_object(Kind.MANIFEST, name.encode()))


def head(number):
    return ManifestId(oid(f"head {number}"))


def at(number):
    return Mark(seen(number), head(number))


def remember(root, number, *, since):
    memory.remember(root, "r", DATASET, *at(number), since=since, at_us=1)


def test_in_whatever_order_answers_come_in_the_newest_is_the_mark(home):
    root = Root(str(home))
    root.create_store()
    for order in itertools.permutations((5, 6, 7)):
        memory.accept(root, "r", DATASET, *at(4), at_us=1)
        for number in order:
            remember(root, number, since=at(4))  # all of them asked when 4 was the newest known
        assert memory.mark(root, "r", DATASET) == at(7)


def test_a_remote_that_was_believed_though_it_went_back_is_marked_where_it_is(home):
    root = Root(str(home))
    root.create_store()
    remember(root, 7, since=Mark())
    remember(root, 5, since=at(7))  # whoever judged against 7 and took 5 was told to
    assert memory.mark(root, "r", DATASET) == at(5)


def test_of_another_dataset_an_older_answer_is_still_all_that_is_known(home):
    root = Root(str(home))
    root.create_store()
    remember(root, 7, since=Mark())
    memory.remember(root, "r", "ns/other", seen(6), head("other"), since=Mark(), at_us=1)
    assert memory.mark(root, "r", "ns/other") == Mark(seen(7), head("other"))
