"""What syncing by names, sizes and times got wrong, one promise each."""

from __future__ import annotations

import os

import pytest

from support import datasets, wires
from support.faults import CRASHED, Crash, count_calls, in_child
from support.liars import Moving, flipped
from support.pairs import set_back
from usrstore.errors import (
    ConflictError,
    DatasetNotFoundError,
    InvalidNameError,
    RegistryError,
    UnsafeFileError,
    VerificationError,
)
from usrstore.objects.sections import Section
from usrstore.remote.peer import Checks
from usrstore.verbs import audit

OLD, NEW = datasets.old_files(), datasets.new_files()
PART = "_derived/infer/part-1.parquet"
PRIMARY = frozenset({Section.PRIMARY})


@pytest.fixture
def pair(make_pair):
    """Two roots that agree on OLD."""
    made = make_pair(OLD)
    made.push()
    made.pull()
    return made


def replace_secretly(place, path, data):
    """Other bytes under the same name, size and mtime."""
    file = place.folder / path
    stamp = file.stat().st_mtime_ns
    assert len(data) == file.stat().st_size
    file.write_bytes(data)
    set_back(file, stamp)


SECRET = {
    "records.parquet": Section.PRIMARY,
    "_snapshots/2024-01-01.parquet": Section.SNAPSHOTS,
    PART: Section.DERIVED,
    "_artifacts/figure.svg": Section.AUXILIARY,
}


@pytest.mark.parametrize("path", SECRET)
@pytest.mark.parametrize("side", ["here", "there"])
def test_w1_other_content_under_the_same_name_size_and_time_is_seen_and_repaired(pair, side, path):
    place = getattr(pair, side)
    other = bytes(255 - byte for byte in OLD[path])
    replace_secretly(place, path, other)
    found = pair.diff()
    assert found.meeting.comparison.sections[SECRET[path]].differ == (path,)
    (pair.push if side == "here" else pair.pull)()
    assert pair.here.read() == pair.there.read() == {**OLD, path: other}


def test_w1_damage_at_one_side_is_repaired_from_the_other(pair):
    replace_secretly(pair.there, PART, bytes(2000))
    pair.push(force=True)
    assert pair.there.read() == OLD


def test_w2_a_push_that_failed_its_checks_is_not_forgotten(pair):
    pair.here.write(NEW)
    for _ in range(2):
        with pytest.raises(VerificationError):
            pair.push(Moving(pair.there.host(), flipped))
        found = pair.diff()
        assert found.changed
        assert found.meeting.relation == "local-ahead"
    assert pair.push().state == "TRANSFERRED"
    assert pair.push().state == "NO-OP"
    assert pair.there.read() == NEW


def test_w3_a_failed_push_leaves_the_remote_as_it_was(pair):
    before = pair.there.everything()
    pair.here.write(NEW)
    with pytest.raises(VerificationError):
        pair.push(Moving(pair.there.host(), flipped))
    assert pair.there.everything() == before


def test_w4_a_pull_that_was_killed_is_finished_by_whatever_comes_next(pair, home):
    pair.there.write(NEW)
    calls = count_calls(pair.copy_to(home / "count").pull)
    renames = [n for n, (op, path) in enumerate(calls, 1) if op == "rename" and "/ns/x/" in path]
    for name in ("pull", "push", "commit", "recover"):
        trial = pair.copy_to(home / name)
        follow = getattr(trial.here if name in ("commit", "recover") else trial, name)
        killed = in_child(trial.pull, tap=Crash(number=renames[2]), log=home / "log")
        assert killed == CRASHED
        assert trial.here.read() not in (OLD, NEW)
        follow()
        assert trial.here.read() == NEW
        assert trial.here.root.journaled() == []


def test_w5_a_touch_is_no_change(pair):
    for path in ("meta.md", "records.parquet"):
        os.utime(pair.here.folder / path)
    assert not pair.diff().changed
    assert pair.push().state == pair.pull().state == "NO-OP"


def test_w5_an_edit_that_kept_its_time_is_seen(pair):
    replace_secretly(pair.here, "meta.md", b"# FIRST\n")
    assert audit.data(pair.diff())["meta"] == {"changed": True}
    pair.push()
    assert pair.there.read()["meta.md"] == b"# FIRST\n"


