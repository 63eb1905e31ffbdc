"""The power goes at any change to a disk that forgets whatever it was not asked to keep.

Each scenario is run once while `powerloss.Disk` watches. For every moment of that run several of
the folders that the machine might come up with are laid out; recovery must give the old or the
new state there, byte for byte and with refs that agree, and the same command must then go through.
What a command has said to be done is still done afterwards, however much the disk forgets.
"""

from __future__ import annotations

import pytest

from support import several
from support.powerloss import blackouts
from support.scenarios import SCENARIOS, check_end, check_one_state

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
FALLS = {  # whose power goes, where that is not both
    "push, the client dies": "here",
    "push, the host dies": "there",
    "first push, the host dies": "there",
    "forced push, the host dies": "there",
}


def lose_power(scenario, home, figures, *, stride, dice):
    """Tries every stride-th moment of a scenario."""
    pair = scenario.prepare(home / "prepared").copy_to(home / "watched", linked=scenario.linked)
    outside, becomes = [pair.here.outside(), pair.there.outside()], []

    def act(watched):
        scenario.act(watched)
        becomes.extend([watched.here.outside(), watched.there.outside()])

    falls = FALLS.get(scenario.name, "")
    tried = 0
    for dark in blackouts(pair, act, home, stride=stride, dice=dice, falls=falls):
        trial = dark.pair
        try:
            for place, *either in zip((trial.here, trial.there), outside, becomes, strict=True):
                assert place.outside() in either
            check_one_state(scenario, trial)
            if dark.done and not scenario.linked:
                assert getattr(trial, scenario.side).read() == scenario.after, "it was done"
            scenario.act(trial)
            check_end(scenario, trial, tidy=False)
        except Exception as exc:
            raise AssertionError(dark.at) from exc
        tried += 1
    figures("commits, pushes and pulls without power", verbs=1, folders=tried)
    assert tried


@pytest.mark.parametrize("name", list(BY_NAME), ids=lambda name: name.replace(" ", "-"))
def test_when_the_power_goes_a_verb_leaves_one_state(name, home, figures):
    lose_power(BY_NAME[name], home, figures, stride=16, dice=1)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", list(BY_NAME), ids=lambda name: name.replace(" ", "-"))
def test_when_the_power_goes_at_any_change_a_verb_leaves_one_state(name, home, figures):
    lose_power(BY_NAME[name], home, figures, stride=1, dice=2)


def lose_power_together(scenario, home, figures, *, stride, dice):
    """The same, for two datasets that move as one: both of them or none."""
    pair = scenario.prepare(home / "prepared").copy_to(home / "watched")
    falls = {"push, the client dies": "here", "pull": ""}.get(scenario.name, "there")
    tried = 0

    def act(watched):
        several.run(scenario.action, watched)

    for dark in blackouts(pair, act, home, stride=stride, dice=dice, falls=falls):
        side = getattr(dark.pair, scenario.side)
        try:
            seen = several.check_all_or_none(scenario, dark.pair)
            assert seen == "after" or not dark.done, "it was done"
            several.run(scenario.action, dark.pair)
            assert several.read(side) == scenario.after
            several.heads_agree(side, scenario.after)
        except Exception as exc:
            raise AssertionError(dark.at) from exc
        tried += 1
    figures("pushes and pulls of two datasets without power", verbs=1, folders=tried)
    assert tried


TOGETHER = {scenario.name: scenario for scenario in several.SCENARIOS}


@pytest.mark.parametrize("name", list(TOGETHER), ids=lambda name: name.replace(" ", "-"))
def test_when_the_power_goes_all_datasets_moved_or_none(name, home, figures):
    lose_power_together(TOGETHER[name], home, figures, stride=80, dice=1)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", list(TOGETHER), ids=lambda name: name.replace(" ", "-"))
def test_when_the_power_goes_at_any_change_all_datasets_moved_or_none(name, home, figures):
    lose_power_together(TOGETHER[name], home, figures, stride=1, dice=1)
