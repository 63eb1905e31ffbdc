"""Only a collection deletes, and only what nothing reaches: whoever writes meanwhile, whatever
clocks say."""

from __future__ import annotations

import os
import time

import pytest

from support import datasets
from support.datasets import DATASET
from support.people import make_who
from usrstore.errors import ConflictError, IncompleteError, IntegrityError, LockedError
from usrstore.objects.ids import Kind, ManifestId, hash_object
from usrstore.objects.manifest import Signed, Tag
from usrstore.objects.names import check_ref, head_ref
from usrstore.odb import durable, flock, packindex, reach
from usrstore.odb.docket import Docket
from usrstore.odb.states import Act, Change
from usrstore.verbs import gc, history, undo
from usrstore.verbs.checkout import checkout
from usrstore.verbs.commit import commit
from usrstore.verbs.fsck import fsck
from usrstore.verbs.retention import DAY_S, Retention
from usrstore.verbs.revisions import resolve

OLD, NEW = datasets.old_files(), datasets.new_files()
NOW = Retention(grace=0.0)
DAY = Retention()


def collect(place, retention=NOW, **options):
    return gc.collect(place.root, place.who, retention, **options)


def age(place, seconds=2 * DAY_S, what=("packs", "gc", "states", "quarantine")):
    """Make everything stored older, as the store's own clock tells it."""
    for name in what:
        for at, _, names in os.walk(place.path / ".usr" / name):
            for file in names:
                path = os.path.join(at, file)
                then = os.stat(path).st_mtime - seconds
                os.utime(path, (then, then))


def packs(place):
    return set(os.listdir(place.path / ".usr" / "packs"))


def litter(place, name="litter", size=3000):
    """An object that nothing reaches, in a pack of its own."""
    data = datasets.noise(name, size)
    oid = hash_object(Kind.CHUNK, data)
    with place.root.database.batch() as batch:
        batch.put(Kind.CHUNK, oid, data)
    return oid


def versions(place, count):
    """So many commits, and what each held."""
    made = {}
    for number in range(count):
        files = {**OLD, "records.parquet": datasets.noise(f"v{number}", 30_000)}
        place.write(files)
        made[place.commit(f"state {number}").manifest] = files
    return made


def check_all(place, made):
    for oid, files in made.items():
        assert place.kept(oid) == files
    assert fsck(place.root, place.who, deep=True).findings == []


@pytest.fixture
def place(make_pair):
    return make_pair(OLD).here


# ── what stays ──────────────────────────────────────────────────────────────────────────
@pytest.mark.spec("F-47")
def test_without_a_rule_no_state_loses_anything(place):
    made = versions(place, 5)
    age(place)
    result = collect(place)
    assert not result.lighter
    assert not result.operations
    check_all(place, made)


@pytest.mark.spec("F-53")
def test_what_nothing_reaches_is_condemned_first_and_deleted_a_grace_time_later(place):
    made = versions(place, 2)
    oid = litter(place)
    assert not collect(place, DAY).collected.condemned  # it is young
    age(place)
    first = collect(place, DAY).collected
    assert first.condemned
    assert not first.swept
    assert place.root.database.has(oid)
    assert not collect(place, DAY).collected.swept
    age(place, what=("gc",))
    assert set(collect(place, DAY).collected.swept) == set(first.condemned)
    assert not place.root.database.has(oid)
    collect(place, DAY)
    assert not Docket(place.root.database.backend).newest().condemned
    check_all(place, made)


@pytest.mark.spec("F-53")
@pytest.mark.parametrize("years", [-30, 30])
def test_the_clock_of_who_collects_has_no_say(place, years):
    """Only the store's own times are compared with one another."""
    versions(place, 2)
    oid = litter(place)
    skewed = make_who(clock=lambda: int((time.time() + years * 365 * DAY_S) * 1e6))
    for _ in range(3):
        assert not gc.collect(place.root, skewed, DAY).collected.swept
    assert place.root.database.has(oid)
    age(place)
    gc.collect(place.root, skewed, DAY)
    age(place)
    gc.collect(place.root, skewed, DAY)
    assert not place.root.database.has(oid)


