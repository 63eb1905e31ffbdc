"""SIGKILL at random moments of pushes and pulls by three writers at once, over a real sshd.

What a round is, who dies in it, and what must hold after it is told by `support.battle`. Most
kills are of processes that a warm usr forked, over one ssh connection that all share; a share of
them (USR_COLD_KILLS) is of programs that start from nothing, each with a login of its own. At the
end everything is pushed once more, and deep checks of every store find nothing.
"""

from __future__ import annotations

import collections
import os
import sys

import pytest

from support.battle import Battle, Cold, Swift, forces

QUICK, CI = {True: 60, False: 6}, 450  # in CI more than five hundred in all
BATTLE = {True: 500, False: 50}  # kills for which one set of stores serves
KILLS = int(os.environ.get("USR_KILLS", "10000"))  # of the deep run
COLD = int(os.environ.get("USR_COLD_KILLS", str(KILLS // 33)))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who is alive")


def fight(link, server, figures, *, seed, kills, swift):
    with forces(link, server.config, swift=swift) as made:
        battle = Battle(link, server.pid, made, seed)
        battle.fight(kills)
    how = "forked warm" if swift else "started cold"
    told = {f"{who} killed": n for who, n in battle.killed.items()}
    figures(
        f"kills of processes {how}, over a real sshd",
        kills=battle.killed.total(), rounds=battle.rounds, **told, **battle.outcomes,
    )  # fmt: skip
    return battle


@pytest.mark.parametrize("swift", [True, False], ids=["warm", "cold"])
def test_pushes_that_are_killed_leave_one_state_at_either_end(link, server, figures, swift):
    battle = fight(link, server, figures, seed=7, kills=QUICK[swift], swift=swift)
    assert battle.killed.total() >= QUICK[swift]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_hundreds_of_processes_that_are_killed_lose_nothing(link, server, figures):
    battle = fight(link, server, figures, seed=8, kills=CI, swift=True)
    assert battle.killed.keys() >= set(Swift.victims), "everybody dies"


def battles():
    """Enough of them for all the kills: (number, kills, swift)."""
    for swift, kills in ((True, KILLS - COLD), (False, COLD)):
        each = BATTLE[swift]
        for number, begin in enumerate(range(0, kills, each)):
            ended = "warm" if swift else "cold"
            yield pytest.param(
                100 + number, min(each, kills - begin), swift, id=f"{ended}-{number}"
            )


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("seed", "kills", "swift"), list(battles()))
def test_thousands_of_processes_that_are_killed_lose_nothing(
    link, server, figures, seed, kills, swift
):
    battle = fight(link, server, figures, seed=seed, kills=kills, swift=swift)
    ended = collections.Counter()
    for what, count in battle.outcomes.items():
        ended[what.split()[1]] += count
    assert ended["killed"]
    assert ended["failed"]
    if kills == BATTLE[swift]:
        assert battle.killed.keys() >= set((Swift if swift else Cold).victims), "everybody dies"
