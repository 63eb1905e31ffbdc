"""What a transfer replaces and a state needs is in a pack before the folder changes."""

from __future__ import annotations

import pytest

from support import datasets
from support.datasets import DATASET
from usrstore.errors import ConfigError, IncompleteError
from usrstore.objects.ids import Kind
from usrstore.objects.names import head_ref
from usrstore.verbs import undo
from usrstore.verbs.checkout import checkout
from usrstore.verbs.mutating import mutating

OLD, NEW = datasets.old_files(), datasets.new_files()


def heads(place):
    """What the dataset's head has been, newest first."""
    named = [state.refs.get(head_ref(DATASET)) for state in place.root.states.history()]
    return list(dict.fromkeys(oid for oid in named if oid is not None))


def data_bytes(place):
    """Chunks in packs, as they lie there."""
    rows = [row for pack in place.root.database.packs() for _, row in pack.index.items()]
    return sum(row.stored for row in rows if row.kind == Kind.CHUNK)


@pytest.fixture
def synced(make_pair):
    """Two roots that agree on OLD, by light states alone."""
    pair = make_pair(OLD)
    pair.push()
    pair.pull()
    return pair


def test_a_state_that_a_pull_replaced_can_be_had_again(synced):
    synced.there.write(NEW)
    synced.pull()
    assert synced.here.read() == NEW
    _, before = heads(synced.here)[:2]
    checkout(synced.here.site(), before)
    assert synced.here.read() == OLD


def test_a_pull_can_be_undone_though_nothing_was_committed(synced):
    synced.there.write(NEW)
    synced.pull()
    undo.undo(synced.here.root, synced.here.who)
    assert synced.here.read() == OLD


def test_a_state_that_a_push_replaced_can_be_had_again_at_the_remote(synced):
    synced.here.write(NEW)
    synced.push()
    assert synced.there.read() == NEW
    _, before = heads(synced.there)[:2]
    checkout(synced.there.site(), before)
    assert synced.there.read() == OLD


def test_states_in_a_row_can_all_be_had_again(synced):
    """What two of them share is kept once neither of the newer ones has it."""
    made = {heads(synced.here)[0]: OLD}
    files = dict(OLD)
    for number in range(4):
        base = files["records.parquet"]
        files = {**files, "records.parquet": base[100_000:] + datasets.noise(number, 100_000)}
        synced.there.write(files)
        synced.pull()
        made[heads(synced.here)[0]] = dict(files)
    for oid, wanted in made.items():
        checkout(synced.here.site(), oid)
        assert synced.here.read() == wanted


def test_only_what_goes_is_stored(synced):
    """Most of the primary is the same before and after; the folder has it still."""
    before = data_bytes(synced.here)
    synced.there.write(NEW)
    synced.pull()
    stored = data_bytes(synced.here) - before
    assert 0 < stored < len(OLD["records.parquet"])


def test_a_state_that_is_kept_costs_nothing_more(synced):
    synced.here.commit()
    before = data_bytes(synced.here)
    synced.there.write(NEW)
    synced.pull()
    assert data_bytes(synced.here) == before


def test_who_wants_only_the_newest_can_say_so(synced):
    (synced.here.path / ".usr" / "config").write_text("[keep]\nreplaced = false\n")
    before = data_bytes(synced.here)
    synced.there.write(NEW)
    synced.pull()
    assert data_bytes(synced.here) == before
    with pytest.raises(IncompleteError) as caught:
        checkout(synced.here.site(), heads(synced.here)[1])
    assert caught.value.code == "not-kept"
    assert synced.here.read() == NEW


def test_a_setting_that_is_neither_true_nor_false_is_refused(synced):
    (synced.here.path / ".usr" / "config").write_text('[keep]\nreplaced = "never"\n')
    synced.there.write(NEW)
    with pytest.raises(ConfigError, match="true or false"):
        synced.pull()
    assert synced.here.read() == OLD


# ── acts on the folder ──────────────────────────────────────────────────────────────────
def act(place, **files):
    """What a command does: new files, removals (None), an event."""
    with mutating(place.site()) as mutation:
        for path, data in files.pop("files").items():
            mutation.remove(path) if data is None else mutation.put(path, data)
        mutation.event("import_rows", args=files)


LIKE_A_BASE = datasets.noise("base", 400_000)


@pytest.mark.parametrize("log", [datasets.events(*range(3)), datasets.events(*range(4000))])
def test_a_pushed_state_can_be_had_again_after_acts_changed_the_folder(make_pair, log):
    """An act writes over the only copy that a light state has."""
    files = {**OLD, ".events.log": log}
    pair = make_pair(files)
    pair.push()
    pushed = pair.here.head()
    part = "_derived/infer/part-1.parquet"
    act(pair.here, files={"records.parquet": b"new" + LIKE_A_BASE, "meta.md": b"# noted\n"})
    act(pair.here, files={part: None, "_derived/infer/part-9.parquet": OLD[part]})
    act(pair.here, files={"records.parquet": b"newer" * 9, "_derived/infer/part-9.parquet": None})
    after = pair.here.read()
    assert after["records.parquet"] == b"newer" * 9
    checkout(pair.here.site(), pushed)
    assert pair.here.read() == files
    undo.undo(pair.here.root, pair.here.who)
    assert pair.here.read() == after


def test_what_a_snapshot_holds_is_not_stored_again_before_the_snapshot_goes(make_pair):
    files = {**OLD, "_snapshots/2024-01-01.parquet": OLD["records.parquet"]}
    pair = make_pair(files)
    pair.push()
    pushed = pair.here.head()
    before = data_bytes(pair.here)
    act(pair.here, files={"records.parquet": b"new"})
    assert data_bytes(pair.here) - before < 10_000  # the end of the event log
    act(pair.here, files={"_snapshots/2024-01-01.parquet": None})
    assert data_bytes(pair.here) - before > 400_000
    checkout(pair.here.site(), pushed)
    assert pair.here.read() == files


def test_a_second_act_stores_nothing_more(make_pair):
    pair = make_pair(OLD)
    pair.push()
    act(pair.here, files={"records.parquet": b"new"})
    before = data_bytes(pair.here)
    act(pair.here, files={"records.parquet": b"newer"})
    assert data_bytes(pair.here) == before


def test_an_act_after_a_commit_stores_nothing_at_all(make_pair):
    pair = make_pair(OLD)
    pair.here.commit()
    before = data_bytes(pair.here)
    act(pair.here, files={"records.parquet": b"new"})
    assert data_bytes(pair.here) == before


def test_what_another_program_spoiled_does_not_stop_an_act(make_pair):
    pair = make_pair(OLD)
    pair.push()
    (pair.here.folder / "records.parquet").write_bytes(b"foreign")
    act(pair.here, files={"records.parquet": b"new"})
    assert pair.here.read()["records.parquet"] == b"new"