def test_a_pack_from_the_future_is_young(place):
    versions(place, 1)
    oid = litter(place)
    age(place, -30 * DAY_S)
    assert not collect(place, DAY).collected.condemned
    assert place.root.database.has(oid)


def test_a_dry_run_says_the_same_and_changes_nothing(place):
    versions(place, 5)
    litter(place)
    age(place)
    calls = []
    with durable.tapped(lambda *call: calls.append(call)):
        said = collect(place, Retention(grace=60, keep_last=2, keep_ops=0.0), dry_run=True)
    assert calls == []
    done = collect(place, Retention(grace=60, keep_last=2, keep_ops=0.0))
    assert said.collected.condemned == done.collected.condemned
    assert said.lighter == done.lighter
    assert said.operations == done.operations == 4


def test_a_store_without_states_or_packs_is_collected_at_once(place):
    assert collect(place).collected.packs == 0
    place.root.create_store()
    assert collect(place).collected.packs == 0


def test_what_is_damaged_is_looked_after_before_anything_goes(place):
    versions(place, 2)
    litter(place)
    age(place)
    victim = place.path / ".usr" / "packs" / min(packs(place))
    victim.write_bytes(victim.read_bytes()[:-1])
    before = packs(place)
    with pytest.raises(IntegrityError, match="nothing was collected"):
        collect(place)
    assert packs(place) == before


def test_what_a_ref_reaches_must_be_there_or_nothing_goes(place):
    versions(place, 1)
    litter(place)
    age(place)
    database = place.root.database
    for pack in database.packs():
        if any(row.kind == Kind.TREE for _, row in pack.index.items()):
            (place.path / ".usr" / "packs" / f"{pack.pack}.pack").unlink()
    before = packs(place)
    with pytest.raises(IncompleteError, match="nothing was collected"):
        collect(place)
    assert packs(place) == before


def test_one_collection_at_a_time(place):
    versions(place, 1)
    place.root.gc_lock()
    durable.make_folder(os.path.dirname(place.root.gc_lock()))
    with flock.hold(place.root.gc_lock(), timeout_s=0), pytest.raises(LockedError):
        collect(place, lock_timeout_s=0)


# ── writers meanwhile ───────────────────────────────────────────────────────────────────
@pytest.mark.spec("F-53")
def test_a_writer_stores_anew_what_is_condemned(place):
    versions(place, 1)
    place.write(NEW)
    with place.root.database.batch() as batch:  # a commit that died before its state
        place.site().capture(
            record=False, sink=lambda oid, data: batch.put(Kind.CHUNK, oid, bytes(data))
        )
    age(place)
    condemned = collect(place, DAY).collected.condemned
    assert condemned
    made = {place.commit().manifest: NEW}
    age(place)
    assert set(collect(place, DAY).collected.swept) >= set(condemned)
    check_all(place, made)


@pytest.mark.spec("F-53")
def test_a_pack_that_would_have_a_condemned_name_gets_another(place):
    """The same objects again are the same pack again: it must not be taken for the old one."""
    versions(place, 1)
    oid = litter(place)
    age(place)
    (name,) = [p.pack for p in place.root.database.packs() if p.index.find(oid)]
    collect(place, DAY)
    assert litter(place) == oid
    holders = [p.pack for p in place.root.database.packs() if p.index.find(oid)]
    assert len(holders) == 2
    age(place, what=("gc",))
    assert name in collect(place, DAY).collected.swept
    assert place.root.database.get(Kind.CHUNK, oid) == datasets.noise("litter", 3000)


def writer_with(place, body=b"counted on"):
    """A writer that has looked at the store: what it needs is there already, so it writes none.

    Gives what makes its ref move.
    """
    root = place.root
    site = place.site()
    site = type(site).open(root, DATASET, place.who)
    found = site.capture(record=False)
    with root.database.batch() as batch:
        for entry in found.listing.values():
            for chunk, size in reach.chunks(site.overlay.get, entry) if entry.size else ():
                with open(place.folder / _path_of(found, entry), "rb") as file:
                    data = file.read()
                batch.put(Kind.CHUNK, chunk, _chunk_in(data, chunk, size))
    oid = site.snapshot(found, message="late", parents=[site.head()])
    site.overlay.flush()

    def finish():
        head = site.head()
        root.states.advance({head_ref(DATASET): Change(head, oid)}, place.who.act())
        return oid

    return finish


