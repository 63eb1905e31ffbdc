"""Killed, or cut off, right after a bucket has taken the state that publishes a push."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

import pytest
import yaml

from support import datasets
from support.datasets import DATASET
from support.flaky import LOSE, STALL, Link
from support.lab import USR


def rewire(lab, endpoint):
    body = yaml.safe_load(lab.remotes.read_text())
    body["remotes"]["b"]["endpoint"] = endpoint
    lab.remotes.write_text(yaml.safe_dump(body))


class Cut:
    """A rule: the state arrives, its reply does not, and nothing that comes later does either."""

    def __init__(self, fate):
        self.fate = fate
        self.done = threading.Event()

    def __call__(self, _number, method, path):
        if self.done.is_set():
            return self.fate
        if method == "PUT" and "/states/" in path:
            self.done.set()
            return LOSE
        return None


@pytest.fixture
def lose_the_answer(lab, moto_server, monkeypatch):
    """Pushes; the bucket takes it, and nobody hears of that."""
    from usrstore.odb.backend import bucket

    def cut():
        with monkeypatch.context() as patch, Link(moto_server.port, Cut(LOSE)) as link:
            patch.setattr(bucket, "PATIENCE_S", 0.3)
            rewire(lab, link.endpoint)
            lab.usr("push", DATASET, "b", "-y").failed("outcome-unknown", 10)
            assert link.rule.done.is_set()

    def kill():
        with Link(moto_server.port, Cut(STALL)) as link:
            rewire(lab, link.endpoint)
            child = subprocess.Popen(
                [*USR, "push", DATASET, "b", "-y"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert link.stalled.wait(60)  # it asks what became of the state: that is there
            os.kill(child.pid, signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL

    def lose(fate):
        before = lab.refs()
        {"cut": cut, "kill": kill}[fate]()
        rewire(lab, moto_server.endpoint)
        assert lab.refs() == before, "nothing is known here"

    return lose


@pytest.mark.parametrize("fate", ["cut", "kill"])
def test_more_work_on_the_same_files_goes_forward(lab, lose_the_answer, fate):
    lab.usr("push", DATASET, "b", "-y").ok()
    (lab.folder / "meta.md").write_text("one\n")
    lose_the_answer(fate)
    (lab.folder / "meta.md").write_text("one\ntwo\n")
    said = lab.usr("push", DATASET, "b", "-y").ok()
    assert "PUSH audit: TRANSFERRED" in said.lines
    assert "whose push was never answered" in said.err
    other = lab.home / "other"
    other.mkdir()
    lab.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    assert datasets.read(other / DATASET) == lab.read()


def test_what_others_pushed_on_top_is_merged(lab, lose_the_answer):
    lab.usr("push", DATASET, "b", "-y").ok()
    (lab.folder / "meta.md").write_text("ours\n")
    lose_the_answer("cut")
    other = lab.home / "other"
    other.mkdir()
    lab.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    (other / DATASET / "_artifacts" / "theirs.txt").write_text("theirs\n")
    lab.usr("--root", other, "push", DATASET, "b", "-y").ok()
    (lab.folder / "meta.md").write_text("ours again\n")
    lab.usr("push", DATASET, "b", "-y").failed("diverged", 5)
    assert "PULL audit: MERGED" in lab.usr("pull", DATASET, "b", "-y").ok().lines
    lab.usr("push", DATASET, "b", "-y").ok()
    lab.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    assert datasets.read(other / DATASET) == lab.read()
    assert (lab.folder / "meta.md").read_text() == "ours again\n"
