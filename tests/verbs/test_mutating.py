"""A change of a dataset by a command: files, events, snapshots and notes, as one act."""

from __future__ import annotations

import errno
import hashlib
import json
import os

import pytest

from support import datasets
from support.datasets import DATASET
from support.faults import CRASHED, FINISHED, Crash, Fail, count_calls, in_child, moments_of
from support.pairs import Place
from support.people import Clock, make_who
from usrstore.dataset import events, parquetfile, registry, schema, snapshots
from usrstore.errors import (
    ChangedWhileReadError,
    ConflictError,
    DatasetNotFoundError,
    DiskFullError,
    IntegrityError,
    LockedError,
    StorageError,
)
from usrstore.odb import durable, flock
from usrstore.verbs.mutating import mutating
from usrstore.worktree import journal as journals

SHARDS = 3


@pytest.fixture
def place(home):
    home = home / "root"
    home.mkdir()
    (home / "registry.yaml").write_bytes(registry.initial())
    place = Place(home, make_who(clock=Clock()))
    init(place)
    return place


def init(place):
    with mutating(place.site(), create=True) as act:
        metadata = schema.base_metadata(created_at="then", registry_hash=act.registry_hash)
        empty = schema.base_schema().empty_table()
        parquetfile.write(act.create("records.parquet"), empty, metadata)
        act.event("init", table="records.parquet")
        act.note("made")


def logged(place):
    return [json.loads(line) for line in events.lines(str(place.folder))]


def change(place):
    """Everything that an act can do."""
    with mutating(place.site()) as act:
        act.put("records.parquet", place.folder.joinpath("records.parquet").read_bytes() + b"")
        act.put("_derived/infer/part-2.parquet", b"new part")
        act.remove("_derived/infer/part-1.parquet")
        act.snapshot()
        act.event("one", args={"n": 1}, table="records.parquet")
        act.event("two")
        act.note("changed it all")


def with_part(place):
    with mutating(place.site()) as act:
        act.put("_derived/infer/part-1.parquet", b"old part")
        act.event("write_overlay_part")


def test_a_new_dataset_is_there_with_its_event_its_registry_and_its_notes(place):
    digest = hashlib.sha256(registry.initial()).hexdigest()
    assert set(place.read()) == {
        "records.parquet", ".events.log", "meta.md", f"_registry/registry.{digest}.yaml",
    }  # fmt: skip
    assert place.read()[f"_registry/registry.{digest}.yaml"] == registry.initial()
    frozen, made = logged(place)
    assert (frozen["action"], made["action"]) == ("registry_freeze", "init")
    assert frozen["args"]["auto"] is True
    assert frozen["args"]["registry_hash"] == made["registry_hash"] == digest
    size = len(place.read()["records.parquet"])
    assert made["fingerprint"] == {"rows": 0, "cols": 7, "size_bytes": size}
    assert made["dataset"] == {"name": DATASET, "root": str(place.path)}
    assert place.read()["meta.md"].splitlines()[0] == f"name: {DATASET}".encode()


def test_an_act_does_all_that_it_says(place):
    with_part(place)
    before = place.read()
    change(place)
    after = place.read()
    assert after.keys() - before.keys() == {
        "_derived/infer/part-2.parquet",
        *(path for path in after if path.startswith("_snapshots/")),
    }
    assert before.keys() - after.keys() == {"_derived/infer/part-1.parquet"}
    assert [event["action"] for event in logged(place)][-2:] == ["one", "two"]
    assert after[".events.log"].startswith(before[".events.log"])
    assert b"- changed it all" in after["meta.md"] or b"changed it all\n" in after["meta.md"]
    assert b"```bash\ntest\n```" in after["meta.md"]


def test_an_act_that_raises_changes_nothing(place):
    before = place.read()
    with pytest.raises(RuntimeError), mutating(place.site()) as act:
        act.put("records.parquet", b"broken")
        act.event("one")
        raise RuntimeError
    assert place.read() == before
    assert os.listdir(place.root.stage_path(DATASET)) == []
    assert place.root.journaled() == []


def test_an_act_that_does_nothing_writes_nothing(place):
    before = place.read()
    with mutating(place.site()):
        pass
    assert place.read() == before


def test_an_act_works_where_no_store_is(home):
    (home / DATASET).mkdir(parents=True)
    (home / DATASET / "records.parquet").write_bytes(datasets.sample_parquet())
    place = Place(home)
    with mutating(place.site()) as act:
        act.event("log_event")
    assert [event["action"] for event in logged(place)] == ["log_event"]
    assert logged(place)[0]["registry_hash"] is None


