"""Killed, or failed, at any change to a disk: an overlay command was done, or it was not.

Each scenario is run once to count its changes, then anew for each of them in a process that
dies there. Recovery must give every file as it was or as it becomes, log and notes included; the
same command must then go through.
"""

from __future__ import annotations

import errno
import re
import shutil
from dataclasses import replace

import pyarrow as pa
import pytest

from support import datasets, overlays
from support.acts import archived, compact, deleted, parts, stale
from support.faults import CRASHED, FINISHED, Crash, Fail, count_calls, in_child, moments_of
from support.pairs import Place
from support.people import Clock, make_who
from usrstore.dataset.offer import Wish
from usrstore.errors import StorageError, UsrError
from usrstore.odb import durable
from usrstore.verbs import marking
from usrstore.verbs import overlays as care
from usrstore.verbs.attach import attach
from usrstore.verbs.materialize import materialize

IDS = [overlays.row_id(sequence) for sequence in overlays.SEQUENCES]
SCORE = {"infer__score": pa.float64()}
TOKEN = re.compile(r"[0-9a-f]{32}(?![0-9a-f])")
ACTOR = {"tool": "test", "run_id": "1"}


def attach_one(place):
    path = place.path.parent / "t.csv"
    path.write_text(f"id,score\n{IDS[0]},9\n")
    wish = Wish("infer", "id", "id")
    attach(place.site(), str(path), wish, allow_overwrite=True)


SCENARIOS = {
    "attach": (parts, attach_one),
    "attach beside a compact file": (compact, attach_one),
    "overlay-compact": (parts, lambda place: care.compact(place.site(), "infer")),
    "overlay-remove": (parts, lambda place: care.remove(place.site(), "infer")),
    "overlay-remove to the archive": (
        archived, lambda place: care.remove(place.site(), "infer", mode="archive"),
    ),
    "overlay-refresh-metadata": (
        stale, lambda place: care.refresh_metadata(place.site(), "infer"),
    ),
    "delete": (parts, lambda place: marking.delete(place.site(), IDS[:2])),
    "state set": (
        parts, lambda place: marking.set_state(place.site(), IDS, {"usr_state__split": "val"}),
    ),
    "materialize": (
        deleted,
        lambda place: materialize(
            place.site(), archive_overlays=True, drop_deleted=True, snapshot_before=True
        ),
    ),
}  # fmt: skip


def scenarios(*quick):
    """All of them; those that are not named here are tried by the deep run."""
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(
                name, id=name.replace(" ", "-"), marks=() if name in quick else pytest.mark.deep
            )
            for name in SCENARIOS
        ],
    )


def make_who_again():
    """Someone whose clock begins at the same moment every time."""
    return replace(make_who(clock=Clock()), actor=ACTOR)


def prepare(home, name):
    made = Place((home / "made"), make_who_again())
    overlays.make_place(made.path)
    SCENARIOS[name][0](made)
    return made


def copy(made, home):
    shutil.copytree(made.path, home / "root", copy_function=shutil.copy2)
    return Place(home / "root", make_who_again())


def shape(place):
    """Every file of the dataset, whatever tokens were drawn for names."""
    root = str(place.path).encode()
    return {
        TOKEN.sub("TOKEN", path): TOKEN.sub("TOKEN", data.replace(root, b"ROOT").decode("latin-1"))
        for path, data in datasets.read(place.folder).items()
    }


def check_tidy(place):
    assert place.root.journaled() == []
    assert not list(place.path.glob(".usr/.tmp-*")), "nothing of ours lies about"


@scenarios("overlay-remove to the archive", "delete")
def test_killed_at_any_change_a_command_was_done_or_was_not(name, home):
    made = prepare(home, name)
    act = SCENARIOS[name][1]
    whole = copy(made, home / "whole")
    before = shape(whole)
    calls, points = moments_of(lambda: act(whole), within=home)
    after = shape(whole)
    assert before != after
    outcomes = set()
    for number, when in points:
        at = f"{when} change {number} of {len(calls)}: {calls[number - 1]}"
        place = copy(made, home / f"{number}-{when}")
        tap = Crash(within=str(home), when=when, number=number)
        ended = in_child(lambda place=place: act(place), tap=tap, log=home / "log")
        assert ended in (CRASHED, FINISHED), f"{at}\n{(home / 'log').read_text()}"
        if place.root.has_store:
            place.recover()
            assert place.root.journaled() == []
        found = shape(place)
        assert found in (before, after), f"{at}: {differences(found, before, after)}"
        outcomes.add(found == after)
        if found == before:
            act(replace(place, who=make_who_again()))
            assert shape(place).keys() == after.keys(), at
        shutil.rmtree(home / f"{number}-{when}")
    assert outcomes == {False, True}, "some crashes come early, some late"


def differences(found, before, after):
    return [
        sorted(path for path in found.keys() | other.keys() if found.get(path) != other.get(path))
        for other in (before, after)
    ]


@scenarios("overlay-compact", "overlay-remove to the archive", "delete")
def test_a_disk_that_is_full_at_any_change_changes_nothing(name, home):
    made = prepare(home, name)
    act = SCENARIOS[name][1]
    whole = copy(made, home / "whole")
    before = shape(whole)
    calls = count_calls(lambda: act(whole), within=home)
    after = shape(whole)
    for number in range(1, len(calls) + 1):
        op, path = calls[number - 1]
        if op in ("unlink", "rmdir", "close"):
            continue  # a full disk refuses none of these
        place = copy(made, home / f"{number}")
        tap = Fail(within=str(home), errno=errno.ENOSPC, number=number)
        with durable.tapped(tap):
            try:
                act(place)
            except UsrError as exc:
                assert isinstance(exc, StorageError), (op, path, exc)
        if place.root.has_store:
            place.recover()
        assert shape(place) in (before, after), (op, path)
        check_tidy(place)
        shutil.rmtree(home / f"{number}")
