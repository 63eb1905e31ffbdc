"""log, show and diff: which states, in which order, and how they are drawn."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli_surface import on_terminal

from support.datasets import DATASET
from support.lab import sample_files
from support.people import make_who
from usrcli.render.graph import Graph
from usrstore.objects.ids import ManifestId, ObjectId
from usrstore.objects.names import folder_ref, head_ref
from usrstore.odb.states import Act, Change
from usrstore.root import Root
from usrstore.verbs.site import Site
from usrstore.worktree.statcache import Facts


def make(lab, message, *parents, policy=(), time_us=None):
    """A state with the tree of the first parent, as a merge on another machine would make one."""
    root = Root(str(lab.root))
    who = make_who("ada", clock=(lambda: time_us) if time_us else None)
    site = Site.open(root, DATASET, who)
    ids = [ManifestId(ObjectId.parse(text)) for text in parents]
    oid = site.make_manifest(
        site.manifest(ids[0]).tree, ids, facts=Facts(), message=message, policy=policy
    )
    site.overlay.flush()
    return oid.hex()


def move(lab, ref, oid):
    states = Root(str(lab.root)).states
    now = states.refs().get(ref)
    states.advance({ref: Change(now, ObjectId.parse(oid))}, Act("ada", "test", 1))


@pytest.fixture
def story(lab):
    """Three states in a row; `at` gives their ids."""
    lab.at = {}
    files = sample_files()
    for number, name in enumerate(("first", "second", "third"), 1):
        files["meta.md"] = b"%d\n" % number
        if number == 2:
            files["_derived/infer/part-2.parquet"] = b"part two"
        lab.write(files)
        lab.at[name] = lab.usr("commit", DATASET, "-m", name, "--json").ok().data["manifest"]
    return lab


@pytest.fixture
def merged(story):
    """On the third, two lines of work that were merged."""
    at = story.at
    at["left"] = make(story, "left", at["third"])
    at["left 2"] = make(story, "left 2", at["left"])
    at["right"] = make(story, "right", at["third"])
    at["merge"] = make(story, "merge", at["left 2"], at["right"])
    move(story, head_ref(DATASET), at["merge"])
    return story


def messages(lab, *words):
    return [row["message"] for row in lab.usr("log", "--json", *words).ok().data]


# ── which states ────────────────────────────────────────────────────────────────────────
def test_children_come_before_parents_and_each_state_once(merged):
    found = messages(merged, DATASET)
    assert sorted(found) == sorted(["merge", "left 2", "left", "right", "third", "second", "first"])
    rows = merged.usr("log", DATASET, "--json").ok().data
    place = {row["id"]: n for n, row in enumerate(rows)}
    assert all(place[row["id"]] < place[p] for row in rows for p in row["parents"])


def test_ranges(merged):
    at = merged.at
    expected = {
        (f"{DATASET}~3..{DATASET}",): {"merge", "left 2", "left", "right"},
        (f"{at['third']}..",): {"merge", "left 2", "left", "right"},
        (f"..{at['left']}",): set(),
        (f"{at['left 2']}..{at['right']}",): {"right"},
        (f"{DATASET}^2..{DATASET}^1",): {"left 2", "left"},
        (DATASET, f"^{at['left 2']}"): {"merge", "right"},
        (at["left"], at["right"], f"^{at['second']}"): {"left", "right", "third"},
        (f"{DATASET}..{DATASET}",): set(),
        (f"{DATASET}@{{0}}..{DATASET}@{{1}}",): set(),
        (f"{DATASET}@{{1}}..{DATASET}@{{0}}",): {"merge", "left 2", "left", "right"},
    }
    for words, found in expected.items():
        assert set(messages(merged, *words)) == found, words
    for wrong, code, status in (
        ("a..b", "revision-not-found", 4), ("..", "invalid-input", 3),
        (f"{DATASET}...{DATASET}", "invalid-input", 3), ("^", "invalid-input", 3),
    ):  # fmt: skip
        assert "hint: " in merged.usr("log", wrong).failed(code, status).err


def test_count_and_time(story):
    assert messages(story, DATASET, "-n", "2") == ["third", "second"]
    old = make(story, "old", story.at["third"], time_us=1_600_000_000_000_000)
    assert messages(story, old, "--until", "2020-12-31") == ["old"]
    assert messages(story, old, "--since", "2020-09-13") == ["old", "third", "second", "first"]
    assert messages(story, old, "--since", "1 hour ago") == ["third", "second", "first"]
    assert messages(story, old, "--before", "2020-09-12", "--after", "2020-09-14") == []
    assert messages(story, old, "--since", "2020-09-13", "--until", "2020-09-14") == ["old"]
    said = story.usr("log", DATASET, "--since", "soon").failed("invalid-input", 3)
    assert "hint: for example" in said.err


def test_of_paths_only(story):
    assert messages(story, DATASET, "--", "_derived") == ["second", "first"]
    assert messages(story, DATASET, "--", "_derived/infer/part-2.parquet") == ["second"]
    assert messages(story, DATASET, "--", "meta.md", "-n") == ["third", "second", "first"]
    assert messages(story, DATASET, "--", "nope") == []


def test_all_starts_from_every_ref(story):
    side = make(story, "side", story.at["second"])
    move(story, folder_ref(DATASET), side)
    assert "side" not in messages(story, DATASET)
    assert set(messages(story, "--all")) == {"side", "third", "second", "first"}
    assert set(messages(story, "--all", DATASET)) == {"side", "third", "second", "first"}
    (story.root / "ns" / "other").mkdir()
    (story.root / "ns" / "other" / "records.parquet").write_bytes(b"other")
    story.usr("commit", "ns/other", "-m", "another").ok()
    assert messages(story, "--all")[0] == "another", "dataset by dataset"
    assert "another" not in messages(story, "--all", DATASET)


# ── how they are shown ──────────────────────────────────────────────────────────────────
def test_a_graph_as_text(merged):
    lines = merged.usr("log", DATASET, "--graph", "--oneline").ok().lines
    # Where two states have the same depth, the later one comes first.
    assert [re.sub(r"[0-9a-f]{12} kept  ", "", line) for line in lines] == [
        "*   merge",
        "|\\",
        "* | left 2",
        "| * right",
        "* | left",
        "|/",
        "* third",
        "* second",
        "* first",
    ]
    long = merged.usr("log", DATASET, "--graph").ok().lines
    assert all(line == line.rstrip() for line in long)
    assert sum(line.startswith(("* ", "| * ")) for line in long) == 7
    assert any(line.startswith("|\\") for line in long)


def test_changes_of_each_state(story):
    said = story.usr("log", DATASET, "--oneline", "--name-status", "-n", "2").ok()
    assert said.lines[1:] == [
        "M\tmeta.md", said.lines[2], "A\t_derived/infer/part-2.parquet", "M\tmeta.md",
    ]  # fmt: skip
    said = story.usr("log", DATASET, "--stat", "-n", "2").ok()
    assert "_auxiliary : 1 modified (+0 bytes)" in said.lines
    assert said.lines[-2:] == [
        "_derived   : 1 added (8 B)", "_auxiliary : 1 modified (+0 bytes)",
    ]  # fmt: skip
    rows = story.usr("log", DATASET, "--stat", "--json").ok().data
    assert rows[0]["changes"]["files"][0]["path"] == "meta.md"
    assert "changes" not in story.usr("log", DATASET, "--json").data[0]


def test_refs_are_named_on_a_terminal_or_when_asked_for(story):
    story.usr("tag", f"{DATASET}@v1").ok()
    said = story.usr("log", DATASET, "--oneline", "--decorate", "-n", "1").ok()
    assert said.out.endswith(" kept  (ns/x, tag: ns/x@v1) third\n")
    assert "ns/x" not in story.usr("log", DATASET, "--oneline").out
    status, text = on_terminal("log", DATASET, "--oneline", "-n", "1")
    assert status == 0
    assert "\x1b[33m" in text
    assert "tag: ns/x@v1" in text
    for flags, env in ((["--no-rich"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})):
        assert "\x1b" not in on_terminal(*flags, "log", DATASET, env=env)[1]


def test_opt_outs_and_merges_are_shown_for_ever(merged):
    oid = make(merged, "hurried", merged.at["merge"], policy=("no-verify-sidecars",))
    said = merged.usr("log", oid, "-n", "2").ok()
    assert "Policy:  no-verify-sidecars" in said.lines
    at = merged.at
    assert f"Merge:   {at['left 2'][:12]} {at['right'][:12]}" in said.lines
    said = merged.usr("log", oid, "--oneline", "-n", "1").ok()
    assert said.out.endswith("hurried [no-verify-sidecars]\n")


def test_show_a_tag_a_folder_and_a_merge(merged):
    merged.usr("tag", f"{DATASET}@v1", "-m", "the paper").ok()
    for text in (f"{DATASET}@v1", f"tags/{DATASET}/v1"):
        lines = merged.usr("show", text).ok().lines
        assert lines[0] == f"tag {DATASET}@v1"
        assert "    the paper" in lines
        assert any(line.startswith(f"manifest {merged.at['merge']} (") for line in lines)
    assert not merged.usr("show", DATASET).ok().out.startswith("tag")
    assert merged.usr("show", f"{DATASET}:").ok().lines == [
        f"folder {merged.at['merge'][:12]}:", "", ".events.log", "_artifacts/", "_derived/",
        "_snapshots/", "meta.md", "records.parquet",
    ]  # fmt: skip
    for text in ("_derived", "_derived/"):
        lines = merged.usr("show", f"{DATASET}:{text}").ok().lines
        assert lines[2:] == ["infer/"]
    said = merged.usr("show", f"{DATASET}:nope").failed("revision-not-found", 4)
    assert "hint: `usr ls-tree --name-only" in said.err
    lines = merged.usr("show", f"{DATASET}~4", "--stat", "--name-status").ok().lines
    assert lines[-3:] == [
        "_auxiliary : 1 modified (+0 bytes)", "A\t_derived/infer/part-2.parquet", "M\tmeta.md",
    ]  # fmt: skip


# ── diff ────────────────────────────────────────────────────────────────────────────────
def test_the_folder_against_any_state(story):
    assert story.usr("diff", f"{DATASET}~2").ok().lines == [
        "A\t_derived/infer/part-2.parquet", "M\tmeta.md",
    ]  # fmt: skip
    (story.folder / "new.txt").write_text("new")
    assert "A\tnew.txt" in story.usr("diff", story.at["first"]).ok().lines
    assert story.usr("diff", DATASET).ok().lines == ["A\tnew.txt"]
    data = story.usr("diff", f"{DATASET}~1", "--json").ok().data
    assert (data["from"], data["to"]) == (story.at["second"], None)
    assert [(f["status"], f["path"]) for f in data["files"]] == [("M", "meta.md"), ("A", "new.txt")]
    assert data["files"][1]["before"] is None
    assert data["files"][1]["after"]["size"] == 3


def test_two_states_either_way_and_as_a_range(story):
    first, third = story.at["first"], story.at["third"]
    there = story.usr("diff", first, third).ok().lines
    assert there == ["A\t_derived/infer/part-2.parquet", "M\tmeta.md"]
    assert story.usr("diff", f"{first}..{third}").ok().lines == there
    assert story.usr("diff", f"{first}..").ok().lines == there
    assert story.usr("diff", third, first).ok().lines[0] == "D\t_derived/infer/part-2.parquet"
    assert story.usr("diff", third, third, "--exit-code").ok().out == ""
    said = story.usr("diff", f"{DATASET}:meta.md", DATASET).failed("invalid-input", 3)
    assert "hint: name the files behind a double dash" in said.err


def test_only_some_paths(story):
    first = story.at["first"]
    for form in (["--name-status"], ["--porcelain"], []):
        said = story.usr("diff", first, DATASET, *form, "--", "_derived").ok()
        assert said.lines == ["A\t_derived/infer/part-2.parquet"]
    assert story.usr("diff", first, DATASET, "--stat", "--", "meta.md").ok().lines == [
        "_auxiliary : 1 modified (+0 bytes)"
    ]
    assert story.usr("diff", first, DATASET, "--exit-code", "--", "nope").ok().out == ""
    assert story.usr("diff", first, DATASET, "--exit-code", "--", "meta.md").status == 1
    (story.folder / "meta.md").write_text("x")
    assert story.usr("diff", DATASET, "--", "_derived").ok().out == ""


def test_only_some_paths_of_a_remote(synced):
    (synced.far / "meta.md").write_text("x")
    (synced.far / "other.md").write_text("x")
    words = ("diff", DATASET, "lab", "--name-status", "--exit-code", "--")
    assert synced.usr(*words, "other.md").lines == ["D\tother.md"]
    assert synced.usr(*words, "_derived").ok().out == ""


# ── the graph itself ────────────────────────────────────────────────────────────────────
def draw(rows):
    graph, lines = Graph(), []
    for name, parents in rows:
        first, _, links = graph.state(name, parents)
        lines += [f"{first} {name}", *links]
    return lines


DRAWINGS = [
    ("c:b b:a a:", ["* c", "* b", "* a"]),
    ("m:ab b:o a:o o:", ["* m", "|\\", "| * b", "* | a", "|/", "* o"]),
    (
        "m:abc a:o b:o c:o o:",
        ["* m", "|\\", "|\\ \\", "* | | a", "| * | b", "|/ /", "| * c", "|/", "* o"],
    ),
    ("t:b m:ac c:b a:o b:o o:", [
        "* t", "| * m", "| |\\", "| | * c", "| |/", "|/|", "| * a", "* | b", "|/", "* o",
    ]),
    ("p:q r:s q: s:", ["* p", "| * r", "* | q", " /", "* s"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), DRAWINGS, ids=[text for text, _ in DRAWINGS])
def test_drawings(text, lines):
    assert draw([(w.partition(":")[0], list(w.partition(":")[2])) for w in text.split()]) == lines


@given(st.lists(st.sets(st.integers(1, 6), max_size=3), max_size=25))
def test_any_history_can_be_drawn_and_no_lane_is_left_over(steps):
    size = len(steps)
    rows = [
        (n, sorted({n + step for step in back if n + step < size})) for n, back in enumerate(steps)
    ]
    graph = Graph()
    for name, parents in rows:
        first, below, links = graph.state(name, parents)
        assert first.count("*") == 1
        assert "*" not in "".join([below, *links])
        assert set("".join([first, below, *links])) <= set("*|/\\ ")
        assert all(line == line.rstrip() for line in (first, below, *links))
    assert graph._lanes == []


def test_every_line_of_a_log_is_the_same_in_a_pipe_as_json_says(merged):
    rows = merged.usr("log", DATASET, "--json").ok()
    assert "\x1b" not in rows.out
    piped = merged.spawn("log", DATASET, "--graph", "--decorate").ok()
    assert "\x1b" not in piped.out
    assert all(row["id"] in piped.out for row in json.loads(rows.out)["data"])
