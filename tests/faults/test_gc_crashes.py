"""Killed or failing at any change to the disk, a collection loses nothing that is to stay."""

from __future__ import annotations

import errno
import shutil

import pytest

from support import datasets
from support.faults import CRASHED, FINISHED, Crash, Fail, in_child, moments_of
from support.pairs import Pair
from usrstore.errors import StorageError
from usrstore.objects.ids import Kind, hash_object
from usrstore.odb import durable
from usrstore.verbs import gc
from usrstore.verbs.fsck import fsck
from usrstore.verbs.retention import Retention

RULES = Retention(grace=0.0, keep_last=2, keep_ops=0.0)
SHARDS = 4


def collect(pair):
    return gc.collect(pair.here.root, pair.here.who, RULES)


def repack(pair):
    return gc.repack(pair.here.root, pair.here.who)


def forgetting(home):
    """Five states of which three are to go, an object that nothing reaches, many small packs."""
    pair = Pair.make(home)
    made = {}
    for number in range(5):
        files = {
            "records.parquet": datasets.noise(f"v{number}", 3000),
            ".events.log": datasets.events(*range(number + 1)),
            "_artifacts/same": datasets.noise("same", 70_000),
        }
        pair.here.write(files)
        made[pair.here.commit().manifest] = files
    data = datasets.noise("litter", 500)
    with pair.here.root.database.batch() as batch:
        batch.put(Kind.CHUNK, hash_object(Kind.CHUNK, data), data)
    return pair, made


ACTS = {"collect": collect, "repack": repack}


@pytest.fixture(scope="session")
def prepared(memory_home):
    home = memory_home / "gc-crash"
    pair, made = forgetting(home)
    calls, points = {}, {}
    for name, act in ACTS.items():
        trial = pair.copy_to(home / f"count-{name}")
        calls[name], points[name] = moments_of(lambda act=act, trial=trial: act(trial), within=home)
        print(f"{name}: {len(calls[name])} changes, {len(points[name])} crash points")
    return pair, made, calls, points


def check_what_stays(pair, made, name, *, deep=False):
    stays = made if name == "repack" else dict(list(made.items())[-2:])
    for oid, files in stays.items():
        assert pair.here.kept(oid) == files
    assert pair.here.head() == list(made)[-1]
    for oid in made:  # the others say still what they were
        assert pair.here.manifest(oid)
    findings = fsck(pair.here.root, pair.here.who, deep=deep).findings
    # Whoever is killed between a data pack and its metadata pack leaves no copy of its index.
    assert [found for found in findings if found.code != "index-copy-missing"] == []


@pytest.mark.spec("F-53")
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", list(ACTS))
def test_killed_at_any_change_a_collection_loses_nothing_that_stays(name, shard, prepared, home):
    pair, made, calls, points = prepared
    assert len(points[name]) > 20
    for number, when in points[name][shard::SHARDS]:
        at = f"{when} change {number} of {len(calls[name])}: {calls[name][number - 1]}"
        trial = pair.copy_to(home / f"{number}-{when}")
        tap = Crash(within=str(home), when=when, number=number)
        log = home / "log"
        ended = in_child(lambda trial=trial: ACTS[name](trial), tap=tap, log=log)
        assert ended in (CRASHED, FINISHED), f"{at}\n{log.read_text()}"
        try:
            check_what_stays(trial, made, name, deep=True)
            collect(trial)
            check_what_stays(trial, made, "collect")
            assert not collect(trial).collected.swept
        except Exception as exc:
            raise AssertionError(at) from exc
        shutil.rmtree(trial.here.path.parent)


@pytest.mark.spec("F-53")
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_change_ends_a_collection_with_a_word(error, prepared, home):
    pair, made, calls, _ = prepared
    for number in range(1, len(calls["collect"]) + 1, 3):
        trial = pair.copy_to(home / f"{number}")
        with durable.tapped(Fail(within=str(home), errno=error, number=number)):
            try:
                collect(trial)
            except StorageError as exc:
                assert exc.hint
        check_what_stays(trial, made, "collect")
        collect(trial)
        check_what_stays(trial, made, "collect")
        shutil.rmtree(trial.here.path.parent)
