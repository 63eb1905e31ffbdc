"""What a remote holds is listed without touching it, and cloned whole."""

from __future__ import annotations

import os

import pytest

from support import datasets
from support.datasets import DATASET
from support.lab import sample_files
from usrstore.errors import InvalidInputError
from usrstore.remote import places


@pytest.fixture
def full(lab):
    """The remote has three datasets, two of them with a state."""
    lab.write()
    lab.usr("push", DATASET, "lab", "-y").ok()
    for name in ("densegen/a", "plain"):
        datasets.write(lab.there / name, sample_files())
    lab.usr("--root", lab.there, "commit", "plain").ok()
    return lab


def everything(root):
    return {
        str(path.relative_to(root)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
    }


def test_ls_remote_lists_datasets_and_heads_and_touches_nothing(full):
    before = everything(full.there)
    said = full.usr("ls-remote", "lab").ok()
    refs = full.refs(full.there)
    assert said.lines == sorted(
        [
            f"{'-':<64}\theads/densegen/a",
            f"{refs[f'heads/{DATASET}']}\theads/{DATASET}",
            f"{refs['heads/plain']}\theads/plain",
        ],
        key=lambda line: line.split("\t")[1],
    )
    assert everything(full.there) == before
    rows = full.usr("ls-remote", "lab", "plain", "densegen/*", "--json").ok().data["datasets"]
    assert [row["dataset"] for row in rows] == ["densegen/a", "plain"]
    full.usr("ls-remote", "lab", "nope").failed("dataset-not-found", 4)
    full.usr("ls-remote", "nolab").failed("remote-not-found", 4)


def test_ls_remote_takes_a_place(full):
    assert full.usr("ls-remote", full.there).ok().out == full.usr("ls-remote", "lab").out


def test_a_clone_is_a_root_with_every_dataset_and_a_remote(full, monkeypatch):
    target = full.home / "clone"
    full.usr("clone", "lab", target).ok()
    for name in (DATASET, "densegen/a", "plain"):
        assert datasets.read(target / name) == datasets.read(full.there / name)
    assert full.usr("--root", target, "fsck", "--deep").ok()
    monkeypatch.delenv("USR_REMOTES_PATH")
    said = full.usr("--root", target, "pull", DATASET, "origin", "-y", "--json").ok()
    assert said.data["transfer_state"] == "NO-OP"


def test_a_clone_of_some(full):
    target = full.home / "some"
    said = full.usr("clone", full.there, target, "plain", "densegen/*").ok()
    assert said.lines[-2] == "2 datasets: 2 transferred; state 1 of this root"
    assert said.lines[-1].endswith("it calls that origin")
    assert datasets.read(target / DATASET) == {}
    full.usr("clone", full.there, full.home / "none", "nope").failed("dataset-not-found", 4)


def test_a_clone_goes_on_where_it_stopped_and_takes_over_no_other_folder(full):
    target = full.home / "clone"
    full.usr("clone", "lab", target, "plain").ok()
    full.usr("clone", "lab", target).ok()
    assert datasets.read(target / DATASET) == sample_files()
    other = full.home / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("three years")
    full.usr("clone", "lab", other).failed("conflict", 5)
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


def test_a_clone_of_an_empty_root_is_an_empty_root(lab):
    said = lab.usr("clone", lab.there, lab.home / "clone").ok()
    assert said.lines[0] == "There are no datasets."
    said = lab.usr("clone", lab.there, lab.home / "again", "--json").ok()
    assert said.data == {"datasets": [], "state": None}


def test_a_clone_is_one_connection_one_state_and_one_line_of_json(full, monkeypatch):
    from usrcli import links

    opened = []

    def connect(profile, root, original=links.connect):
        opened.append(profile)
        return original(profile, root)

    monkeypatch.setattr(links, "connect", connect)
    target = full.home / "clone"
    said = full.usr("clone", "lab", target, "--json").ok()
    assert len(opened) == 1
    assert [row["dataset"] for row in said.data["datasets"]] == ["densegen/a", DATASET, "plain"]
    assert said.data["state"] == 1
    assert len(full.usr("--root", target, "op", "log", "--json").ok().data) == 1


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("me@host:/x/y", {"type": "ssh", "user": "me", "host": "host", "base_dir": "/x/y"}),
        ("host:data", {"type": "ssh", "host": "host", "base_dir": "data"}),
        ("ssh://me@h:2222/x", {"type": "ssh", "user": "me", "host": "h", "port": 2222, "base_dir": "/x"}),
        ("ssh://h/~/data", {"type": "ssh", "host": "h", "base_dir": "~/data"}),
        ("s3://b/p", {"type": "bucket", "url": "s3://b/p"}),
        ("/x", {"type": "folder", "base_dir": "/x"}),
        ("./x", {"type": "folder", "base_dir": "./x"}),
        ("file:///x%20y", {"type": "folder", "base_dir": "/x y"}),
    ],
)  # fmt: skip
def test_places(text, body):
    assert places.parse(text) == body


@pytest.mark.parametrize(
    "text", ["nonsense", "http://x/y", "ssh://h", "ssh://h:port/x", "ssh://u:secret@h/x", "h:", ""]
)
def test_what_is_no_place(text):
    with pytest.raises(InvalidInputError) as caught:
        places.parse(text)
    assert "secret" not in (caught.value.hint or "")


def test_a_place_cannot_smuggle_options_to_ssh(lab):
    said = lab.usr("clone", "-oProxyCommand=touch x@host:/y", lab.home / "c")
    assert said.status == 2
    said = lab.usr("clone", "--", "-oProxyCommand=x:/y", lab.home / "c")
    assert said.status in (3, 4), said
    assert not os.path.exists(lab.home / "c")


def test_a_clone_of_what_is_not_there_leaves_nothing(full, monkeypatch):
    target, empty = full.home / "clone", full.home / "empty"
    empty.mkdir()
    for folder in (target, empty):
        full.usr("clone", full.home / "nowhere", folder).failed("not-found", 4)
        full.usr("clone", "lab", folder, "nope").failed("dataset-not-found", 4)
    assert not target.exists()
    assert list(empty.iterdir()) == []
    full.usr("clone", "lab", target).ok()
