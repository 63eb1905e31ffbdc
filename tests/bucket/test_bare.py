"""A store without folders as a peer: the promises of a push and a pull, and every failure."""

from __future__ import annotations

import pytest

from support import bares, datasets
from support.bares import Lake
from support.datasets import events, noise
from support.people import ALICE, BOB, MALLORY
from usrstore.errors import (
    ConflictError,
    ForkError,
    IntegrityError,
    ProtocolError,
    RegistryError,
    RollbackError,
    StorageError,
    TrustError,
    UnsupportedError,
    UsrError,
)
from usrstore.odb import pack
from usrstore.verbs import bare

FILES = {
    "records.parquet": noise("records", 300_000),
    ".events.log": events(1, 2),
    "meta.md": b"# x\n",
    "_derived/infer/part-1.parquet": noise("part", 2000),
    "empty.txt": b"",
}
MORE = {**FILES, "records.parquet": FILES["records.parquet"] + noise("tail", 90_000)}


@pytest.fixture
def lake(home):
    return Lake(home)


@pytest.fixture
def ada(lake):
    return lake.place("ada", FILES)


@pytest.fixture
def bob(lake):
    return lake.place("bob")


def test_what_is_pushed_is_kept_in_full_and_what_is_pulled_is_it(lake, ada, bob):
    assert lake.diff(ada).changed
    assert lake.backend.calls, "and a diff writes nothing:"
    assert not [verb for verb, _ in lake.backend.calls if verb in ("create", "delete")]
    assert lake.push(ada).state == "TRANSFERRED"
    assert lake.files() == FILES
    assert lake.pull(bob).state == "TRANSFERRED"
    assert bob.read() == FILES
    assert bob.head() == ada.head() == lake.head()
    assert not lake.diff(bob).changed


def test_changes_go_back_and_forth_and_only_what_is_new_travels(lake, ada, bob):
    lake.push(ada)
    lake.pull(bob)
    bob.write(MORE)
    before = sum(stat.size for stat in lake.backend.list("packs/"))
    assert lake.push(bob).moved.payload < 200_000
    assert sum(stat.size for stat in lake.backend.list("packs/")) - before < 220_000
    done = lake.pull(ada)
    assert done.moved.payload < 200_000
    assert ada.read() == MORE == lake.files()
    assert lake.push(ada).state == "NO-OP"
    assert lake.pull(bob).state == "NO-OP"


def test_a_fetch_brings_the_state_and_leaves_the_folder(lake, ada, bob):
    lake.push(ada)
    assert lake.fetch(bob).fresh
    assert not bob.folder.exists()
    assert bob.kept(lake.head()) == FILES
    assert not lake.fetch(bob).fresh


def test_of_two_pushes_from_one_state_the_second_is_told_and_nothing_is_lost(lake, ada, bob):
    lake.push(ada)
    lake.pull(bob)
    ada.write(MORE)
    bob.write({**FILES, "meta.md": b"# bob's\n"})
    lake.push(ada)
    head = lake.head()
    with pytest.raises(ConflictError) as caught:
        lake.push(bob)
    assert caught.value.code == "diverged"
    assert lake.head() == head
    assert lake.files() == MORE


def test_the_lease_holds_until_the_head_moves(lake, ada, bob):
    """Both compared before either published: the later one is refused, whoever asks last."""
    lake.push(ada)
    lake.pull(bob)
    ada.write(MORE)
    bob.write({**FILES, "meta.md": b"# bob's\n"})
    peer = lake.peer(bob)
    publish = peer.publish

    def late(pieces):
        lake.push(ada)
        return publish(pieces)

    peer.publish = late
    with pytest.raises(ConflictError) as caught:
        lake.push(bob, peer)
    assert caught.value.code == "ref-moved"
    assert lake.files() == MORE
    assert [state.number for state in lake.states.history()] == [2, 1]


def test_two_datasets_pushed_at_once_are_both_there(lake, ada, bob):
    other = "densegen/other"
    datasets.write(bob.path / other, FILES)
    peer = lake.peer(ada)
    publish = peer.publish

    def late(pieces):
        from usrstore.verbs import push
        from usrstore.verbs.options import Options

        push.push(bob.site(dataset=other), lake.peer(bob), "b", Options())
        return publish(pieces)

    peer.publish = late
    assert lake.push(ada, peer).state == "TRANSFERRED"
    assert len(lake.states.refs()) == 2
    assert lake.files() == FILES


