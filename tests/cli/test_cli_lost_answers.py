"""A push whose answer never came is ours all the same: the next one goes on from it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from support import datasets
from support.datasets import DATASET
from support.lab import sample_files

DEAF = Path(datasets.__file__).with_name("deaf.py")
SHELL = f"{sys.executable} -m usrcli.drills.localshell"


@pytest.fixture
def far(lab, monkeypatch):
    """The other root behind a link of processes and pipes, as the remote `far`."""
    body = yaml.safe_load(lab.remotes.read_text())
    body["remotes"]["far"] = {
        "type": "ssh",
        "host": "far",
        "base_dir": str(lab.there),
        "usr_command": f"{sys.executable} -m usrcli",
    }
    lab.remotes.write_text(yaml.safe_dump(body))
    monkeypatch.setenv("USR_SSH_COMMAND", SHELL)
    return lab


def lose_the_answer(lab, fate, *flags, remote="far", dataset=DATASET):
    """Push; the remote takes it, and nobody hears of that."""
    before = lab.refs(), lab.refs(lab.there)
    lab.patch.setenv("USR_SSH_COMMAND", f"{sys.executable} {DEAF} {fate} {SHELL}")
    said = lab.spawn("push", dataset, remote, "-y", *flags)
    lab.patch.setenv("USR_SSH_COMMAND", SHELL)
    assert "Traceback" not in said.err
    assert said.status == (-9 if fate == "kill" else 9), said
    assert lab.refs() == before[0], "nothing is known here"
    assert lab.refs(lab.there) != before[1], "all of it is there"


def work(lab, text):
    (lab.folder / "meta.md").write_text(text)


def heads(lab):
    name = f"heads/{DATASET}"
    return lab.refs()[name], lab.refs(lab.there)[name]


@pytest.mark.parametrize("fate", ["cut", "kill"])
@pytest.mark.parametrize("first", [True, False])
def test_more_work_on_the_same_files_goes_forward(far, fate, first):
    if not first:
        far.usr("push", DATASET, "far", "-y").ok()
        work(far, "one\n")
    lose_the_answer(far, fate)
    work(far, "one\ntwo\n")
    said = far.usr("push", DATASET, "far", "-y").ok()
    assert "PUSH audit: TRANSFERRED" in said.lines
    assert "whose push was never answered" in said.err
    assert datasets.read(far.far) == far.read()
    ours, theirs = heads(far)
    assert ours == theirs
    assert far.usr("diff", DATASET, "far").ok().lines[-1] == "Status     : up-to-date"
    for root in (far.root, far.there):
        assert far.usr("--root", root, "fsck").status == 0


def test_without_more_work_there_is_nothing_to_do(far):
    lose_the_answer(far, "cut")
    said = far.usr("push", DATASET, "far", "-y").ok()
    assert said.lines[0] == "Already up to date."
    assert "never answered" not in said.err
    ours, theirs = heads(far)
    assert ours == theirs


def test_answers_may_be_lost_again_and_again(far):
    for number in range(3):
        work(far, f"{number}\n")
        lose_the_answer(far, "cut")
    work(far, "last\n")
    far.usr("push", DATASET, "far", "-y").ok()
    assert datasets.read(far.far) == far.read()


def test_a_commit_meanwhile_is_no_other_history(far):
    far.usr("push", DATASET, "far", "-y").ok()
    work(far, "one\n")
    lose_the_answer(far, "kill")
    work(far, "two\n")
    far.usr("commit", DATASET, "-m", "went on").ok()
    far.usr("push", DATASET, "far", "-y").ok()
    assert datasets.read(far.far) == far.read()
    assert heads(far)[0] == heads(far)[1]


@pytest.mark.parametrize("commits", [False, True])
def test_what_others_did_on_top_is_merged_with_what_was_done_here(far, commits):
    far.usr("push", DATASET, "far", "-y").ok()
    work(far, "ours\n")
    lose_the_answer(far, "cut")
    (far.far / "_artifacts" / "theirs.txt").write_text("theirs\n")
    far.usr("--root", far.there, "commit", DATASET, "-m", "theirs").ok()
    work(far, "ours again\n")
    far.usr("push", DATASET, "far", "-y").failed("diverged", 5)
    if commits:
        far.usr("commit", DATASET, "-m", "went on").ok()
    said = far.usr("pull", DATASET, "far", "-y").ok()
    assert "PULL audit: MERGED" in said.lines
    assert (far.folder / "meta.md").read_text() == "ours again\n"
    assert (far.folder / "_artifacts" / "theirs.txt").read_text() == "theirs\n"
    far.usr("push", DATASET, "far", "-y").ok()
    assert datasets.read(far.far) == far.read()
    assert heads(far)[0] == heads(far)[1]


def test_what_others_changed_in_the_same_file_is_still_refused(far):
    far.usr("push", DATASET, "far", "-y").ok()
    work(far, "ours\n")
    lose_the_answer(far, "cut")
    (far.far / "meta.md").write_text("theirs\n")
    far.usr("--root", far.there, "commit", DATASET, "-m", "theirs").ok()
    work(far, "ours again\n")
    before = far.everything()
    far.usr("push", DATASET, "far", "-y").failed("diverged", 5)
    assert far.everything() == before


def test_a_push_that_never_arrived_changes_nothing_about_the_next(far):
    """The offer was noted; what the remote has then is somebody else's, and is met as that."""
    far.usr("push", DATASET, "far", "-y").ok()
    kept = far.home / "kept"
    shutil.copytree(far.there, kept, symlinks=True)
    work(far, "lost\n")
    lose_the_answer(far, "cut")
    shutil.rmtree(far.there)
    shutil.copytree(kept, far.there, symlinks=True)  # as if it had never been published
    (far.far / "meta.md").write_text("theirs\n")
    far.usr("--root", far.there, "commit", DATASET, "-m", "theirs").ok()
    work(far, "ours\n")
    far.usr("push", DATASET, "far", "-y").failed("diverged", 5)
    far.usr("push", DATASET, "far", "-y", "--force-with-lease").ok()
    assert datasets.read(far.far) == far.read()


