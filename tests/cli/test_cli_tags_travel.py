"""Tags follow the state that travels; none is ever moved; a bad signature is not taken."""

from __future__ import annotations

import json
import sys

import pytest

from support import datasets
from support.datasets import DATASET
from support.lab import fingerprint, sample_files


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


# ── where nothing else is new ───────────────────────────────────────────────────────────
@pytest.fixture
def wired(bob, monkeypatch):
    """The other root once more, as the remote `far` behind processes and pipes."""
    body = json.loads(bob.remotes.read_text())
    body["remotes"]["far"] = {
        "type": "ssh",
        "host": "far",
        "base_dir": str(bob.there),
        "usr_command": f"{sys.executable} -m usrcli",
    }
    bob.remotes.write_text(json.dumps(body))
    monkeypatch.setenv("USR_SSH_COMMAND", f"{sys.executable} -m usrcli.drills.localshell")
    return bob


@pytest.mark.parametrize("remote", ["lab", "far"])
def test_a_tag_of_what_is_there_already_goes_with_a_push_that_has_nothing_else(wired, remote):
    pushed(wired)
    wired.usr("tag", f"{DATASET}@v2", "-m", "an afterthought").ok()
    assert wired.usr("push", DATASET, remote, "--dry-run").ok()
    assert set(tags(wired, wired.there)) == {"v1"}, "a plan changes nothing"
    assert "v2" not in wired.usr("push", DATASET, remote, "-y", "--no-tags").ok().err
    assert set(tags(wired, wired.there)) == {"v1"}
    said = wired.usr("push", DATASET, remote, "-y").ok()
    assert said.lines[0] == "Already up to date."
    assert f"note: tags that went to {remote}: v2" in said.err.splitlines()
    assert set(tags(wired, wired.there)) == {"v1", "v2"}
    said = wired.usr("push", DATASET, remote, "-y").ok()
    assert "tags that went" not in said.err
    assert wired.usr("--root", wired.there, "fsck").status == 0


@pytest.mark.parametrize("remote", ["lab", "far"])
def test_whoever_pushes_is_told_of_a_name_that_is_taken_there(wired, remote):
    pushed(wired, "--no-tags")
    wired.usr("--root", wired.there, "tag", f"{DATASET}@v1", "-m", "theirs").ok()
    before = tags(wired, wired.there)
    said = wired.usr("push", DATASET, remote, "-y").ok()
    assert f"note: {remote}: tag v1 was not taken: there is another of that name" in said.err
    assert tags(wired, wired.there) == before


def test_strict_ends_take_no_strangers_tag_alone_either(wired, configs):
    pushed(wired)
    (wired.there / ".usr" / "config").write_text('[trust]\nmode = "strict"\n')
    wired.use(configs["eve"])
    wired.usr("tag", f"{DATASET}@eves").ok()
    wired.use(configs["ada"])
    said = wired.usr("push", DATASET, "far", "-y").ok()
    assert "far: tag eves was not taken: its signature is unknown" in said.err
    assert set(tags(wired, wired.there)) == {"v1"}


def test_a_folder_that_went_on_is_not_named_by_what_it_was(wired):
    """Both folders are equal, and neither is the state that the tag names."""
    pushed(wired, "--no-tags")
    for root in (wired.root, wired.there):
        (root / DATASET / "meta.md").write_text("later")
    assert wired.usr("push", DATASET, "far", "-y").ok().lines[0] == "Already up to date."
    assert tags(wired, wired.there) == {}


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_tags_travel_with_several_datasets_of_which_none_has_changed(wired, verb):
    other = "ns/second"
    datasets.write(wired.root / other, sample_files())
    wired.usr("push", "ns/*", "far", "-y").ok()
    wired.usr("push", "ns/*", "far", "-y").ok()
    root = wired.root if verb == "push" else wired.there
    for name in (DATASET, other):
        wired.usr("--root", root, "tag", f"{name}@both").ok()
    said = wired.usr(verb, "ns/*", "far", "-y").ok()
    assert said.lines[-1] == "2 datasets: 2 unchanged"
    for place in (wired.root, wired.there):
        rows = wired.usr("--root", place, "tag", "--json").ok().data
        assert sorted(row["dataset"] for row in rows) == [other, DATASET]