@pytest.mark.parametrize("mode", ["hash", "auto", "size", "parquet"])
def test_w6_whatever_is_verified_of_the_primary_equal_counts_do_not_pass_for_equal(make_pair, mode):
    table = datasets.sample_parquet()
    pair = make_pair({**OLD, "records.parquet": table})
    pair.push()
    pair.pull()
    data = bytearray(table)
    data[200] ^= 1  # inside a page: rows, columns and schema stay what they were
    replace_secretly(pair.there, "records.parquet", bytes(data))
    assert pair.diff().changed
    assert pair.pull(checks=Checks(primary=mode)).state == "TRANSFERRED"
    assert pair.here.read()["records.parquet"] == bytes(data)


def test_w6_parquet_mode_refuses_a_primary_that_is_no_table(pair):
    pair.there.write(NEW)
    with pytest.raises(VerificationError, match=r"(?s)^post-pull-primary.*does not open"):
        pair.pull(checks=Checks(primary="parquet"))
    assert pair.here.read() == OLD


def test_w7_files_that_only_one_side_has_are_never_deleted_silently(pair):
    pair.here.write({**OLD, "_artifacts/mine": b"only here", "_derived/infer/part-8.parquet": b"8"})
    pair.there.write({**OLD, "meta.md": b"# theirs\n"})
    with pytest.raises(ConflictError) as caught:
        pair.push()
    assert "_artifacts/mine" in caught.value.message
    assert "meta.md" in caught.value.message
    assert pair.there.read()["meta.md"] == b"# theirs\n"
    assert pair.pull().state == "MERGED"
    assert pair.here.read()["_artifacts/mine"] == b"only here"
    assert pair.here.read()["meta.md"] == b"# theirs\n"


def test_w7_a_pull_keeps_files_that_are_new_here_when_nothing_is_new_there(pair):
    ours = {**OLD, "_artifacts/mine": b"only here"}
    pair.here.write(ours)
    assert pair.pull().state == "NO-OP"
    assert pair.here.read() == ours


def test_w7_a_removal_travels_only_to_whom_had_the_file_when_both_agreed(pair):
    """Gone here since both had it: a change of ours. Never had: theirs, and it stays."""
    files = {path: data for path, data in OLD.items() if path != PART}
    pair.here.write(files)
    pair.push()
    assert pair.there.read() == files
    pair.there.write({**files, "_artifacts/theirs": b"new there"})
    with pytest.raises(ConflictError):
        pair.push()
    assert pair.there.read()["_artifacts/theirs"] == b"new there"


def test_w8_a_push_of_the_primary_alone_never_overwrites_a_newer_one(pair):
    newer = {
        **OLD,
        "records.parquet": OLD["records.parquet"] + b"new rows",
        ".events.log": datasets.events(1, 2, 3, 4),
    }
    pair.there.write(newer)
    lax = Checks(sidecars=False)
    with pytest.raises(ConflictError) as caught:
        pair.push(sections=PRIMARY, checks=lax)
    assert caught.value.code == "remote-ahead"
    assert "usr pull" in caught.value.hint
    pair.here.write({**OLD, "records.parquet": OLD["records.parquet"][:-5]})
    with pytest.raises(ConflictError):
        pair.push(sections=PRIMARY, checks=lax)
    assert pair.there.read() == newer


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_a_sync_of_the_primary_alone_leaves_the_rest_and_says_so_for_ever(pair, verb):
    (pair.there if verb == "pull" else pair.here).write(NEW)
    target = pair.here if verb == "pull" else pair.there
    getattr(pair, verb)(sections=PRIMARY, checks=Checks(sidecars=False))
    assert target.read() == {**OLD, "records.parquet": NEW["records.parquet"]}
    assert target.manifest().policy == (
        "no-verify-derived-hashes",
        "no-verify-sidecars",
        "only primary",
    )
    assert target.manifest().events == 3
    getattr(pair, verb)()
    assert target.read() == NEW


def test_w16_a_first_pull_into_an_empty_root_brings_the_registry(make_pair):
    pair = make_pair()
    (pair.there.path / "registry.yaml").write_bytes((pair.here.path / "registry.yaml").read_bytes())
    (pair.here.path / "registry.yaml").unlink()
    pair.there.write(OLD)
    pair.pull()
    assert pair.here.read() == OLD
    assert pair.here.outside() == pair.there.outside() != {}