def _path_of(found, wanted):
    return next(path for path, entry in found.listing.items() if entry == wanted)


def _chunk_in(data, oid, size):
    for at in range(len(data) - size + 1):
        if hash_object(Kind.CHUNK, data[at : at + size]) == oid:
            return data[at : at + size]
    raise AssertionError


SMALL = {"records.parquet": datasets.noise("small", 2000), "meta.md": b"# small\n"}


@pytest.fixture
def half_written(place):
    """A state, and objects of another one in packs that nothing reaches."""
    versions(place, 1)
    place.write(SMALL)
    writer_with(place)
    return place


@pytest.mark.spec("F-53")
def test_a_writer_that_counted_on_a_pack_keeps_what_it_needs_of_it(half_written):
    place = half_written
    age(place)
    finish = writer_with(place)  # finds all chunks there
    condemned = collect(place, DAY).collected.condemned
    assert condemned
    oid = finish()
    age(place)
    collect(place, DAY)
    age(place)
    collect(place, DAY)
    assert not set(condemned) & {pack.pack for pack in place.root.database.packs()}
    assert place.kept(oid) == SMALL
    assert fsck(place.root, place.who, deep=True).findings == []


@pytest.mark.spec("F-53")
def test_a_writer_that_slept_through_the_grace_time_fails_and_loses_nothing(half_written):
    place = half_written
    age(place)
    finish = writer_with(place)
    head = place.head()
    collect(place)
    with pytest.raises(ConflictError) as caught:
        finish()
    assert caught.value.code == "collected"
    assert place.head() == head
    assert place.kept(place.commit().manifest) == SMALL


@pytest.mark.spec("F-53")
def test_a_ref_that_moves_between_the_marks_and_the_fence_is_looked_at_again(half_written):
    """The state comes after the docket, and before the fence."""
    place = half_written
    age(place)
    finish = writer_with(place)
    collect(place, DAY)
    age(place, what=("gc",))
    done = []

    def tap(when, op, path):
        if when == "after" and op == "link" and "/gc/" in path and "clock" not in path and not done:
            done.append(None)
            done.append(finish())

    with durable.tapped(tap):
        result = collect(place, DAY)
    assert done
    assert result.collected.swept
    assert place.kept(done[1]) == SMALL
    assert fsck(place.root, place.who, deep=True).findings == []


def test_a_reader_that_knows_old_packs_finds_what_moved(place):
    made = versions(place, 12)
    reader = place.root
    oids = list(made)
    assert reader.database.get(Kind.MANIFEST, oids[0])
    assert gc.repack(place.root, place.who).repacked
    collect(place)
    for oid in oids:
        listing = reach.listing(reader.database.get, reach.manifest(reader.database.get, oid).tree)
        for entry in listing.values():
            for chunk, _ in reach.chunks(reader.database.get, entry) if entry.size else ():
                assert reader.database.get(Kind.CHUNK, chunk)


# ── repack ──────────────────────────────────────────────────────────────────────────────
def test_repacking_merges_small_packs_and_loses_nothing(place):
    made = versions(place, 6)
    litter(place)
    before = packs(place)
    done = gc.repack(place.root, place.who)
    assert done.repacked >= 12
    assert not done.swept
    assert packs(place) > before
    check_all(place, made)
    result = collect(place)
    assert set(result.collected.swept) >= set(done.condemned)
    assert len(packs(place)) <= 3
    check_all(place, made)
    assert not gc.repack(place.root, place.who).repacked


def test_a_store_that_is_collected_twice_comes_to_rest(place):
    made = versions(place, 10)
    for _ in range(3):
        collect(place)
    quiet = packs(place)
    numbers = place.root.states.newest().number
    result = collect(place).collected
    assert (result.repacked, result.condemned, result.swept) == (0, [], [])
    assert packs(place) == quiet
    assert place.root.states.newest().number == numbers
    check_all(place, made)


