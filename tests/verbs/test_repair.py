"""A repair saves what is whole, heals what some source has, and says what it cannot heal."""

from __future__ import annotations

import itertools
import os
import shutil

import pytest

from support import datasets
from support.damage import data_packs, flip, pack_of, remember
from support.datasets import DATASET
from support.faults import CRASHED, FINISHED, Crash, count_calls, in_child
from usrstore.objects.ids import Kind
from usrstore.odb import reach, salvage
from usrstore.verbs import tags
from usrstore.verbs.fsck import fsck
from usrstore.verbs.repair import repair

OLD, NEW = datasets.old_files(), datasets.new_files()
LOG = b"".join(b'{"event": %d, "action": "append", "count": 3}\n' % n for n in range(2000))


@pytest.fixture
def place(make_pair):
    """Two kept states; the folder is the second."""
    place = make_pair({**OLD, ".events.log": LOG}).here
    place.commit("first")
    place.write({**NEW, ".events.log": LOG + LOG})
    place.commit("second")
    remember(place)
    return place


@pytest.fixture
def pair(make_pair):
    """The same state at both ends, kept here."""
    pair = make_pair(NEW)
    pair.here.commit("kept")
    pair.push()
    remember(pair.here)
    return pair


def mend(place, peers=()):
    return repair(place.root, place.who, remotes=[(f"r{n}", p) for n, p in enumerate(peers)])


def check_whole(place):
    """Every state that is reachable can be had byte for byte."""
    assert fsck(place.root, place.who, deep=True).findings == []
    for oid, manifest in reach.ancestry(place.root.database.get, place.head()):
        for path, entry in reach.listing(place.root.database.get, manifest.tree).items():
            data = place.kept(oid)[path]
            assert len(data) == entry.size
            assert datasets.blake3(data).digest() == entry.content


def packs(place):
    return sorted((place.path / ".usr" / "packs").glob("*.pack"))


def meta_packs(place):
    data = {path for path, _ in data_packs(place)}
    return [path for path in packs(place) if path not in data]


def test_nothing_is_done_to_a_sound_store(place):
    before = {path: path.read_bytes() for path in packs(place)}
    result = mend(place)
    assert (result.findings, result.repaired) == ([], ())
    assert {path: path.read_bytes() for path in packs(place)} == before
    assert not (place.path / ".usr" / "damaged").exists()


def ends(path):
    return path.read_bytes()[:-30]


def zeroed_end(path):
    data = path.read_bytes()
    return data[:-200] + bytes(200)


def grown(path):
    return path.read_bytes() + b"something more"


@pytest.mark.parametrize("damage", [ends, zeroed_end, grown], ids=lambda f: f.__name__)
def test_a_pack_that_lost_its_end_is_whole_again_whichever_it_is(place, damage):
    for path in packs(place):
        whole = path.read_bytes()
        path.write_bytes(damage(path))
        result = mend(place)
        assert result.findings == [], path
        assert len(result.repaired) >= 1
        check_whole(place)
        assert mend(place).repaired == ()
        for later in packs(place):
            later.unlink()
        shutil.rmtree(place.path / ".usr" / "damaged")
        restore(place, path, whole)


_kept = {}


def restore(place, path, whole):
    for file, data in _kept[place.path].items():
        file.write_bytes(data)
    path.write_bytes(whole)


@pytest.fixture(autouse=True)
def _remember_packs(request):
    if "place" in request.fixturenames:
        place = request.getfixturevalue("place")
        _kept[place.path] = {path: path.read_bytes() for path in packs(place)}
    yield
    _kept.clear()


def test_all_packs_at_once_lose_their_ends(place):
    for path in packs(place):
        path.write_bytes(ends(path))
    assert mend(place).findings == []
    check_whole(place)


def test_a_damaged_chunk_comes_back_from_the_folder(place):
    path, row = pack_of(place, "_derived/infer/part-3.parquet")
    data = bytearray(path.read_bytes())
    data[row.offset : row.offset + 64] = bytes(64)
    path.write_bytes(data)
    result = mend(place)
    assert result.findings == []
    assert "1 healed" in result.repaired[0]
    check_whole(place)


