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
