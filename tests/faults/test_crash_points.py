"""Killed at any change to a disk, every verb leaves exactly one state behind.

Each scenario is first run once to count its changes; then it is run anew for each of them, in a
forked process that dies there: before each change (which is after the one before it; after
what only synced, the disk is what it was), in the middle of each write, and after the last. Recovery must give the old or the new state, byte for
byte and with refs that agree; the same command must then succeed.
"""

from __future__ import annotations

import itertools
import shutil

import pytest

from support.faults import CRASHED, FINISHED, Crash, Moments, in_child, moments_of
from support.scenarios import SCENARIOS, check_end, check_one_state
from usrstore.odb import durable

SHARDS = 4


@pytest.fixture(scope="session")
def prepared(memory_home):
    """Each scenario's pair and its changes, made when first asked for."""
    made = {}

    def get(scenario):
        if scenario.name not in made:
            home = memory_home / "crash" / scenario.name.replace(" ", "-")
            home.mkdir(parents=True)
            pair = scenario.prepare(home)
            trial = pair.copy_to(home / "trial", linked=scenario.linked)
            within = trial.here.path.parent / scenario.crash if scenario.crash else home
            calls, points = moments_of(lambda: scenario.act(trial), within=within)
            made[scenario.name] = pair, calls, points, trial.here.outside(), trial.there.outside()
        return made[scenario.name]

    return get


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name.replace(" ", "-"))
def test_killed_at_any_change_the_verb_leaves_one_state(scenario, shard, prepared, home, figures):
    pair, calls, points, *after = prepared(scenario)
    assert calls
    for number, when in points[shard::SHARDS]:
        at = f"{when} change {number} of {len(calls)}: {calls[number - 1]}"
        trial = pair.copy_to(home / f"{number}-{when}", linked=scenario.linked)
        within = trial.here.path.parent / scenario.crash if scenario.crash else home
        before = [trial.here.outside(), trial.there.outside()]
        tap = Crash(within=str(within), when=when, number=number)
        log = home / "log"
        ended = in_child(lambda trial=trial: scenario.act(trial), tap=tap, log=log)
        assert ended in (CRASHED, FINISHED), f"{at}\n{log.read_text()}"
        for place, was, becomes in zip((trial.here, trial.there), before, after, strict=True):
            assert place.outside() in (was, becomes), at
        try:
            check_one_state(scenario, trial)
            scenario.act(trial)
            check_end(scenario, trial)
        except Exception as exc:
            raise AssertionError(at) from exc
        shutil.rmtree(trial.here.path.parent)
    figures(
        "commits, pushes and pulls killed at a change to the disk", kills=len(points[shard::SHARDS])
    )


class Watch(Moments):
    """What both folders hold whenever a call begins."""

    def look_at(self, home):
        self.home, self.seen = home, []
        return self

    def at(self, when, number, op, path):
        if when == "before":
            self.seen.append(everything(self.home))


def everything(home):
    """But for the files that locks are held on: empty, and nothing to those who come later."""
    return sorted(
        (str(path.relative_to(home)), path.lstat().st_nlink, path.is_file() and path.read_bytes())
        for path in home.rglob("*")
        if path.parent.name != "locks"
    )


@pytest.mark.parametrize("name", ["pull", "push, the client dies", "push, the host dies"])
def test_a_moment_that_is_left_out_has_the_disk_of_the_one_before_it(name, home):
    scenario = next(row for row in SCENARIOS if row.name == name)
    pair = scenario.prepare(home)
    trial = pair.copy_to(home / "trial")
    within = home / "trial" / scenario.crash
    watch = Watch(within=str(within)).look_at(home / "trial")
    with durable.tapped(watch):
        scenario.act(trial)
    same = [one == two for one, two in itertools.pairwise(watch.seen)]
    left_out = [number for number, fresh in enumerate(watch.fresh) if not fresh]
    assert len(left_out) > 5
    assert all(same[number - 1] for number in left_out)
