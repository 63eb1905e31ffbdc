"""fsck sees everything that is not as it should be, says whom it hurts, and comes round in time."""

from __future__ import annotations

import os

import pytest

from support import datasets
from support.damage import flip, pack_of, remember
from support.datasets import DATASET
from usrstore.objects.ids import Kind
from usrstore.verbs.fsck import fsck

OLD, NEW = datasets.old_files(), datasets.new_files()


@pytest.fixture
def place(make_pair):
    place = make_pair(OLD).here
    place.commit("first")
    place.write(NEW)
    place.commit("second")
    remember(place)
    return place


def check(place, **options):
    return fsck(place.root, place.who, **options)


def codes(result):
    return sorted(finding.code for finding in result.findings)


def test_a_sound_store_has_no_findings(place):
    result = check(place, deep=True)
    assert result.findings == []
    assert (result.states, result.manifests) == (2, 2)
    assert result.checked.complete
    assert result.checked.packs == result.checked.of_packs > 2
    assert result.checked.folders == 1


def test_a_light_state_whose_folder_went_on_is_no_finding(make_pair):
    pair = make_pair(OLD)
    pair.push()
    pair.there.write(NEW)
    assert check(pair.there, deep=True).findings == []


def test_a_damaged_chunk_names_every_file_of_every_state_that_needs_it(place):
    path, row = pack_of(place, "_derived/infer/part-2.parquet", place.manifest().parents[0])
    flip(path, row.offset)
    (finding,) = check(place, deep=True).findings
    assert finding.code == "object-damaged"
    (text,) = finding.affects  # the second state has that file no more
    assert text.startswith(f"{DATASET} state 1 (")
    assert text.endswith("): _derived/infer/part-2.parquet")


def test_a_lost_pack_is_told_from_a_state_that_was_never_kept(place):
    path, _ = pack_of(place, "_derived/infer/part-1.parquet")
    path.unlink()
    findings = check(place).findings
    assert [finding.code for finding in findings] == ["unreachable"]
    assert findings[0].where == f"packs/{path.name}"
    assert any(text.endswith(": _derived/infer/part-1.parquet") for text in findings[0].affects)
    assert not any("state 1" in text for text in findings[0].affects)


def test_a_lost_metadata_pack_is_a_ref_that_reaches_nothing(place):
    found = place.root.database.find(place.head())
    (place.path / ".usr" / "packs" / f"{found.pack.pack}.pack").unlink()
    findings = check(place).findings
    assert "unreachable" in codes(check(place))
    assert findings[0].where == f"heads/{DATASET}"


def test_the_trees_of_an_older_state_are_missed_even_if_its_manifest_is_here(place):
    database = place.root.database
    older = place.manifest().parents[0]
    manifest = database.get(Kind.MANIFEST, older)
    (place.path / ".usr" / "packs" / f"{database.find(older).pack.pack}.pack").unlink()
    with place.root.database.batch() as batch:
        batch.put(Kind.MANIFEST, older, manifest)
    (finding,) = check(place).findings
    assert finding.code == "unreachable"
    assert "tree" in finding.message
    assert any("state 1" in text for text in finding.affects)


def test_the_chain_is_looked_at_beyond_the_first_damage(place):
    states = place.path / ".usr" / "states"
    for number in range(3, 7):
        place.write({**NEW, "meta.md": b"%d" % number})
        place.commit(str(number))
    for number in (2, 5):
        flip(states / f"{number:020d}", 60)
    (states / f"{4:020d}").unlink()
    findings = check(place).findings
    assert [f.where for f in findings if f.code == "state-damaged"] == [
        "states/5", "states/4", "states/2",
    ]  # fmt: skip


def test_states_of_another_chain_are_noticed(place):
    states = place.path / ".usr" / "states"
    first, second = (states / f"{number:020d}" for number in (1, 2))
    swap = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(swap)
    assert codes(check(place)).count("state-damaged") == 2


def test_a_file_that_nobody_wrote_to_and_that_changed_is_found(place):
    path = place.folder / "records.parquet"
    before = path.stat()
    fd = os.open(path, os.O_RDWR)
    byte = os.pread(fd, 1, 1000)
    os.pwrite(fd, bytes([byte[0] ^ 1]), 1000)
    os.close(fd)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    _make_the_cache_believe(place, path)
    (finding,) = check(place, deep=True).findings
    assert (finding.code, finding.where) == ("file-damaged", f"{DATASET}:records.parquet")


def _make_the_cache_believe(place, path):
    """As bit rot leaves it: other bytes under the very stamp of before."""
    from usrstore.objects.recipe import RULE
    from usrstore.worktree import statcache
    from usrstore.worktree.scan import Stamp

    cache_path = place.root.cache_path(DATASET)
    cache = statcache.load(cache_path, RULE)
    known = cache.files["records.parquet"]
    cache.files["records.parquet"] = known._replace(stamp=Stamp.of(os.stat(path)))
    statcache.save(cache_path, cache)


def test_runs_with_a_limit_cover_everything_in_turn(place):
    for number in range(3, 6):
        place.write({**NEW, "meta.md": b"%d" % number})
        place.commit(str(number))
    remember(place)
    parts = len(list(place.root.database.packs())) + 1
    seen, hashed, runs, oldest = 0, 0, 0, None
    while oldest is None and runs < 60:
        runs += 1
        checked = check(place, max_duration_s=0).checked
        assert checked.packs + checked.folders <= 1
        seen += checked.packs + checked.folders
        hashed += checked.size
        oldest = checked.oldest_us
    assert seen == parts
    assert hashed == check(place, deep=True).checked.size
    assert runs > parts, "a large folder is left in its middle, and gone on with"


def test_a_limited_run_finds_what_a_whole_one_would(place):
    path, row = pack_of(place, "_derived/infer/part-1.parquet")
    flip(path, row.offset)
    found = []
    for _ in range(60):
        result = check(place, max_duration_s=0)
        found += codes(result)
        if result.checked.oldest_us is not None:
            break
    assert found == ["object-damaged"]


def test_the_memory_of_checks_is_only_a_saving(place):
    whole = check(place, deep=True).checked
    for text in ("", "[]", '{"pack": 3}', '{"pack": ["x", "y"]}', "\xff"):
        (place.path / ".usr" / "checked.json").write_text(text)
        assert check(place, deep=True).checked[:-1] == whole[:-1]


def test_a_long_check_says_how_far_it_is(place):
    events = []
    check(place, deep=True, emit=events.append)
    done = [event.done for event in events if event.phase == "verify"]
    assert done == sorted(done)
    assert done[-1] == check(place, deep=True).checked.size


def test_a_flipped_bit_in_quarantine_is_found(make_pair):
    pair = make_pair(NEW)
    with pytest.raises(KeyboardInterrupt):
        _interrupt(pair)
    (landed,) = (pair.there.path / ".usr" / "quarantine").glob("*/*/landed")
    assert check(pair.there).findings == []
    staged = max(
        (p for p in landed.parent.iterdir() if p != landed), key=lambda p: p.stat().st_size
    )
    flip(staged, 0)
    (finding,) = check(pair.there).findings
    assert finding.code == "quarantine-damaged"


def _interrupt(pair):
    from support.faults import Counter
    from usrstore.odb import durable

    class Stop(Counter):
        def at(self, when, number, op, path):
            if when == "before" and op == "fsync" and "quarantine" in path:
                raise KeyboardInterrupt

    with durable.tapped(Stop(within=str(pair.there.path))):
        pair.push()