def test_an_undo_goes_back_behind_what_was_offered(far):
    """What the lost push followed is no more in our history: nobody is overwritten silently."""
    far.usr("commit", DATASET, "-m", "zero").ok()
    far.usr("push", DATASET, "far", "-y").ok()
    first = max(row["number"] for row in far.usr("op", "log", "--json").ok().data)
    work(far, "one\n")
    far.usr("commit", DATASET, "-m", "one").ok()
    work(far, "two\n")
    lose_the_answer(far, "cut")
    far.usr("undo", "--to", first).ok()
    work(far, "other\n")
    far.usr("push", DATASET, "far", "-y").failed("diverged", 5)


def test_another_remote_that_has_it_is_met_as_the_same_history(far):
    """Two names for one place: the answer was lost under one, the next push goes to the other."""
    far.usr("push", DATASET, "far", "-y").ok()
    far.usr("push", DATASET, "lab", "-y").ok()
    work(far, "one\n")
    lose_the_answer(far, "cut")
    work(far, "two\n")
    far.usr("push", DATASET, "lab", "-y").ok()
    assert datasets.read(far.far) == far.read()


def test_a_forced_push_is_noted_like_any(far):
    far.usr("push", DATASET, "far", "-y").ok()
    (far.far / "meta.md").write_text("theirs\n")
    far.usr("--root", far.there, "commit", DATASET, "-m", "theirs").ok()
    work(far, "ours\n")
    lose_the_answer(far, "kill", "--force-with-lease")
    work(far, "ours again\n")
    far.usr("push", DATASET, "far", "-y").ok()
    assert datasets.read(far.far) == far.read()


def test_several_datasets_that_were_held_together_are_each_remembered(far):
    datasets.write(far.root / "ns/second", sample_files())
    lose_the_answer(far, "kill", dataset="*")
    for name in (DATASET, "ns/second"):
        (far.root / name / "meta.md").write_text("more\n")
    far.usr("push", DATASET, "ns/second", "far", "-y").ok()
    for name in (DATASET, "ns/second"):
        assert datasets.read(far.there / name) == datasets.read(far.root / name)


def test_gc_keeps_what_may_be_compared_with_later(far):
    """The remote has gone on since; what both had last is known only here."""
    far.usr("push", DATASET, "far", "-y").ok()
    work(far, "ours\n")
    lose_the_answer(far, "cut")
    (far.far / "_artifacts" / "theirs.txt").write_text("theirs\n")
    far.usr("--root", far.there, "commit", DATASET, "-m", "theirs").ok()
    far.usr("gc", "--grace", "0s", "--keep-last", "1", "--keep-ops", "0d").ok()
    work(far, "ours again\n")
    assert "MERGED" in far.usr("pull", DATASET, "far", "-y").ok().out
