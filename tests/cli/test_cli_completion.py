"""completion: the shell's Tab key, as bash itself asks."""

from __future__ import annotations

import os
import subprocess

import pytest

from support.datasets import DATASET
from support.lab import USR


@pytest.fixture
def story(synced):
    synced.usr("tag", f"{DATASET}@v1").ok()
    return synced


def offered(*words, shell="bash"):
    """What a shell is told when Tab is pressed behind these words."""
    env = {
        **os.environ, "_USR_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(("usr", *words)), "COMP_CWORD": str(len(words)),
    }  # fmt: skip
    done = subprocess.run(USR, env=env, capture_output=True, text=True, check=False, timeout=240)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["commit", ""], [DATASET]),
        (["push", "ns/"], [DATASET]),
        (["push", DATASET, ""], ["lab", DATASET]),
        (["log", ""], ["lab/ns/x", "ns/x", "ns/x@v1"]),
        (["checkout", "ns/x@"], ["ns/x@v1"]),
        (["diff", DATASET, "l"], ["lab", "lab/ns/x"]),
        (["remotes", "show", ""], ["lab"]),
        (["tag", "-d", "ns/x@"], ["ns/x@v1"]),
        (["undo", ""], [DATASET]),
        (["verify-m"], ["verify-manifest"]),
        (["completion", "z"], ["zsh"]),
        (["commit", "nothing-like-it"], []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_words_are_completed(story, words, found):
    assert offered(*words) == found


def test_without_a_root_nothing_is_offered_and_nothing_is_said(story, monkeypatch, home):
    monkeypatch.delenv("USR_ROOT")
    empty = home / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert offered("commit", "") == []
    assert offered("--root", str(story.root), "commit", "") == [DATASET]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(lab, shell):
    said = lab.usr("completion", shell).ok()
    assert f"_USR_COMPLETE={shell}_complete" in said.out
    lab.usr("completion", "tcsh").failed("usage", 2)


def test_bash_takes_the_script_and_completes(story):
    script = story.usr("completion", "bash").ok().out
    ask = (
        f'{script}\nusr() {{ {" ".join(USR)} "$@"; }}\n'
        "COMP_WORDS=(usr commit ''); COMP_CWORD=2; _usr_completion usr; echo \"${COMPREPLY[@]}\""
    )
    # The function asks `$1`, a command; here it is the module of this very checkout.
    ask = ask.replace("$1)", f"{' '.join(USR)})")
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [DATASET]
