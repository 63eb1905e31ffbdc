"""The power goes at any change to a disk that forgets whatever it was not asked to keep.

Each scenario is run once while `powerloss.Disk` watches. For every moment of that run several of
the folders that the machine might come up with are laid out; recovery must give the old or the
new state there, byte for byte and with refs that agree, and the same command must then go through.
What a command has said to be done is still done afterwards, however much the disk forgets.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from support.pairs import Pair
from support.powerloss import Disk, survivals
from support.scenarios import SCENARIOS, check_end, check_one_state
from usrstore.odb import durable

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
FALLS = {  # whose power goes, where that is not both
    "push, the client dies": "here",
    "push, the host dies": "there",
    "first push, the host dies": "there",
    "forced push, the host dies": "there",
}


def lose_power(scenario, home, *, stride, dice):
    """Tries every stride-th moment of a scenario; gives how many moments and folders there were."""
    pair = scenario.prepare(home / "prepared").copy_to(home / "watched", linked=scenario.linked)
    disk = Disk(home / "watched", home / "aside")
    outside = [pair.here.outside(), pair.there.outside()]
    with durable.tapped(disk):
        scenario.act(pair)
    becomes = [pair.here.outside(), pair.there.outside()]
    falls = FALLS.get(scenario.name, "")
    tried, moments = 0, range(len(disk) - 1, -1, -stride)
    for number in moments:
        moment = disk.at(number, sure=falls and ("there" if falls == "here" else "here"))
        for name, tree, files in survivals(moment, dice):
            last = disk.calls[number - 1] if number else None
            at = f"{name} after change {number} of {len(disk) - 1}: {last}"
            disk.show(tree, files, home / "trial")
            trial = Pair(
                replace(pair.here, path=home / "trial" / "here"),
                replace(pair.there, path=home / "trial" / "there"),
            )
            try:
                for place, *either in zip((trial.here, trial.there), outside, becomes, strict=True):
                    assert place.outside() in either
                check_one_state(scenario, trial)
                if number == len(disk) - 1 and not scenario.linked:
                    assert getattr(trial, scenario.side).read() == scenario.after, "it was done"
                scenario.act(trial)
                check_end(scenario, trial, tidy=False)
            except Exception as exc:
                raise AssertionError(at) from exc
            shutil.rmtree(home / "trial")
            tried += 1
    disk.close()
    print(f"{scenario.name}: {len(disk)} moments, {tried} folders that forgot something")
    return tried


@pytest.mark.parametrize("name", list(BY_NAME), ids=lambda name: name.replace(" ", "-"))
def test_when_the_power_goes_a_verb_leaves_one_state(name, home):
    assert lose_power(BY_NAME[name], home, stride=16, dice=1)


@pytest.mark.deep
@pytest.mark.parametrize("name", list(BY_NAME), ids=lambda name: name.replace(" ", "-"))
def test_when_the_power_goes_at_any_change_a_verb_leaves_one_state(name, home):
    assert lose_power(BY_NAME[name], home, stride=2, dice=3)
