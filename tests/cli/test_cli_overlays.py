"""attach and what works on overlays, as a person types it."""

from __future__ import annotations

import shutil

import pytest

from support import overlays
from support.datasets import DATASET

IDS = [overlays.row_id(sequence) for sequence in overlays.SEQUENCES]


@pytest.fixture
def lab(lab):
    """The dataset is a real one, and its registry knows two namespaces."""
    shutil.rmtree(lab.folder)
    overlays.make_place(lab.root)
    return lab


def csv(lab, text, name="t.csv"):
    (lab.home / name).write_text(text)
    return lab.home / name


def attach(lab, path, *words, key="id"):
    flags = ["--path", path, "--namespace", "infer", "--key", key]
    return lab.usr("attach", DATASET, *flags, *words)


def untouched(lab, act):
    """What a command that writes nothing said."""
    before = lab.everything()
    said = act()
    assert lab.everything() == before
    return said


def test_drill_3_word_for_word(lab):
    """An overlay that the registry does not know is refused, with the command that helps."""
    path = csv(lab, "sequence,bad_field\nACGT,1.5\n", "bad_overlay.csv")
    words = [
        "--path", path,
        "--namespace", "infer", "--key", "sequence", "--key-col", "sequence",
        "--columns", "bad_field",
    ]  # fmt: skip
    said = untouched(lab, lambda: lab.usr("attach", DATASET, *words)).failed("registry", 3)
    assert said.out == ""
    assert said.err == (
        f"error: {path} cannot be attached to {DATASET}: 1 problem; nothing was written:\n"
        "  registry: the namespace infer has no column infer__bad_field "
        "(it has infer__score, infer__vector, infer__n)\n"
        "code: registry\n"
        "hint: usr namespace register infer --columns 'infer__score:float64,"
        "infer__vector:list<float32>,infer__n:int32,infer__bad_field:float64' --overwrite\n"
    )
    assert not (lab.folder / "_derived").exists()


def test_drill_3_without_the_namespace(lab):
    overlays.write_registry(lab.root, {})
    path = csv(lab, "sequence,bad_field\nACGT,1.5\n", "bad_overlay.csv")
    said = untouched(lab, lambda: attach(lab, path, "--columns", "bad_field", key="sequence"))
    said.failed("registry", 3)
    assert "registry: the namespace infer is not registered" in said.err
    assert "hint: usr namespace register infer --columns 'infer__bad_field:float64'" in said.err


def test_an_attach_says_what_it_wrote(lab):
    path = csv(lab, f"id,score,n\n{IDS[0]},1,2\n{IDS[1]},2,\n")
    said = attach(lab, path, "--note", "first").ok()
    first, second = said.lines
    assert first == f"{DATASET}: 2 rows of infer__score, infer__n"
    assert second.startswith("wrote _derived/infer/part-2")
    assert said.err == ""
    assert (lab.folder / second.removeprefix("wrote ")).exists()
    note = (lab.folder / "meta.md").read_text()
    assert "Attached 2 rows to infer by id; first" in note


def test_an_attach_as_json(lab):
    path = csv(lab, f"key,score\n{IDS[0]},1\nnobody,2\n")
    said = attach(lab, path, "--key-col", "key", "--allow-missing", "--json").ok()
    assert said.data["columns"] == ["infer__score"]
    assert (said.data["rows_matched"], said.data["rows_missing"]) == (1, 1)
    again = attach(lab, csv(lab, "id,n\nnobody,1\n"), "--allow-missing", "--json").ok()
    assert (again.data["path"], again.data["rows_matched"]) == (None, 0)


def test_w19_an_attach_that_matches_nothing_says_so(lab):
    path = csv(lab, "id,score\nnobody,1\n")
    said = untouched(lab, lambda: attach(lab, path, "--allow-missing")).ok()
    assert said.out == f"{DATASET}: no row of the file has a match; nothing was written\n"