def test_w16_a_push_without_a_registry_is_refused_before_anything_moves(make_pair):
    pair = make_pair(OLD)
    (pair.here.path / "registry.yaml").unlink()
    with pytest.raises(RegistryError, match=r"registry\.yaml"):
        pair.push()
    assert not pair.there.root.has_store


def test_w17_an_event_that_is_being_written_blocks_nothing(make_pair):
    partial = OLD[".events.log"] + b'{"event": 4, "act'
    pair = make_pair({**OLD, ".events.log": partial})
    pair.here.commit()
    assert pair.here.manifest().events == 3
    pair.push()
    assert pair.there.read()[".events.log"] == partial
    pair.here.write({**OLD, ".events.log": datasets.events(1, 2, 3, 4, 5)})
    pair.push()
    pair.pull()
    assert not pair.diff().changed


def test_w18_links_and_odd_names_are_one_error_that_names_them_all(pair):
    os.symlink("meta.md", pair.here.folder / "a-link")
    os.symlink("nowhere", pair.here.folder / "_derived" / "broken")
    os.mkfifo(pair.here.folder / "_artifacts" / "pipe")
    (pair.here.folder / "_artifacts" / "new\nline").write_bytes(b"")
    (pair.here.folder / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"")
    for act in (pair.diff, pair.push, pair.pull, pair.here.commit):
        with pytest.raises(UnsafeFileError) as caught:
            act()
        message = caught.value.message
        assert "holds 5 entries" in message
        for name in ("a-link", "_derived/broken", "_artifacts/pipe", r"new\nline", "not-utf8-"):
            assert name in message
        assert "sha256" not in message
        assert caught.value.hint
    assert pair.there.read() == OLD


def test_w18_blanks_and_other_scripts_in_names_travel(pair):
    odd = {"_artifacts/trailing ": b"1", "_artifacts/ leading": b"2", "_artifacts/Ωμέγα.txt": b"3"}
    pair.here.write({**OLD, **odd})
    pair.push()
    assert pair.there.read() == {**OLD, **odd}
    pair.there.write({**OLD, **odd, "_artifacts/'\"$(x)": b"4"})
    pair.pull()
    assert pair.here.read() == pair.there.read()


# ── W20: what it costs ─────────────────────────────────────────────────────────────────────
def test_w20_nothing_to_do_is_one_question(pair):
    for verb in (pair.push, pair.pull, pair.diff):
        peer = wires.connect(pair.there.host())
        verb(peer)
        assert peer.questions == 1


def test_w20_a_push_is_at_most_four_questions_and_sends_only_what_is_new(pair):
    pair.here.write(NEW)
    peer = wires.connect(pair.there.host())
    result = pair.push(peer)
    assert peer.questions == result.moved.round_trips == 4
    assert result.moved.sent < 160_000  # of 415 kB: the pieces of the table that changed
    assert result.moved.received < 5_000


@pytest.mark.spec("P-9")
def test_w20_a_pull_is_at_most_three_questions_and_fetches_only_what_is_new(pair):
    pair.there.write(NEW)
    peer = wires.connect(pair.there.host())
    result = pair.pull(peer)
    assert peer.questions == result.moved.round_trips == 3
    assert result.moved.received < 160_000
    assert result.moved.sent < 5_000


def test_w20_what_moved_or_was_copied_is_not_sent_again(pair):
    large = OLD["records.parquet"]
    pair.here.write({**OLD, "_artifacts/copy.parquet": large, "_snapshots/new.parquet": large})
    assert pair.push().moved.payload == 0
    assert pair.there.read() == pair.here.read()


def test_w20_what_was_kept_is_not_fetched_again(pair):
    pair.here.commit()
    pair.here.write({**OLD, "records.parquet": b"small now"})
    pair.push()
    pair.there.write(OLD)
    assert pair.pull().moved.payload == 0
    assert pair.here.read() == OLD


def test_w20_many_changed_files_cost_no_more_questions(make_pair):
    many = {f"_derived/n/part-{n:04d}.parquet": b"%d" % n for n in range(600)}
    pair = make_pair({**OLD, **many})
    peer = wires.connect(pair.there.host())
    pair.push(peer)
    assert peer.questions <= 4
    pair.there.write({**OLD, **{path: data + b"!" for path, data in many.items()}})
    peer = wires.connect(pair.there.host())
    pair.pull(peer)
    assert peer.questions <= 3
    assert pair.here.read() == pair.there.read()


