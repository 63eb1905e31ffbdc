"""SIGKILL at random moments of real commands and of many at once: a file never lacks its event."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time

import pyarrow.parquet as pq
import pytest

from support.lab import USR
from support.pairs import DATASET, Place
from support.people import make_who
from usrstore.dataset import events, registry
from usrstore.verbs.creating import create
from usrstore.verbs.mutating import mutating

ROUNDS = 24


@pytest.fixture
def place(home):
    (home / "registry.yaml").write_bytes(registry.initial())
    place = Place(home, make_who())
    create(place.site())
    return place


def write_part(place, number, *, patience_s=60):
    with mutating(place.site(lock_timeout_s=patience_s)) as act:
        act.put(f"_derived/infer/part-{number}.parquet", b"part %d" % number)
        act.event("write_overlay_part", args={"number": number})


def logged(place):
    found = [json.loads(line) for line in events.lines(str(place.folder))]
    return [e["args"]["number"] for e in found if e["action"] == "write_overlay_part"]


def parts(place):
    at = place.folder / "_derived" / "infer"
    names = os.listdir(at) if at.is_dir() else []
    return sorted(int(name.removeprefix("part-").removesuffix(".parquet")) for name in names)


def test_killed_at_random_moments_files_and_events_agree(place, figures):
    rng = random.Random(7)
    interrupted = 0
    for round_ in range(ROUNDS):
        pid = os.fork()
        if pid == 0:
            for number in range(1000):
                write_part(place, round_ * 1000 + number)
            os._exit(0)
        time.sleep(rng.uniform(0.001, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        interrupted += bool(place.root.journaled())
        place.recover()
        assert place.root.journaled() == []
        assert sorted(logged(place)) == parts(place)
        assert os.listdir(place.root.stage_path(DATASET)) == []
    assert parts(place)
    figures("writers of parts, killed", kills=ROUNDS, with_a_journal=interrupted)


def test_an_import_that_is_killed_has_all_its_rows_or_none(place):
    rng = random.Random(8)
    ends = []
    for number in range(6):
        sequences = ["".join(rng.choices("ACGT", k=50)) for _ in range(300)]
        path = place.path / f"{number}.csv"
        path.write_text("\n".join(["sequence", *sequences]))
        words = ["--root", str(place.path), "import", DATASET, "--from", "csv", "--path", str(path)]
        before = pq.read_metadata(place.folder / "records.parquet").num_rows
        child = subprocess.Popen([*USR, *words], stdout=subprocess.DEVNULL)
        stop = time.monotonic() + 20
        while not any(place.path.glob(".usr/stage/*/*")) and child.poll() is None:
            assert time.monotonic() < stop
        time.sleep(rng.uniform(0, 0.2))
        child.kill()
        child.wait()
        place.recover()
        rows = pq.read_metadata(place.folder / "records.parquet").num_rows
        assert rows in (before, before + 300)
        found = [json.loads(line) for line in events.lines(str(place.folder))]
        told = [e for e in found if e["action"] == "import_rows"]
        assert sum(e["metrics"]["rows_written"] for e in told) == rows
        assert len(list(place.folder.glob("_snapshots/*"))) == min(5, len(told))
        ends.append(rows > before)
    print(f"{sum(ends)} of {len(ends)} imports were done before they were killed")


@pytest.mark.slow
def test_two_hundred_processes_at_once_lose_nothing(place):
    children = []
    for number in range(200):
        pid = os.fork()
        if pid == 0:
            try:
                write_part(place, number, patience_s=240)
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 200
    assert sorted(logged(place)) == parts(place) == list(range(200))
