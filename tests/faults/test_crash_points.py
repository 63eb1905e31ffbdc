"""Killed at any change to a disk, every verb leaves exactly one state behind.

Each scenario is first run once to count its changes; then it is run anew for each of them, in a
forked process that dies there: before each change (which is after the one before it), in the
middle of each write, and after the last. Recovery must give the old or the new state, byte for
byte and with refs that agree; the same command must then succeed.
"""

from __future__ import annotations

import shutil

import pytest

from support.faults import CRASHED, FINISHED, Crash, count_calls, in_child
from support.scenarios import SCENARIOS, check_end, check_one_state

SHARDS = 4


@pytest.fixture(scope="module")
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
            calls = count_calls(lambda: scenario.act(trial), within=within)
            count = len(list(points(calls)))
            print(f"{scenario.name}: {len(calls)} changes, {count} crash points")
            made[scenario.name] = pair, calls, trial.here.outside(), trial.there.outside()
        return made[scenario.name]

    return get


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name.replace(" ", "-"))
def test_killed_at_any_change_the_verb_leaves_one_state(scenario, shard, prepared, home):
    pair, calls, *after = prepared(scenario)
    assert calls
    for number, when in list(points(calls))[shard::SHARDS]:
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


def points(calls):
    """Every moment that leaves a disk of its own."""
    for number, (op, _) in enumerate(calls, 1):
        yield number, "before"
        if op == "write":
            yield number, "torn"
    yield len(calls), "after"