def test_a_fetch_leaves_tags_if_told_to(bob, configs):
    pushed(bob)
    bob.use(configs["bob"])
    bob.usr("--root", bob.bob, "init").ok()
    bob.usr("--root", bob.bob, "fetch", DATASET, "lab", "--no-tags").ok()
    assert tags(bob, bob.bob) == {}
    bob.usr("--root", bob.bob, "fetch", DATASET, "lab").ok()
    assert set(tags(bob, bob.bob)) == {"v1"}


# ── in a file ───────────────────────────────────────────────────────────────────────────
def test_tags_travel_in_a_bundle(bob, configs):
    pushed(bob, "--no-tags")
    file = bob.home / "x.usrb"
    said = bob.usr("bundle", "create", file, DATASET, "--json").ok()
    assert said.data["states"][0]["tags"] == ["v1"]
    data = bob.usr("bundle", "verify", file, "--json").ok().data
    assert (data["whole"], data["states"][0]["tags"]) == (True, ["v1"])
    assert "; tagged v1" in bob.usr("bundle", "verify", file).ok().lines[0]
    bob.use(configs["bob"])
    bob.usr("--root", bob.bob, "bundle", "import", file, "-y", "--no-tags").ok()
    assert tags(bob, bob.bob) == {}
    bob.usr("--root", bob.bob, "bundle", "import", file, "-y").ok()
    row = tags(bob, bob.bob)["v1"]
    assert (row["message"], row["signer"]) == ("as published", fingerprint(configs["ada"]))
    assert bob.usr("--root", bob.bob, "fsck").status == 0


def test_a_bundle_may_leave_tags_out(bob):
    pushed(bob)
    file = bob.home / "x.usrb"
    said = bob.usr("bundle", "create", file, DATASET, "--no-tags", "--json").ok()
    assert said.data["states"][0]["tags"] == []
    bob.usr("--root", bob.bob, "bundle", "import", file, "-y").ok()
    assert tags(bob, bob.bob) == {}


def test_a_tag_of_a_stranger_in_a_bundle_is_not_taken_by_strict(bob, configs):
    pushed(bob)
    bob.use(configs["eve"])
    bob.usr("tag", f"{DATASET}@eves").ok()
    file = bob.home / "x.usrb"
    bob.usr("bundle", "create", file, DATASET).ok()
    bob.use(configs["bob"])
    bob.usr("--root", bob.bob, "init").ok()
    public = configs["ada"] / "usr" / "id_ed25519.pub"
    bob.usr("--root", bob.bob, "trust", "add", "--name", "ada", "--key", public).ok()
    said = bob.usr("--root", bob.bob, "bundle", "import", file, "-y", "--trust", "strict").ok()
    assert "tag eves was not taken: its signature is unknown" in said.err
    assert set(tags(bob, bob.bob)) == {"v1"}


def test_a_bundle_that_names_a_state_falsely_is_not_whole(bob):
    """A tag of another name, of a state that is in the bundle, under a name that it was not given."""
    from usrstore.objects.ids import Kind, ManifestId
    from usrstore.objects.names import DatasetId, head_ref, tag_ref
    from usrstore.odb.backend.archivewriter import ArchiveWriter, publish
    from usrstore.odb.database import Database
    from usrstore.odb.states import Act, Change, States
    from usrstore.root import Root

    pushed(bob)
    name, root = DatasetId(DATASET), Root(str(bob.root))
    refs = root.states.refs()
    head, tag = ManifestId(refs[head_ref(name)]), refs[tag_ref(name, "v1")]
    file = bob.home / "false.usrb"
    (bob.home / "scratch").mkdir()
    with ArchiveWriter(str(bob.home / "scratch" / "bundle")) as archive:
        with Database(archive, str(bob.home / "scratch")).batch() as batch:
            for pack in root.database.packs():
                for oid, row in pack.index.items():
                    batch.put(Kind(row.kind), oid, root.database.get(Kind(row.kind), oid))
        changes = {head_ref(name): Change(None, head), tag_ref(name, "v9"): Change(None, tag)}
        States(archive).advance(changes, Act("a", "b", 1))
        archive.finish()
        publish(archive, str(file), None)
    data = bob.usr("bundle", "verify", file, "--json")
    assert data.status == 1
    assert any("tag v9 is really v1" in line for line in data.data["states"][0]["problems"])
    bob.usr("--root", bob.bob, "bundle", "import", file, "-y").ok()
    assert set(tags(bob, bob.bob)) == {"v1"}, "a tag says itself how it is called"
