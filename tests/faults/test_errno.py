"""Whichever change to a disk fails, and however: one state, a hint, and a second try that works.

Every change of every verb fails once, each with the next of the four errors; and from every
fourth change on, everything that needs room fails, as on a disk that stays full, or everything,
as on one that died.
"""

from __future__ import annotations

import contextlib
import errno
import shutil

import pytest

from support import datasets
from support.faults import Fail, count_calls
from support.pairs import Pair
from usrstore.errors import StorageError
from usrstore.odb import durable
from usrstore.verbs import fetch
from usrstore.verbs.fsck import fsck

OLD, NEW = datasets.old_files(), datasets.new_files()
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
CODES = {errno.ENOSPC: "disk-full", errno.EDQUOT: "disk-full", errno.EROFS: "read-only"}
NEEDS_NO_ROOM = ("unlink", "rmdir", "close", "fsync", "fsync-folder", "rename", "truncate", "chmod")
STEP_FULL = 4


def bring(pair):
    peer = pair.there.host()
    try:
        return fetch.fetch(pair.here.site(), peer, "r")
    finally:
        peer.close()


VERBS = {
    "commit": (NEW, OLD, lambda pair: pair.here.commit()),
    "push": (NEW, OLD, lambda pair: pair.push()),
    "pull": (OLD, NEW, lambda pair: pair.pull()),
    "fetch": (OLD, NEW, bring),
}


@pytest.fixture(scope="session")
def prepared(memory_home):
    made = {}

    def get(verb):
        if verb not in made:
            home = memory_home / "errno" / verb
            pair = Pair.make(home, files=OLD)
            pair.push()
            pair.pull()
            here, there, act = VERBS[verb]
            pair.here.write(here)
            pair.there.write(there)
            trial = pair.copy_to(home / "trial")
            calls = count_calls(lambda: act(trial))
            made[verb] = pair, calls, look(trial)
        return made[verb]

    return get


def look(pair):
    """Both folders and what is beside them, and the trees that refs name."""
    return [
        (
            place.read(),
            place.outside(),
            {name: place.manifest(oid).tree for name, oid in place.refs().items()},
        )
        for place in (pair.here, pair.there)
    ]


def check(verb, before, after, pair, at):
    """Each folder with its refs is as before, or (past the point of no return) as afterwards."""
    for place in (pair.here, pair.there):
        if place.root.has_store:
            place.recover()
            assert place.root.journaled() == [], at
            assert fsck(place.root, place.who).findings == [], at
    for now, was, becomes in zip(look(pair), before, after, strict=True):
        assert now[0] in (was[0], becomes[0]), at
        if was[0] != becomes[0]:
            changed = now[0] == becomes[0]
            assert now[1] == (becomes if changed else was)[1], at
            assert now[2] == (becomes if changed else was)[2], at
        else:
            assert now[1] in (was[1], becomes[1]), at
            for name, tree in now[2].items():
                assert tree in (was[2].get(name), becomes[2].get(name)), at
    VERBS[verb][2](pair)
    assert [row[:2] for row in look(pair)] == [row[:2] for row in after], at


@pytest.mark.parametrize("shard", range(2))
@pytest.mark.parametrize("verb", VERBS)
def test_a_change_that_fails_once_leaves_one_state_and_a_hint(verb, shard, prepared, home):
    pair, calls, after = prepared(verb)
    for number, call in list(enumerate(calls, 1))[shard::2]:
        error = ERRORS[number % len(ERRORS)]
        at = f"{errno.errorcode[error]} at change {number} of {len(calls)}: {call}"
        trial = pair.copy_to(home / str(number))
        before = look(trial)
        try:
            with durable.tapped(Fail(errno=error, number=number)):
                VERBS[verb][2](trial)
        except StorageError as exc:
            assert exc.hint, at
            assert exc.code == CODES.get(error, "storage"), at
        for place in (trial.here, trial.there):  # nothing waits for a recovery
            assert place.root.journaled() == [] or call[0] in ("unlink", "fsync-folder"), at
        check(verb, before, after, trial, at)
        shutil.rmtree(trial.here.path.parent)


@pytest.mark.parametrize("kind", ["full", "dead"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_disk_that_stays_full_or_dead_leaves_one_state_once_it_is_back(
    verb, kind, prepared, home
):
    pair, calls, after = prepared(verb)
    error, spared = (errno.ENOSPC, NEEDS_NO_ROOM) if kind == "full" else (errno.EIO, ())
    for number in range(1, len(calls) + 1, STEP_FULL):
        at = f"{kind} from change {number} of {len(calls)} on: {calls[number - 1]}"
        trial = pair.copy_to(home / str(number))
        before = look(trial)
        try:
            with durable.tapped(Fail(errno=error, number=number, forever=True, spared=spared)):
                VERBS[verb][2](trial)
        except StorageError as exc:
            assert exc.hint, at
        check(verb, before, after, trial, at)
        shutil.rmtree(trial.here.path.parent)


@pytest.mark.parametrize("verb", VERBS)
def test_what_could_not_be_synced_is_given_up_and_never_synced_again(verb, prepared, home):
    """After EIO the kernel may have dropped the pages, and a second fsync would report success."""
    pair, calls, _ = prepared(verb)
    syncs = [n for n, (op, _) in enumerate(calls, 1) if op in ("fsync", "close")]
    assert syncs
    for number in syncs[:: max(1, len(syncs) // 12)]:
        trial = pair.copy_to(home / str(number))
        before = stored(trial)
        fault = Fail(errno=errno.EIO, number=number)
        with durable.tapped(fault), contextlib.suppress(StorageError):  # a cache is done without
            VERBS[verb][2](trial)
        lost = fault.calls[number - 1][1]
        later = [(op, path) for op, path in fault.calls[number:] if path == lost]
        assert not [op for op, _ in later if op == "fsync"], (number, calls[number - 1])
        after = stored(trial)
        assert {key: after.get(key) for key in before} == before, "what was stored is as it was"
        shutil.rmtree(trial.here.path.parent)


def stored(pair):
    """Every pack and state at both ends, byte for byte."""
    return {
        str(path): path.read_bytes()
        for place in (pair.here, pair.there)
        for kind in ("packs", "states")
        for path in sorted((place.path / ".usr" / kind).glob("[0-9a-f]*"))
    }


def test_the_hint_of_a_full_disk_says_what_to_free_and_that_a_second_try_goes_on(make_pair):
    pair = make_pair(OLD)
    with durable.tapped(Fail(errno=errno.EDQUOT, number=12)), pytest.raises(StorageError) as caught:
        pair.push()
    assert "quota" in caught.value.hint
    assert "run the same command again" in caught.value.hint
