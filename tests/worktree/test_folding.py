"""Names that a disk takes for one file are found before one would replace the other."""

from __future__ import annotations

import os

import pytest

from support import datasets
from usrstore.errors import UnsafeFileError
from usrstore.worktree import folding
from usrstore.worktree.folding import Folding

BOTH = Folding(case=True, spelling=True)
CASE, SPELLING = Folding(case=True, spelling=False), Folding(case=False, spelling=True)
NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_case_and_spelling_are_told_apart():
    paths = ["A.txt", "a.txt", f"{NFC}.txt", f"{NFD}.txt", "other"]
    assert folding.collisions(paths, CASE) == [("A.txt", "a.txt")]
    assert folding.collisions(paths, SPELLING) == [(f"{NFD}.txt", f"{NFC}.txt")]
    assert len(folding.collisions(paths, BOTH)) == 2
    assert folding.collisions(paths, Folding(case=False, spelling=False)) == []


def test_folders_collide_as_files_do_and_a_folder_with_a_file():
    assert folding.collisions(["Logs/a", "logs/b"], CASE) == [("Logs", "logs")]
    assert folding.collisions(["Logs/a", "logs/A"], CASE) == [
        ("Logs", "logs"),
        ("Logs/a", "logs/A"),
    ]
    assert folding.collisions(["x/deep/a", "X"], CASE) == [("X", "x")]
    assert folding.collisions(["x/y/z", "x/y/w", "x/v"], BOTH) == []


def test_this_disk_is_tried_out_and_left_as_it_was(home):
    (home / "Aa").touch()
    case = (home / "aA").exists()
    (home / NFC).touch()
    spelling = (home / NFD).exists()
    assert folding.probe(str(home)) == Folding(case, spelling)
    assert sorted(os.listdir(home)) == sorted(["Aa", NFC])


def test_what_the_disk_tells_apart_is_taken(home):
    if folding.probe(str(home)) == Folding(case=False, spelling=False):
        folding.check(["A", "a", NFC, NFD], str(home))
    folding.check(["A", "b"], str(home))


@pytest.fixture(params=["pull", "push"])
def sent(request, make_pair, monkeypatch):
    """A transfer of files that differ in case only, onto a disk that does not care."""
    pair = make_pair(datasets.old_files())
    pair.push()
    pair.pull()
    source, target = (pair.there, pair.here) if request.param == "pull" else (pair.here, pair.there)
    source.write({**datasets.old_files(), "Notes.md": b"one", "notes.md": b"other"})
    monkeypatch.setattr(folding, "probe", lambda _folder: CASE)
    return pair, getattr(pair, request.param), target


@pytest.mark.spec("T-6")
def test_a_state_whose_names_the_disk_cannot_hold_is_refused_with_nothing_changed(sent):
    _, act, target = sent
    before = target.everything()
    with pytest.raises(UnsafeFileError) as caught:
        act()
    assert caught.value.code == "names-collide"
    assert "'Notes.md' and 'notes.md'" in caught.value.message
    assert target.everything() == before


def test_the_same_state_is_taken_where_the_disk_can_hold_it(sent, monkeypatch):
    _, act, target = sent
    monkeypatch.undo()
    if folding.probe(str(target.path)).case:
        pytest.skip("this disk does not tell case apart")
    act()
    assert target.read()["notes.md"] == b"other"
