"""Several datasets over a real sshd: one login, one state, and all or nothing under SIGKILL."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time

import pytest

from support.datasets import DATASET, noise
from support.lab import sample_files
from support.processes import wait_for, wait_gone

REMOTE = "bu-scc"
NAMES = ("densegen/a", DATASET)
PATIENCE_S = 120


def old(name):
    return {**sample_files(), "name.txt": name.encode()}


def new(name):
    return {**old(name), "meta.md": b"# again\n", "_artifacts/large": noise(name, 4 << 20)}


def write(link, root, files):
    for name in NAMES:
        link.write(root / name, files(name))


def read(link, root):
    return {name: link.read(root / name) for name in NAMES}


def whole(files):
    return {name: files(name) for name in NAMES}


def logged_in(link):
    """A program at the remote that leaves a line, with its process id, for every login."""
    log = link.home / "logins"
    log.touch()
    text = f'#!/bin/sh\necho $$ >> {log}\nexec {link.far_usr} "$@"\n'
    link.profile(usr_command=link.script("logging", text))
    return log


def test_all_datasets_move_by_one_login_and_one_state(link):
    write(link, link.root, old)
    log = logged_in(link)
    said = link.usr("push", "--all", REMOTE, "-y").ok()
    assert said.lines[-1] == f"2 datasets: 2 transferred; state 1 of {REMOTE}"
    assert len(log.read_text().split()) == 1
    assert read(link, link.there) == whole(old)
    target = link.home / "clone"
    link.usr("clone", REMOTE, target).ok()
    assert len(log.read_text().split()) == 2
    assert read(link, target) == whole(old)


@pytest.mark.parametrize(
    "round_", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 16))]
)
def test_killed_over_ssh_a_push_of_two_moves_both_or_none(link, round_):
    write(link, link.root, old)
    link.usr("push", "--all", REMOTE, "-y").ok()
    write(link, link.root, new)
    log = logged_in(link)
    rng = random.Random(round_)
    push = link.start("push", "--all", REMOTE, "-y")
    wait_for(lambda: log.read_text().strip(), "the login")
    server = int(log.read_text())
    time.sleep(rng.uniform(0.1, 1.5))
    for pid in {"client": [push.pid], "server": [server], "both": [push.pid, server]}[
        rng.choice(["client", "server", "both"])
    ]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    push.communicate(timeout=PATIENCE_S)
    wait_gone(server)
    link.usr("--root", link.there, "recover").ok()
    assert read(link, link.there) in (whole(old), whole(new))
    for name in NAMES:
        status = link.usr("--root", link.there, "status", name, "--porcelain").ok()
        assert status.out == "", "the folder is not what its head says"
    link.usr("push", "--all", REMOTE, "-y").ok()
    assert read(link, link.there) == whole(new)
    shutil.rmtree(link.there)
