"""commit, status, log, show, checkout, recover, fsck and the plumbing, as transcripts."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from support import datasets, faults
from support.datasets import DATASET
from support.lab import fingerprint, sample_files
from usrcli import main
from usrstore.odb.database import Database

HEX = re.compile(r"[0-9a-f]{64}")


@pytest.fixture
def story(lab):
    """Three states: first, second (meta.md and an overlay part), third (a part less)."""
    lab.usr("commit", DATASET, "-m", "first").ok()
    files = sample_files()
    files["meta.md"] = b"# second\n"
    files["_derived/infer/part-2.parquet"] = b"second part"
    lab.write(files)
    lab.usr("commit", DATASET, "-m", "second").ok()
    del files["_derived/infer/part-2.parquet"]
    lab.write(files)
    lab.usr("commit", DATASET, "-m", "third").ok()
    return lab


def ids(lab):
    """The ids of the states, newest first."""
    return [row["id"] for row in lab.usr("log", DATASET, "--json").ok().data]


# ── init, commit, status ────────────────────────────────────────────────────────────────
def test_init(lab, monkeypatch):
    fresh = lab.home / "fresh"
    assert lab.usr("init", fresh).ok().out == f"Made a root in {fresh}\n"
    assert lab.usr("init", fresh).ok().out == f"Already a root: {fresh}\n"
    assert lab.usr("init", fresh, "--json").data == {"root": str(fresh), "created": False}
    assert (fresh / ".usr" / ".gitignore").read_text() == "*\n"
    other = lab.home / "other"
    other.mkdir()
    (other / "registry.yaml").write_text("namespaces: {}\n")
    assert lab.usr("--root", other, "init").ok().out == f"Made a root in {other}\n"
    assert (other / "registry.yaml").read_text() == "namespaces: {}\n"


def test_commit_says_what_it_kept(lab):
    said = lab.usr("commit", DATASET, "-m", "first").ok()
    assert re.fullmatch(r"\[ns/x [0-9a-f]{12}\] 6 files, 457\.1 kB; \d+\.\d kB stored\n", said.out)
    head = lab.refs()[f"heads/{DATASET}"]
    said = lab.usr("commit", DATASET, "-m", "again").ok()
    assert said.out == f"ns/x: nothing changed since {head[:12]}; it is kept\n"
    (lab.folder / "meta.md").write_text("more")
    data = lab.usr("commit", DATASET, "--json").ok().data
    assert (data["created"], data["files"]) == (True, 6)
    assert data["manifest"] == lab.refs()[f"heads/{DATASET}"]
    assert not lab.usr("commit", DATASET, "--json").ok().data["created"]


def test_the_dataset_that_one_stands_in_is_meant(lab, monkeypatch):
    monkeypatch.delenv("USR_ROOT")
    monkeypatch.chdir(lab.folder / "_derived" / "infer")
    lab.usr("commit", "-m", "first").ok()
    assert lab.usr("status").ok().out.startswith("ns/x: 6 files, 457.1 kB; clean at ")
    assert lab.usr("log", "--oneline").ok().out.endswith(" kept  first\n")
    monkeypatch.chdir(lab.root)
    said = lab.usr("commit").failed("not-found", 4)
    assert f"hint: name one of: {DATASET}" in said.err
    lab.usr("push", "", "lab").failed("invalid-name", 3)


def test_status_tells_clean_from_changed(story):
    head = story.refs()[f"heads/{DATASET}"][:12]
    assert story.usr("status", DATASET).out == f"ns/x: 6 files, 457.1 kB; clean at {head}\n"
    assert story.usr("status", "--porcelain").ok().out == ""
    (story.folder / "meta.md").write_text("edited")
    (story.folder / "new file.txt").write_text("new")
    (story.folder / "_artifacts" / "note.txt").unlink()
    changes = ["D\t_artifacts/note.txt", "M\tmeta.md", "A\tnew file.txt"]
    said = story.usr("status", DATASET).ok()
    assert said.lines == [f"ns/x: 6 files, 457.1 kB; changed since {head}:", *changes]
    assert story.usr("status", "--porcelain").lines == changes
    assert story.usr("diff", DATASET, "--porcelain").lines == changes
    assert story.usr("status", "--exit-code").status == 1
    row = story.usr("status", DATASET, "--json").ok().data[0]
    assert not row["clean"]
    assert row["sections"]["_auxiliary"] == {
        "added": ["new file.txt"], "deleted": ["_artifacts/note.txt"], "modified": ["meta.md"],
    }  # fmt: skip


def test_status_of_a_dataset_without_a_state_and_of_none(lab):
    said = lab.usr("status").ok()
    assert said.out == f"ns/x: 6 files, 457.1 kB; no state yet (usr commit {DATASET})\n"
    row = lab.usr("status", "--json").ok().data[0]
    assert (row["head"], row["clean"], "sections" in row) == (None, False, False)
    assert lab.usr("--root", lab.there, "status").out == f"no datasets under {lab.there}\n"
    assert lab.usr("--root", lab.there, "status", "--json").ok().data == []


def test_status_with_a_remote_is_a_diff(synced):
    assert synced.usr("status", DATASET, "lab").ok().lines[-1] == "Status     : up-to-date"
    data = synced.usr("status", DATASET, "lab", "--json").ok().data
    assert data["transfer_state"] == "DIFF-ONLY"
    (synced.folder / "meta.md").write_text("x")
    assert synced.usr("status", DATASET, "lab", "--exit-code", "--porcelain").status == 1
    synced.usr("status", "nope", "lab").failed("dataset-not-found", 4)


# ── log, show ───────────────────────────────────────────────────────────────────────────
def test_log_is_a_transcript(story):
    said = story.usr("log", DATASET, "-n", "2").ok()
    key = re.escape(fingerprint(story.config))
    expected = [
        r"manifest [0-9a-f]{64} \(kept\)",
        r"Author:  ada@\S+ \(usrstore 0\.1\.0\)",
        r"Date:    \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d",
        rf"Signed:  {key} \(good\)",
        r"Holds:   6 files, 457\.1 kB, 3200 rows × 7 columns, 2 events",
        r"",
        r"    third",
    ]
    assert len(said.lines) == 2 * len(expected) + 1
    for line, pattern in zip(said.lines, expected, strict=False):
        assert re.fullmatch(pattern, line), line
    oneline = story.usr("log", DATASET, "--oneline").ok().lines
    assert [line.split(" ", 1)[1] for line in oneline] == [
        "kept  third", "kept  second", "kept  first",
    ]  # fmt: skip
    rows = story.usr("log", DATASET, "--json").ok().data
    assert [row["sequence"] for row in rows] == [3, 2, 1]
    assert rows[0]["parents"] == [rows[1]["id"]]
    assert (rows[0]["rows"], rows[0]["columns"], rows[0]["events"]) == (3200, 7, 2)


def test_log_marks_what_is_light(synced):
    assert synced.usr("log", DATASET, "--oneline").out.split()[1] == "light"
    synced.usr("commit", DATASET).ok()
    assert synced.usr("log", DATASET, "--oneline").out.split()[1] == "kept"


def test_show_a_state_and_a_file(story):
    said = story.usr("show", f"{DATASET}~1").ok()
    assert said.lines[-8:] == [
        "Primary    : 1 file, 452.1 kB",
        ".events.log: 1 file, 66 B",
        "_snapshots : 1 file, 3.0 kB",
        "_derived   : 2 files, 2.0 kB",
        "_auxiliary : 2 files, 16 B",
        "",
        "A\t_derived/infer/part-2.parquet",
        "M\tmeta.md",
    ]
    said = story.usr("show", f"{DATASET}~1", "--stat").ok()
    assert said.lines[-2:] == [
        "_derived   : 1 added (11 B)", "_auxiliary : 1 modified (+0 bytes)",
    ]  # fmt: skip
    data = story.usr("show", DATASET, "--json").ok().data
    assert data["changes"]["sections"]["_derived"]["deleted"] == ["_derived/infer/part-2.parquet"]
    assert story.raw("show", f"{DATASET}~2:meta.md") == b"# sample\n"
    assert story.raw("show", f"{DATASET}:records.parquet") == datasets.sample_parquet()
    story.usr("show", f"{DATASET}:part").failed("revision-not-found", 4)


def test_diff_of_states(story):
    assert story.usr("diff", f"{DATASET}~2", f"{DATASET}~1").ok().lines == [
        "A\t_derived/infer/part-2.parquet", "M\tmeta.md",
    ]  # fmt: skip
    assert story.usr("diff", f"{DATASET}~1", DATASET, "--exit-code").status == 1
    data = story.usr("diff", f"{DATASET}~2", DATASET, "--json").ok().data
    assert data["sections"]["_auxiliary"]["modified"] == ["meta.md"]
    assert story.usr("diff", DATASET).ok().out == ""


# ── revisions ───────────────────────────────────────────────────────────────────────────
def test_revisions_git_s_way(story):
    third, second, first = ids(story)
    now = {
        DATASET: third,
        "x": third,
        f"heads/{DATASET}": third,
        f"{DATASET}~1": second,
        f"{DATASET}~": second,
        f"{DATASET}^": second,
        f"{DATASET}~~": first,
        f"{DATASET}~2": first,
        f"{DATASET}^0": third,
        f"{DATASET}@{{0}}": third,
        f"{DATASET}@{{1}}": second,
        f"{DATASET}@{{1}}~1": first,
        f"{DATASET}@{{now}}": third,
        second: second,
        second[:8]: second,
        f"{second[:12]}~1": first,
    }
    for text, oid in now.items():
        assert story.usr("rev-parse", text).ok().out == f"{oid}\n", text
    assert story.usr("rev-parse", "--short", DATASET, f"{DATASET}~1").out == (
        f"{third[:12]}\n{second[:12]}\n"
    )
    tree = story.usr("cat-file", "-p", DATASET).ok().out
    assert json.loads(tree)["tree"] == story.usr("rev-parse", "--tree", DATASET).out.strip()


def test_the_object_of_a_path(story):
    content = story.usr("rev-parse", f"{DATASET}:meta.md").out.strip()
    assert story.usr("ls-tree", f"{DATASET}:meta.md").out == f"{content} {9:>12}\tmeta.md\n"
    assert story.usr("cat-file", "-t", content).out == "chunk\n"
    recipe = story.usr("rev-parse", f"{DATASET}:records.parquet").out.strip()
    assert story.usr("cat-file", "-t", recipe).out == "recipe\n"


def test_revisions_in_time(story, monkeypatch):
    third, _, first = ids(story)
    import time

    real, story_began = time.time_ns, time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3 * 86400 * 10**9)
    for text in ("2 days ago", "1 hour ago", "a day ago", "yesterday"):
        assert story.usr("rev-parse", f"{DATASET}@{{{text}}}").ok().out == f"{third}\n"
    story.usr("rev-parse", f"{DATASET}@{{4 days ago}}").failed("revision-not-found", 4)
    (story.folder / "meta.md").write_text("three days later")
    story.usr("commit", DATASET).ok()
    assert story.usr("rev-parse", f"{DATASET}@{{2 days ago}}").ok().out == f"{third}\n"
    assert story.usr("rev-parse", f"{DATASET}@{{3}}").ok().out == f"{first}\n"
    assert story_began


def test_the_state_last_synced(synced):
    pushed = synced.refs()[f"remotes/lab/{DATASET}"]
    (synced.folder / "meta.md").write_text("more")
    synced.usr("commit", DATASET).ok()
    for text in (f"{DATASET}@{{u}}", f"{DATASET}@{{upstream}}", f"lab/{DATASET}"):
        assert synced.usr("rev-parse", text).ok().out == f"{pushed}\n"
    assert synced.usr("rev-parse", DATASET).out != f"{pushed}\n"


def test_there_may_be_no_state_that_was_synced(story):
    said = story.usr("rev-parse", f"{DATASET}@{{u}}").failed("revision-not-found", 4)
    assert "was synced with none" in said.err


WRONG = [
    ("nope", "revision-not-found", 4),
    ("0123456789", "revision-not-found", 4),
    (f"{DATASET}~9", "revision-not-found", 4),
    (f"{DATASET}^2", "revision-not-found", 4),
    (f"{DATASET}@{{99}}", "revision-not-found", 4),
    (f"{DATASET}@{{2 years ago}}", "revision-not-found", 4),
    (f"{DATASET}@v1", "revision-not-found", 4),
    (f"{DATASET}@{{soon}}", "invalid-input", 3),
    (f"{DATASET}@{{", "invalid-input", 3),
    (f"{DATASET}~x", "invalid-input", 3),
    ("~1", "invalid-input", 3),
    (":meta.md", "invalid-input", 3),
    ("", "invalid-input", 3),
    ("../x", "revision-not-found", 4),
]


@pytest.mark.parametrize(("text", "code", "status"), WRONG)
def test_revisions_that_name_nothing(story, text, code, status):
    for command in ("rev-parse", "show", "checkout", "ls-tree", "log"):
        story.usr(command, text).failed(code, status)


def test_a_prefix_of_two_states_is_ambiguous(story, monkeypatch):
    third, second, _ = ids(story)
    real = Database.matching

    def matching(self, prefix):
        return [row for oid in (third, second) for row in real(self, oid)]

    monkeypatch.setattr(Database, "matching", matching)
    said = story.usr("rev-parse", "01234567").failed("revision-ambiguous", 3)
    assert f"{third[:12]}, {second[:12]}" in said.err
    story.usr("cat-file", "01234567").failed("revision-ambiguous", 3)


# ── checkout ────────────────────────────────────────────────────────────────────────────
def test_checkout_there_and_back(story):
    now = story.read()
    said = story.usr("checkout", f"{DATASET}~2").ok()
    first = ids(story)[2][:12]
    assert said.out == f"ns/x: 1 file changed; the folder is at {first}\n"
    assert story.read() == sample_files()
    assert story.usr("checkout", DATASET, "--json").ok().data == {
        "dataset": DATASET, "manifest": ids(story)[0], "changed": 1, "saved": None,
    }  # fmt: skip
    assert story.read() == now
    assert story.usr("checkout", DATASET).out.startswith("ns/x: 0 files changed")


def test_checkout_keeps_work_that_no_state_holds(story):
    (story.folder / "meta.md").write_text("hours of work")
    said = story.usr("checkout", f"{DATASET}~1").ok()
    assert re.match(r"kept what was here as [0-9a-f]{12}\n", said.out)
    saved = said.out.split()[5]
    assert story.raw("show", f"{saved}:meta.md") == b"hours of work"
    assert story.usr("checkout", saved).ok()
    assert story.read()["meta.md"] == b"hours of work"


def test_checkout_of_paths(story):
    (story.folder / "_derived/infer/part-1.parquet").write_bytes(b"spoilt")
    (story.folder / "meta.md").write_text("stays")
    said = story.usr("checkout", f"{DATASET}~1", "--", "_derived").ok()
    second = ids(story)[1]  # the work was kept aside: the head stays
    assert said.lines[-1] == f"ns/x: 2 files changed to what {second[:12]} holds"
    files = story.read()
    assert files["meta.md"] == b"stays"
    assert files["_derived/infer/part-1.parquet"] == datasets.noise("part", 2000)
    assert files["_derived/infer/part-2.parquet"] == b"second part"
    story.usr("checkout", f"{DATASET}:meta.md").ok()
    before = story.read()
    story.usr("checkout", DATASET, "--", "no/such").failed("revision-not-found", 4)
    assert story.read() == before


def test_a_checkout_says_where_the_folder_is_and_the_head_stays(story):
    third, second, first = ids(story)
    heads, folder = f"heads/{DATASET}", f"folders/{DATASET}"
    assert folder not in story.refs()
    story.usr("checkout", f"{DATASET}~2").ok()
    assert (story.refs()[heads], story.refs()[folder]) == (third, first)
    said = story.usr("status", DATASET).ok()
    assert said.lines[0] == (
        f"ns/x: checked out at {first[:12]}; `usr checkout ns/x` goes back to the head"
    )
    assert story.usr("status", DATASET, "--json").data[0]["folder"] == first
    story.usr("checkout", second).ok()
    assert story.refs()[folder] == second
    story.usr("checkout", DATASET).ok()
    assert folder not in story.refs()
    assert len(story.usr("status", DATASET).lines) == 1


def test_work_on_an_old_state_is_kept_beside_the_head_and_a_commit_puts_it_on_top(story):
    third, _, first = ids(story)
    story.usr("checkout", first).ok()
    (story.folder / "meta.md").write_text("another way")
    saved = story.usr("checkout", DATASET, "--json").ok().data["saved"]
    assert story.refs()[f"heads/{DATASET}"] == third
    assert [row["id"] for row in story.usr("log", saved, "--json").data] == [saved, first]
    story.usr("checkout", saved).ok()
    assert story.read()["meta.md"] == b"another way"
    story.usr("commit", DATASET, "-m", "the other way").ok()
    assert [row["id"] for row in story.usr("log", DATASET, "--json").data][1] == third
    assert f"folders/{DATASET}" not in story.refs()


def test_to_check_a_path_out_of_the_head_takes_an_edit_back(story):
    third = ids(story)[0]
    now = story.read()
    (story.folder / "meta.md").write_text("a slip")
    saved = story.usr("checkout", DATASET, "meta.md", "--json").ok().data["saved"]
    assert story.read() == now
    assert (story.refs()[f"heads/{DATASET}"], f"folders/{DATASET}" in story.refs()) == (
        third,
        False,
    )
    assert story.raw("show", f"{saved}:meta.md") == b"a slip"
    assert story.usr("status", DATASET, "--json").data[0]["clean"]


def test_detach_is_what_always_happens(story):
    story.usr("checkout", "--detach", f"{DATASET}~1").ok()
    assert story.refs()[f"folders/{DATASET}"] == ids(story)[1]
    story.usr("checkout", "--detach", DATASET, "meta.md").failed("usage", 2)


def test_where_the_folder_was_before(story):
    third, second, first = ids(story)
    story.usr("rev-parse", f"{DATASET}@{{-1}}").failed("revision-not-found", 4)
    story.usr("checkout", first).ok()
    assert story.usr("rev-parse", f"{DATASET}@{{-1}}").ok().out == f"{third}\n"
    story.usr("checkout", second).ok()
    assert story.usr("rev-parse", f"{DATASET}@{{-1}}").ok().out == f"{first}\n"
    story.usr("checkout", f"{DATASET}@{{-1}}").ok()
    assert story.usr("rev-parse", f"{DATASET}@{{-1}}").ok().out == f"{second}\n"


def test_a_folder_edited_back_to_its_head_is_at_its_head(story):
    now = story.read()
    story.usr("checkout", f"{DATASET}~2").ok()
    story.write(now)
    story.usr("commit", DATASET).ok()
    assert f"folders/{DATASET}" not in story.refs()


def test_the_first_checkout_of_what_was_fetched_becomes_the_head(synced, home):
    fresh = home / "fresh"
    synced.usr("init", fresh).ok()
    synced.usr("--root", fresh, "fetch", DATASET, "lab").ok()
    synced.usr("--root", fresh, "checkout", f"lab/{DATASET}").ok()
    refs = synced.refs(fresh)
    assert refs[f"heads/{DATASET}"] == refs[f"remotes/lab/{DATASET}"]
    assert f"folders/{DATASET}" not in refs
    assert datasets.read(fresh / DATASET) == synced.read()


def test_a_light_state_whose_bytes_are_gone_cannot_come_back(synced):
    synced.write({**sample_files(), "meta.md": b"second\n"})
    synced.usr("push", DATASET, "lab", "-y").ok()
    before = synced.everything()[str(synced.root)]
    said = synced.usr("checkout", f"{DATASET}~1").failed("not-kept", 6)
    assert "hint: only states made by `usr commit` are kept for ever" in said.err
    files, outside, _ = synced.everything()[str(synced.root)]
    assert (files, outside) == before[:2]


# ── recover ─────────────────────────────────────────────────────────────────────────────
def killed_while_promoting(lab, *words):
    """Run a command that dies as soon as its journal has been written, as by SIGKILL."""

    class Dies(faults.Counter):
        def at(self, when, number, op, path):
            names = [name for _, name in self.calls]
            began = any("/journal/" in name for name in names)
            if began and when == "after" and path.startswith(str(lab.folder)):
                import os

                os._exit(faults.CRASHED)

    log = lab.home / "child.log"
    status = faults.in_child(lambda: main.run(list(words)), tap=Dies(), log=log)
    lab.capsys.readouterr()
    assert status == faults.CRASHED, log.read_text() if log.exists() else status


@pytest.mark.parametrize("heal", ["recover", "commit", "pull"])
def test_what_was_killed_is_finished_or_undone(synced, heal):
    lab = synced
    old = lab.read()
    new = {**old, "meta.md": b"theirs\n", "_derived/infer/part-9.parquet": b"nine"}
    datasets.write(lab.far, new)
    killed_while_promoting(lab, "pull", DATASET, "lab", "-y")
    said = lab.usr("status", DATASET)
    assert "a promotion was interrupted; `usr recover` finishes or undoes it" in said.out
    assert lab.usr("status", "--json").data[0]["interrupted"]
    found = lab.usr("fsck", "--json")
    assert found.status == 1
    assert [row["code"] for row in found.data["findings"]] == ["interrupted"]
    doctor = lab.usr("remotes", "doctor", "--remote", "lab")
    assert doctor.status == 1
    assert "→ usr recover" in doctor.out
    if heal == "recover":
        said = lab.usr("recover").ok()
        assert said.out in ("ns/x: finished\n", "ns/x: undone\n")
    elif heal == "commit":
        lab.usr("commit", DATASET).ok()
    else:
        lab.usr("pull", DATASET, "lab", "-y").ok()
    assert lab.read() in ((new,) if heal == "pull" else (old, new))
    assert lab.usr("recover").ok().out == "nothing was interrupted\n"
    assert lab.usr("recover", "--json").ok().data == []
    assert lab.usr("fsck", "--deep").ok().out.endswith("all is well\n")


def test_recover_as_json(synced):
    datasets.write(synced.far, {**sample_files(), "meta.md": b"theirs\n", "more": b"more"})
    killed_while_promoting(synced, "pull", DATASET, "lab", "-y")
    [row] = synced.usr("recover", "--json").ok().data
    assert row["dataset"] == DATASET


# ── fsck ────────────────────────────────────────────────────────────────────────────────
def test_fsck_of_a_sound_store_and_of_none(story):
    said = story.usr("fsck", "--deep").ok()
    assert re.fullmatch(r"checked \d+ objects, 3 manifests, 3 states: all is well\n", said.out)
    data = story.usr("--root", story.there, "fsck", "--json").ok().data
    assert data == {"objects": 0, "manifests": 0, "states": 0, "findings": [], "checked": None,
                    "repaired": None}  # fmt: skip


def test_fsck_finds_damage_and_says_what_to_do(story):
    pack = max((story.root / ".usr" / "packs").glob("**/*"), key=lambda p: p.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pack.chmod(0o600)
    pack.write_bytes(data)
    said = story.usr("fsck", "--deep")
    assert said.status == 1
    assert "object-damaged: packs/" in said.out
    assert "  remedy: usr fsck --repair" in said.out
    assert re.search(rf"  affects: {DATASET} state 3 \([0-9a-f]{{12}}\): records.parquet", said.out)
    assert re.search(r"\d+ findings?$", said.out)
    found = story.usr("fsck", "--deep", "--json")
    assert found.status == 1
    assert {row["code"] for row in found.data["findings"]} == {"object-damaged"}


# ── plumbing ────────────────────────────────────────────────────────────────────────────
def test_ls_tree(story):
    rows = [re.fullmatch(r"([0-9a-f]{64}) ([ \d]{12})\t(.+)", line)
            for line in story.usr("ls-tree", DATASET).ok().lines]  # fmt: skip
    assert [row[3] for row in rows] == sorted(story.read())
    assert {row[3]: int(row[2]) for row in rows} == {p: len(d) for p, d in story.read().items()}
    assert story.usr("ls-tree", f"{DATASET}:_derived", "--name-only").lines == [
        "_derived/infer/part-1.parquet"
    ]
    assert story.usr("ls-tree", DATASET, "--name-only", "-z").out.split("\0")[-2:] == [
        "records.parquet", "",
    ]  # fmt: skip
    story.usr("ls-tree", f"{DATASET}:_nope").failed("revision-not-found", 4)


def test_show_ref(synced):
    head = synced.refs()[f"heads/{DATASET}"]
    assert synced.usr("show-ref").ok().lines == [
        f"{head} heads/{DATASET}", f"{head} remotes/lab/{DATASET}",
    ]  # fmt: skip
    assert synced.usr("show-ref", "--heads").ok().lines == [f"{head} heads/{DATASET}"]
    assert synced.usr("show-ref", "remotes/").ok().lines == [f"{head} remotes/lab/{DATASET}"]
    for words in (["--tags"], ["nope"], []):
        root = synced.root if words else synced.home
        said = synced.usr("--root", root, "show-ref", *words)
        assert (said.status, said.out, said.err) == (1, "", "")


def test_hash_object_says_what_b3sum_says(lab):
    from blake3 import blake3

    path = lab.folder / "records.parquet"
    said = lab.usr("hash-object", path, lab.folder / "meta.md", "--chunks").ok()
    content = blake3(path.read_bytes()).hexdigest()
    assert said.lines[0] == f"{content}  {path}"
    chunks = [line.split() for line in said.lines if line.startswith("  ")]
    assert all(HEX.fullmatch(oid) for oid, _, _ in chunks)
    assert sum(int(size) for _, _, size in chunks) == path.stat().st_size + 9
    lab.usr("commit", DATASET).ok()
    tree = lab.usr("rev-parse", "--tree", DATASET).out.strip()
    assert lab.usr("hash-object", lab.folder).ok().out == f"{tree}  {lab.folder}\n"
    lab.usr("hash-object", lab.home / "nope").failed("invalid-input", 3)


def test_cat_file_by_kind(story):
    head, tree = ids(story)[0], story.usr("rev-parse", "--tree", DATASET).out.strip()
    recipe = story.usr("rev-parse", f"{DATASET}:records.parquet").out.strip()
    chunk = story.usr("rev-parse", f"{DATASET}:meta.md").out.strip()
    for oid, kind in ((head, "manifest"), (tree, "tree"), (recipe, "recipe"), (chunk, "chunk")):
        assert story.usr("cat-file", "-t", oid).ok().out == f"{kind}\n"
        assert story.usr("cat-file", "-t", oid[:10]).ok().out == f"{kind}\n"
        size = int(story.usr("cat-file", "-s", oid).ok().out)
        assert len(story.raw("cat-file", oid)) == size
        assert json.loads(story.usr("cat-file", "-p", oid).ok().out)
    assert story.raw("cat-file", chunk) == b"# second\n"
    story.usr("cat-file", tree, "--signature").failed("invalid-input", 3)
    story.usr("cat-file", "ffffffff").failed("object-not-found", 4)
    story.usr("cat-file", "no such").failed("object-not-found", 4)
    story.usr("cat-file", f"{DATASET}:nope").failed("object-not-found", 4)


def test_stock_openssh_accepts_our_signatures(story, keygen):
    payload = story.raw("cat-file", "--payload", DATASET)
    signature = story.home / "signature"
    signature.write_bytes(story.raw("cat-file", "--signature", DATASET))
    line = story.usr("trust", "key").ok().out
    allowed = story.home / "allowed"
    allowed.write_text(f'ada namespaces="usrstore" {line}')
    verify = [
        keygen, "-Y", "verify", "-f", str(allowed), "-I", "ada", "-n", "usrstore",
        "-s", str(signature),
    ]  # fmt: skip
    good = subprocess.run(verify, input=payload, capture_output=True, check=False)
    assert good.returncode == 0, good.stderr
    bad = subprocess.run(verify, input=payload + b"x", capture_output=True, check=False)
    assert bad.returncode != 0


def test_what_nobody_signed_has_no_signature(lab, monkeypatch):
    monkeypatch.setenv("USR_SIGNING_KEY", "none")
    lab.usr("commit", DATASET).ok()
    lab.usr("cat-file", "--signature", DATASET).failed("invalid-input", 3)
    assert "Signed:  nobody (absent)" in lab.usr("log", DATASET).lines
    row = lab.usr("log", DATASET, "--json").data[0]
    assert (row["signature"], row["signer"]) == ("absent", None)
    assert lab.usr("trust", "key").out == "nothing is signed here\n"
    assert lab.usr("trust", "key", "--json").data == {"line": None, "key": None}


def test_inside_a_dataset_diff_needs_no_name(lab, monkeypatch):
    lab.write()
    lab.usr("commit", DATASET).ok()
    (lab.folder / "meta.md").write_text("another")
    monkeypatch.chdir(lab.folder)
    assert lab.usr("diff").ok().lines == ["M\tmeta.md"]
    monkeypatch.chdir(lab.root)
    said = lab.usr("diff").failed("not-found", 4)
    assert DATASET in said.err