def test_one_flipped_bit_in_something_small_is_turned_back(place):
    path, row = pack_of(place, "_derived/infer/part-2.parquet", place.manifest().parents[0])
    flip(path, row.offset + 77)  # of the first state only: no folder has it
    assert mend(place).findings == []
    check_whole(place)


def test_what_nothing_has_is_named_file_by_file_and_the_rest_is_saved(place):
    path, row = pack_of(place, "_derived/infer/part-2.parquet", place.manifest().parents[0])
    data = bytearray(path.read_bytes())
    data[row.offset : row.offset + row.stored] = bytes(row.stored)
    path.write_bytes(data)
    result = mend(place)
    (finding,) = result.findings
    assert finding.code == "unreachable"
    (text,) = finding.affects
    assert text.endswith("): _derived/infer/part-2.parquet")
    assert text.startswith(f"{DATASET} state 1 ")
    assert place.kept() == {**NEW, ".events.log": LOG + LOG}
    assert bytes(data) in [p.read_bytes() for p in (place.path / ".usr" / "damaged").iterdir()]
    again = mend(place)
    assert again.repaired == ()
    assert again.findings == result.findings


@pytest.mark.parametrize("number", range(6))
def test_a_pack_that_is_gone_comes_back_from_folder_and_remote(pair, number):
    path = (packs(pair.here) * 6)[number]
    path.unlink()
    result = mend(pair.here, [pair.there.host])
    assert result.findings == [], path
    assert pair.here.kept() == NEW


def test_a_remote_gives_what_no_folder_has(pair):
    shutil.rmtree(pair.here.folder)
    for path in packs(pair.here):
        path.unlink()
    result = mend(pair.here, [pair.there.host])
    assert result.findings == []
    assert pair.here.manifest().tree == pair.there.manifest().tree


def test_a_remote_gives_chunks_of_older_states_from_its_packs(pair):
    """Its folder went on; only its packs have them still."""
    pair.here.write({**NEW, "meta.md": b"third"})
    pair.here.commit("third")
    shutil.copytree(pair.here.path, pair.here.path.parent / "mirror")
    mirror = type(pair.here)(pair.here.path.parent / "mirror", pair.here.who)
    path, row = pack_of(pair.here, "meta.md", pair.here.manifest().parents[0])
    data = bytearray(path.read_bytes())
    data[row.offset : row.offset + row.stored] = bytes(row.stored)
    path.write_bytes(data)
    assert mend(pair.here).findings != []
    assert mend(pair.here, [mirror.host]).findings == []
    check_whole(pair.here)


def test_a_remote_that_lies_heals_nothing(pair):
    shutil.rmtree(pair.here.folder)
    path, row = pack_of(pair.here, "records.parquet")
    data = bytearray(path.read_bytes())
    data[row.offset : row.offset + 100] = bytes(100)
    path.write_bytes(data)
    result = mend(pair.here, [lambda: _Flipping(pair.there.host())])
    assert [finding.code for finding in result.findings] == ["unreachable"]