def test_a_registry_is_frozen_once_for_each_of_its_states(place):
    with_part(place)
    assert [event["action"] for event in logged(place)].count("registry_freeze") == 1
    namespaces = registry.parse(registry.initial(), "it")
    namespaces["infer"] = {"owner": "a", "description": "", "columns": []}
    data = registry.text(namespaces)
    (place.path / "registry.yaml").write_bytes(b"# prose\n" + data)
    base = place.read()["records.parquet"]
    for _ in range(2):
        with mutating(place.site()) as act:
            act.event("x")
    digest = hashlib.sha256(data).hexdigest()
    assert place.read()[f"_registry/registry.{digest}.yaml"] == data
    actions = [event["action"] for event in logged(place)]
    assert actions.count("registry_freeze") == 2
    assert actions[-3:] == ["registry_freeze", "x", "x"]
    assert place.read()["records.parquet"] == base


def test_w27_a_new_registry_does_not_rewrite_the_base(place):
    """W27: any edit of the registry rewrote the whole base at the next change."""
    inode = os.stat(place.folder / "records.parquet").st_ino
    data = registry.dump({"namespaces": registry.parse(registry.initial(), "it"), "more": 1})
    (place.path / "registry.yaml").write_bytes(data)
    with_part(place)
    assert os.stat(place.folder / "records.parquet").st_ino == inode
    assert not (place.folder / "_snapshots").exists()


def test_w27_a_part_costs_the_same_few_changes_to_the_disk_each_time(place):
    """W27: a part of 400 rows took as long as a hundred fsyncs."""

    def write(number):
        with mutating(place.site()) as act:
            act.put(f"_derived/infer/part-{number}.parquet", b"part")
            act.event("write_overlay_part")

    write(0)
    calls = [op for op, _ in count_calls(lambda: write(1))]
    assert calls == [op for op, _ in count_calls(lambda: write(2))]
    assert sum(op.startswith("fsync") for op in calls) <= 6
    assert len(calls) <= 20


def test_five_snapshots_are_kept(place):
    for _ in range(8):
        with mutating(place.site()) as act:
            act.snapshot()
            act.event("snapshot")
    names = sorted(os.listdir(place.folder / "_snapshots"))
    assert len(names) == snapshots.KEPT
    assert all(name.startswith("records-2023") for name in names)
    base = place.read()["records.parquet"]
    assert all(place.read()[f"_snapshots/{name}"] == base for name in names)


def test_a_snapshot_comes_behind_the_others_even_if_the_clock_goes_back():
    late = "records-20990101T000000000000.parquet"
    first = snapshots.new_path(1_700_000_000_000_000, [late, "records-x.parquet"])
    assert first == "_snapshots/records-20990101T000000000001.parquet"
    again = snapshots.new_path(1_700_000_000_000_000, ["records-99999999T999999999999.parquet"])
    assert again == "_snapshots/records-20231114T221320000000.parquet"
    mine = ["mine.parquet", "records-20230101T000000000000.parquet"]
    assert snapshots.surplus(mine) == []


def test_a_snapshot_is_no_second_name_of_the_base(place):
    with mutating(place.site()) as act:
        path = act.snapshot()
        act.event("snapshot")
    base = place.read()["records.parquet"]
    (place.folder / "records.parquet").write_bytes(b"written over, in place")
    assert place.read()[path] == base


# ── others ──────────────────────────────────────────────────────────────────────────────
def test_a_dataset_that_is_not_there_and_one_that_is(place):
    with pytest.raises(ConflictError) as caught:
        init(place)
    assert caught.value.code == "dataset-exists"
    with (
        pytest.raises(DatasetNotFoundError),
        mutating(place.site(dataset="ns/other")),
    ):
        pass


def test_a_program_that_holds_the_dataset_is_waited_for_and_named(place):
    before = place.read()
    lock = str(place.folder / ".usr.lock")
    with (
        flock.hold(lock, timeout_s=0),
        pytest.raises(LockedError, match="the dataset ns/x is locked"),
    ):
        with_part(place)
    with flock.hold(str(place.folder / ".events.lock"), timeout_s=0), pytest.raises(LockedError):
        with_part(place)
    assert place.read() == before
    with_part(place)


def test_a_file_written_by_a_program_without_locks_is_not_overwritten(place):
    with pytest.raises(ChangedWhileReadError), mutating(place.site()) as act:
        act.put("records.parquet", b"ours")
        act.event("x")
        (place.folder / "records.parquet").write_bytes(b"theirs")
    assert place.read()["records.parquet"] == b"theirs"
    before = place.read()
    with pytest.raises(ChangedWhileReadError), mutating(place.site()) as act:
        act.put("new", b"ours")
        act.event("x")
        (place.folder / "new").write_bytes(b"theirs")
    assert place.read() == {**before, "new": b"theirs"}
    with pytest.raises(ConflictError), mutating(place.site()) as act:
        act.create("new")
    assert os.listdir(place.root.stage_path(DATASET)) == []