def test_half_dead_packs_are_stored_anew(place):
    made = versions(place, 1)
    with place.root.database.batch() as batch:
        data = datasets.noise("live", 2000)
        batch.put(Kind.CHUNK, hash_object(Kind.CHUNK, data), data)
        for number in range(5):
            dead = datasets.noise(f"dead {number}", 2000)
            batch.put(Kind.CHUNK, hash_object(Kind.CHUNK, dead), dead)
    place.write({**OLD, "_artifacts/live": data})
    made |= {place.commit().manifest: {**OLD, "_artifacts/live": data}}
    result = collect(place)
    assert result.collected.repacked
    assert not place.root.database.has(hash_object(Kind.CHUNK, dead))
    check_all(place, made)


@pytest.mark.spec("F-42")
def test_after_a_collection_every_data_pack_has_a_copy_of_its_index(place):
    versions(place, 10)
    collect(place)
    database = place.root.database
    for pack in database.packs():
        if any(row.kind == Kind.CHUNK for _, row in pack.index.items()):
            assert database.get(Kind.INDEX, pack.pack) == pack.index.data()


# ── retention ───────────────────────────────────────────────────────────────────────────
FORGET = Retention(grace=0.0, keep_last=2, keep_ops=0.0)


def test_states_that_no_rule_names_become_light_and_say_still_what_they_were(place):
    made = versions(place, 5)
    oids = list(made)
    result = collect(place, FORGET)
    assert [row.oid for row in result.lighter] == oids[:3]
    for oid in oids[3:]:
        assert place.kept(oid) == made[oid]
    assert len(place.site().ancestry(oids[-1])) == 5
    keeping = history.Keeping(place.root.database)
    for oid in oids[:3]:
        listing = history.find_listing(place.root, place.manifest(oid))
        assert listing.keys() == OLD.keys()
        assert not keeping.has_all(listing)
        with pytest.raises(IncompleteError) as caught:
            checkout(place.site(), oid)
        assert caught.value.code == "not-kept"
    assert fsck(place.root, place.who, deep=True).findings == []  # no pack is missed
    assert not collect(place, FORGET).lighter


def test_operations_of_the_last_week_can_be_undone_whatever_rules_say(place):
    made = versions(place, 4)
    result = collect(place, Retention(grace=0.0, keep_last=1))
    assert not result.lighter
    check_all(place, made)
    undo.undo(place.root, place.who)
    assert place.read() == list(made.values())[2]


def test_operations_are_forgotten_by_the_stores_time_and_never_the_newest(place):
    versions(place, 4)
    age(place, 30 * DAY_S)
    place.write(NEW)
    place.commit()
    week = Retention(grace=0.0, keep_last=1)
    assert collect(place, week).operations == 3  # number 4 was current within the week
    numbers = [state.number for state in place.root.states.history()]
    assert numbers[-1] == 4
    age(place, 30 * DAY_S)
    collect(place, week)
    newest = place.root.states.newest()
    assert newest is not None
    assert place.kept(place.head()) == NEW


def test_an_undo_passes_over_collections(place):
    made = versions(place, 2)
    litter(place)
    collect(place)
    assert place.root.states.newest().number > 2
    undo.undo(place.root, place.who)
    assert place.read() == next(iter(made.values()))


def tag(place, oid, name="v1"):
    payload = Tag(DATASET, name, oid, "alice", 1, "").payload()
    data = Signed(payload, None).encode()
    tag_oid = hash_object(Kind.TAG, data)
    root = place.root
    with root.database.batch() as batch:
        batch.put(Kind.TAG, tag_oid, data)
    ref = check_ref(f"tags/{DATASET}/{name}")
    root.states.advance({ref: Change(None, tag_oid)}, Act("alice", "tag", 1))


def test_a_tag_protects_its_state_unless_tags_are_not_to(place):
    made = versions(place, 4)
    oids = list(made)
    tag(place, oids[0])
    result = collect(place, Retention(grace=0.0, keep_last=1, keep_ops=0.0))
    assert [row.oid for row in result.lighter] == oids[1:3]
    assert place.kept(oids[0]) == made[oids[0]]
    loose = Retention(grace=0.0, keep_last=1, keep_ops=0.0, keep_tagged=False)
    assert [row.oid for row in collect(place, loose).lighter] == [oids[0]]
    assert resolve(place.root, f"{DATASET}@v1", now_us=1)[0] == oids[0]
    assert fsck(place.root, place.who, deep=True).findings == []


