"""diff --rows at the command line: what people, scripts and browsers are given."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from support import overlays
from support.datasets import DATASET
from support.overlays import part, row

NOTE = {"note": pa.string()}
SCORE = {"infer__score": pa.float64()}
HOSTILE = "</code><script>alert('x')</script>\u202e\x1b[31m&amp;"
SEQUENCES = ["ACGT", "TTGA", "GGCC", "CATG"]
IDS = [row(s)["id"] for s in SEQUENCES]


def scored(number, scores):
    rows = [{"id": i, "infer__score": s} for i, s in zip(IDS, scores, strict=False)]
    return part("infer", number, rows, SCORE)


@pytest.fixture
def told(lab):
    """Two states: a row went, one came, one has another note, an overlay part was added."""
    overlays.write_registry(lab.root, {"infer": {"infer__score": "double"}})
    for path in list(lab.read()):
        (lab.folder / path).unlink()
    rows = [row(s, note=f"note {s}") for s in SEQUENCES]
    overlays.write_base(lab.folder, rows, NOTE)
    scored(1, [1.0, 2.0]).write(lab.folder)
    lab.usr("commit", DATASET, "-m", "first").ok()
    rows[0]["note"] = HOSTILE
    rows = [*rows[:3], row("AAAA", note="new")]
    overlays.write_base(lab.folder, rows, NOTE)
    scored(2, [math.nan]).write(lab.folder)
    return lab


OLD, NEW = IDS[3], row("AAAA")["id"]


def test_people_see_what_changed_and_how(told):
    said = told.usr("diff", DATASET, "--rows").ok()
    assert said.lines[:3] == [
        "rows as readers see them",
        "  rows      1 added, 1 removed, 1 changed  (of 4; key id)",
        "  values    infer__score 1, note 1",
    ]
    assert f"~ {IDS[0]}" in said.lines
    assert any(line.startswith(f"- {OLD}  bio_type=dna sequence=CATG") for line in said.lines)
    assert any(line.startswith(f"+ {NEW}  ") for line in said.lines)
    assert "    infer__score  1.0 → NaN" in said.lines
    assert "\x1b" not in said.out, "what a dataset holds moves no cursor"
    assert "\u202e" not in said.out


def test_two_states_a_range_and_the_folder_are_told_alike(told):
    folder = told.usr("diff", DATASET, "--rows").ok().out
    told.usr("commit", DATASET, "-m", "second").ok()
    for words in ([f"{DATASET}~1", DATASET], [f"{DATASET}~1..{DATASET}"], [f"{DATASET}~1"]):
        assert told.usr("diff", *words, "--rows").ok().out == folder
    assert told.usr("diff", DATASET, "--rows").ok().out == "No row or column differs.\n"


def test_a_remote_is_the_older_side(told):
    there = told.usr("diff", DATASET, "--rows").ok().out
    first = told.read()
    told.usr("checkout", DATASET).ok()
    told.usr("push", DATASET, "lab", "-y").ok()
    told.write(first)
    before = told.everything()[str(told.there)]
    assert told.usr("diff", DATASET, "lab", "--rows").ok().out == there
    assert told.everything()[str(told.there)] == before


def test_scripts_get_every_value_whole(told):
    said = told.usr("diff", DATASET, "--rows", "--porcelain").ok()
    lines = [line.split("\t") for line in said.lines]
    assert lines[0] == ["table", "M", '"rows"', '"id"', "4", "4"]
    assert ["row", "+", json.dumps(NEW)] in lines
    assert ["row", "-", json.dumps(OLD)] in lines
    cells = {
        (json.loads(k), json.loads(c)): (json.loads(a), json.loads(b))
        for word, k, c, a, b in (line for line in lines if line[0] == "cell")
    }
    assert cells == {
        (IDS[0], "note"): ("note ACGT", HOSTILE),
        (IDS[0], "infer__score"): (1.0, "NaN"),
    }


def test_json_counts_all_and_lists_as_many_as_it_may(told):
    data = told.usr("diff", DATASET, "--rows", "--json", "--limit", "0").ok().data
    (table,) = data["tables"]
    assert table["counts"] == {
        "added": 1,
        "removed": 1,
        "changed": 1,
        "cells": {"infer__score": 1, "note": 1},
    }
    assert table["added"] == table["removed"] == table["changed"] == []
    data = told.usr("diff", DATASET, "--rows", "--json").ok().data
    (change,) = data["tables"][0]["changed"]
    assert change["cells"]["note"] == {"old": "note ACGT", "new": HOSTILE}
    assert data["tables"][0]["added"][0]["id"] == NEW


def test_raw_is_file_by_file_and_takes_paths(told):
    said = told.usr("diff", DATASET, "--rows", "--raw", "--stat").ok()
    assert "records.parquet" in said.lines
    assert sum("(new)" in line for line in said.lines) == 1
    only = told.usr("diff", DATASET, "--raw", "--json", "--", "_derived").ok().data
    assert [t["status"] for t in only["tables"]] == ["A"]
    assert only["tables"][0]["counts"]["added"] == 1
    told.usr("diff", DATASET, "--rows", "--", "_derived").failed("invalid-input", 3)


def test_only_some_columns_and_another_key(told):
    data = told.usr("diff", DATASET, "--rows", "--columns", "note", "--json").ok().data
    assert data["tables"][0]["counts"]["cells"] == {"note": 1}
    data = told.usr("diff", DATASET, "--rows", "--key", "sequence", "--json").ok().data
    assert data["tables"][0]["changed"][0]["key"] == "ACGT"
    told.usr("diff", DATASET, "--rows", "--columns", "nope").failed("column-unknown", 3)
    told.usr("diff", DATASET, "--rows", "--key", "nope").failed("column-unknown", 3)


def test_the_exit_status_tells_whether_anything_differs_if_asked(told):
    assert told.usr("diff", DATASET, "--rows").status == 0
    assert told.usr("diff", DATASET, "--rows", "--exit-code").status == 1
    told.usr("commit", DATASET, "-m", "second").ok()
    assert told.usr("diff", DATASET, "--rows", "--exit-code", "--porcelain").status == 0
    assert told.usr("diff", DATASET, "--rows", "--name-status").status == 2


def test_deleted_rows_are_gone_for_a_reader(told):
    told.usr("commit", DATASET, "-m", "second").ok()
    told.usr("delete", DATASET, "--id", IDS[1]).ok()
    (table,) = told.usr("diff", DATASET, "--rows", "--json").ok().data["tables"]
    assert table["counts"]["removed"] == 1
    assert table["removed"][0]["id"] == IDS[1]
    assert table["removed"][0]["infer__score"] == 2.0


def test_a_column_that_came_is_a_column_and_not_a_change_of_every_row(told):
    told.usr("commit", DATASET, "-m", "second").ok()
    part("infer", 3, [{"id": IDS[2], "infer__n": 1}], {"infer__n": pa.int32()}).write(told.folder)
    (table,) = told.usr("diff", DATASET, "--rows", "--json").ok().data["tables"]
    assert table["columns"]["added"] == [
        {"name": "infer__n", "type": "int32", "source": "infer", "values": 1}
    ]
    assert table["counts"]["changed"] == 0


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.addresses, self.handlers = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)


def test_a_page_needs_nothing_else_and_obeys_no_dataset(told, tmp_path):
    path = tmp_path / "page.html"
    told.usr("diff", DATASET, "--html", path).ok()
    page = path.read_text()
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags
    assert not tags.addresses
    assert not tags.handlers
    assert "http" not in page.replace("http-equiv", "")
    assert "url(" not in page
    text = "".join(tags.text)
    assert "<script>alert('x')</script>" in text, "it is shown as what it is"
    assert not {"\x1b", "\u202e"} & set(page)
    assert f"{OLD}" in text
    assert "prefers-color-scheme:dark" in page


def test_a_huge_value_does_not_make_a_huge_page(told, tmp_path):
    overlays.write_base(told.folder, [row("ACGT", note="y" * 5_000_000)], NOTE)
    path = tmp_path / "page.html"
    told.usr("diff", DATASET, "--html", path).ok()
    assert path.stat().st_size < 60_000
    assert "5000000 characters" in path.read_text()
    assert len(told.usr("diff", DATASET, "--rows").ok().out) < 20_000


def test_blame_says_who_brought_what(told):
    told.usr("commit", DATASET, "-m", "second").ok()
    said = told.usr("blame", DATASET, "--id", IDS[0]).ok()
    assert said.lines[0].startswith(f"row {IDS[0]} came with ")
    assert said.lines[0].endswith(": first")
    assert "\x1b" not in said.out
    data = told.usr("blame", DATASET, "--id", IDS[0], "--columns", "note", "--json").ok().data
    assert [(found["column"], found["message"]) for found in data] == [
        (None, "first"),
        ("note", "second"),
    ]
    told.usr("blame", DATASET, "--id", "nobody").failed("row-not-found", 4)
    told.usr("blame", DATASET, "--key", "length", "--id", "four").failed("row-not-found", 4)
    told.usr("blame", DATASET, "--key", "length", "--id", "4").ok()


def test_blame_before_the_first_state_says_how_to_make_one(lab):
    said = lab.usr("blame", DATASET, "--id", "x").failed("revision-not-found", 4)
    assert "usr commit" in said.err


def test_the_log_tells_how_a_dataset_grew(told):
    overlays.write_base(told.folder, [row(s) for s in [*SEQUENCES, "AAAA"]], NOTE)
    told.usr("commit", DATASET, "-m", "second").ok()
    lines = told.usr("log", DATASET, "--rows", "--oneline").ok().lines
    assert lines[0].endswith("second  5 rows (+1), 8 columns, 2 overlay files (+1)")
    data = told.usr("log", DATASET, "--rows", "--json").ok().data
    assert data[0]["growth"]["since"] == {"rows": 1, "columns": 0, "events": None, "overlays": 1}
    assert "Grown:   5 rows (+1)" in told.usr("log", DATASET, "--rows").ok().out