def test_a_torn_log_stops_an_act_before_it_begins(place):
    with open(place.folder / ".events.log", "ab") as file:
        file.write(b"{")
    before = place.read()
    with pytest.raises(IntegrityError) as caught:
        with_part(place)
    assert caught.value.code == "events-torn"
    assert place.read() == before


def test_what_is_announced_must_be_written(place):
    before = place.read()
    with pytest.raises(IntegrityError, match="announced"), mutating(place.site()) as act:
        act.create("x")
        act.event("x")
    assert place.read() == before


# ── crashes ─────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="session")
def prepared(memory_home):
    """A root before and after an act, and the changes to the disk that the act makes."""
    home = memory_home / "mutating"
    made = {}
    for name, act in (("change", change), ("init", init)):
        root = home / name / "root"
        root.mkdir(parents=True)
        (root / "registry.yaml").write_bytes(registry.initial())
        if name == "change":
            start = Place(root, make_who(clock=Clock()))
            init(start)
            with_part(start)
        trial = copy(root, home / name / "trial")
        calls, points = moments_of(lambda trial=trial, act=act: act(trial))
        made[name] = act, root, calls, points, datasets.read(root / DATASET), trial.read()
    return made


def copy(root, target):
    import shutil

    shutil.copytree(root, target, copy_function=shutil.copy2)
    # The log of an act says when; so the clock begins where it did for the others.
    return Place(target, make_who(clock=Clock(1_800_000_000_000_000)))


def lines_of(files, root):
    """Events without what differs between two roots."""
    text = files.get(".events.log", b"").replace(str(root).encode(), b"ROOT")
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        row["actor"] = None
        row["timestamp_utc"] = None
    return rows


def same(found, wanted, place, home):
    others = {path: data for path, data in found.items() if path != ".events.log"}
    if others != {path: data for path, data in wanted.items() if path != ".events.log"}:
        return False
    one, two = lines_of(found, place.path), wanted.get(".events.log", b"")
    two = [json.loads(line) for line in two.splitlines()]
    return [row["action"] for row in one] == [row["action"] for row in two]


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", ["change", "init"])
def test_killed_at_any_change_an_act_is_whole_or_never_was(prepared, name, shard, home):
    act, root, calls, points, before, after = prepared[name]
    assert calls
    ends = set()
    for number, when in points[shard::SHARDS]:
        at = f"{when} change {number}: {calls[number - 1]}"
        place = copy(root, home / f"{number}-{when}")
        tap = Crash(when=when, number=number)
        ended = in_child(lambda place=place: act(place), tap=tap, log=home / "log")
        assert ended in (CRASHED, FINISHED), at
        place.recover()
        assert place.root.journaled() == []
        found = place.read()
        old = same(found, before, place, home)
        assert old or same(found, after, place, home), (at, sorted(found))
        ends.add(old)
        stage = place.root.stage_path(DATASET)
        assert not os.path.isdir(stage) or os.listdir(stage) == [], at
        if old:
            act(place)
            assert same(place.read(), after, place, home), at
    assert ends == {True, False}


def test_a_journal_survives_its_encoding_with_lines_and_without_a_tree(place):
    path = place.root.journal_path(DATASET)
    found = []
    real = journals.write

    def watch(where, journal, **more):
        found.append(journal)
        real(where, journal, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journals, "write", watch)
        with_part(place)
    (journal,) = found
    assert journal.tree is None
    assert journal.lines.size < len(place.read()[".events.log"])
    assert journals.Journal.decode(journal.encode()) == journal
    assert not os.path.exists(path)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_at_any_change_leaves_everything_as_it_was(prepared, error, home):
    act, root, calls, _, before, after = prepared["change"]
    for number in range(1, len(calls) + 1):
        place = copy(root, home / str(number))
        with durable.tapped(Fail(number=number, errno=error)):
            try:
                act(place)
            except StorageError as exc:
                assert isinstance(exc, DiskFullError) == (error == errno.ENOSPC)
        place.recover()
        found = place.read()
        old = same(found, before, place, home)
        assert old or same(found, after, place, home), (number, calls[number - 1])


def test_many_processes_at_once_lose_nothing(place):
    children = []
    for number in range(24):
        pid = os.fork()
        if pid == 0:
            try:
                site = place.site(lock_timeout_s=400)
                with mutating(site) as act:
                    act.put(f"_derived/infer/part-{number}.parquet", b"part %d" % number)
                    act.event("write_overlay_part", args={"number": number})
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 24
    numbers = [e["args"]["number"] for e in logged(place) if e["action"] == "write_overlay_part"]
    assert sorted(numbers) == list(range(24))
    assert len(os.listdir(place.folder / "_derived" / "infer")) == 24
