"""Rounds of pushes and pulls between real processes, some of which are killed.

Three writers push a dataset each to one root over a real sshd, all at once; now and then a reader
pulls one of these meanwhile. In every round some process of each dies at a moment of the dice:
a client, its ssh, a serving usr, the sshd of the session, the master connection, or whoever
recovers afterwards. Nobody is warned. Then both ends recover, and each dataset is exactly what
was pushed last or before that, with refs that agree; what a push had confirmed is there.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import random
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from support import datasets
from support.pairs import Place
from support.people import make_who
from support.prefork import Warm
from support.processes import children, is_alive, kill, wait_for
from usrstore.dataset import registry
from usrstore.objects.ids import Kind, hash_object
from usrstore.objects.names import DatasetId, head_ref
from usrstore.odb import reach
from usrstore.verbs import gc
from usrstore.verbs.fsck import fsck
from usrstore.verbs.retention import Retention

REMOTE = "bu-scc"
PROGRAM = str(Path(sys.executable).parent / "usr")
WRITERS = 3
PATIENCE_S = 60.0
LATEST = 1.0  # of the time that a push takes: some come through
READS = 0.34  # of the rounds have a reader
RECOVERS = 0.5  # of the recoveries that have something to do are killed once
TIDY = 20  # rounds after which small packs are merged, so that the last rounds are as the first
RULES = Retention(grace=0.0, keep_last=1000, keep_ops=30 * 86400.0)


@dataclass
class Writer:
    """One person's root and the one dataset that it pushes; the root of a reader of it."""

    number: int
    place: Place
    reader: Place
    there: datasets.Files = field(default_factory=dict)
    new: datasets.Files = field(default_factory=dict)
    read: datasets.Files = field(default_factory=dict)
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
        files[".events.log"] = (files.get(".events.log", b"") + datasets.events(round_))[-9000:]
        files[f"_derived/infer/part-{round_ % 4}.parquet"] = datasets.noise(round_, 900)
        files.pop(f"_derived/infer/part-{(round_ + 2) % 4}.parquet", None)
        self.new = files
        datasets.write(self.place.path / self.dataset, files)


@dataclass
class Attempt:
    """A push or a pull that runs; `command` has a pid and can be polled."""

    what: str
    writer: Writer
    command: object
    log: Path
    began: float