# ── W21 ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("verb", ["pull", "push"])
def test_w21_staging_is_never_among_the_datasets_not_even_after_a_kill(pair, verb, home):
    (pair.there if verb == "pull" else pair.here).write(NEW)
    trial = pair.copy_to(home / "count")
    count = len(count_calls(getattr(trial, verb)))
    for number in range(1, count, 9):
        trial = pair.copy_to(home / str(number))
        killed = in_child(getattr(trial, verb), tap=Crash(number=number), log=home / "log")
        assert killed == CRASHED
        for place in (trial.here, trial.there):
            assert place.root.datasets() == ["ns/x"]
            assert set(os.listdir(place.path)) == {"ns", "registry.yaml", ".usr"}
            assert os.listdir(place.path / "ns") == ["x"]
            names = set(place.read())
            assert names <= OLD.keys() | NEW.keys()


# ── W25 and neighbours ──────────────────────────────────────────────────────────────────────
def test_w25_a_dataset_that_is_nowhere_is_an_error_never_up_to_date(make_pair):
    pair = make_pair()
    for verb in (pair.diff, pair.pull, pair.push):
        with pytest.raises(DatasetNotFoundError):
            verb()


def test_a_first_pull_by_a_bare_name_is_refused_where_whole_ids_are_asked_for(
    make_pair, monkeypatch
):
    pair = make_pair()
    site = pair.here.site(dataset="bare")
    from usrstore.verbs import pull
    from usrstore.verbs.options import Options

    with pytest.raises(InvalidNameError, match="whole id"):
        pull.pull(site, pair.there.host(), "r", Options(strict_bootstrap_id=True))


@pytest.mark.spec("P-8")
def test_a_diff_creates_nothing_at_either_end(make_pair):
    pair = make_pair(OLD)
    pair.there.write(NEW)
    assert pair.diff().changed
    assert not (pair.here.path / ".usr").exists()
    assert not (pair.there.path / ".usr").exists()


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_a_dry_run_plans_and_changes_nothing(pair, verb):
    pair.here.write(NEW if verb == "push" else OLD)
    pair.there.write(NEW if verb == "pull" else OLD)
    before = pair.here.everything(), pair.there.everything()
    result = getattr(pair, verb)(dry_run=True)
    assert (result.state, result.changed) == ("DRY-RUN", True)
    assert (pair.here.everything(), pair.there.everything()) == before


def test_a_mode_that_people_set_survives_a_replacement(pair):
    os.chmod(pair.here.folder / "meta.md", 0o640)
    pair.there.write(NEW)
    pair.pull()
    assert (pair.here.folder / "meta.md").stat().st_mode & 0o777 == 0o640


def test_a_remote_without_a_store_can_be_pulled_from_and_gets_none(make_pair):
    pair = make_pair()
    pair.there.write(OLD)
    pair.pull()
    assert pair.here.read() == OLD
    assert not pair.there.root.has_store
    pair.there.write(NEW)
    assert pair.pull().state == "TRANSFERRED"
    assert pair.here.read() == NEW


def test_equal_folders_that_met_have_a_base_even_if_the_remote_has_no_store(make_pair):
    pair = make_pair(OLD)
    pair.there.write(OLD)
    pair.here.commit()
    assert pair.pull().state == "NO-OP"
    pair.there.write(NEW)
    assert pair.pull().state == "TRANSFERRED"


def test_a_push_whose_answer_was_lost_is_no_divergence_later(pair, home):
    """Killed here after the remote took it: the next push agrees, the one after it goes on."""
    pair.here.write(NEW)
    trial = pair.copy_to(home / "count")
    calls = count_calls(trial.push, within=trial.here.path)
    trial = pair.copy_to(home / "killed")
    tap = Crash(within=str(trial.here.path), number=len(calls) - 8)
    in_child(trial.push, tap=tap, log=home / "log")
    assert trial.there.read() == NEW
    assert trial.push().state == "NO-OP"
    trial.here.write({**NEW, "meta.md": b"# once more\n"})
    assert trial.push().state == "TRANSFERRED"
