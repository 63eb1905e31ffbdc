"""op log, op show and undo: what was done is known, and comes back when it is taken back."""

from __future__ import annotations

import re

import pytest

from support import datasets
from support.datasets import DATASET
from support.lab import sample_files

HEAD, FOLDER = f"heads/{DATASET}", f"folders/{DATASET}"


@pytest.fixture
def story(lab):
    """Two states: first, and second with another meta.md and one file more."""
    lab.usr("commit", DATASET, "-m", "first").ok()
    lab.write({**sample_files(), "meta.md": b"# second\n", "extra.txt": b"more\n"})
    lab.usr("commit", DATASET, "-m", "second").ok()
    return lab


def situation(lab):
    return lab.read(), lab.refs()


def newest(lab):
    return lab.usr("op", "show", "--json").ok().data["number"]


def test_the_operation_log_is_a_transcript(story):
    story.usr("tag", f"{DATASET}@v1").ok()
    lines = story.usr("op", "log").ok().lines
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"
    expected = [
        rf"3  {when}  ada@\S+  tag v1",
        r"     tags/ns/x/v1  absent       → [0-9a-f]{12}",
        rf"2  {when}  ada@\S+  second",
        r"     heads/ns/x  [0-9a-f]{12} → [0-9a-f]{12}",
        rf"1  {when}  ada@\S+  first",
        r"     heads/ns/x  absent       → [0-9a-f]{12}",
    ]
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), line
    assert [row["number"] for row in story.usr("op", "log", "-n", "2", "--json").data] == [3, 2]
    shown = story.usr("op", "show", "2").ok().lines
    assert shown[0].startswith("operation 2 (")
    assert "Reason:  second" in shown
    data = story.usr("op", "show", "1", "--json").ok().data
    assert data["moves"] == [{"ref": HEAD, "before": None, "after": data["refs"][HEAD]}]


def test_the_log_of_one_dataset_leaves_others_out(story):
    datasets.write(story.root / "ns" / "other", sample_files())
    story.usr("commit", "ns/other").ok()
    numbers = [row["number"] for row in story.usr("op", "log", DATASET, "--json").ok().data]
    assert numbers == [2, 1]
    assert [row["number"] for row in story.usr("op", "log", "other", "--json").data] == [3]


def test_an_empty_log(lab):
    assert lab.usr("op", "log").ok().out == "nothing was done here yet\n"
    assert lab.usr("op", "log", "--json").ok().data == []
    lab.usr("op", "show").failed("no-operation", 4)
    lab.usr("undo").failed("no-operation", 4)
    assert not (lab.root / ".usr" / "locks").exists()


@pytest.mark.parametrize("number", ["3", "99999999999999999999999"])
def test_an_operation_that_never_was(story, number):
    assert "hint: `usr op log`" in story.usr("op", "show", number).failed("no-operation", 4).err
    before = situation(story)
    story.usr("undo", "--to", number).failed("no-operation", 4)
    assert situation(story) == before


# ── undo ────────────────────────────────────────────────────────────────────────────────
def test_undo_of_a_commit_and_undo_of_that(story):
    after = situation(story)
    said = story.usr("undo").ok()
    assert said.lines[0] == "went back from operation 2 to after operation 1"
    assert said.lines[-1] == "`usr undo` takes this back"
    assert story.read() == sample_files()
    assert story.usr("status", DATASET, "--json").data[0]["clean"]
    story.usr("undo").ok()
    assert situation(story) == after
    assert newest(story) == 4


def test_undo_of_a_checkout(story):
    before = situation(story)
    story.usr("checkout", f"{DATASET}~1").ok()
    between = situation(story)
    story.usr("undo").ok()
    assert situation(story) == before
    story.usr("undo").ok()
    assert situation(story) == between


def test_undo_of_a_checkout_of_paths(story):
    before = situation(story)
    story.usr("checkout", f"{DATASET}~1", "--", "meta.md").ok()
    between = situation(story)
    assert between[0] == {**before[0], "meta.md": b"# sample\n"}
    story.usr("undo").ok()
    assert situation(story) == before
    story.usr("undo").ok()
    assert situation(story) == between


def test_undo_brings_back_what_a_checkout_went_over(story):
    (story.folder / "meta.md").write_text("hours of work")
    work = story.read()
    story.usr("checkout", f"{DATASET}~1").ok()
    story.usr("undo").ok()
    assert story.read() == work


