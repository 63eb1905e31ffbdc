"""What one of many processes does at one bucket: whatever its dice say, and what it was told.

Four labs have a root each, and four processes at work in it. They commit, push, pull (which
merges what others did meanwhile), fetch, compare, collect and check; the link to the bucket
loses replies. `race` and `settle` run in processes that `support.prefork` forks.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from support import datasets
from support.pairs import Place
from support.people import make_who
from usrstore.errors import ConflictError, LockedError, UsrError
from usrstore.objects.names import DatasetId
from usrstore.remote import profiles
from usrstore.verbs import bucket, diff, fetch, gc, pull, push
from usrstore.verbs.commit import commit
from usrstore.verbs.fsck import fsck
from usrstore.verbs.options import Options
from usrstore.verbs.retention import Retention

LABS = 4
DATASETS = [DatasetId("ns/a"), DatasetId("ns/b")]
DEEDS = ("commit",) * 4 + ("push",) * 4 + ("pull",) * 3 + ("fetch", "diff", "gc", "repack", "fsck")
RULES = Retention(keep_last=1000, keep_ops=30 * 86400.0)
BEATEN = {"locked", "ref-moved", "changed-while-read", "remote-ahead", "diverged",
          "journal-pending"}  # fmt: skip
PATIENCE_S = 60.0


class Racer:
    """One process: its dice, and a log of what it was told is done."""

    def __init__(self, home, number, seed=0):
        self.home, self.number = Path(home), int(number)
        self.dice = random.Random(int(seed) * 1000 + self.number)
        self.place = Place(self.home / f"lab-{self.number % LABS}", make_who(f"p{number}"))
        self.log = self.home / f"log-{number}"
        self.count = 0

    def say(self, *words):
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(json.dumps(words) + "\n")

    def run(self, steps):
        for _ in range(steps):
            self.attempt(self.dice.choice(DEEDS), self.dice.choice(DATASETS))

    def attempt(self, deed, dataset):
        """True if it was done."""
        try:
            getattr(self, deed)(dataset)
        except UsrError as exc:
            beaten = isinstance(exc, (ConflictError, LockedError)) or exc.code in BEATEN
            self.say("refused", deed, exc.code, "" if beaten else exc.message)
            return False
        self.say("done", deed)
        return True

    def site(self, dataset):
        return self.place.site(dataset=dataset, lock_timeout_s=PATIENCE_S)

    def peer(self):
        profile = profiles.find(str(self.home / "remotes.yaml"), "b")
        place = self.place
        return bucket.connect(profile, os.environ, place.who, place.root)

    def commit(self, dataset):
        self.count += 1
        path = f"_artifacts/p{self.number}-{self.count}"
        scratch = self.home / f"scratch-{self.number}"
        scratch.write_bytes(datasets.noise(path, self.dice.randrange(1, 3000)))
        os.rename(scratch, self.place.path / dataset / path)
        made = commit(self.site(dataset), message=path)
        self.say("file", dataset, path)
        if made.manifest:
            self.say("state", dataset, made.manifest.hex(), self.place.path.name)

    def push(self, dataset):
        done = self.move(push.push, dataset)
        if done.state == "TRANSFERRED":
            self.say("state", dataset, done.manifest.hex(), "b")

    def pull(self, dataset):
        self.move(pull.pull, dataset)

    def move(self, verb, dataset):
        peer = self.peer()
        try:
            return verb(self.site(dataset), peer, "b", Options())
        finally:
            peer.close()

    def fetch(self, dataset):
        peer = self.peer()
        try:
            fetch.fetch(self.site(dataset), peer, "b")
        finally:
            peer.close()

    def diff(self, dataset):
        peer = self.peer()
        try:
            diff.diff(self.site(dataset), peer, "b", checks=Options().checks)
        finally:
            peer.close()

    def gc(self, _dataset):
        gc.collect(self.place.root, self.place.who, RULES, lock_timeout_s=PATIENCE_S)

    def repack(self, _dataset):
        gc.repack(self.place.root, self.place.who, lock_timeout_s=PATIENCE_S)

    def fsck(self, _dataset):
        found = fsck(self.place.root, self.place.who).findings
        self.say("found", [f"{row.code}: {row.message}" for row in found])


def race(home, number, seed, steps) -> int:
    Racer(home, number, seed).run(int(steps))
    return 0


def found(home) -> int:
    """The first lab gives its datasets to the bucket; the others take them."""
    for number in range(LABS):
        racer = Racer(home, number)
        for dataset in DATASETS:
            (racer.pull if number else racer.push)(dataset)
    return 0


def settle(home) -> int:
    """Alone: every lab commits, takes what the others did, and gives what it has; then all agree."""
    for number in (*range(LABS), *range(LABS)):
        racer = Racer(home, number)
        racer.log = Path(home) / f"end-{number}"
        racer.place.recover()
        for dataset in DATASETS:
            commit(racer.site(dataset), message="last")
            racer.pull(dataset)
            racer.push(dataset)
    return 0
