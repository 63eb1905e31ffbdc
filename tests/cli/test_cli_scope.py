"""Transfers in part: what is asked for moves, and nobody is told that it was all."""

from __future__ import annotations

import pytest

from support import datasets
from support.datasets import DATASET
from support.lab import sample_files

PART = "_derived/infer/part-2.parquet"
OTHER = "_derived/embed/part-1.parquet"
NOTE = "_artifacts/note.txt"
OFF = "--no-verify-sidecars"


@pytest.fixture
def ahead(synced):
    """The remote has two new parts, other notes and another note."""
    datasets.write(
        synced.far,
        {
            **sample_files(),
            PART: datasets.noise("part", 3000),
            OTHER: datasets.noise("other", 3000),
            "meta.md": b"# theirs\n",
            NOTE: b"their note\n",
        },
    )
    return synced


def left_out(said):
    lines = [line for line in said.lines if line.startswith("Left out")]
    assert len(lines) <= 1
    return lines[0].partition(": ")[2] if lines else None


def changed(lab):
    """What of the folder is no longer the sample."""
    return {path for path, data in lab.read().items() if sample_files().get(path) != data}


# ── pull --path ─────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("globs", "moved"),
    [
        (["_derived/infer/*"], {PART}),
        (["_derived/infer"], {PART}),
        (["_derived/infer/"], {PART}),
        (["*.md"], {"meta.md"}),
        (["meta.md", NOTE], {"meta.md", NOTE}),
        (["*part-?.parquet"], {PART, OTHER}),
        (["*"], {PART, OTHER, "meta.md", NOTE}),
    ],
)
def test_a_pull_of_globs_takes_what_they_match_and_nothing_else(ahead, globs, moved):
    flags = [word for glob in globs for word in ("--path", glob)]
    said = ahead.usr("pull", DATASET, "lab", "-y", OFF, *flags).ok()
    assert changed(ahead) == moved
    assert {path: ahead.read()[path] for path in moved} == {
        path: datasets.read(ahead.far)[path] for path in moved
    }
    assert left_out(said).startswith(f"all but {' '.join(globs)}: neither moved nor verified (")
    assert said.lines[-1] == "Pull complete, of what was asked for: the rest was left out."
    assert f"only path {globs[0]}" in said.err  # the warning


def test_the_audit_of_a_pull_in_part_counts_and_names_what_was_left_out(ahead):
    path = ahead.home / "audit.json"
    words = ["--path", "_derived/infer/*", OFF, "--audit-json-out", path]
    said = ahead.usr("pull", DATASET, "lab", "-y", *words).ok()
    assert left_out(said) == (
        "all but _derived/infer/*: neither moved nor verified (6 files, 3 of which differ)"
    )
    data = ahead.audit(path)
    assert data["transfer_state"] == "TRANSFERRED"
    assert data["left_out"] == {
        "sections": [],
        "all_but": ["_derived/infer/*"],
        "files": 6,
        "differ": [NOTE, OTHER, "meta.md"],
    }
    assert "only path _derived/infer/*" in data["policy"]
    log = ahead.usr("log", DATASET, "--json").ok().data
    assert "only path _derived/infer/*" in log[0]["policy"]  # signed, and shown for ever


def test_what_a_glob_matches_only_here_goes(ahead):
    (ahead.folder / "_derived/infer/part-9.parquet").write_bytes(b"ours alone")
    (ahead.folder / "_artifacts/mine.txt").write_bytes(b"ours alone")
    words = ["--force-with-lease", "--path", "_derived/infer/*", OFF]
    ahead.usr("pull", DATASET, "lab", "-y", *words).ok()
    assert not (ahead.folder / "_derived/infer/part-9.parquet").exists()
    assert (ahead.folder / "_artifacts/mine.txt").exists()


def test_section_and_glob_narrow_one_another(ahead):
    words = ["--section", "derived", "--path", "*part-1*", OFF]
    said = ahead.usr("pull", DATASET, "lab", "-y", *words).ok()
    assert changed(ahead) == {OTHER}
    assert left_out(said).startswith(
        "primary events snapshots auxiliary; all but *part-1*: neither moved nor verified"
    )


