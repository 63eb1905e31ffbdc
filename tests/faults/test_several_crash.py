"""Killed at any change to a disk, a push or a pull of two datasets moves both or neither.

As in test_crash_points: counted once, then tried anew for each change. What recovery leaves must
be the old or the new state of *both* datasets, with refs that agree, and the same command must
then succeed.
"""

from __future__ import annotations

import shutil

import pytest

from support.faults import CRASHED, FINISHED, Crash, in_child, moments_of
from support.several import SCENARIOS, check_all_or_none, heads_agree, read, run

SHARDS = 8
SHARD = [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, SHARDS))]


@pytest.fixture(scope="session")
def prepared(memory_home):
    made = {}

    def get(scenario):
        if scenario.name not in made:
            home = memory_home / "several" / scenario.name.replace(" ", "-")
            home.mkdir(parents=True)
            pair = scenario.prepare(home)
            trial = pair.copy_to(home / "trial")
            within = trial.here.path.parent / scenario.crash if scenario.crash else home
            made[scenario.name] = (
                pair, *moments_of(lambda: run(scenario.action, trial), within=within)
            )  # fmt: skip
            assert read(getattr(trial, scenario.side)) == scenario.after
        return made[scenario.name]

    return get


@pytest.mark.parametrize("shard", SHARD)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name.replace(" ", "-"))
def test_killed_at_any_change_all_datasets_moved_or_none(scenario, shard, prepared, home, figures):
    pair, calls, points = prepared(scenario)
    assert calls
    seen = set()
    for number, when in points[shard::SHARDS]:
        at = f"{when} change {number} of {len(calls)}: {calls[number - 1]}"
        trial = pair.copy_to(home / f"{number}-{when}")
        within = trial.here.path.parent / scenario.crash if scenario.crash else home
        tap = Crash(within=str(within), when=when, number=number)
        log = home / "log"
        ended = in_child(lambda trial=trial: run(scenario.action, trial), tap=tap, log=log)
        assert ended in (CRASHED, FINISHED), f"{at}\n{log.read_text()}"
        try:
            seen.add(check_all_or_none(scenario, trial))
            run(scenario.action, trial)
            assert read(getattr(trial, scenario.side)) == scenario.after
            heads_agree(getattr(trial, scenario.side), scenario.after)
        except Exception as exc:
            raise AssertionError(at) from exc
        shutil.rmtree(trial.here.path.parent)
    figures(
        "pushes and pulls of two datasets killed at a change to the disk",
        kills=len(points[shard::SHARDS]),
    )
    assert seen == {"before", "after"}, "this shard tried one outcome only"
