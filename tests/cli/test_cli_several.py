"""Several datasets in one command: chosen by name and by pattern, told one by one and in all."""

from __future__ import annotations

import json

import pytest

from support import datasets
from support.datasets import DATASET
from support.lab import sample_files

NAMES = ["densegen/a", "densegen/b", DATASET]


@pytest.fixture
def three(lab):
    for name in NAMES:
        datasets.write(lab.root / name, {**sample_files(), "name.txt": name.encode()})
    return lab


def heads(lab, root):
    return {name: oid for name, oid in lab.refs(root).items() if name.startswith("heads/")}


def test_all_are_pushed_as_one_state_and_told_one_by_one(three):
    said = three.usr("push", "--all", "lab", "-y").ok()
    assert [line for line in said.lines if line.startswith("Dataset")] == [
        f"Dataset    : {name}" for name in NAMES
    ]
    assert said.lines[-1] == "3 datasets: 3 transferred; state 1 of lab"
    for name in NAMES:
        assert datasets.read(three.there / name) == datasets.read(three.root / name)
    operations = three.usr("--root", three.there, "op", "log", "--json").ok().data
    assert len(operations) == 1
    said = three.usr("push", "--all", "lab", "-y").ok()
    assert said.lines[-1] == "3 datasets: 3 unchanged"


def test_a_pattern_means_what_is_there_where_it_comes_from(three):
    three.usr("push", "densegen/*", "lab", "-y").ok()
    assert sorted(heads(three, three.there)) == ["heads/densegen/a", "heads/densegen/b"]
    fresh = three.home / "fresh"
    fresh.mkdir()
    said = three.usr("--root", fresh, "pull", "*/a", "densegen/b", "lab", "-y", "--json").ok()
    assert [row["dataset"] for row in said.data["datasets"]] == ["densegen/a", "densegen/b"]
    assert [row["transfer_state"] for row in said.data["datasets"]] == ["TRANSFERRED"] * 2
    assert said.data["state"] == 1
    three.usr("--root", fresh, "pull", "ns/*", "lab").failed("dataset-not-found", 4)
    three.usr("push", "x*", "lab").failed("dataset-not-found", 4)


def test_a_pattern_that_one_dataset_matches_is_told_as_several(three):
    said = three.usr("push", "ns/*", "lab", "-y", "--json").ok()
    assert [row["dataset"] for row in said.data["datasets"]] == [DATASET]


def test_one_question_for_all(three):
    said = three.usr("push", "--all", "lab", stdin="n\n")
    assert said.status == 130
    assert said.out.count("Proceed") == 1
    assert all(f"Dataset    : {name}" in said.out for name in NAMES)
    assert not (three.there / ".usr").exists()
    said = three.usr("push", "--all", "lab", stdin="\n").ok()
    assert said.lines[-1].startswith("3 datasets: 3 transferred")


def test_one_that_cannot_go_keeps_all_back_and_is_named(three):
    three.usr("push", "--all", "lab", "-y").ok()
    for name in NAMES:
        (three.root / name / "name.txt").write_text("ours")
    (three.there / "densegen/b" / "name.txt").write_text("theirs")
    before = three.refs(three.there), three.refs()
    path = three.home / "audit.json"
    said = three.usr("push", "--all", "lab", "-y", "--audit-json-out", path)
    said.failed("diverged", 5)
    assert "at densegen/b, one of 3: none of them was changed" in said.err
    assert (three.refs(three.there), three.refs()) == before
    assert (three.there / "densegen/a/name.txt").read_text() == "densegen/a"
    data = three.audit(path)
    assert data["error"]["code"] == "diverged"
    assert {row["transfer_state"] for row in data["datasets"]} == {"REFUSED"}
    assert data["state"] is None


def test_a_merge_is_part_of_the_one_state(three):
    three.usr("push", "--all", "lab", "-y").ok()
    (three.root / DATASET / "ours.txt").write_text("ours")
    (three.there / DATASET / "theirs.txt").write_text("theirs")
    (three.there / "densegen/a" / "name.txt").write_text("new")
    before = three.usr("op", "log", "--json").ok().data[0]["number"]
    said = three.usr("pull", "--all", "lab", "-y").ok()
    assert said.lines[-1].startswith("3 datasets: 1 transferred, 1 merged, 1 unchanged; state ")
    assert (three.root / DATASET / "ours.txt").read_text() == "ours"
    assert (three.root / DATASET / "theirs.txt").read_text() == "theirs"
    after = three.usr("op", "log", "--json").ok().data
    last = after[0]
    moved = {row["ref"] for row in last["moves"]} if "moves" in last else set()
    assert last["number"] > before
    assert not moved or {f"heads/{DATASET}", "heads/densegen/a"} <= moved


def test_a_dry_run_of_all_says_what_would_happen_and_does_nothing(three):
    said = three.usr("push", "--all", "lab", "--dry-run").ok()
    assert said.lines[-1] == "3 datasets: 3 would change"
    assert not (three.there / ".usr").exists()


def test_several_are_compared_at_once(three):
    three.usr("push", "--all", "lab", "-y").ok()
    (three.root / DATASET / "name.txt").write_text("other")
    said = three.usr("diff", "--all", "lab").ok()
    assert said.lines[-2:] == ["3 datasets: 1 changed, 2 equal", "Status     : CHANGES"]
    assert three.usr("diff", "densegen/*", "lab", "--exit-code").status == 0
    assert three.usr("diff", *NAMES, "lab", "--exit-code").status == 1
    data = three.usr("diff", *NAMES, "lab", "--json").ok().data
    assert [row["dataset"] for row in data["datasets"]] == NAMES
    three.usr("diff", "--all", "lab", "--stat").failed("usage", 2)


@pytest.mark.parametrize(
    "words", [["push", "lab"], ["pull", "--all", DATASET, "lab"], ["diff", "--all"], ["diff"]]
)
def test_what_is_not_clear_is_a_usage_error(three, words):
    assert three.usr(*words).status in (2, 4)


def test_progress_says_which_of_how_many(three):
    said = three.usr("push", "--all", "lab", "-y", "--progress=json").ok()
    events = [json.loads(line)["usr_progress"] for line in said.err.splitlines()]
    named = {(row["dataset"], row["number"], row["of"]) for row in events if "of" in row}
    assert named == {(name, number, 3) for number, name in enumerate(NAMES, 1)}