class _Flipping:
    """A peer whose every chunk has a flipped bit."""

    def __init__(self, peer):
        self._peer = peer

    def __getattr__(self, name):
        return getattr(self._peer, name)

    def send(self, oids):
        for piece in self._peer.send(oids):
            data = bytearray(piece.stored)
            data[len(data) // 2] ^= 4
            yield piece._replace(stored=bytes(data))


@pytest.mark.parametrize("pair_of", list(itertools.combinations(range(7), 2)), ids=str)
def test_any_two_packs_under_each_others_names_find_back(place, pair_of):
    """The trees of the older state too, which nobody misses: they might never have come."""
    by_size = sorted(packs(place), key=lambda path: path.stat().st_size)
    assert len(by_size) == 7
    swap([by_size[number] for number in pair_of])
    assert mend(place).findings == []
    check_whole(place)


def test_a_repair_that_was_cut_off_still_finds_what_lies_under_another_name(place):
    """The files of a swap, as they are when one has its name back and the other is aside."""
    one, other = sorted(packs(place), key=lambda path: path.stat().st_size)[3:5]
    swap([one, other])
    aside = place.path / ".usr" / "damaged"
    aside.mkdir()
    whole = other.read_bytes()
    one.rename(aside / f"packs@{one.name}")
    one.write_bytes(whole)
    other.unlink()
    assert mend(place).findings == []
    check_whole(place)
    assert mend(place).repaired == ()


def swap(paths):
    one, other = paths
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def test_a_copy_under_a_wrong_name_is_set_aside(place):
    one = packs(place)[0]
    stray = one.with_name(f"{'0' * 64}.pack")
    stray.write_bytes(one.read_bytes())
    result = mend(place)
    assert result.findings == []
    assert "is a copy of" in result.repaired[0]
    assert not stray.exists()
    check_whole(place)


def test_without_any_index_a_scan_finds_what_recipes_tell(place):
    """Every index copy is lost, and every pack's end with it."""
    for path in packs(place):
        path.write_bytes(path.read_bytes()[: -(56 + 52)])
    shutil.move(place.folder, place.path.parent / "away")
    place.folder.mkdir()
    shutil.copy(place.path.parent / "away" / "records.parquet", place.folder)
    result = mend(place)
    assert any("by a scan" in text for text in result.repaired)
    assert result.findings == []
    check_whole(place)


def test_a_flipped_bit_in_an_older_state_is_turned_back(place):
    path = place.path / ".usr" / "states" / f"{1:020d}"
    whole = path.read_bytes()
    flip(path, len(whole) // 2)
    assert mend(place).findings == []
    assert path.read_bytes() == whole


def test_states_under_each_others_numbers_find_back(place):
    one, two = (place.path / ".usr" / "states" / f"{n:020d}" for n in (1, 2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert mend(place).findings == []
    assert (one.read_bytes(), two.read_bytes()) == (first, second)


def test_bytes_behind_a_state_are_taken_off(place):
    for number in (1, 2):
        path = place.path / ".usr" / "states" / f"{number:020d}"
        whole = path.read_bytes()
        path.write_bytes(whole + b"more")
        assert mend(place).findings == []
        assert path.read_bytes() == whole


def test_a_newest_state_that_is_gone_leaves_the_head_that_the_folder_holds(place):
    head, refs = place.head(), place.refs()
    (place.path / ".usr" / "states" / f"{2:020d}").write_bytes(b"")
    result = mend(place)
    assert result.findings == []
    assert place.refs() == refs
    newest = place.root.states.newest()
    assert newest.number == 2
    assert "state 2 was damaged" in newest.reason
    assert head.short in newest.reason


def test_a_head_never_jumps_to_what_the_folder_does_not_hold(place):
    before = place.root.states.read(1).refs
    place.write(OLD)
    (place.path / ".usr" / "states" / f"{2:020d}").write_bytes(b"")
    assert mend(place).findings == []
    assert place.refs() == dict(before)


def interrupted_pull(make_pair):
    pair = make_pair(OLD)
    pair.push()
    pair.pull()
    pair.there.write(NEW)
    calls = count_calls(pair.copy_to(pair.here.path.parent / "count").pull)
    renames = [n for n, (op, path) in enumerate(calls, 1) if op == "rename" and "/ns/x/" in path]
    tap = Crash(number=renames[len(renames) // 2])
    assert in_child(pair.pull, tap=tap, log=pair.here.path.parent / "log") == CRASHED
    flip(pair.here.path / ".usr" / "journal" / "ns@x", 20)
    return pair


def test_a_journal_that_cannot_be_read_is_written_anew_from_its_copy(make_pair):
    pair = interrupted_pull(make_pair)
    assert [row.code for row in mend(pair.here).findings] == ["interrupted"]
    assert pair.here.recover() == [("ns/x", "finished")]
    assert pair.here.read() == NEW


def test_a_journal_that_cannot_be_read_nor_its_copy_is_set_aside_with_its_files(make_pair):
    pair = interrupted_pull(make_pair)
    [copy] = pair.here.path.glob(".usr/quarantine/ns@x/*/journal")
    flip(copy, 20)
    result = mend(pair.here)
    assert result.findings == []
    aside = pair.here.path / ".usr" / "damaged"
    saved = [p.read_bytes() for p in aside.rglob("*") if p.is_file()]
    now = pair.here.read()
    for path, data in {**OLD, **NEW}.items():
        assert data in saved or now.get(path) == data or OLD.get(path) == NEW.get(path) or not data


def test_killed_at_any_change_a_repair_has_lost_nothing_and_goes_on(place, home):
    path, row = pack_of(place, "_derived/infer/part-3.parquet")
    flip(path, row.offset)
    for other in meta_packs(place)[:2]:
        other.write_bytes(ends(other))
    (place.path / ".usr" / "states" / f"{2:020d}").write_bytes(b"")
    (place.path / ".usr" / "index" / "ns@x").write_bytes(b"nonsense")

    def copy(name):
        shutil.copytree(place.path, home / name)
        return type(place)(home / name, place.who)

    trial = copy("count")
    calls = count_calls(lambda: mend(trial), within=trial.path)
    assert len(calls) > 20
    for number in itertools.chain(range(1, len(calls) + 1, 2), [len(calls)]):
        trial = copy(str(number))
        tap = Crash(within=str(trial.path), number=number)
        ended = in_child(lambda trial=trial: mend(trial), tap=tap, log=home / "log")
        assert ended in (CRASHED, FINISHED), (home / "log").read_text()
        result = mend(trial)
        assert result.findings == [], calls[number - 1]
        check_whole(trial)
        assert trial.kept() == {**NEW, ".events.log": LOG + LOG}
        shutil.rmtree(trial.path)


def test_a_bit_is_turned_back_only_where_the_hash_says_so():
    data = os.urandom(300)
    flipped = bytearray(data)
    flipped[123] ^= 16
    assert salvage.unflip(bytes(flipped), lambda trial: trial == data) == data
    flipped[124] ^= 16
    assert salvage.unflip(bytes(flipped), lambda trial: trial == data) is None


def test_a_second_repair_beside_the_first_is_refused(place):
    from usrstore.errors import LockedError
    from usrstore.odb import flock

    (place.path / ".usr" / "locks").mkdir(exist_ok=True)
    lock = str(place.path / ".usr" / "locks" / "@repair")
    with flock.hold(lock, timeout_s=0), pytest.raises(LockedError):
        mend(place)


def test_a_pack_whose_index_has_no_copy_gets_one(place):
    """As one has that a commit published before it was cut off."""
    for path in meta_packs(place):
        pack = next(p for p in place.root.database.packs() if path.stem == str(p.pack))
        if all(row.kind == Kind.INDEX for _, row in pack.index.items()):
            path.unlink()
    assert fsck(place.root, place.who, deep=True).findings == []
    (text,) = mend(place).repaired
    assert "copied into a metadata pack" in text
    assert mend(place).repaired == ()


def test_kinds_are_what_they_were(place):
    """Each object of the rewritten packs is of the kind it was stored as."""
    before = {
        oid: row.kind for pack in place.root.database.packs() for oid, row in pack.index.items()
    }
    for path in packs(place):
        path.write_bytes(ends(path))
    mend(place)
    after = {
        oid: row.kind for pack in place.root.database.packs() for oid, row in pack.index.items()
    }
    assert {
        oid: kind for oid, kind in before.items() if kind != Kind.INDEX
    }.items() <= after.items()


def test_a_remote_gives_the_tag_of_its_newest_state(make_pair):
    """What a ref names and no pack holds may be a tag as well as a manifest."""
    pair = make_pair(NEW)
    pair.here.commit("kept")
    tags.create(pair.here.root, pair.here.who, DATASET, "paper", pair.here.head())
    oid = pair.here.refs()[f"tags/{DATASET}/paper"]
    pair.push()
    assert pair.there.refs()[f"tags/{DATASET}/paper"] == oid
    pack = pair.here.root.database.find(oid).pack.pack
    (pair.here.path / ".usr" / "packs" / f"{pack}.pack").unlink()
    assert mend(pair.here).findings != []
    assert mend(pair.here, [pair.there.host]).findings == []
    assert pair.here.root.database.find(oid).row.kind == Kind.TAG
