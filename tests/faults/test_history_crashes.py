"""Killed at any change to the disk, a checkout and an undo leave one state behind, and no work lost."""

from __future__ import annotations

import shutil

import pytest

from support import datasets
from support.datasets import DATASET
from support.faults import CRASHED, FINISHED, Crash, in_child, moments_of
from support.pairs import LOCK_TIMEOUT_S, Pair
from usrstore.objects.ids import ManifestId
from usrstore.verbs import checkout, tags, undo

OLD, NEW = datasets.old_files(), datasets.new_files()
WORK = {**NEW, "meta.md": b"hours of work\n"}
HEAD, FOLDER = f"heads/{DATASET}", f"folders/{DATASET}"


def working(home):
    """Two states that are kept, a tag of the first, and work on top that no state holds."""
    pair = Pair.make(home, files=OLD)
    first = pair.here.commit().manifest
    tags.create(pair.here.root, pair.here.who, DATASET, "first", first)
    pair.here.write(NEW)
    pair.here.commit()
    pair.here.write(WORK)
    return pair


def to_the_first(pair):
    oid = pair.here.manifest().parents[0]
    checkout.checkout(pair.here.site(), ManifestId(oid))


def take_back(pair):
    undo.undo(pair.here.root, pair.here.who, to=1, lock_timeout_s=LOCK_TIMEOUT_S)


# An undo takes the road of a checkout, so a third of its points is enough by default.
ACTS = [
    pytest.param(to_the_first, 2, id="checkout"),
    pytest.param(take_back, 3, id="undo"),
    pytest.param(to_the_first, 1, id="checkout-at-every-change", marks=pytest.mark.slow),
    pytest.param(take_back, 1, id="undo-at-every-change", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("act", "stride"), ACTS)
def test_killed_at_any_change_folder_and_refs_agree_and_the_work_is_kept(act, stride, home):
    pair = working(home / "pair")
    head = pair.here.head()
    trial = pair.copy_to(home / "count")
    calls, points = moments_of(lambda: act(trial), within=home)
    ended_refs = set(trial.here.refs())
    shutil.rmtree(home / "count")
    assert len(points) > 30
    for number, when in [*points[:-1:stride], points[-1]]:
        at = f"{when} change {number} of {len(calls)}: {calls[number - 1]}"
        trial = pair.copy_to(home / "trial")
        tap = Crash(within=str(home / "trial"), when=when, number=number)
        log = home / "log"
        ended = in_child(lambda trial=trial: act(trial), tap=tap, log=log)
        assert ended in (CRASHED, FINISHED), f"{at}\n{log.read_text()}"
        trial.here.recover()
        found, refs = trial.here.read(), trial.here.refs()
        if found == WORK:
            assert refs[HEAD] == head, at
            assert FOLDER not in refs or trial.here.kept(refs[FOLDER]) == WORK, at
        else:
            assert found == OLD, at
            assert set(refs) == ended_refs, at
            states = list(trial.here.root.states.history())
            assert trial.here.kept(states[1].refs[FOLDER]) == WORK, f"the work is kept; {at}"
            undo.undo(trial.here.root, trial.here.who, lock_timeout_s=LOCK_TIMEOUT_S)
            assert trial.here.read() == WORK, at
        shutil.rmtree(home / "trial")
