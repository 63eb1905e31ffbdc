"""Listing and cloning over a real sshd."""

from __future__ import annotations

import pytest

from support.datasets import DATASET
from support.lab import sample_files

REMOTE = "bu-scc"


@pytest.mark.spec("P-13")
def test_a_clone_over_ssh_brings_what_ls_remote_lists(synced):
    heads = synced.usr("ls-remote", REMOTE).ok().out
    assert heads.endswith(f"\theads/{DATASET}\n")
    assert heads.split("\t")[0] in synced.refs(synced.there)
    target = synced.home / "clone"
    synced.usr("clone", REMOTE, target).ok()
    assert synced.read(target / DATASET) == sample_files()
    assert synced.usr("--root", target, "fsck", "--deep").ok()


def test_a_remote_that_serves_one_dataset_lists_only_that(synced):
    synced.write(synced.there / "ns/secret", sample_files())
    only = f'#!/bin/sh\nexec {synced.far_usr} "$@" --dataset {DATASET}\n'
    synced.profile(usr_command=synced.script("only", only))
    said = synced.usr("ls-remote", REMOTE).ok()
    assert "secret" not in said.out
    assert said.lines[0].endswith(f"heads/{DATASET}")
