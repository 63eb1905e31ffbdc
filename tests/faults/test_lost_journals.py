"""A journal that is gone in the middle of a promotion, whoever removed it, loses nothing.

The old files of a promotion lie in its stage, and of light states they are all that there is. A
verb is killed at a change to the disk, and then its journal is removed, or damaged; the copy in
the stage must tell recovery what to do: the old or the new state, and the same command again.
"""

from __future__ import annotations

import shutil

import pytest

from support import acts, several
from support.acts import ACTS
from support.faults import CRASHED, FINISHED, Crash, count_calls, in_child
from support.pairs import Pair
from support.scenarios import SCENARIOS, check_end, check_one_state
from usrstore.verbs.fsck import fsck

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
MOVING = ["pull", "forced pull", "push, the host dies", "forced push, the host dies"]
CHANGING = ["materialize", "overlay-compact", "overlay-remove", "garden", "dedupe"]


def remove(path):
    path.unlink()


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose(root, how):
    """The journals of a root; True if there were any that something depends on."""
    found = [path for path in root.glob(".usr/journal/*") if not path.name.startswith(".")]
    copied = list(root.glob(".usr/quarantine/*/*/journal")) + list(
        root.glob(".usr/stage/*/journal")
    )
    if copied:
        for path in found:
            how(path)
    return bool(found and copied)


HOW = pytest.mark.parametrize(
    ("how", "stride"),
    [
        pytest.param(remove, 8, id="removed"),
        pytest.param(damage, 9, id="damaged", marks=pytest.mark.slow),
        pytest.param(remove, 1, id="removed-everywhere", marks=pytest.mark.deep),
        pytest.param(damage, 1, id="damaged-everywhere", marks=pytest.mark.deep),
    ],
)


def in_the_middle(calls):
    """Changes between a journal's copy and its end, where old files are on their way."""
    begins = [
        n for n, (op, path) in enumerate(calls, 1) if op == "rename" and path.endswith("/journal")
    ]
    ends = [
        n for n, (op, path) in enumerate(calls, 1) if op == "unlink" and path.endswith("/journal")
    ]
    return range(begins[0], ends[-1] + 1)


@HOW
@pytest.mark.parametrize("name", MOVING, ids=lambda name: name.replace(" ", "-"))
def test_a_transfer_whose_journal_is_lost_leaves_one_state(name, how, stride, home, figures):
    scenario = BY_NAME[name]
    pair = scenario.prepare(home / "prepared")
    trial = pair.copy_to(home / "count")
    calls = count_calls(lambda: scenario.act(trial), within=home)
    lost = 0
    for number in in_the_middle(calls)[::stride]:
        at = f"change {number} of {len(calls)}: {calls[number - 1]}"
        trial = pair.copy_to(home / "trial")
        tap = Crash(within=str(home), number=number)
        log = home / "log"
        ended = in_child(lambda trial=trial: scenario.act(trial), tap=tap, log=log)
        assert ended in (CRASHED, FINISHED), f"{at}\n{log.read_text()}"
        side = getattr(trial, scenario.side)
        if lose(side.path, how):
            lost += 1
            codes = {row.code for row in fsck(side.root, side.who).findings}
            assert codes & {"journal-missing", "journal-damaged"}, at
        try:
            check_one_state(scenario, trial)
            scenario.act(trial)
            check_end(scenario, trial)
        except Exception as exc:
            raise AssertionError(at) from exc
        shutil.rmtree(home / "trial")
    figures("promotions that lost a journal half-way", promotions=lost)
    assert lost


@HOW
@pytest.mark.parametrize("name", CHANGING)
def test_an_act_whose_journal_is_lost_was_done_or_was_not(name, how, stride, home, figures):
    made = acts.prepare(ACTS[name], home)
    trial = acts.copy(made, home / "whole")
    before = acts.look(trial)
    calls = count_calls(lambda: ACTS[name].run(trial), within=home / "whole")
    after = acts.look(trial)
    lost = 0
    for number in in_the_middle(calls)[::stride]:
        at = f"change {number} of {len(calls)}: {calls[number - 1]}"
        place = acts.copy(made, home / "trial")
        tap = Crash(within=str(home / "trial"), number=number)
        log = home / "log"
        ended = in_child(lambda place=place: ACTS[name].run(place), tap=tap, log=log)
        assert ended in (CRASHED, FINISHED), f"{at}\n{log.read_text()}"
        lost += lose(place.path, how)
        try:
            acts.check_sound(place)
            assert acts.look(place) in (before, after), at
        except Exception as exc:
            raise AssertionError(at) from exc
        shutil.rmtree(home / "trial")
    figures("promotions that lost a journal half-way", promotions=lost)
    assert lost


@pytest.mark.parametrize(
    "which", [slice(0, 1), slice(1, 2), slice(0, 2)], ids=["one", "other", "all"]
)
def test_a_group_of_which_journals_are_lost_moves_whole_or_not(which, home, figures):
    pair = Pair.make(home / "prepared")
    several.write(pair.here, several.OLD)
    several.run("push", pair)
    several.write(pair.there, several.NEW)
    trial = pair.copy_to(home / "count")
    calls = count_calls(lambda: several.run("pull", trial), within=home / "count")
    lost, seen = 0, set()
    for number in in_the_middle(calls)[::5]:
        at = f"change {number} of {len(calls)}: {calls[number - 1]}"
        trial = pair.copy_to(home / "trial")
        tap = Crash(within=str(home / "trial"), number=number)
        log = home / "log"
        ended = in_child(lambda trial=trial: several.run("pull", trial), tap=tap, log=log)
        assert ended in (CRASHED, FINISHED), f"{at}\n{log.read_text()}"
        journals = sorted(trial.here.path.glob(".usr/journal/*"))[which]
        copies = list(trial.here.path.glob(".usr/quarantine/*/*/journal"))
        for path in journals if len(copies) == 2 else ():
            path.unlink()
            lost += 1
        trial.here.recover()
        found = several.read(trial.here)
        assert found in (several.OLD, several.NEW), at
        seen.add(found == several.NEW)
        several.run("pull", trial)
        assert several.read(trial.here) == several.NEW, at
        shutil.rmtree(home / "trial")
    figures("promotions that lost a journal half-way", promotions=lost)
    assert lost
    assert True in seen
