"""SIGKILL at random moments of pushes by three writers at once, over a real sshd to one root.

The client, its ssh, the serving `usr` or the sshd of the session dies; nobody is warned. After
every round both ends recover, and each dataset is exactly what was pushed last or before that,
with refs that agree; what a push had confirmed is there. At the end everything is pushed once
more, and deep checks of all four stores find nothing.
"""

from __future__ import annotations

import collections
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import datasets
from support.pairs import Place
from support.people import make_who
from usrcli import main
from usrstore.objects.ids import Kind, hash_object
from usrstore.objects.names import DatasetId, head_ref
from usrstore.odb import reach
from usrstore.verbs.fsck import fsck

REMOTE = "bu-scc"
WRITERS, SHARDS = 3, 2
QUICK = 24
KILLS = int(os.environ.get("USR_KILLS", "500"))  # of the slow test
PATIENCE_S = 30.0
VICTIMS = ("client", "client", "server", "server", "ssh", "session")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who is alive")


def stat_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(pid):
    found = stat_of(pid)
    return found is not None and found[0] not in "ZX"


def children(pid):
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill(pid):
    """True if there was something to kill."""
    if pid is None or not is_alive(pid):
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


@dataclass
class Writer:
    """One person's root and the one dataset that it pushes."""

    number: int
    place: Place
    far: Place
    there: datasets.Files
    new: datasets.Files
    confirmed: bool = False
    unsure: bool = False
    """Whether the remote took a push of which we never heard: it looks like someone else's."""

    @property
    def dataset(self):
        return DatasetId(f"ns/w{self.number}")

    def edit(self, dice, round_):
        """The next day's work; it keeps a few files, changes a few, and drops some."""
        files = dict(self.new)
        files["records.parquet"] = datasets.noise((self.number, round_), dice.randrange(100, 9000))
        files[".events.log"] = files.get(".events.log", b"") + datasets.events(round_)
        files[f"_derived/infer/part-{round_ % 4}.parquet"] = datasets.noise(round_, 900)
        files.pop(f"_derived/infer/part-{(round_ + 2) % 4}.parquet", None)
        self.new = files
        datasets.write(self.place.path / self.dataset, files)

    def start(self, link) -> int:
        """A process of its own that pushes."""
        pid = os.fork()
        if pid:
            return pid
        try:
            os.environ.clear()
            os.environ.update(link.environment)
            quiet = os.open(link.home / f"log-{self.number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            sys.stdout, sys.stderr = (os.fdopen(fd, "w", closefd=False) for fd in (1, 2))
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            root = str(self.place.path)
            insist = ["--force-with-lease"] if self.unsure else []
            status = main.run(["--root", root, "push", self.dataset, REMOTE, "-y", *insist])
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        except BaseException:
            os._exit(99)


class Battle:
    """Rounds of pushes that are killed.

    Attributes:
        killed: how many processes of each kind.
        outcomes: what became of the pushes.
    """

    def __init__(self, link, seed):
        self.link = link
        self.dice = random.Random(seed)
        self.killed = collections.Counter()
        self.outcomes = collections.Counter()
        self.pids = link.home / "serving"
        self.pids.mkdir()
        script = f'#!/bin/sh\necho $$ > {self.pids}/$$\nexec {link.far_usr} "$@"\n'
        link.profile(usr_command=link.script("usr-serving", script))
        far = Place(link.there, make_who("there"))
        self.writers = []
        for number in range(WRITERS):
            root = link.home / f"writer-{number}"
            root.mkdir()
            (root / "registry.yaml").write_bytes(datasets.REGISTRY)
            writer = Writer(number, Place(root, make_who(f"w{number}")), far, {}, {})
            self.writers.append(writer)
        self.far = far
        self.span_s = 0.0

    def all_push(self):
        """Without any faults; gives how long it took."""
        began = time.monotonic()
        pids = [writer.start(self.link) for writer in self.writers]
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        logs = [(self.link.home / f"log-{w.number}").read_text() for w in self.writers]
        assert ends == [0] * WRITERS, logs
        self.settle()
        for writer in self.writers:
            writer.there, writer.unsure = writer.new, False
        return time.monotonic() - began

    def settle(self):
        """Nobody serves any more."""
        for path in list(self.pids.iterdir()):
            wait_for(lambda path=path: not is_alive(int(path.name)), "a server did not end")
            path.unlink()

    def round(self, number):
        """Three pushes at once, each of which meets a fate of its own."""
        for writer in self.writers:
            writer.edit(self.dice, number)
        pids = {writer.start(self.link): writer for writer in self.writers}
        began = time.monotonic()
        fates = sorted(
            (self.dice.uniform(0, self.span_s), self.dice.choice(VICTIMS), pid) for pid in pids
        )
        for moment, victim, client in fates:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            self.killed[victim] += kill(self.find(victim, client))
        for pid, writer in pids.items():
            deadline = time.monotonic() + PATIENCE_S
            while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
                assert time.monotonic() < deadline, "a push hangs"
                time.sleep(0.002)
            status = os.waitstatus_to_exitcode(ended[1])
            self.outcomes["killed" if status < 0 else "failed" if status else "done"] += 1
            log = (self.link.home / f"log-{writer.number}").read_text()
            assert "Traceback" not in log, log
            assert status <= 0 or "code: " in log, (status, log)
            writer.confirmed = status == 0
        self.settle()
        for writer in self.writers:
            self.check(writer)

    def find(self, victim, client):
        if victim == "client":
            return client
        if victim == "ssh":
            return next(iter(children(client)), None)
        serving = [int(path.name) for path in self.pids.iterdir()]
        serving = [pid for pid in serving if is_alive(pid)]
        if not serving:
            return None
        pid = self.dice.choice(serving)
        return pid if victim == "server" else int(stat_of(pid)[1])

    def check(self, writer):
        """One state at either end, refs that agree, nothing confirmed lost."""
        for place in (writer.place, self.far):
            place.recover()
            assert place.root.journaled() == []
        assert datasets.read(writer.place.path / writer.dataset) == writer.new
        found = datasets.read(self.far.path / writer.dataset)
        assert found == writer.new or (not writer.confirmed and found == writer.there)
        writer.unsure = not writer.confirmed and (writer.unsure or found != writer.there)
        writer.there = found
        refs, get = self.far.root.states.refs(), self.far.root.database.get
        tree = reach.manifest(get, refs[head_ref(writer.dataset)]).tree
        listed = {path: entry.content for path, entry in reach.listing(get, tree).items()}
        assert listed == {path: hash_object(Kind.CHUNK, data) for path, data in found.items()}

    def end(self):
        """Everybody pushes what is left; then all is equal, linear and sound."""
        self.all_push()
        for writer in self.writers:
            assert datasets.read(self.far.path / writer.dataset) == writer.new
        for place in [self.far, *(writer.place for writer in self.writers)]:
            numbers = [state.number for state in place.root.states.history()]
            assert numbers == list(range(len(numbers), 0, -1)), "one line of states"
            assert fsck(place.root, place.who, deep=True).findings == []


def fight(link, seed, kills):
    battle = Battle(link, seed)
    number = 0
    for writer in battle.writers:
        writer.edit(battle.dice, number)
    battle.all_push()
    for number in (1, 2):  # how long a push takes once everything is warm
        for writer in battle.writers:
            writer.edit(battle.dice, number)
        battle.span_s = battle.all_push()
    while battle.killed.total() < kills:
        number += 1
        battle.round(number)
    battle.end()
    print(
        f"{battle.killed.total()} kills over ssh in {number - 2} rounds of {WRITERS} pushes: "
        f"{dict(battle.killed)}; pushes {dict(battle.outcomes)}"
    )
    assert set(battle.killed) == set(VICTIMS)
    assert battle.outcomes["killed"]
    assert battle.outcomes["failed"]


def test_pushes_that_are_killed_leave_one_state_at_either_end(link):
    fight(link, 7, QUICK)


@pytest.mark.deep
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_hundreds_of_pushes_that_are_killed_leave_one_state_at_either_end(link, shard):
    fight(link, 100 + shard, KILLS // SHARDS)
