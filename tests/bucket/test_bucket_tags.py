"""Tags go into a bucket and come out of it as they do with any remote."""

from __future__ import annotations

import pytest

from support.datasets import DATASET
from support.lab import fingerprint, make_config


@pytest.fixture
def bob(lab, tmp_path_factory):
    lab.bob = lab.home / "bob"
    lab.bob.mkdir()
    lab.bobs = make_config(tmp_path_factory.mktemp("bob"))
    return lab


def tags(lab, root):
    return {row["name"]: row for row in lab.usr("--root", root, "tag", "--json").ok().data}


def named(lab, name="v1"):
    lab.usr("commit", DATASET, "-m", "named").ok()
    lab.usr("tag", f"{DATASET}@{name}", "-m", "as published").ok()


def test_tags_go_with_a_push_and_come_with_a_pull(bob):
    named(bob)
    bob.usr("push", DATASET, "b", "-y").ok()
    bob.use(bob.bobs)
    bob.usr("--root", bob.bob, "pull", DATASET, "b", "-y").ok()
    row = tags(bob, bob.bob)["v1"]
    assert (row["message"], row["signer"]) == ("as published", fingerprint(bob.config))
    assert bob.usr("--root", bob.bob, "fsck").status == 0


def test_a_tag_goes_and_comes_where_nothing_else_is_new(bob):
    bob.usr("push", DATASET, "b", "-y").ok()
    bob.usr("--root", bob.bob, "pull", DATASET, "b", "-y").ok()
    bob.usr("tag", f"{DATASET}@late").ok()
    bob.usr("push", DATASET, "b", "-y", "--no-tags").ok()
    said = bob.usr("push", DATASET, "b", "-y").ok()
    assert said.lines[0] == "Already up to date."
    assert "note: tags that went to b: late" in said.err.splitlines()
    assert bob.usr("push", DATASET, "b", "-y").ok().err == ""
    bob.usr("--root", bob.bob, "pull", DATASET, "b", "-y", "--no-tags").ok()
    assert tags(bob, bob.bob) == {}
    assert bob.usr("--root", bob.bob, "pull", DATASET, "b", "-y").ok().lines[0] == (
        "Already up to date."
    )
    assert set(tags(bob, bob.bob)) == {"late"}


def test_no_tags_leaves_them_and_a_fetch_brings_them(bob):
    named(bob)
    bob.usr("push", DATASET, "b", "-y", "--no-tags").ok()
    bob.usr("--root", bob.bob, "init").ok()
    bob.usr("--root", bob.bob, "fetch", DATASET, "b").ok()
    assert tags(bob, bob.bob) == {}
    bob.usr("push", DATASET, "b", "-y").ok()
    bob.usr("--root", bob.bob, "fetch", DATASET, "b").ok()
    assert set(tags(bob, bob.bob)) == {"v1"}


def test_a_name_that_is_taken_there_stays_and_whoever_pushes_is_told(bob):
    named(bob)
    bob.usr("push", DATASET, "b", "-y", "--no-tags").ok()
    bob.use(bob.bobs)
    bob.usr("--root", bob.bob, "pull", DATASET, "b", "-y").ok()
    bob.usr("--root", bob.bob, "tag", f"{DATASET}@v1", "-m", "bob's").ok()
    bob.usr("--root", bob.bob, "push", DATASET, "b", "-y").ok()
    bob.use(bob.config)
    said = bob.usr("push", DATASET, "b", "-y").ok()
    assert "note: b: tag v1 was not taken: there is another of that name" in said.err
    assert tags(bob, bob.root)["v1"]["message"] == "as published"


def test_a_strict_store_sends_no_strangers_tag_and_takes_none(bob):
    named(bob)
    bob.use(bob.bobs)
    bob.usr("tag", f"{DATASET}@bobs").ok()
    bob.use(bob.config)
    (bob.root / ".usr" / "config").write_text('[trust]\nmode = "strict"\n')
    bob.usr("push", DATASET, "b", "-y").ok()
    refs = set(_there(bob))
    assert {ref for ref in refs if ref.startswith("tags/")} == {f"tags/{DATASET}/v1"}


def _there(lab):
    import os

    from usrstore.odb.states import States
    from usrstore.remote import profiles
    from usrstore.verbs.bucket import open_backend

    return States(open_backend(profiles.find(str(lab.remotes), "b"), os.environ)).refs()