def test_what_a_forced_push_replaced_is_kept_by_the_operation_log(make_pair):
    pair = make_pair(OLD)
    pair.push()
    theirs = {**OLD, "meta.md": b"theirs"}
    pair.there.write(theirs)
    pair.here.write(NEW)
    pair.push(force=True)
    collect(pair.there)
    log = pair.there.root.states.history()
    replaced = [
        oid
        for state in log
        for oid in [state.refs.get(head_ref(DATASET))]
        if oid and pair.there.manifest(oid).message == "kept before a forced push replaced it"
    ]
    assert replaced
    assert pair.there.kept(ManifestId(replaced[0])) == theirs
    collect(pair.there, Retention(grace=0.0, keep_last=1, keep_ops=0.0))
    pair.diff()
    pair.pull()


def test_a_remote_that_forgot_old_operations_is_no_fork(make_pair):
    pair = make_pair(OLD)
    pair.push()
    for number in range(3):
        pair.there.write({**NEW, "meta.md": b"%d" % number})
        pair.there.commit()
    collect(pair.there, FORGET)
    assert pair.pull().action == "pull"
    assert pair.here.read() == {**NEW, "meta.md": b"2"}


# ── what else is reached ────────────────────────────────────────────────────────────────
def test_a_folder_that_was_captured_is_reached_by_its_cache(place):
    """Recipes that the stat cache names are not read again, so they must stay."""
    versions(place, 1)
    place.write(NEW)
    history.status(place.site())
    age(place)
    collect(place)
    cost = place.root.database
    history.status(place.site())
    assert place.kept(place.commit().manifest) == NEW
    assert cost


def test_stages_and_temporary_files_go_when_nobody_came_back_for_them(place):
    versions(place, 1)
    stage = place.path / ".usr" / "quarantine" / "ns@x" / "stage"
    stage.mkdir(parents=True)
    (stage / "0").write_bytes(bytes(1000))
    scratch = place.path / ".usr" / "packs" / ".tmp-0123"
    scratch.write_bytes(bytes(500))
    assert collect(place).leftovers == 0
    age(place, 3 * DAY_S)
    assert collect(place).leftovers == 1
    assert not scratch.exists()
    age(place, 30 * DAY_S)
    os.utime(stage, (time.time() - 40 * DAY_S,) * 2)
    os.utime(stage.parent, (time.time() - 40 * DAY_S,) * 2)
    assert collect(place).leftover_bytes == 1000
    assert not stage.exists()


def test_the_docket_is_small_and_old_entries_go(place):
    versions(place, 1)
    for number in range(4):
        litter(place, f"litter {number}")
        collect(place)
    entries = Docket(place.root.database.backend).times()
    assert len(entries) <= 2
    assert commit(place.site(), message="again").created is False


@pytest.mark.spec("F-38")
def test_a_deep_check_names_an_index_that_is_not_sorted(place):
    """It hashes right, so only whoever made it knows; lookups in it would miss objects."""
    versions(place, 1)
    bodies = [b"one", b"two"]
    ids = sorted((hash_object(Kind.CHUNK, body) for body in bodies), reverse=True)
    rows = [packindex.Row(8, 3, 3, Kind.CHUNK, 0), packindex.Row(11, 3, 3, Kind.CHUNK, 0)]
    _, good = packindex.encode(zip(sorted(ids), rows, strict=True))
    index = b"".join(ids) + good[64:]
    name = hash_object(Kind.INDEX, index)
    data = packindex.MAGIC + b"onetwo" + index + packindex.encode_trailer(14, 2, name)
    (place.path / ".usr" / "packs" / f"{name}.pack").write_bytes(data)
    found = [f for f in fsck(place.root, place.who, deep=True).findings if f.code == "pack-damaged"]
    assert len(found) == 1
    assert "do not rise" in found[0].message