def test_a_forced_push_keeps_what_it_replaces_in_the_history(lake, ada, bob):
    lake.push(ada)
    lake.pull(bob)
    ada.write(MORE)
    bob.write({**FILES, "meta.md": b"# bob's\n"})
    lake.push(ada)
    replaced = lake.head()
    lake.push(bob, force=True)
    assert lake.files()["meta.md"] == b"# bob's\n"
    assert replaced in bob.manifest(lake.head()).parents


# ── nothing is believed ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("fault", ["flip", "cut", "drop", "alien"])
def test_a_chunk_that_is_not_what_was_promised_never_goes_up(lake, ada, fault):
    peer = lake.peer(ada)
    publish = peer.publish

    def bend(pieces):
        pieces = list(pieces)
        first = pieces[0]
        if fault == "drop":
            return pieces[1:]
        if fault == "alien":
            return [first, *pieces]
        data = bytes(first.stored)
        data = data[:-1] if fault == "cut" else bytes([data[0] ^ 1]) + data[1:]
        return [first._replace(stored=data), *pieces[1:]]

    peer.publish = lambda pieces: publish(bend(pieces))
    with pytest.raises((IntegrityError, ProtocolError)):
        lake.push(ada, peer)
    assert lake.head() is None
    assert lake.files() is None
    assert lake.push(ada).state == "TRANSFERRED"
    assert lake.files() == FILES


def damage(lake, *, data):
    """Flip one byte in the middle of every pack of data, or of metadata."""
    for stat in list(lake.backend.list("packs/")):
        value, at = lake.backend._values[stat.key]
        opened = pack.Pack(lake.backend, pack.pack_of_key(stat.key), stat.size)
        if opened.holds_data is data:
            bent = bytearray(value)
            bent[100] ^= 1
            lake.backend._values[stat.key] = (bytes(bent), at)


@pytest.mark.parametrize("data", [True, False], ids=["chunks", "metadata"])
def test_what_rots_in_the_store_is_never_promoted(lake, ada, bob, data):
    lake.push(ada)
    damage(lake, data=data)
    before = bob.everything()
    with pytest.raises(IntegrityError):
        lake.pull(bob)
    assert bob.everything() == before


def test_a_store_that_goes_back_or_forks_is_refused(lake, ada, bob):
    lake.push(ada)
    early = dict(lake.backend._values)
    ada.write(MORE)
    lake.push(ada)
    lake.pull(bob)
    late = dict(lake.backend._values)
    lake.backend._values = early
    with pytest.raises(RollbackError):
        lake.pull(bob)
    eve = lake.place("eve", FILES)
    eve.write({**FILES, "meta.md": b"# eve\n"})
    lake.pull(eve, force=True)
    eve.write({**FILES, "meta.md": b"# eve again\n"})
    lake.push(eve)
    with pytest.raises((ForkError, TrustError)):
        lake.pull(bob)
    lake.backend._values = late
    assert lake.pull(bob).state == "NO-OP"


def test_a_stranger_is_refused_by_the_one_who_pulls(lake):
    ada, bob = lake.place("ada", FILES, signer=BOB), lake.place("bob")
    lake.push(ada)
    lake.pull(bob)
    eve = lake.place("eve", signer=MALLORY)
    lake.pull(eve)
    eve.write(MORE)
    lake.push(eve)
    before = bob.everything()
    with pytest.raises(TrustError) as caught:
        lake.pull(bob)
    assert caught.value.code == "signer-unknown"
    assert bob.everything() == before


class Careless:
    """Signs something else than it was asked to."""

    public_key = ALICE.public_key

    def sign(self, payload, **_options):
        return ALICE.sign(payload + b"!")


@pytest.mark.parametrize(
    ("signer", "mode", "code"),
    [(None, "strict", "signature-absent"), (Careless(), "tofu", "signature-bad")],
    ids=["absent", "bad"],
)
def test_what_is_signed_badly_or_not_at_all_does_not_go_up(lake, signer, mode, code):
    place = lake.place("nobody", FILES, signer=signer)
    with pytest.raises(TrustError) as caught:
        lake.push(place, lake.peer(place, mode=mode))
    assert caught.value.code == code
    assert lake.head() is None
    assert list(lake.backend.list("packs/")) == []


def test_a_store_that_can_be_created_in_twice_takes_nothing(lake, ada):
    class Careless(bares.Counting):
        def create(self, key, data):
            self._values.pop(key, None)
            return super().create(key, data)

    lake.backend = Careless()
    with pytest.raises(UnsupportedError) as caught:
        lake.push(ada)
    assert caught.value.code == "no-exclusive-create"
    assert list(lake.backend.list("packs/")) == []
    assert lake.head() is None


