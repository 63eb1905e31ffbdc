"""Processes of others, as /proc shows them: who is alive, whose child, and how to end one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

PATIENCE_S = 120.0


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


def parent(pid):
    found = stat_of(pid)
    return int(found[1]) if found else None


def kill(pid):
    """SIGKILL; True if there was something to kill."""
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


def wait_beside(process, condition, what):
    """Wait for what happens while a command runs; it must not end before."""

    def look():
        assert process.poll() is None, f"ended before {what}: {process.communicate()}"
        return condition()

    wait_for(look, what)


def wait_gone(*pids):
    for pid in pids:
        wait_for(lambda pid=pid: not is_alive(pid), f"process {pid} lives on")
