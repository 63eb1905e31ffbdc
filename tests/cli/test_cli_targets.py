"""What may stand where a dataset is named: an id, or the dataset's folder wherever it lies."""

from __future__ import annotations

import json

import pytest

from support import datasets
from support.datasets import DATASET, REGISTRY
from support.lab import sample_files


@pytest.fixture
def apart(lab):
    """A second root with a dataset `other/y`; --root and USR_ROOT know nothing of it."""
    root = lab.home / "apart" / "usr"
    root.mkdir(parents=True)
    (root / "registry.yaml").write_bytes(REGISTRY)
    datasets.write(root / "other/y", sample_files())
    return root


def test_a_folder_outside_of_the_root_is_pushed_from_its_own(lab, apart):
    folder = apart / "other/y"
    said = lab.usr("push", folder, "lab", "-y", "--json").ok()
    assert (said.data["dataset"], said.data["transfer_state"]) == ("other/y", "TRANSFERRED")
    assert said.err == (
        f"note: {folder} lies outside of the root that was named; its own is {apart}\n"
    )
    assert datasets.read(lab.there / "other/y") == datasets.read(folder)
    assert "heads/other/y" in lab.refs(apart)
    assert lab.refs(lab.root) == {}
    assert lab.usr("push", folder, "lab", "-y", "--json").ok().data["transfer_state"] == "NO-OP"


def test_without_a_root_to_begin_with_the_folder_brings_its_own(lab, apart, monkeypatch):
    monkeypatch.delenv("USR_ROOT")
    said = lab.usr("push", "./apart/usr/other/y", "lab", "-y").ok()
    assert said.err == ""  # no other root was named
    for word in ("apart/usr/other/y", "apart/usr/other/y/", apart / "other/y"):
        assert lab.usr("diff", word, "lab").ok().lines[-1] == "Status     : up-to-date"
    monkeypatch.chdir(apart.parent)
    assert lab.usr("diff", "usr/other/y", "lab").ok().lines[-1] == "Status     : up-to-date"
    lab.usr("diff", "other/y", "lab").failed("no-root", 4)


def test_diff_pull_fetch_status_and_commit_of_a_folder_elsewhere(lab, apart):
    folder = apart / "other/y"
    lab.usr("push", folder, "lab", "-y").ok()
    (lab.there / "other/y" / "meta.md").write_text("theirs")
    assert "  differs    meta.md" in lab.usr("diff", folder, "lab").ok().lines
    assert lab.usr("status", folder, "lab").ok().lines[-1] == "Status     : CHANGES"
    assert lab.usr("fetch", folder, "lab", "--json").ok().data["dataset"] == "other/y"
    lab.usr("pull", folder, "lab", "-y").ok()
    assert (folder / "meta.md").read_text() == "theirs"
    (folder / "meta.md").write_text("ours")
    assert lab.usr("status", folder, "--porcelain").ok().out == "M\tmeta.md\n"
    assert lab.usr("diff", folder, "--name-status").ok().out == "M\tmeta.md\n"
    assert lab.usr("commit", folder, "--json").ok().data["created"]
    assert lab.refs(lab.root) == {}


def test_a_first_pull_may_name_the_folder_that_it_makes(lab, apart):
    lab.usr("push", DATASET, "lab", "-y").ok()
    lab.usr("pull", apart / DATASET, "lab", "-y").ok()
    assert datasets.read(apart / DATASET) == lab.read()


def test_a_linked_folder_is_the_dataset_that_the_link_is(lab, apart, monkeypatch):
    """A dataset kept on a scratch disk is still the root's own."""
    (lab.root / "far").symlink_to(apart / "other")
    monkeypatch.chdir(lab.root)
    for word in ("./far/y", lab.root / "far/y"):
        said = lab.usr("push", word, "lab", "-y", "--json").ok()
        assert said.data["dataset"] == "far/y"


def test_an_id_that_is_another_datasets_folder_from_here_is_refused(lab, apart, monkeypatch):
    datasets.write(apart / DATASET, {**sample_files(), "meta.md": b"another"})
    monkeypatch.chdir(apart)
    for words in (["push", DATASET, "lab", "-y"], ["diff", DATASET, "lab"]):
        said = lab.usr(*words).failed("target-ambiguous", 3)
        assert f"say ./{DATASET} for the folder, {lab.folder} for the dataset" in said.err
    assert not (lab.there / DATASET).exists()
    lab.usr("push", f"./{DATASET}", "lab", "-y").ok()  # as the hint says
    assert (lab.there / DATASET / "meta.md").read_bytes() == b"another"
    assert lab.usr("diff", lab.folder, "lab").ok().lines[-1] == "Status     : CHANGES"


def test_a_word_that_only_a_folder_here_answers_to_is_that_folder(lab, apart, monkeypatch):
    monkeypatch.chdir(apart)
    said = lab.usr("push", "other/y", "lab", "-y").ok()
    assert f"its own is {apart}" in said.err
    assert "heads/other/y" in lab.refs(apart)


@pytest.mark.parametrize("verb", ["push", "pull", "diff", "fetch"])
def test_a_folder_in_no_root_is_refused_with_what_to_do(lab, verb):
    folder = lab.home / "loose" / "x"
    datasets.write(folder, sample_files())
    said = lab.usr(verb, folder, "lab").failed("no-root", 4)
    assert f"{folder} lies in no root" in said.err
    assert "usr init" in said.err
    assert datasets.read(folder) == sample_files()


def test_a_folder_too_deep_for_a_dataset_is_refused(lab, apart):
    deep = apart / "a/b/c"
    datasets.write(deep, sample_files())
    said = lab.usr("push", deep, "lab", "-y").failed("invalid-name", 3)
    assert f"its root would be {apart}" in said.err
    said = lab.usr("push", apart / "other/y/_derived/infer", "lab").failed("invalid-name", 3)
    assert "name the folder that holds records.parquet" in said.err


def test_several_folders_of_one_root_go_together_and_of_two_are_refused(lab, apart):
    datasets.write(apart / "other/z", sample_files())
    words = [apart / "other/y", apart / "other/z"]
    said = lab.usr("push", *words, "lab", "-y", "--json").ok()
    assert [row["dataset"] for row in said.data["datasets"]] == ["other/y", "other/z"]
    assert lab.usr("diff", *words, "lab").ok().lines[-1] == "Status     : up-to-date"
    before = lab.refs(lab.there)
    said = lab.usr("push", words[0], DATASET, "lab", "-y").failed("invalid-input", 3)
    assert str(apart) in said.err
    assert str(lab.root) in said.err
    assert lab.refs(lab.there) == before


def test_the_remotes_of_a_folder_elsewhere_are_those_of_its_root(lab, apart, monkeypatch):
    monkeypatch.delenv("USR_REMOTES_PATH")
    mine = lab.home / "mine"
    mine.mkdir()
    (apart / ".usr").mkdir()
    (apart / ".usr" / "remotes.yaml").write_text(
        json.dumps({"remotes": {"own": {"type": "folder", "base_dir": str(mine)}}})
    )
    lab.usr("push", apart / "other/y", "own", "-y").ok()
    assert datasets.read(mine / "other/y") == datasets.read(apart / "other/y")
