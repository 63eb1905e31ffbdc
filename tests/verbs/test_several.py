"""Several datasets at once: one state at the destination for all of them, or nothing at all."""

from __future__ import annotations

import os

import pytest

from support import datasets, liars, several, wires
from support.bares import Counting
from support.liars import Moving, Proxy
from support.people import BOB, make_who
from support.several import NAMES, NEW, OLD, everything, read, run, write
from usrstore.errors import (
    ConflictError,
    DivergedError,
    ProtocolError,
    RegistryError,
    UsrError,
    VerificationError,
)
from usrstore.objects.names import head_ref
from usrstore.odb.states import States
from usrstore.verbs import commit
from usrstore.verbs.bare import Bare
from usrstore.worktree import journal as journals


@pytest.fixture
def pair(make_pair):
    """Both hold OLD and know it of one another."""
    pair = make_pair()
    write(pair.here, OLD)
    run("push", pair)
    return pair


def number(place):
    newest = place.root.states.newest()
    return newest.number if newest else 0


def over_a_wire(pair):
    return wires.connect(pair.there.host())


@pytest.mark.spec("P-20")
@pytest.mark.parametrize("connect", [None, over_a_wire], ids=["in-process", "over a wire"])
def test_a_first_push_of_two_datasets_is_one_state_there(make_pair, connect):
    pair = make_pair()
    write(pair.here, OLD)
    result = run("push", pair, connect and connect(pair))
    assert [row.state for row in result.results] == ["TRANSFERRED"] * 2
    assert (result.state, number(pair.there)) == (1, 1)
    assert read(pair.there) == OLD
    assert sorted(pair.there.refs()) == [head_ref(name) for name in NAMES]


@pytest.mark.parametrize("connect", [None, over_a_wire], ids=["in-process", "over a wire"])
def test_a_pull_of_two_datasets_is_one_state_here(pair, connect):
    write(pair.there, NEW)
    before = number(pair.here)
    result = run("pull", pair, connect and connect(pair))
    assert (result.state, number(pair.here)) == (before + 1, before + 1)
    assert read(pair.here) == NEW
    again = run("pull", pair)
    assert [row.state for row in again.results] == ["NO-OP"] * 2
    assert (again.state, number(pair.here)) == (None, before + 1)


def test_what_each_dataset_cost_is_counted_for_itself(pair):
    write(pair.here, NEW)
    result = run("push", pair, over_a_wire(pair))
    costs = [row.moved for row in result.results]
    assert all(cost.round_trips == 3 for cost in costs)
    assert all(cost.payload > 9000 for cost in costs)


def test_a_dataset_that_cannot_be_pushed_keeps_all_where_they_are(pair):
    write(pair.here, NEW)
    write(pair.there, {"other": {**OLD["other"], "meta.md": b"theirs"}})
    before = everything(pair.there), everything(pair.here)
    with pytest.raises(DivergedError, match="at other, one of 2: none of them was changed"):
        run("push", pair)
    assert (everything(pair.there), everything(pair.here)) == before


@pytest.mark.parametrize("lie", [liars.flipped, liars.dropped, liars.truncated])
@pytest.mark.parametrize("action", ["push", "pull"])
def test_damage_in_the_second_dataset_changes_neither(pair, action, lie):
    source, target = (pair.here, pair.there) if action == "push" else (pair.there, pair.here)
    write(source, NEW)
    before = everything(target)
    moved = []

    def second_only(pieces):
        moved.append(pieces)
        return lie(pieces) if len(moved) == 2 else pieces

    with pytest.raises(VerificationError, match=rf"^post-{action}-(?s:.)*at other, one of 2"):
        run(action, pair, Moving(pair.there.host(), second_only))
    assert len(moved) == 2
    assert everything(target) == before
    run(action, pair)
    assert read(target) == NEW


def test_what_was_held_is_resumed_when_the_link_breaks_before_the_end(pair):
    class Breaking(Proxy):
        def promote(self):
            raise ConflictError("the link broke")

    write(pair.here, NEW)
    before = everything(pair.there), everything(pair.here)
    with pytest.raises(ConflictError, match="broke"):
        run("push", pair, Breaking(pair.there.host()))
    assert (everything(pair.there), everything(pair.here)) == before
    result = run("push", pair)
    assert all(row.moved.payload == 0 for row in result.results)
    assert all(row.moved.resumed > 9000 for row in result.results)
    assert read(pair.there) == NEW


def test_a_file_written_meanwhile_stops_all_of_them(pair):
    write(pair.there, NEW)

    class Late(Proxy):
        sent = 0

        def send(self, oids):
            yield from self.peer.send(oids)
            self.sent += 1
            if self.sent == 2:  # ns/x is ready by now
                (pair.here.path / "ns/x" / "meta.md").write_bytes(b"just now")

    with pytest.raises(UsrError, match="ns/x was written by another program"):
        run("pull", pair, Late(pair.there.host()))
    assert read(pair.here) == {**OLD, "ns/x": {**OLD["ns/x"], "meta.md": b"just now"}}


