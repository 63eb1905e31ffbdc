"""The chain of states: one successor each, no lost update, and no older state for the newest."""

from __future__ import annotations

import os
import time
from itertools import pairwise

import pytest

from usrstore.errors import (
    ConflictError,
    DecodeError,
    InvalidInputError,
    ObjectNotFoundError,
    RefConflictError,
    StorageError,
)
from usrstore.objects.ids import Kind, hash_object
from usrstore.objects.names import check_ref
from usrstore.objects.state import State, state_key
from usrstore.odb.backend.folder import FolderBackend
from usrstore.odb.backend.memory import MemoryBackend
from usrstore.odb.states import Act, Change, States

ACT = Act("ada@lab", "usr test", 5, "why")


def oid(number):
    return hash_object(Kind.MANIFEST, b"%d" % number)


def ref(number):
    return check_ref(f"heads/ns/{number}")


A, B = ref("a"), ref("b")


@pytest.fixture
def backend():
    return MemoryBackend()


@pytest.fixture
def states(backend):
    return States(backend)


def advance(states, name, expected, new, **options):
    return states.advance(
        {name: Change(expected, new)}, Act("ada@lab", "usr test", **{"time_us": 5, **options})
    )


def numbers(backend):
    return [int(stat.key.rpartition("/")[2]) for stat in backend.list("states/")]


def test_a_new_store_has_no_state_and_no_refs(states, backend):
    assert states.newest() is None
    assert states.refs() == {}
    assert list(states.history()) == []
    assert numbers(backend) == []


@pytest.mark.spec("F-31")
@pytest.mark.spec("F-32")
def test_each_state_follows_the_last_and_says_who_did_what(states, backend):
    first = states.advance({A: Change(None, oid(1))}, ACT)
    second = states.advance({A: Change(oid(1), oid(2)), B: Change(None, oid(3))}, ACT)
    assert (first.number, first.previous) == (1, None)
    assert (second.number, second.previous) == (2, first.oid)
    assert (second.actor, second.command, second.time_us, second.reason) == (
        "ada@lab",
        "usr test",
        5,
        "why",
    )
    assert states.refs() == {A: oid(2), B: oid(3)}
    assert list(states.history()) == [second, first]
    assert numbers(backend) == [1, 2]
    assert backend.read(state_key(2)) == second.encode()


@pytest.mark.spec("F-32")
def test_a_ref_can_be_removed_and_absent_is_a_value(states):
    advance(states, A, None, oid(1))
    with pytest.raises(RefConflictError, match="expected nothing"):
        advance(states, A, None, oid(2))
    advance(states, A, oid(1), None)
    assert states.refs() == {}
    with pytest.raises(RefConflictError, match="found nothing"):
        advance(states, A, oid(1), oid(2))
    advance(states, A, None, oid(2))
    assert states.refs() == {A: oid(2)}


@pytest.mark.spec("F-32")
def test_a_ref_that_moved_is_a_conflict_and_nothing_of_the_rest_is_done(states, backend):
    states.advance({A: Change(None, oid(1)), B: Change(None, oid(2))}, ACT)
    with pytest.raises(RefConflictError) as caught:
        states.advance({B: Change(oid(2), oid(3)), A: Change(oid(9), oid(3))}, ACT)
    assert isinstance(caught.value, ConflictError)
    assert oid(1).short in caught.value.message
    assert oid(9).short in caught.value.message
    assert caught.value.hint
    assert states.refs() == {A: oid(1), B: oid(2)}
    assert numbers(backend) == [1]


@pytest.mark.spec("F-32")
def test_a_change_that_is_so_already_makes_no_state(states, backend):
    first = advance(states, A, None, oid(1))
    assert advance(states, A, oid(1), oid(1)) == first
    assert states.advance({}, ACT) == first
    assert numbers(backend) == [1]


def test_a_state_that_nobody_could_read_is_not_made(states, backend):
    for options in ({"reason": "x" * 70_000}, {"reason": "\udcff"}, {"time_us": -1}):
        with pytest.raises(InvalidInputError):
            advance(states, A, None, oid(1), **options)
    assert numbers(backend) == []


