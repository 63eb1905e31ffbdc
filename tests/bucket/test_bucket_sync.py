"""A bucket as a remote, through the command line and a real server: what a person sees."""

from __future__ import annotations

from support import datasets
from support.datasets import DATASET
from support.lab import sample_files


def test_a_push_is_kept_there_and_a_pull_elsewhere_is_the_same_folder(lab):
    said = lab.usr("push", DATASET, "b", "-y").ok()
    assert "PUSH audit: TRANSFERRED" in said.lines
    other = lab.home / "other"
    other.mkdir()
    said = lab.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    assert "PULL audit: TRANSFERRED" in said.lines
    assert datasets.read(other / DATASET) == sample_files() == lab.read()
    assert lab.usr("diff", DATASET, "b").ok().lines[-1] == "Status     : up-to-date"