def test_registries_of_the_group_that_contradict_one_another_are_refused(make_pair):
    """Each fits the root; they do not fit one another."""
    pair = make_pair(registry_there=False)
    write(pair.here, {"ns/x": OLD["ns/x"]})
    pair.push()
    text = (pair.here.path / "registry.yaml").read_bytes()
    other = text.replace(b"list<float32>", b"string")
    assert other != text
    from support.pairs import Pair, Place

    second = Place(pair.here.path.parent / "second", make_who("alice"))
    second.path.mkdir()
    (second.path / "registry.yaml").write_bytes(other)
    write(second, {"other": OLD["other"]})
    shelf = Counting()
    for place, name in ((pair.here, "ns/x"), (second, "other")):
        peer = Bare(shelf, "the shelf", make_who("alice"), scratch=str(place.path))
        from usrstore.verbs import push
        from usrstore.verbs.options import Options

        push.push(place.site(dataset=name), peer, "shelf", Options())
    fresh = Pair(Place(pair.here.path.parent / "fresh"), pair.there)
    fresh.here.path.mkdir()
    with pytest.raises(RegistryError):
        run("pull", fresh, Bare(shelf, "the shelf", make_who("alice")))
    assert everything(fresh.here) == ({name: {} for name in NAMES}, False, {})


def test_a_bucket_gets_one_state_for_all_heads(make_pair):
    pair = make_pair()
    write(pair.here, OLD)
    shelf = Counting()
    peer = Bare(shelf, "the shelf", make_who("bob", BOB), scratch=str(pair.there.path))
    result = run("push", pair, peer)
    assert result.state == 1
    assert sorted(States(shelf).refs()) == [head_ref(name) for name in NAMES]
    assert States(shelf).newest().number == 1


def test_an_undo_of_several_is_one_state(pair):
    """What one transfer changed is taken back as one."""
    from usrstore.verbs.undo import undo

    for name in NAMES:
        commit.commit(pair.here.site(dataset=name), message="kept")
    write(pair.there, NEW)
    run("pull", pair)
    before = number(pair.here)
    undo(pair.here.root, pair.here.who)
    assert (read(pair.here), number(pair.here)) == (OLD, before + 1)


def test_whoever_says_no_changes_nothing(pair):
    write(pair.here, NEW)
    before = everything(pair.there), everything(pair.here)
    seen = []
    assert run("push", pair, agree=lambda plans: bool(seen.extend(plans))) is None
    assert [plan.state for plan in seen] == ["DRY-RUN"] * 2
    assert (everything(pair.there), everything(pair.here)) == before


@pytest.mark.spec("P-19")
def test_a_dataset_is_not_promoted_twice_in_one_group(pair):
    write(pair.here, NEW)
    peer = pair.there.host()

    class Twice(Proxy):
        def hold(self, pieces):
            self.peer.hold(pieces)
            self.peer.hold([])

    with pytest.raises(ProtocolError, match="without a plan"):
        run("push", pair, Twice(peer))
    assert read(pair.there) == OLD
    with pytest.raises(ProtocolError, match="nothing is held"):
        pair.there.host().promote()


# ── recovery ────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def interrupted(pair):
    """The journals of a pull of both that was cut off before anything else was done."""
    write(pair.there, NEW)
    found = {}

    from support.faults import Crash, count_calls, in_child

    trial = pair.copy_to(pair.here.path.parent / "trial")
    inside = str(trial.here.path / ".usr" / "journal")
    calls = count_calls(lambda: run("pull", trial), within=inside)
    last = max(n for n, (op, _) in enumerate(calls, 1) if op == "rename")
    in_child(
        lambda: run("pull", pair),
        tap=Crash(
            within=inside.replace(str(trial.here.path), str(pair.here.path)),
            number=last,
            when="after",
        ),
        log=pair.here.path.parent / "log",
    )
    for name in NAMES:
        found[name] = journals.find(pair.here.root.journal_path(name))
    assert all(found.values())
    assert read(pair.here) == OLD
    return pair, found


def test_every_journal_of_a_group_knows_the_group_and_all_refs(interrupted):
    _, found = interrupted
    assert {journal.group for journal in found.values()} == {NAMES}
    assert len({journal.refs for journal in found.values()}) == 1
    heads = {name for name, *_ in found["other"].refs if name.startswith("heads/")}
    assert heads == {head_ref(name) for name in NAMES}
    for journal in found.values():
        assert journals.Journal.decode(journal.encode()) == journal


def test_a_whole_group_is_finished_whichever_dataset_is_asked_for(interrupted):
    pair, _ = interrupted
    assert pair.pull().state == "NO-OP"  # of ns/x alone
    assert read(pair.here) == NEW
    assert pair.here.root.journaled() == []


def test_a_group_without_one_of_its_journals_is_taken_back(interrupted):
    """As it is when a command dies between writing the one and the other."""
    pair, _ = interrupted
    before = number(pair.here)
    os.remove(pair.here.root.journal_path("ns/x"))
    assert pair.here.recover() == [("other", "undone")]
    assert (read(pair.here), number(pair.here)) == (OLD, before)


def test_a_group_that_is_taken_back_in_part_is_taken_back(interrupted):
    pair, found = interrupted
    journals.write(pair.here.root.journal_path("ns/x"), found["ns/x"].turned_back())
    assert pair.here.recover() == [("ns/x", "undone"), ("other", "undone")]
    assert read(pair.here) == OLD


def test_several_is_what_the_tests_say():
    assert set(several.OLD) == set(several.NEW) == set(NAMES)
    assert datasets.DATASET in NAMES