def test_a_registry_that_gives_a_namespace_another_meaning_is_refused(lake, ada, bob):
    def define(place, kind):
        text = f"namespaces:\n  a:\n    columns:\n    - {{name: x, type: {kind}}}\n"
        (place.path / "registry.yaml").write_text(text)

    define(ada, "int64")
    lake.push(ada)
    lake.pull(bob)
    define(bob, "string")
    bob.write(MORE)
    with pytest.raises(RegistryError):
        lake.push(bob)
    assert lake.files() == FILES


# ── failures ────────────────────────────────────────────────────────────────────────────
def test_a_push_that_fails_at_any_call_leaves_the_old_state_or_the_new_one(home):
    """Each request fails once, before or after it had its effect; a second push goes on."""

    def scene(name):
        folder = home / name
        folder.mkdir()
        lake = Lake(folder)
        ada = lake.place("ada", FILES)
        lake.push(ada)
        ada.write(MORE)
        lake.backend.calls.clear()
        return lake, ada

    lake, ada = scene("count")
    lake.push(ada)
    total = len(lake.backend.calls)
    assert total > 10
    ended = set()
    for number in range(1, total + 1):
        for when in ("before", "after"):
            lake, ada = scene(f"{number}-{when}")
            lake.backend.fail = (number, when)
            try:
                lake.push(ada)
                failed = False
            except UsrError:
                failed = True
            lake.backend.fail = None
            ended.add(failed)
            assert lake.files() in (FILES, MORE)
            assert failed or lake.files() == MORE
            lake.push(ada)
            assert lake.files() == MORE == ada.read()
            assert len(list(lake.states.history())) == 2
    assert ended == {True, False}


def test_an_interrupted_push_goes_on_after_the_last_whole_pack(lake, ada, monkeypatch):
    monkeypatch.setattr(bare, "ROLL_BYTES", 100_000)
    peer = lake.peer(ada)
    publish = peer.publish

    def die(pieces):
        for number, piece in enumerate(pieces):
            if number == 5:
                raise StorageError("the line went dead")
            yield piece

    peer.publish = lambda pieces: publish(die(pieces))
    with pytest.raises(StorageError):
        lake.push(ada, peer)
    there = sum(stat.size for stat in lake.backend.list("packs/"))
    assert there > 100_000
    assert lake.head() is None
    done = lake.push(ada)
    assert 0 < done.moved.resumed <= there
    assert done.moved.resumed + done.moved.payload >= sum(map(len, FILES.values()))
    assert lake.files() == FILES
    again = lake.place("again")
    lake.pull(again)
    assert again.read() == FILES


def test_the_number_of_questions_does_not_follow_the_number_of_files(lake, bob):
    files = {f"_artifacts/{n:04}.txt": noise(f"f{n}", 600) for n in range(400)}
    ada = lake.place("ada", {**FILES, **files})
    lake.push(ada)
    assert len(lake.backend.calls) < 40
    lake.backend.calls.clear()
    lake.pull(bob)
    assert bob.read() == ada.read()
    assert len(lake.backend.calls) < 20
    lake.backend.calls.clear()
    lake.diff(bob)
    assert len(lake.backend.calls) < 10


def test_nothing_but_the_probe_is_ever_deleted(lake, ada):
    lake.push(ada)
    ada.write(MORE)
    lake.push(ada)
    assert {key.split("/")[0] for verb, key in lake.backend.calls if verb == "delete"} == {"probe"}


def test_what_was_not_asked_for_in_order_is_refused(lake, ada):
    with pytest.raises(ProtocolError):
        list(lake.peer(ada).want([], frozenset()))
    with pytest.raises(ProtocolError):
        lake.peer(ada).offer([])
    with pytest.raises(ProtocolError):
        lake.peer(ada).publish([])


def test_a_pack_that_somebody_else_made_meanwhile_is_checked_with_few_questions(lake, ada):
    """Two people push the same bytes: the later one finds the pack there, and reads it whole."""
    bob = lake.place("bob", {**FILES, "records.parquet": noise("records", 2_000_000)})
    ada.write({**FILES, "records.parquet": noise("records", 2_000_000)})
    peer = lake.peer(bob)
    publish, asked = peer.publish, []

    def late(pieces):
        lake.push(ada)
        lake.backend.calls.clear()
        try:
            return publish(pieces)
        finally:
            asked.extend(lake.backend.calls)

    peer.publish = late
    with pytest.raises(ConflictError):
        lake.push(bob, peer)
    assert len([verb for verb, _ in asked if verb == "read"]) < 20
    assert lake.files() == ada.read()
