"""Every verb that changes a root, killed, refused or without power at any change to the disk.

Each act of `support.acts` is run once to count its changes, then anew for each of them: in a
forked process that dies there; on a disk that fails there, with the next of six errors; and, for
each moment, on the folders that a machine may come up with after a power cut. Recovery must show
the root as it was or as it becomes; the same act must then go through.
"""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from support import acts
from support.acts import ACTS
from support.faults import CRASHED, FINISHED, Crash, Fail, in_child, moments_of
from support.pairs import Place
from support.powerloss import Disk, survivals
from usrcli import main
from usrstore.errors import StorageError, UsrError
from usrstore.odb import durable

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EINTR)
ELSEWHERE = {
    "push": "test_crash_points", "pull": "test_crash_points", "recover": "test_crash_points",
    "trust": "a line in a file of the person", "drill": "works on roots that are thrown away", "bench": "works on roots that are thrown away",
    "serve": "the other end of a push",
}  # fmt: skip
READS = {
    "diff",
    "blame",
    "ls-remote",
    "status",
    "log",
    "show",
    "op",
    "events",
    "ls",
    "info",
    "schema",
    "cols",
    "describe",
    "head",
    "cell",
    "get",
    "grep",
    "validate",
    "export",
    "du",
    "completion",
    "cat-file",
    "diff-tree",
    "hash-object",
    "ls-tree",
    "pack-info",
    "rev-parse",
    "show-ref",
    "verify-manifest",
}


def every(stride, whole=pytest.mark.deep):
    """All acts; by default every stride-th moment of each, all of them among the tests of `whole`."""
    rows = [pytest.param(name, stride, id=name.replace(" ", "-")) for name in ACTS]
    rows += [
        pytest.param(name, 1, id=f"{name.replace(' ', '-')}-everywhere", marks=whole)
        for name in ACTS
    ]
    return pytest.mark.parametrize(("name", "stride"), rows)


@pytest.fixture(scope="session")
def prepared(memory_home):
    """Each act's root, its changes, and how it looks before and after; made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            home = memory_home / "acts" / name.replace(" ", "-")
            place = acts.prepare(ACTS[name], home)
            trial = acts.copy(place, home / "whole")
            before = acts.look(trial)
            calls, points = moments_of(lambda: ACTS[name].run(trial), within=home)
            after = acts.look(trial)
            made[name] = place, calls, points, before, after
        return made[name]

    return get


def check(name, place, before, after, at, forgiven=acts.CUT_OFF):
    """One of the two; and the same act goes through, where it was not done."""
    acts.check_sound(place, forgiven=forgiven)
    found = acts.look(place)
    first = acts.is_first(ACTS[name], place, found, before)
    assert first or found in (before, after), at
    if found != after or first:
        again = Place(place.path, acts.make_who_again())
        try:
            ACTS[name].run(again)
        except UsrError as exc:  # done, as far as the rest of the root can tell
            assert before == after, (at, exc)
        acts.check_sound(again, forgiven=forgiven)
        assert acts.look(again) == after, at
    return found == after


def test_every_command_that_changes_something_is_interrupted_somewhere():
    commands = {name for rows in main.COMMANDS.values() for name in rows}
    interrupted = {word.split()[0] for act in ACTS.values() for word in act.commands}
    assert commands == interrupted | ELSEWHERE.keys() | READS


@every(5, whole=pytest.mark.slow)
def test_killed_at_any_change_an_act_was_done_or_was_not(name, stride, prepared, home, figures):
    made, calls, points, before, after = prepared(name)
    points = [*points[:-1:stride], points[-1]]
    for number, when in points:
        at = f"{when} change {number} of {len(calls)}: {calls[number - 1]}"
        place = acts.copy(made, home / "trial")
        tap = Crash(within=str(home), when=when, number=number)
        log = home / "log"
        ended = in_child(lambda place=place: ACTS[name].run(place), tap=tap, log=log)
        assert ended in (CRASHED, FINISHED), f"{at}\n{log.read_text()}"
        try:
            check(name, place, before, after, at)
        except Exception as exc:
            raise AssertionError(at) from exc
        shutil.rmtree(home / "trial")
    figures("acts killed at a change to the disk", acts=1, changes=len(calls), kills=len(points))


@every(9)
def test_a_disk_that_refuses_any_change_leaves_one_state_and_a_hint(
    name, stride, prepared, home, figures
):
    made, calls, _, before, after = prepared(name)
    numbers = range(1, len(calls) + 1, stride)
    for number in numbers:
        error = ERRORS[number % len(ERRORS)]
        at = f"{errno.errorcode[error]} at change {number} of {len(calls)}: {calls[number - 1]}"
        place = acts.copy(made, home / "trial")
        with durable.tapped(Fail(within=str(home), errno=error, number=number)):
            try:
                ACTS[name].run(place)
            except StorageError as exc:
                assert exc.hint, at
        try:
            check(name, place, before, after, at)
        except Exception as exc:
            raise AssertionError(at) from exc
        shutil.rmtree(home / "trial")
    figures(
        "acts on a disk that refuses a change", acts=1, changes=len(calls), refusals=len(numbers)
    )


@every(16)
def test_when_the_power_goes_an_act_was_done_or_was_not(name, stride, prepared, home, figures):
    made, _, _, before, after = prepared(name)
    place = acts.copy(made, home / "watched")
    disk = Disk(home / "watched", home / "aside")
    with durable.tapped(disk):
        ACTS[name].run(place)
    tried, moments = 0, range(len(disk) - 1, -1, -stride)
    for number in moments:
        for what, tree, files in survivals(disk.at(number), 1 if stride > 1 else 2):
            last = disk.calls[number - 1] if number else None
            at = f"{what} after change {number} of {len(disk) - 1}: {last}"
            disk.show(tree, files, home / "trial")
            trial = Place(home / "trial" / "root", acts.make_who_again())
            try:
                done = check(name, trial, before, after, at, acts.POWERLESS)
                assert done or number < len(disk) - 1, "it had said that it was done"
            except Exception as exc:
                raise AssertionError(at) from exc
            shutil.rmtree(home / "trial")
            tried += 1
    disk.close()
    figures("acts without power", acts=1, moments=len(moments), folders=tried)
    assert tried or not os.listdir(home / "aside")
