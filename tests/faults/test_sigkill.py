"""SIGKILL at random moments of a push between two real processes: the end is always clean."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time

import pytest

from support import datasets, serving
from support.faults import FINISHED, in_child
from support.pairs import Pair
from support.processes import is_alive, wait_for, wait_gone
from usrstore.verbs import push
from usrstore.verbs.options import Options

ROUNDS, SHARDS = 40, 2
PATIENCE_S = 120
LARGE = {"_artifacts/large": datasets.noise("large", 8 << 20)}
OLD, NEW = datasets.old_files(), {**datasets.new_files(), **LARGE}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who is alive")


def push_through_pipes(pair, began):
    peer = serving.connect(pair.there.path, began)
    try:
        push.push(pair.here.site(lock_timeout_s=PATIENCE_S), peer, "r", Options())
    finally:
        peer.close()


@pytest.fixture(scope="session")
def prepared(memory_home):
    """The pair, and how long a push takes once the other end has begun."""
    home = memory_home / "sigkill"
    pair = Pair.make(home, files=OLD)
    pair.push()
    pair.pull()
    pair.here.write(NEW)
    trial = pair.copy_to(home / "trial")
    assert in_child(lambda: push_through_pipes(trial, home / "began"), log=home / "log") == FINISHED
    seconds = time.time() - (home / "began").stat().st_mtime
    return pair, seconds


@pytest.mark.parametrize("shard", range(SHARDS))
def test_killed_at_random_moments_a_push_ends_clean(shard, prepared, home, figures):
    pair, seconds = prepared
    rng = random.Random(20_240 + shard)
    interrupted = 0
    for number in range(ROUNDS // SHARDS):
        victim = rng.choice(["client", "server", "both"])
        moment = rng.uniform(0, seconds)
        at = f"round {number}: {victim} after {moment:.4f} s"
        trial = pair.copy_to(home / str(number))
        began = home / f"began-{number}"
        client = os.fork()
        if client == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                push_through_pipes(trial, began)
            except BaseException:
                os._exit(1)
            os._exit(FINISHED)
        wait_for(began.exists, "the other end")
        server = int(began.read_text())
        time.sleep(moment)
        for name, pid in (("client", client), ("server", server)):
            if victim in (name, "both") and is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        ended = os.waitstatus_to_exitcode(os.waitpid(client, 0)[1])
        interrupted += ended != FINISHED
        seconds *= 0.9 if ended == FINISHED else 1.05  # machines are not equally quick all the time
        wait_gone(server)
        check(trial, at)
        shutil.rmtree(trial.here.path.parent)
    figures("pushes through pipes, killed", pushes=ROUNDS // SHARDS, interrupted=interrupted)
    assert interrupted


def check(pair, at):
    for place in (pair.here, pair.there):
        place.recover()
        assert place.root.journaled() == [], at
    assert pair.here.read() == NEW, at
    found = pair.there.read()
    assert found in (OLD, NEW), at
    listed = {path: entry.size for path, entry in listing(pair.there).items()}
    assert listed == {path: len(data) for path, data in found.items()}, at
    pair.push()
    assert pair.there.read() == NEW, at
    assert pair.push().state == "NO-OP", at


def listing(place):
    from usrstore.odb import reach

    return reach.listing(place.root.database.get, place.manifest().tree)