def test_every_problem_of_a_file_at_once(lab):
    path = csv(lab, f"id,score,extra\n{IDS[0]},x,1\nnobody,2,1\n{IDS[0]},3,1\n")
    said = untouched(lab, lambda: attach(lab, path)).failed("registry", 3)
    lines = said.err.splitlines()
    assert lines[0].endswith(": 4 problems; nothing was written:")
    assert "infer__extra" in lines[1]
    assert lines[2] == "  row 1, score = 'x': not a number"
    assert lines[3] == f"  row 3, id = '{IDS[0]}': a duplicate key (rows 1, 3)"
    assert lines[4].startswith("  row 2, id = 'nobody': no row of the dataset has this key")


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (["--path", "nope.csv", "--namespace", "infer", "--key", "id"], "input-unreadable", 3),
        (["--path", "t.csv", "--namespace", "usr", "--key", "id"], "namespace-reserved", 3),
        (["--path", "t.csv", "--namespace", "infer", "--key", "sequence"], "registry", 3),
        (
            ["--path", "t.csv", "--namespace", "infer", "--key", "id", "--columns", "score"],
            "attach-input",
            3,
        ),
        (["--path", "t.csv", "--namespace", "infer", "--key", "name"], "usage", 2),
        (["--path", "t.csv", "--namespace", "infer"], "usage", 2),
    ],
)
def test_what_is_refused_has_a_code(lab, words, code, status):
    csv(lab, "name,score\na,1\n")
    untouched(lab, lambda: lab.usr("attach", DATASET, *words)).failed(code, status)
    assert lab.usr("attach", DATASET, *words, "--json").error["code"] == code


def test_a_missing_registry_and_a_missing_dataset(lab):
    path = csv(lab, f"id,score\n{IDS[0]},1\n")
    (lab.root / "registry.yaml").unlink()
    said = attach(lab, path).failed("registry", 3)
    assert "hint: make one with `usr init`" in said.err
    flags = ["--path", path, "--namespace", "infer", "--key", "id"]
    lab.usr("attach", "nope/x", *flags).failed("dataset-not-found", 4)


# ── compact, remove, stamp, project, materialize ────────────────────────────────────────
@pytest.fixture
def attached(lab):
    """Two parts that overlap."""
    attach(lab, csv(lab, f"id,score\n{IDS[0]},1\n{IDS[1]},2\n")).ok()
    attach(lab, csv(lab, f"id,score,n\n{IDS[0]},3,4\n"), "--allow-overwrite").ok()
    return lab


def care(lab, command, *words):
    return lab.usr("maintenance", command, DATASET, "--namespace", "infer", *words)


def test_w9_overlay_compact_says_what_it_made(attached):
    said = care(attached, "overlay-compact").ok()
    assert said.lines == [
        f"{DATASET}: 2 parts of 3 rows, 1 of them overwritten by newer ones",
        "wrote _derived/infer.parquet",
    ]
    again = untouched(attached, lambda: care(attached, "overlay-compact")).ok()
    assert again.lines == [f"{DATASET}: infer is one file already: _derived/infer.parquet"]
    assert care(attached, "overlay-compact", "--json").data["created"] is False


def test_overlay_remove_in_its_modes(attached):
    said = care(attached, "overlay-remove", "--mode", "archive", "--json").ok()
    assert len(said.data["removed"]) == 2
    assert (attached.folder / said.data["archived"]).is_dir()
    untouched(attached, lambda: care(attached, "overlay-remove")).failed("overlay-not-found", 4)
    said = untouched(attached, lambda: care(attached, "overlay-remove", "--mode", "delete")).ok()
    assert said.out == f"{DATASET}: no overlay infer; nothing was changed\n"


def test_overlay_refresh_metadata_counts_files(attached):
    overlays.write_registry(attached.root, {**overlays.NAMESPACES, "more": {"more__x": "bool"}})
    said = care(attached, "overlay-refresh-metadata").ok()
    assert said.out == f"{DATASET}: 2 files of infer stamped with the registry in force\n"
    assert care(attached, "overlay-refresh-metadata", "--json").data["changed"] == []


def test_overlay_project_dry_and_real(attached):
    other = attached.root / "ns" / "other"
    overlays.write_base(other, [overlays.row("ACGT"), overlays.row("AAAA")])
    words = ["--src", DATASET, "--dest", "ns/other", "--namespace", "infer", "--columns", "score"]
    command = ["maintenance", "overlay-project", *words]
    attached.usr(*command).failed("projection-missing", 3)
    said = attached.usr(*command, "--allow-missing", "--dry-run").ok()
    assert said.out == f"ns/other: 1 of 2 rows would get infer__score of {DATASET}\n"
    said = attached.usr(*command, "--allow-missing", "--json").ok()
    assert (said.data["matched"], said.data["missing"]) == (1, 1)
    assert overlays.joined(other)[0]["infer__score"] == 3.0