class Cold:
    """Every usr is a new process of its own program, every connection a login of its own."""

    victims = ("client",) * 3 + ("server",) * 3 + ("ssh", "session")

    def __init__(self, link):
        self.link = link
        self.pids = link.home / "pids"
        self.pids.mkdir()
        text = f'#!/bin/sh\necho > {self.pids}/$$\nexec {link.far_usr} "$@"\n'
        link.profile(usr_command=link.script("usr-serving", text))

    def start(self, words, log):
        with open(log, "wb") as out:
            return subprocess.Popen(
                [PROGRAM, *map(str, words)], env=self.link.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def ready(self):
        """Nothing to prepare."""

    master = None

    def close(self):
        """Nothing to end."""


class Swift:
    """Every usr is forked from a warm one; connections ride on one login, as a master keeps it."""

    victims = ("client",) * 8 + ("server",) * 8 + ("ssh",) * 2 + ("session", "master")

    def __init__(self, link, config):
        self.link = link
        self.socket = link.home / "cm"
        self._warm = Warm(link.home)
        self.pids = Path(self._warm.pids)
        there = f"env XDG_CONFIG_HOME={shlex.quote(str(link.people['there']))} "
        shared = ["-F", config, "-o", f"ControlPath={self.socket}"]
        link.profile(
            usr_command=there + self._warm.script(link.home / "usr-warm"),
            ssh_options=[*shared, "-o", "ControlMaster=no"],
        )
        self._login = ["ssh", *shared, "-o", "ControlMaster=yes", "-N", "scc1"]
        self._master = None

    def start(self, words, log):
        return self._warm.start(words, self.link.environment, cwd=self.link.home, output=log)

    def ready(self):
        """Log in again, if the connection was killed."""
        if self._master is not None and self._master.poll() is None:
            return
        self.socket.unlink(missing_ok=True)
        self._master = subprocess.Popen(
            self._login, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self.socket.exists, "no master connection")

    @property
    def master(self):
        return self._master.pid

    def close(self):
        if self._master is not None:
            self._master.kill()
            self._master.wait()
        self._warm.close()


class Battle:
    """Rounds of pushes that are killed.

    Args:
        link: two roots and a remote.
        sshd: its pid.
        forces: how processes are made, `Cold` or `Swift`.
        seed: of the dice.

    Attributes:
        killed: how many processes of each kind.
        outcomes: what became of the pushes and pulls.
    """

    def __init__(self, link, sshd, forces, seed):
        self.link, self.sshd, self.forces = link, sshd, forces
        self.dice = random.Random(seed)
        self.killed = collections.Counter()
        self.outcomes = collections.Counter()
        self.rounds = 0
        self.far = Place(link.there, make_who("there"))
        self.writers = []
        for number in range(WRITERS):
            roots = [link.home / f"{name}-{number}" for name in ("writer", "reader")]
            for root in roots:
                root.mkdir()
                (root / "registry.yaml").write_bytes(registry.initial())
            self.writers.append(Writer(number, *(Place(root, make_who()) for root in roots)))
        self.span_s = 0.0

    @property
    def places(self):
        return [self.far, *(p for w in self.writers for p in (w.place, w.reader))]

    def fight(self, kills):
        for _ in range(3):  # the last of them shows how long a push takes once all is warm
            for writer in self.writers:
                writer.edit(self.dice, self.rounds)
            self.rounds += 1
            self.forces.ready()
            began = time.monotonic()
            self.all_push()
            self.span_s = time.monotonic() - began
        while self.killed.total() < kills:
            self.round()
        self.end()

    # ── commands ────────────────────────────────────────────────────────────────────────
    def start(self, what, writer):
        root = writer.place.path if what == "push" else writer.reader.path
        words = ["--root", root, what, writer.dataset, REMOTE, "-y"]
        if what == "push" and writer.unsure:
            words.append("--force-with-lease")
        log = self.link.home / f"log-{what}-{writer.number}"
        return Attempt(what, writer, self.forces.start(words, log), log, time.monotonic())

    def finish(self, attempts):
        """Wait for all of them; gives how each ended."""
        deadline = time.monotonic() + PATIENCE_S
        left, ends = list(attempts), {}
        while left:
            for attempt in left:
                status = attempt.command.poll()
                if status is None:
                    continue
                ends[id(attempt)] = status
                if status == 0:
                    took = time.monotonic() - attempt.began
                    self.span_s += (took - self.span_s) / 8
            left = [attempt for attempt in left if id(attempt) not in ends]
            assert time.monotonic() < deadline, f"a {left[0].what} hangs"
            time.sleep(0.002 if left else 0)
        return [ends[id(attempt)] for attempt in attempts]

    def all_push(self):
        """Without any faults."""
        attempts = [self.start("push", writer) for writer in self.writers]
        ends = self.finish(attempts)
        assert ends == [0] * WRITERS, [attempt.log.read_text() for attempt in attempts]
        self.settle()
        for writer in self.writers:
            writer.there, writer.unsure = writer.new, False

    def settle(self):
        """Nobody serves any more."""
        for path in list(self.forces.pids.iterdir()):
            wait_for(lambda path=path: not is_alive(int(path.name)), "a server did not end")
            path.unlink()

    # ── a round ─────────────────────────────────────────────────────────────────────────
    def round(self):
        """Three pushes and perhaps a pull, each of which meets a fate of its own."""
        self.rounds += 1
        for writer in self.writers:
            writer.edit(self.dice, self.rounds)
        self.forces.ready()
        attempts = [self.start("push", writer) for writer in self.writers]
        if self.dice.random() < READS:
            attempts.append(self.start("pull", self.dice.choice(self.writers)))
        self.strike(attempts)
        for attempt, status in zip(attempts, self.finish(attempts), strict=True):
            log = attempt.log.read_text()
            ended = "killed" if status < 0 else "failed" if status else "done"
            self.outcomes[f"{attempt.what} {ended}"] += 1
            assert "Traceback" not in log, log
            assert "code: bug" not in log, log
            assert status <= 0 or "code: " in log, (status, log)
            if attempt.what == "push":
                attempt.writer.confirmed = status == 0
        self.settle()
        self.recover(self.far)
        for attempt in attempts:
            if attempt.what == "pull":
                self.check_read(attempt.writer)
        for writer in self.writers:
            self.check(writer)
        if self.rounds % TIDY == 0:
            self.tidy()

    def strike(self, attempts):
        """Somebody of each attempt is killed at a moment of the dice, unless it is over by then."""
        began, most = time.monotonic(), LATEST * self.span_s
        fates = [
            (self.dice.uniform(0, most), number, self.dice.choice(self.forces.victims))
            for number in range(len(attempts))
        ]
        heapq.heapify(fates)
        while fates:
            moment, number, victim = heapq.heappop(fates)
            time.sleep(max(0.0, began + moment - time.monotonic()))
            command = attempts[number].command
            if kill(self.find(victim, command.pid)):
                self.killed[victim] += 1
            elif command.poll() is None:  # whoever was meant is not there yet, or not any more
                heapq.heappush(fates, (moment + self.dice.uniform(0, most / 3), number, victim))

    def find(self, victim, client):
        """The process that is to die; None if there is none just now."""
        if victim == "client":
            return client
        if victim == "ssh":
            return next(iter(children(client)), None)
        if victim == "master":
            return self.forces.master
        if victim == "session":
            found = children(self.sshd)
        else:
            found = [int(path.name) for path in self.forces.pids.iterdir()]
            found = [pid for pid in found if is_alive(pid)]
        return self.dice.choice(found) if found else None

    def tidy(self):
        for place in self.places:
            if place.root.has_store:
                gc.repack(place.root, place.who)
                gc.collect(place.root, place.who, RULES)

    def recover(self, place):
        """Finish or undo what was interrupted; whoever does may be killed as well."""
        if place.root.journaled() and self.dice.random() < RECOVERS:
            log = self.link.home / "log-recover"
            command = self.forces.start(["--root", place.path, "recover"], log)
            time.sleep(self.dice.uniform(0, self.span_s / 4))
            self.killed["recovery"] += kill(command.pid)
            wait_for(lambda: command.poll() is not None, "a recovery hangs")
        place.recover()
        assert place.root.journaled() == []

    # ── what must hold ──────────────────────────────────────────────────────────────────
    def check(self, writer):
        """One state at either end, refs that agree, nothing confirmed lost."""
        self.recover(writer.place)
        assert datasets.read(writer.place.path / writer.dataset) == writer.new
        found = datasets.read(self.far.path / writer.dataset)
        assert found == writer.new or (not writer.confirmed and found == writer.there)
        writer.unsure = not writer.confirmed and (writer.unsure or found != writer.there)
        writer.there = found
        self.check_refs(self.far, writer, found)

    def check_read(self, writer):
        """What a reader has is a state: what it had, what was there, or what came meanwhile."""
        self.recover(writer.reader)
        found = datasets.read(writer.reader.path / writer.dataset)
        assert found in (writer.read, writer.there, writer.new)
        writer.read = found
        if found:
            self.check_refs(writer.reader, writer, found)

    def check_refs(self, place, writer, files):
        root = place.root
        get, refs = root.database.get, root.states.refs()
        tree = reach.manifest(get, refs[head_ref(writer.dataset)]).tree
        listed = {path: entry.content for path, entry in reach.listing(get, tree).items()}
        assert listed == {path: hash_object(Kind.CHUNK, data) for path, data in files.items()}

    def end(self):
        """Everybody pushes what is left and reads it; then all is equal, linear and sound."""
        self.forces.ready()
        self.all_push()
        assert self.finish([self.start("pull", w) for w in self.writers]) == [0] * WRITERS
        self.settle()
        for writer in self.writers:
            for place in (self.far, writer.reader):
                assert datasets.read(place.path / writer.dataset) == writer.new
        for place in self.places:
            numbers = [state.number for state in place.root.states.history()]
            assert numbers == list(range(len(numbers), 0, -1)), "one line of states"
            assert fsck(place.root, place.who, deep=True).findings == []


@contextlib.contextmanager
def forces(link, config, *, swift):
    made = Swift(link, config) if swift else Cold(link)
    try:
        yield made
    finally:
        made.close()