def test_the_rest_comes_with_the_next_whole_pull(ahead):
    ahead.usr("pull", DATASET, "lab", "-y", "--path", "meta.md", OFF).ok()
    said = ahead.usr("pull", DATASET, "lab", "-y").ok()
    assert left_out(said) is None
    assert said.lines[-1] == "Pull complete."
    assert ahead.read() == datasets.read(ahead.far)


def test_a_dry_run_in_part_says_so_too(ahead):
    said = ahead.usr("pull", DATASET, "lab", "--dry-run", "--path", "meta.md", OFF).ok()
    assert left_out(said).startswith("all but meta.md: ")
    assert changed(ahead) == set()


def test_a_glob_that_matches_nothing_is_refused(ahead):
    words = ["--path", "meta.md", "--path", "_derived/infre/*", OFF]
    said = ahead.usr("pull", DATASET, "lab", "-y", *words).failed("path-unmatched", 4)
    assert "no file that matches _derived/infre/*; nothing was changed" in said.err
    assert changed(ahead) == set()
    ahead.usr("fetch", DATASET, "lab", "--path", "nope").failed("path-unmatched", 4)


@pytest.mark.parametrize("glob", ["", "/", "x" * 201, "a\nb"])
def test_a_glob_that_is_none_is_refused(ahead, glob):
    ahead.usr("pull", DATASET, "lab", "-y", OFF, "--path", glob).failed("invalid-input", 3)


def test_more_globs_than_a_manifest_records_are_refused(ahead):
    flags = [word for n in range(17) for word in ("--path", f"{n}*")]
    ahead.usr("pull", DATASET, "lab", "-y", OFF, *flags).failed("invalid-input", 3)


def test_a_pull_in_part_must_say_that_sidecars_are_not_verified(ahead):
    said = ahead.usr("pull", DATASET, "lab", "-y", "--path", "meta.md")
    assert said.status == 2
    assert "--path leaves sidecars out" in said.err


# ── the options that were there ─────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--primary-only"], "events snapshots derived auxiliary"),
        (["--skip-snapshots"], "snapshots"),
        (["--section", "auxiliary", "--section", "derived"], "primary events snapshots"),
    ],
)
@pytest.mark.parametrize("verb", ["pull", "push"])
def test_every_way_to_leave_something_out_is_said(ahead, verb, flags, words):
    if verb == "push":
        ahead.usr("pull", DATASET, "lab", "-y").ok()
        (ahead.folder / "meta.md").write_bytes(b"# ours\n")
    said = ahead.usr(verb, DATASET, "lab", "-y", OFF, *flags).ok()
    assert left_out(said).startswith(f"{words}: neither moved nor verified (")
    data = ahead.usr(verb, DATASET, "lab", "-y", OFF, *flags, "--json").ok().data
    assert data["left_out"]["sections"] == words.split()


def test_a_whole_transfer_leaves_nothing_out(ahead):
    said = ahead.usr("pull", DATASET, "lab", "-y", "--json").ok()
    assert said.data["left_out"] is None
    assert left_out(ahead.usr("diff", DATASET, "lab").ok()) is None


def test_a_refusal_in_part_says_what_it_was_not_about(ahead):
    (ahead.folder / "meta.md").write_bytes(b"# ours\n")
    said = ahead.usr("pull", DATASET, "lab", "-y", OFF, "--path", "_derived/*")
    said.failed("diverged", 5)
    assert left_out(said).startswith("all but _derived/*: ")


def test_several_datasets_in_part(ahead):
    datasets.write(ahead.root / "ns/z", sample_files())
    ahead.usr("push", "ns/z", "lab", "-y").ok()
    datasets.write(ahead.there / "ns/z", {**sample_files(), "meta.md": b"z"})
    said = ahead.usr("pull", "ns/*", "lab", "-y", OFF, "--path", "meta.md").ok()
    assert said.out.count("Left out   : all but meta.md: ") == 2
    assert said.lines[-1].endswith("; of each, only what was asked for")
    assert changed(ahead) == {"meta.md"}