# ── lost replies, other writers ─────────────────────────────────────────────────────────
class Wrapper:
    """A backend around another; what it does to `create` is up to the tests."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


class LostReply(Wrapper):
    """Creates, and then says otherwise."""

    def __init__(self, inner, answer):
        super().__init__(inner)
        self.answer = answer

    def create(self, key, data):
        self.inner.create(key, data)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Beaten(Wrapper):
    """Somebody else is faster, `times` times."""

    def __init__(self, inner, rival, times=1):
        super().__init__(inner)
        self.rival = rival
        self.times = times

    def create(self, key, data):
        if self.times:
            self.times -= 1
            self.rival(States(self.inner))
        return self.inner.create(key, data)


@pytest.mark.spec("F-32")
@pytest.mark.parametrize(
    "answer", [False, StorageError("the line went dead")], ids=["taken", "error"]
)
def test_a_lost_reply_is_found_to_have_been_a_success(backend, answer):
    states = States(LostReply(backend, answer))
    first = advance(states, A, None, oid(1))
    second = advance(states, A, oid(1), oid(2))
    assert list(States(backend).history()) == [second, first]
    assert numbers(backend) == [1, 2]


def test_an_error_before_anything_was_made_stays_an_error(backend):
    class Dead(Wrapper):
        def create(self, _key, _data):
            raise StorageError("no")

    with pytest.raises(StorageError, match="no"):
        advance(States(Dead(backend)), A, None, oid(1))
    assert numbers(backend) == []


def test_an_error_while_another_writer_took_the_number_stays_an_error(backend):
    class DeadAndLate(Wrapper):
        def create(self, _key, _data):
            advance(States(self.inner), B, None, oid(7))
            raise StorageError("no")

    with pytest.raises(StorageError, match="no"):
        advance(States(DeadAndLate(backend)), A, None, oid(1))
    assert States(backend).refs() == {B: oid(7)}


@pytest.mark.spec("F-32")
@pytest.mark.parametrize("times", [1, 5])
def test_a_writer_who_is_beaten_on_other_refs_goes_on_top_of_them(backend, times):
    done = []

    def rival(states):
        done.append(len(done))
        advance(states, ref(len(done)), None, oid(len(done)))

    state = advance(States(Beaten(backend, rival, times)), A, None, oid(100))
    assert state.number == times + 1
    assert state.refs == {A: oid(100), **{ref(n + 1): oid(n + 1) for n in done}}
    assert [s.number for s in States(backend).history()] == list(range(times + 1, 0, -1))


@pytest.mark.spec("F-32")
def test_a_writer_who_is_beaten_on_the_same_ref_loses(backend):
    states = States(Beaten(backend, lambda rival: advance(rival, A, None, oid(7))))
    with pytest.raises(RefConflictError):
        advance(states, A, None, oid(1))
    assert States(backend).refs() == {A: oid(7)}
    assert numbers(backend) == [1]


def test_a_writer_who_is_beaten_without_end_gives_up_and_changes_nothing(backend, monkeypatch):
    monkeypatch.setattr("usrstore.odb.states._MAX_ATTEMPTS", 10)
    made = iter(range(1000))

    def rival(states):
        number = next(made)
        advance(states, ref(number), None, oid(number))

    with pytest.raises(RefConflictError, match="too many writers"):
        advance(States(Beaten(backend, rival, 1000)), A, None, oid(1))
    assert A not in States(backend).refs()


@pytest.mark.spec("F-32")
def test_processes_that_race_lose_nothing_and_make_one_chain(home):
    writers, each = 8, 20
    root = str(home / "store")
    ready, go = os.pipe()
    children = []
    for who in range(writers):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(go)
                os.read(ready, 1)
                states = States(FolderBackend(root))
                mine, value = ref(who), None
                for step in range(each):
                    advance(states, mine, value, oid(1000 * who + step), time_us=who)
                    value = oid(1000 * who + step)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    os.close(ready)
    os.close(go)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * writers
    states = States(FolderBackend(root))
    chain = list(states.history())
    assert [state.number for state in chain] == list(range(writers * each, 0, -1))
    assert states.refs() == {ref(who): oid(1000 * who + each - 1) for who in range(writers)}
    for newer, older in pairwise(chain):
        moved = {name for name in newer.refs if newer.refs[name] != older.refs.get(name)}
        assert len(moved) == 1
        assert newer.previous == older.oid
    assert sorted(os.listdir(home / "store" / "states")) == sorted(
        state_key(number).removeprefix("states/") for number in range(1, writers * each + 1)
    )


def test_of_processes_that_race_for_one_ref_exactly_one_wins(home):
    root = str(home / "store")
    for number in range(10):
        children = []
        start = time.monotonic() + 0.02
        for who in range(4):
            pid = os.fork()
            if pid == 0:
                status = 2
                try:
                    while time.monotonic() < start:
                        pass
                    advance(States(FolderBackend(root)), ref(number), None, oid(who))
                    status = 0
                except RefConflictError:
                    status = 1
                finally:
                    os._exit(status)
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        assert sorted(codes) == [0, 1, 1, 1]
        assert States(FolderBackend(root)).refs()[ref(number)] == oid(codes.index(0))


# ── damage ──────────────────────────────────────────────────────────────────────────────
def chain(backend, length):
    states = States(backend)
    for number in range(length):
        advance(states, A, oid(number - 1) if number else None, oid(number), time_us=number)
    return states


def spoil(backend, number, data):
    backend.delete(state_key(number))
    backend.create(state_key(number), data)


@pytest.mark.spec("F-31")
@pytest.mark.parametrize("how", ["flip", "cut", "empty", "another state", "more"])
def test_a_damaged_newest_state_is_an_error_and_no_older_one_stands_in(backend, how):
    states = chain(backend, 3)
    data = backend.read(state_key(3))
    spoil(
        backend,
        3,
        {
            "flip": data[:40] + bytes([data[40] ^ 1]) + data[41:],
            "cut": data[:-1],
            "empty": b"",
            "another state": backend.read(state_key(2)),
            "more": data + b"\0",
        }[how],
    )
    for act in (
        states.newest,
        states.refs,
        lambda: list(states.history()),
        lambda: advance(states, B, None, oid(1)),
    ):
        with pytest.raises(DecodeError, match="state 3"):
            act()
    assert numbers(backend) == [1, 2, 3]


@pytest.mark.spec("F-51")
def test_a_store_of_a_later_format_is_refused_by_name_and_not_written_to(backend):
    import msgpack

    chain(backend, 2)
    later = msgpack.packb([msgpack.packb({"format": 2, "kind": "state", "news": 1}), None])
    backend.create(state_key(3), later)
    states = States(backend)
    with pytest.raises(DecodeError, match="format 2; this program reads format 1"):
        states.refs()
    with pytest.raises(DecodeError):
        advance(states, B, None, oid(1))
    assert numbers(backend) == [1, 2, 3]


@pytest.mark.spec("F-31")
def test_a_link_that_does_not_hold_is_found_when_the_history_is_read(backend):
    states = chain(backend, 4)
    found = states.read(2)
    other = State(2, found.previous, found.refs, found.time_us + 1, found.actor)
    spoil(backend, 2, other.encode())
    assert states.newest().number == 4
    seen = []
    with pytest.raises(DecodeError, match="not the one that state 3 follows"):
        seen.extend(state.number for state in states.history())
    history = states.history()
    assert [next(history).number, next(history).number] == [4, 3]


@pytest.mark.spec("F-31")
def test_states_that_were_dropped_end_the_history_without_an_error(backend):
    states = chain(backend, 4)
    backend.delete(state_key(1))
    backend.delete(state_key(2))
    assert [state.number for state in states.history()] == [4, 3]
    with pytest.raises(ObjectNotFoundError):
        states.read(2)
    assert advance(states, B, None, oid(9)).number == 5


@pytest.mark.spec("F-31")
def test_other_files_beside_the_states_are_no_states(home):
    backend = FolderBackend(str(home))
    states = chain(backend, 2)
    for name in ("readme", "7", "0" * 19 + "9x", "²" * 20, "9" * 19, ".tmp-123", "0" * 21):
        (home / "states" / name).write_bytes(b"x")
    assert states.newest().number == 2


@pytest.mark.spec("F-32")
def test_whatever_moves_a_head_brings_the_folder_back_to_it(states):
    head, folder, other = check_ref("heads/ns/a"), check_ref("folders/ns/a"), check_ref("folders/b")
    states.advance({head: Change(None, oid(1)), other: Change(None, oid(9))}, ACT)
    states.advance({folder: Change(None, oid(2))}, ACT)
    assert states.refs() == {head: oid(1), folder: oid(2), other: oid(9)}
    states.advance({head: Change(oid(1), oid(3))}, ACT)
    assert states.refs() == {head: oid(3), other: oid(9)}
    both = {head: Change(oid(3), oid(4)), folder: Change(None, oid(5))}
    states.advance(both, ACT)
    assert states.refs()[folder] == oid(5), "moved by name, it goes where it was sent"
