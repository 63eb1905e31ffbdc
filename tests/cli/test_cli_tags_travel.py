"""Tags follow the state that travels; none is ever moved; a bad signature is not taken."""

from __future__ import annotations

import pytest

from support.datasets import DATASET
from support.lab import fingerprint


@pytest.fixture
def bob(synced, configs):
    """ada has pushed; bob has an empty root of his own."""
    synced.bob = synced.home / "bob"
    synced.bob.mkdir()
    return synced


def tags(lab, root):
    return {row["name"]: row for row in lab.usr("--root", root, "tag", "--json").ok().data}


def pushed(lab, *flags):
    (lab.folder / "meta.md").write_text("a state to be named")
    lab.usr("commit", DATASET, "-m", "named").ok()
    lab.usr("tag", f"{DATASET}@v1", "-m", "as published").ok()
    lab.usr("push", DATASET, "lab", "-y", *flags).ok()


def test_tags_go_with_a_push_and_come_with_a_pull(bob, configs):
    pushed(bob)
    assert set(tags(bob, bob.there)) == {"v1"}
    bob.use(configs["bob"])
    bob.usr("--root", bob.bob, "pull", DATASET, "lab", "-y").ok()
    row = tags(bob, bob.bob)["v1"]
    assert (row["message"], row["signer"]) == ("as published", fingerprint(configs["ada"]))
    bob.usr("--root", bob.bob, "tag", "-v", f"{DATASET}@v1").ok()
    assert bob.usr("--root", bob.bob, "fsck").status == 0


def test_no_tags_leaves_them(bob):
    pushed(bob, "--no-tags")
    assert tags(bob, bob.there) == {}
    bob.usr("--root", bob.there, "tag", f"{DATASET}@v2").ok()
    bob.usr("--root", bob.bob, "pull", DATASET, "lab", "-y", "--no-tags").ok()
    assert tags(bob, bob.bob) == {}
    bob.usr("--root", bob.bob, "pull", DATASET, "lab", "-y").ok()  # nothing else to bring
    assert set(tags(bob, bob.bob)) == {"v2"}


def test_a_countersignature_comes_with_a_fetch(bob, configs):
    pushed(bob)
    bob.use(configs["eve"])
    bob.usr("--root", bob.there, "tag", f"{DATASET}@seen-by-eve").ok()
    bob.use(configs["bob"])
    bob.usr("--root", bob.bob, "init").ok()
    bob.usr("--root", bob.bob, "fetch", DATASET, "lab").ok()
    assert tags(bob, bob.bob)["seen-by-eve"]["signer"] == fingerprint(configs["eve"])


def test_a_tag_is_never_moved(bob):
    bob.usr("--root", bob.bob, "pull", DATASET, "lab", "-y").ok()
    bob.usr("--root", bob.bob, "tag", f"{DATASET}@v1", "-m", "mine").ok()
    before = tags(bob, bob.bob)
    pushed(bob)
    said = bob.usr("--root", bob.bob, "pull", DATASET, "lab", "-y").ok()
    assert "note: tag v1 was not taken: there is another of that name, which stays" in said.err
    assert tags(bob, bob.bob) == before


@pytest.mark.parametrize("mode", ["tofu", "strict"])
def test_a_tag_of_a_stranger_is_not_taken_by_strict(bob, configs, mode):
    pushed(bob)
    bob.use(configs["eve"])
    bob.usr("--root", bob.there, "tag", f"{DATASET}@eves").ok()
    bob.use(configs["bob"])
    bob.usr("--root", bob.bob, "init").ok()
    public = configs["ada"] / "usr" / "id_ed25519.pub"
    bob.usr("--root", bob.bob, "trust", "add", "--name", "ada", "--key", public).ok()
    said = bob.usr("--root", bob.bob, "pull", DATASET, "lab", "-y", "--trust", mode).ok()
    assert set(tags(bob, bob.bob)) == ({"v1"} if mode == "strict" else {"v1", "eves"})
    assert ("tag eves was not taken: its signature is unknown" in said.err) == (mode == "strict")
