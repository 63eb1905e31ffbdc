"""Real processes: writers commit, readers check out, collections and repacks run, and every
file's time lies. Whatever a commit said it kept can be had afterwards."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from pathlib import Path

import pytest

from support import datasets
from support.pairs import Place
from support.people import make_who
from usrstore.errors import UsrError
from usrstore.objects.ids import ManifestId, ObjectId
from usrstore.odb import reach
from usrstore.verbs import gc
from usrstore.verbs.checkout import checkout
from usrstore.verbs.commit import commit
from usrstore.verbs.fsck import fsck
from usrstore.verbs.retention import Retention
from usrstore.verbs.site import Site

COMMITS, MOST, FENCES, PATIENCE = 8, 80, 4, 30
NOW = Retention(grace=0.0)
YEARS_S = 30 * 365 * 86400


def files_of(dataset, number):
    """Some bytes are new each time, some come back: those are what a writer finds again."""
    return {
        "records.parquet": datasets.noise(f"{dataset} {number % 3}", 90_000),
        ".events.log": datasets.events(*range(number + 1)),
        "_artifacts/same": datasets.noise("same", 70_000),
    }


def again(act, log):
    """Do it until it is done: a time of grace of nothing is too short for anybody."""
    for _ in range(PATIENCE):
        try:
            return act()
        except UsrError as exc:
            if exc.code not in ("collected", "object-not-found", "incomplete", "not-kept"):
                raise
            log.write(f"# {exc.code}\n")
    raise AssertionError("never done")


def fences(place):
    """How often something was deleted."""
    return sum(state.reason == "collection" for state in place.root.states.history())


def writer(path, dataset, log):
    place = Place(path)
    for number in range(MOST):
        if number >= COMMITS and fences(place) >= FENCES:
            return
        datasets.write(path / dataset, files_of(dataset, number))

        def act(number=number):
            site = Site.open(place.root, dataset, place.who)
            return commit(site, message=str(number))

        done = again(act, log)
        log.write(f"{dataset} {number} {done.manifest.hex()}\n")
        log.flush()


def reader(path, dataset, oids, log):
    place = Place(path)
    choice = random.Random(dataset)
    for _ in range(2 * COMMITS):
        number = choice.randrange(len(oids))

        def act(number=number):
            return checkout(Site.open(place.root, dataset, place.who), oids[number])

        again(act, log)
        assert datasets.read(path / dataset) == files_of(dataset, number)


def until_killed(act):
    def run(path, log):
        while True:
            try:
                act(path)
            except UsrError as exc:
                if exc.code not in ("conflict", "locked", "object-not-found"):
                    raise
                log.write(f"# {exc.code}\n")
                log.flush()

    return run


@until_killed
def collector(path):
    gc.collect(Place(path).root, make_who("gc"), NOW)
    time.sleep(0.01)


@until_killed
def repacker(path):
    gc.repack(Place(path).root, make_who("repack"), lock_timeout_s=5)
    time.sleep(0.05)


@until_killed
def liar(path):
    """Sets times of stored files to anything between 1996 and 2056."""
    for place in ("packs", "gc", "states"):
        folder = path / ".usr" / place
        for name in os.listdir(folder) if folder.is_dir() else ():
            if name.startswith(".tmp-"):
                continue  # it is being written, and each write dates it anew
            then = time.time() + random.uniform(-YEARS_S, YEARS_S)
            try:
                os.utime(folder / name, (then, then))
            except FileNotFoundError:
                continue
    time.sleep(0.02)


def start(log, act, *args):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with log.open("a") as file:
                try:
                    act(*args, file)
                    status = 0
                except BaseException:
                    file.write(traceback.format_exc())
        finally:
            os._exit(status)
    return pid


@pytest.mark.spec("F-53")
@pytest.mark.timeout(240)
def test_writers_readers_and_collections_at_once_lose_nothing(home):
    path = Path(home) / "root"
    path.mkdir()
    place = Place(path)
    oids = []
    for number in range(4):
        datasets.write(path / "ns/r", files_of("ns/r", number))
        oids.append(commit(Site.open(place.root, "ns/r", place.who), message="r").manifest)
    logs = {name: home / f"{name}.log" for name in ("a", "b", "r", "gc", "repack", "liar")}
    helpers = [
        start(logs["gc"], collector, path),
        start(logs["repack"], repacker, path),
        start(logs["liar"], liar, path),
    ]
    try:
        workers = {
            start(logs["a"], writer, path, "ns/a"): "a",
            start(logs["b"], writer, path, "ns/b"): "b",
            start(logs["r"], reader, path, "ns/r", oids): "r",
        }
        for pid, name in workers.items():
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert status == 0, logs[name].read_text()
    finally:
        for pid in helpers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    for name in ("gc", "repack", "liar"):
        text = logs[name].read_text() if logs[name].exists() else ""
        assert "Traceback" not in text, text
    made = [
        line.split()
        for name in "ab"
        for line in logs[name].read_text().splitlines()
        if not line.startswith("#")
    ]
    assert len(made) >= 2 * COMMITS
    assert fences(place), "no collection deleted anything meanwhile"
    kept = [(dataset, int(number), ObjectId.parse(oid)) for dataset, number, oid in made]
    kept += [("ns/r", number, oid) for number, oid in enumerate(oids)]
    for _ in range(2):  # and once more after a collection that nobody disturbs
        get = place.root.database.get
        for dataset, number, oid in kept:
            manifest = reach.manifest(get, ManifestId(oid))
            assert place.kept(ManifestId(oid)) == files_of(dataset, number), manifest.message
        findings = fsck(place.root, place.who, deep=True).findings
        assert [f for f in findings if f.code != "index-copy-missing"] == []
        gc.collect(place.root, place.who, NOW)