def test_materialize_says_what_it_did(attached):
    said = attached.usr("materialize", DATASET, "-y", "--drop-overlays").ok()
    assert said.lines == [
        f"{DATASET}: materialized infer: 5 rows, new columns: infer__score, infer__n",
        "the overlays were dropped",
    ]
    again = untouched(attached, lambda: attached.usr("materialize", DATASET)).ok()
    assert again.out == f"{DATASET}: nothing to materialize; nothing was changed\n"
    assert attached.usr("materialize", DATASET, "--json").data["snapshots"] == []


def test_materialize_drops_deleted_rows_if_asked(attached):
    attached.usr("delete", DATASET, "--id", IDS[0], "--reason", "bad").ok()
    words = ["--namespaces", "infer", "--drop-deleted", "--snapshot-before", "--json"]
    data = attached.usr("materialize", DATASET, *words).ok().data
    assert (data["rows"], data["rows_dropped"], len(data["snapshots"])) == (4, 1, 2)
    attached.usr("materialize", DATASET, "--namespaces", "nope").failed("overlay-not-found", 4)
    both = ["--drop-overlays", "--archive-overlays"]
    attached.usr("materialize", DATASET, *both).failed("invalid-input", 3)


# ── delete, restore, state ──────────────────────────────────────────────────────────────
def test_rows_are_deleted_and_restored(lab):
    (lab.home / "ids.txt").write_text(f"{IDS[1]}\n\n{IDS[2]},{IDS[0]}\n")
    said = lab.usr("delete", DATASET, "--id-file", lab.home / "ids.txt", "--reason", "why").ok()
    assert said.out == f"{DATASET}: deleted 3 rows\n"
    assert [row["id"] for row in overlays.joined(lab.folder)] == IDS[3:]
    words = ["--id", f"{IDS[1]}, {IDS[4]}", "--id", "nobody", "--allow-missing"]
    said = lab.usr("restore", DATASET, *words).ok()
    assert said.out == f"{DATASET}: restored 1 row, 1 as before, 1 not there\n"
    data = lab.usr("restore", DATASET, *words, "--json").ok().data
    assert data == {"dataset": DATASET, "changed": 0, "unchanged": 2, "missing": ["nobody"]}


def test_ids_that_are_not_there_and_files_that_are_not(lab):
    said = untouched(lab, lambda: lab.usr("delete", DATASET, "--id", "nobody"))
    assert "has no row for 1 id: nobody" in said.failed("id-not-found", 4).err
    lab.usr("delete", DATASET).failed("invalid-input", 3)
    lab.usr("delete", DATASET, "--id-file", "nope.txt").failed("storage", 10)


def test_state_is_set_shown_and_cleared(lab):
    words = ["--masked", "--qc-status", "warn", "--lineage", "a, b", "--lineage", "c"]
    assert lab.usr("state", "set", DATASET, "--id", IDS[0], *words).ok().out == (
        f"{DATASET}: set the state of 1 row\n"
    )
    said = lab.usr("state", "get", DATASET, "--id", f"{IDS[0]},{IDS[1]}").ok()
    assert said.lines == [f"{IDS[0]}  masked=yes qc_status=warn lineage=a,b,c", f"{IDS[1]}  -"]
    rows = lab.usr("state", "get", DATASET, "--format", "json").ok().data
    assert rows == lab.usr("state", "get", DATASET, "--json").ok().data
    assert rows[0]["usr_state__lineage"] == ["a", "b", "c"]
    lab.usr("state", "set", DATASET, "--id", IDS[0]).failed("invalid-input", 3)
    lab.usr("state", "set", DATASET, "--id", IDS[0], "--split", "dev").failed("usage", 2)
    lab.usr("state", "clear", DATASET, "--id", IDS[0]).ok()
    (row,) = lab.usr("state", "get", DATASET, "--json").ok().data
    assert row["usr_state__masked"] is False
