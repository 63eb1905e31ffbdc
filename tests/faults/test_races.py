"""Sixteen processes on one store, each doing whatever its dice say: the history stays one line.

They commit, write parts, push to another root, collect, repack and check the store; four of them
work at another root, to which they pull. Refusals are part of it (a lock that was held, a ref that
moved, a file that was being written); a bug, a traceback or a damaged object is not. Every commit
and every part that was said to be done must be in the end state, and every state that was ever
named must be an ancestor of it.
"""

from __future__ import annotations

import collections
import json
import os
import random
import time
import traceback

import pytest

from support import datasets
from support.pairs import Place
from support.people import ALICE, BOB, make_who
from usrstore.dataset import registry
from usrstore.errors import ConflictError, LockedError, UsrError
from usrstore.objects.names import DatasetId, head_ref
from usrstore.odb import reach
from usrstore.verbs import gc, pull, push
from usrstore.verbs.commit import commit
from usrstore.verbs.fsck import fsck
from usrstore.verbs.mutating import mutating
from usrstore.verbs.options import Options
from usrstore.verbs.retention import Retention

PROCESSES, PULLERS = 16, 4
DATASETS = [DatasetId("ns/a"), DatasetId("ns/b"), DatasetId("ns/c")]
RULES = Retention(keep_last=1000, keep_ops=30 * 86400.0)
DEEDS = ("commit", "commit", "commit", "part", "part", "push", "gc", "repack", "fsck")
STEPS = 6
BEATEN = {"locked", "ref-moved", "changed-while-read", "remote-ahead", "diverged",
          "journal-pending"}  # fmt: skip


class Racer:
    """One process: its dice, and a log of what it was told is done."""

    def __init__(self, home, number, seed):
        self.number = number
        self.dice = random.Random(seed * 1000 + number)
        self.here = Place(home / "here", make_who(f"p{number}", ALICE))
        self.there = Place(home / "there", make_who(f"t{number}", BOB))
        self.log = home / f"log-{number}"
        self.count = 0

    def say(self, *words):
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(json.dumps(words) + "\n")

    def run(self, steps):
        for _ in range(steps):
            deed = "pull" if self.number < PULLERS else self.dice.choice(DEEDS)
            dataset = self.dice.choice(DATASETS)
            try:
                getattr(self, deed)(dataset)
            except UsrError as exc:
                beaten = isinstance(exc, (ConflictError, LockedError)) or exc.code in BEATEN
                self.say("refused", deed, exc.code, "" if beaten else exc.message)
            else:
                self.say("done", deed)

    def site(self, place, dataset):
        return place.site(dataset=dataset, lock_timeout_s=20)

    def commit(self, dataset):
        self.count += 1
        path = f"_artifacts/p{self.number}-{self.count}"
        data = datasets.noise(path, self.dice.randrange(1, 3000))
        folder = self.here.path / dataset
        scratch = self.here.path.parent / f"scratch-{self.number}"
        scratch.write_bytes(data)
        os.rename(scratch, folder / path)
        self.say("file", dataset, path)
        made = commit(self.site(self.here, dataset), message=path)
        if made.manifest:
            self.say("state", dataset, made.manifest.hex())

    def part(self, dataset):
        self.count += 1
        path = f"_derived/infer/part-{self.number}-{self.count}.parquet"
        with mutating(self.site(self.here, dataset)) as act:
            act.put(path, datasets.noise(path, 500))
            act.event("write_overlay_part", args={"path": path})
        self.say("file", dataset, path)

    def push(self, dataset):
        self.move(push.push, self.here, self.there, dataset)

    def pull(self, dataset):
        self.move(pull.pull, self.there, self.here, dataset)

    def move(self, verb, place, other, dataset):
        peer = other.host()
        try:
            done = verb(self.site(place, dataset), peer, "r", Options(force=place is self.there))
        finally:
            peer.close()
        if done.manifest is not None and place is self.here:
            self.say("state", dataset, done.manifest.hex())

    def gc(self, _dataset):
        gc.collect(self.here.root, self.here.who, RULES, lock_timeout_s=20)

    def repack(self, _dataset):
        gc.repack(self.here.root, self.here.who, lock_timeout_s=20)

    def fsck(self, _dataset):
        found = fsck(self.here.root, self.here.who).findings
        self.say("found", [f"{row.code}: {row.message}" for row in found])


def race(home, seed, steps):
    here, there = Place(home / "here", make_who()), Place(home / "there", make_who("bob", BOB))
    for place in (here, there):
        place.path.mkdir()
        (place.path / "registry.yaml").write_bytes(registry.initial())
    for dataset in DATASETS:
        datasets.write(here.path / dataset, {
            "records.parquet": datasets.noise(dataset, 20_000), "_artifacts/first": b"first",
        })  # fmt: skip
        commit(here.site(dataset=dataset), message="first")
    children = []
    for number in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            try:
                Racer(home, number, seed).run(steps)
            except BaseException:
                (home / f"bug-{number}").write_text(traceback.format_exc())
                os._exit(1)
            os._exit(0)
        children.append(pid)
    deadline = time.monotonic() + 240
    left = set(children)
    while left:
        assert time.monotonic() < deadline, "somebody waits for ever"
        pid, _ = os.waitpid(-1, os.WNOHANG)
        left.discard(pid)
        time.sleep(0 if pid else 0.005)
    bugs = [path.read_text() for path in home.glob("bug-*")]
    assert not bugs, bugs[0]
    return here, there, [row for path in home.glob("log-*") for row in rows(path)]


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def check(here, there, said, figures):
    told = collections.Counter((row[0], row[1]) for row in said if row[0] in ("done", "refused"))
    figures(
        "deeds of sixteen processes at one store",
        deeds=told.total(), **{f"{b} {a}": n for (a, b), n in sorted(told.items())},
    )  # fmt: skip
    assert [row for row in said if row[0] == "refused" and row[3]] == [], "only losers are refused"
    assert [row for row in said if row[0] == "found" and row[1]] == [], (
        "a check at work finds nothing"
    )
    for place in (here, there):
        place.recover()
        numbers = [state.number for state in place.root.states.history()]
        assert numbers == list(range(len(numbers), 0, -1)), "one line"
    get = here.root.database.get
    for dataset in DATASETS:
        commit(here.site(dataset=dataset), message="last")
        head = here.root.states.refs()[head_ref(dataset)]
        line = {oid for oid, _ in reach.ancestry(get, head)}
        listed = reach.listing(get, reach.manifest(get, head).tree)
        for row in said:
            if row[:2] == ["file", dataset]:
                assert row[2] in listed, "work was lost"
            elif row[:2] == ["state", dataset]:
                assert row[2] in {oid.hex() for oid in line}, "a state is in no history"
    for place in (here, there):
        assert fsck(place.root, place.who, deep=True).findings == []


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.deep) for n in range(2, 8))]
)
def test_sixteen_processes_on_one_store_lose_nothing(home, seed, figures):
    check(*race(home, seed, STEPS), figures)
