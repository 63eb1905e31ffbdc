"""Faults at counted calls: crash before or after the k-th change to the disk, or fail it."""

from __future__ import annotations

import json
import os
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from usrstore.odb import durable

CRASHED = 137
FINISHED = 0
FAILED = 99


@dataclass
class Counter:
    """Counts changes below `within`; what happens at which call is up to the others."""

    within: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, when, op, path):
        if path.startswith(self.within):
            if when == "before":
                self.calls.append((op, path))
            self.at(when, len(self.calls), op, path)

    def at(self, when, number, op, path):
        """Call number `number` (from 1) is about to happen, or has just happened."""


STILL = ("fsync", "fsync-folder", "syncfs", "close")
"""What changes nothing for whoever is killed: a kernel that lives on forgets no page."""


@dataclass
class Moments(Counter):
    """Which calls begin with a disk that no counted call before them began with.

    A change elsewhere, which is not counted, makes another disk as well.
    """

    fresh: list[bool] = field(default_factory=list)
    _changed: bool = True

    def __call__(self, when, op, path):
        if when == "before" and path.startswith(self.within):
            self.fresh.append(self._changed)
            self._changed = False
        super().__call__(when, op, path)
        if when == "after":
            self._changed |= op not in STILL


@dataclass
class Crash(Counter):
    """Die without a word, as SIGKILL does: before one call, after it, or half-way through a write."""

    when: str = "before"
    number: int = 1

    def at(self, when, number, op, path):
        if (when, number) == (self.when, self.number):
            os._exit(CRASHED)
        if (when, number, self.when) == ("before", self.number, "torn"):
            os.pwrite, os.pwritev = _write_half, _write_half_of_all


def _write_half(fd, data, offset, write=os.pwrite):
    write(fd, data[: len(data) // 2], offset)
    os._exit(CRASHED)


def _write_half_of_all(fd, pieces, offset):
    _write_half(fd, b"".join(pieces), offset)


@dataclass
class Fail(Counter):
    """One call fails with an errno, or every call from one on."""

    errno: int = 5
    number: int = 1
    forever: bool = False
    spared: tuple[str, ...] = ()

    def at(self, when, number, op, path):
        due = number >= self.number if self.forever else number == self.number
        if when == "before" and due and op not in self.spared:
            raise OSError(self.errno, os.strerror(self.errno))


def count_calls(act, *, within="") -> list[tuple[str, str]]:
    """The changes that `act` makes below a folder."""
    counter = Counter(within=str(within))
    with durable.tapped(counter):
        act()
    return counter.calls


def moments_of(act, *, within=""):
    """The changes that `act` makes below a folder, and each moment at which a kill leaves a disk
    of its own: [(number, when)], for a `Crash`. There is none between two that only sync."""
    found = Moments(within=str(within))
    with durable.tapped(found):
        act()
    points = []
    for number, ((op, _), fresh) in enumerate(zip(found.calls, found.fresh, strict=True), 1):
        if fresh:
            points.append((number, "before"))
        if op == "write":
            points.append((number, "torn"))
    points.append((len(found.calls), "after"))
    return found.calls, points


def in_child(act, *, tap=None, log: Path) -> int:
    """Run `act` in a forked process; gives how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            if tap is None:
                act()
            else:
                with durable.tapped(tap):
                    act()
        except BaseException:
            log.write_text(traceback.format_exc())
            os._exit(FAILED)
        os._exit(FINISHED)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def moments(calls):
    """Every moment of an act that leaves a disk of its own: number of the change, and when."""
    for number, (op, _) in enumerate(calls, 1):
        yield number, "before"
        if op == "write":
            yield number, "torn"
    yield len(calls), "after"


def run_and_count(within, path, *words) -> int:
    """`usr` with these words, in a process of its own; the changes go to a file."""
    from usrcli import main

    Path(path).write_text(json.dumps(count_calls(lambda: main.run(list(words)), within=within)))
    return FINISHED


def run_and_crash(number, when, within, *words) -> int:
    """`usr` with these words, in a process that dies at a change to its disk."""
    from usrcli import main

    with durable.tapped(Crash(within=within, when=when, number=int(number))):
        return main.run(list(words))