# ── fetch ───────────────────────────────────────────────────────────────────────────────
def test_a_fetch_in_part_keeps_what_was_asked_for_and_names_the_rest(ahead):
    said = ahead.usr("fetch", DATASET, "lab", "--path", "meta.md").ok()
    assert said.lines[0].startswith(f"lab/{DATASET} ")
    assert left_out(said) == "all but meta.md: not fetched (7 files)"
    assert ahead.raw("show", f"lab/{DATASET}:meta.md") == b"# theirs\n"
    assert ahead.usr("ls-tree", "--name-only", f"lab/{DATASET}").ok().out.count("\n") == 8
    said = ahead.usr("show", f"lab/{DATASET}:{PART}")
    assert (said.code, said.status) == ("not-kept", 6)
    assert ahead.usr("fsck").ok().status == 0
    before = ahead.read()
    ahead.usr("checkout", f"lab/{DATASET}", "-y").failed("not-kept", 6)
    ahead.usr("merge", f"lab/{DATASET}").failed("not-kept", 6)
    assert ahead.read() == before


def test_a_later_fetch_brings_the_rest(ahead):
    ahead.usr("fetch", DATASET, "lab", "--section", "derived").ok()
    said = ahead.usr("fetch", DATASET, "lab", "--json").ok()
    assert (said.data["fresh"], said.data["left_out"]) == (False, None)
    assert said.data["payload"] > 0
    ahead.usr("checkout", f"lab/{DATASET}", "-y").ok()
    assert ahead.read() == datasets.read(ahead.far)


def test_a_fetch_of_sections(ahead):
    said = ahead.usr("fetch", DATASET, "lab", "--section", "derived", "--json").ok()
    assert said.data["left_out"] == {
        "sections": ["primary", "events", "snapshots", "auxiliary"],
        "all_but": [],
        "files": 5,
    }
    for path in (PART, OTHER):
        assert ahead.raw("show", f"lab/{DATASET}:{path}") == datasets.read(ahead.far)[path]


@pytest.fixture
def three(ahead):
    for name in ("densegen/a", "densegen/b"):
        datasets.write(ahead.there / name, {**sample_files(), "name.txt": name.encode()})
    return ahead


def tracked(lab):
    return sorted(ref for ref in lab.refs() if ref.startswith("remotes/lab/"))


def test_several_datasets_are_fetched_as_one_state(three):
    before = three.usr("op", "log", "--json").ok().data
    said = three.usr("fetch", "--all", "lab").ok()
    assert said.lines[-1] == "3 datasets: 3 new, 0 as before"
    assert tracked(three) == [f"remotes/lab/{n}" for n in ("densegen/a", "densegen/b", DATASET)]
    assert len(three.usr("op", "log", "--json").ok().data) == len(before) + 1
    for name in ("densegen/a", "densegen/b"):
        assert three.raw("show", f"lab/{name}:name.txt") == name.encode()
        assert not (three.root / name).exists()
    said = three.usr("fetch", "--all", "lab").ok()
    assert said.lines[-1] == "3 datasets: 0 new, 3 as before"


def test_patterns_and_names_are_the_remotes(three):
    said = three.usr("fetch", "densegen/*", DATASET, "lab", "--json").ok()
    assert [row["dataset"] for row in said.data["datasets"]] == [
        "densegen/a",
        "densegen/b",
        DATASET,
    ]
    assert three.usr("fetch", "densegen/a", "lab", "--json").ok().data["dataset"] == "densegen/a"
    three.usr("fetch", "nope/*", "lab").failed("dataset-not-found", 4)
    assert three.usr("fetch", "lab").status == 2


def test_one_that_cannot_be_fetched_keeps_all_refs_as_they_were(three):
    before = three.refs()
    said = three.usr("fetch", "densegen/a", "densegen/nope", "lab").failed("dataset-not-found", 4)
    assert "densegen/nope, one of 2" in said.err
    assert three.refs() == before


def test_several_in_part(three):
    said = three.usr("fetch", "densegen/*", "lab", "--path", "name.txt").ok()
    assert said.out.count("Left out   : all but name.txt: not fetched (6 files)") == 2
    assert said.lines[-1] == "2 datasets: 2 new, 0 as before; 2 kept in part"