def test_undo_of_a_tag_leaves_the_folder_alone(story):
    story.usr("tag", f"{DATASET}@v1").ok()
    (story.folder / "meta.md").write_text("in the middle of something")
    before = story.read()
    said = story.usr("undo", "--json").ok().data
    assert [move["ref"] for move in said["steps"][0]["moves"]] == [f"tags/{DATASET}/v1"]
    assert said["steps"][0]["folder"] is None
    assert story.read() == before
    assert f"tags/{DATASET}/v1" not in story.refs()
    story.usr("undo").ok()
    story.usr("tag", "-v", f"{DATASET}@v1").ok()


def test_undo_keeps_what_no_state_holds(story):
    (story.folder / "meta.md").write_text("hours of work")
    work = story.read()
    said = story.usr("undo").ok()
    assert re.search(r"^ns/x: kept what was here as [0-9a-f]{12}$", said.out, re.MULTILINE)
    assert story.read() == sample_files()
    story.usr("undo").ok()
    assert story.read() == work


def test_undo_of_the_first_commit_leaves_the_files(lab):
    lab.usr("commit", DATASET).ok()
    before = situation(lab)
    said = lab.usr("undo").ok()
    assert said.lines[0] == "went back from operation 1 to before the first operation"
    assert situation(lab) == (before[0], {})
    lab.usr("undo").ok()
    assert situation(lab) == before


def test_undo_to_an_operation_and_to_none(story):
    seen = {2: situation(story)}
    story.usr("checkout", f"{DATASET}~1").ok()
    seen[3] = situation(story)
    story.usr("tag", f"{DATASET}@v1").ok()
    seen[4] = situation(story)
    story.usr("undo", "--to", "2").ok()
    assert situation(story) == seen[2]
    for number in (4, 3, 2):
        story.usr("undo", "--to", str(number)).ok()
        assert situation(story) == seen[number]
    said = story.usr("undo", "--to", str(newest(story))).ok()
    assert said.out.startswith("nothing to undo: all is as it was after operation ")
    story.usr("undo", "--to", "0").ok()
    assert story.refs() == {}


def test_a_dry_run_changes_nothing(story):
    before = situation(story), newest(story)
    said = story.usr("undo", "--dry-run").ok()
    assert said.lines[0] == "would go back from operation 2 to after operation 1"
    assert said.lines[-1].startswith("ns/x: 2 files would change, to ")
    data = story.usr("undo", "-n", "--json").ok().data
    assert (data["dry_run"], data["now"], data["steps"][0]["changed"]) == (True, 2, 2)
    assert (situation(story), newest(story)) == before


def test_undo_of_one_dataset_leaves_others_alone(story):
    datasets.write(story.root / "ns" / "other", sample_files())
    story.usr("commit", "ns/other").ok()
    other = story.refs()["heads/ns/other"]
    story.usr("undo", DATASET).ok()
    assert story.read() == sample_files()
    assert story.refs()["heads/ns/other"] == other
    story.usr("undo", "ns/other", DATASET, "--to", "2").ok()
    assert "heads/ns/other" not in story.refs()
    assert story.read()["extra.txt"] == b"more\n"


def test_undo_of_a_pull_and_the_pull_again(synced, home):
    synced.usr("commit", DATASET, "-m", "kept").ok()
    before = situation(synced)
    (synced.far / "meta.md").write_text("from afar")
    synced.usr("pull", DATASET, "lab", "-y").ok()
    after = synced.read()
    said = synced.usr("undo").ok()
    assert situation(synced) == before
    assert said.err.startswith("warning: lab has ")
    synced.usr("pull", DATASET, "lab", "-y").ok()
    assert synced.read() == after


def test_undo_of_a_push_says_that_the_remote_keeps_it(story):
    story.usr("push", DATASET, "lab", "-y").ok()
    (story.folder / "meta.md").write_text("third")
    story.usr("commit", DATASET, "-m", "third").ok()
    story.usr("push", DATASET, "lab", "-y").ok()
    far = datasets.read(story.far)
    said = story.usr("undo", "--to", "2", "--json").ok()
    assert [row["remote"] for row in said.data["shared"]] == ["lab"]
    assert datasets.read(story.far) == far
    assert story.read()["meta.md"] == b"# second\n"


def test_what_is_gone_cannot_come_back_and_nothing_changes(synced):
    """The state before was light: a sync wrote no bytes of it, and a program wrote over them."""
    synced.write({**sample_files(), "meta.md": b"second\n"})
    synced.usr("push", DATASET, "lab", "-y").ok()
    before = situation(synced), newest(synced)
    said = synced.usr("undo").failed("undo-impossible", 6)
    assert "nothing was changed" in said.err
    synced.usr("undo", "--dry-run").failed("undo-impossible", 6)
    assert (situation(synced), newest(synced)) == before
