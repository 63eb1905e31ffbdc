"""The command line of merging: conflicts in a table, decisions, and an exit status of its own."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import datasets
from support.datasets import DATASET
from support.lab import validate


def table(**columns) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


BASE = {
    "records.parquet": table(id=["a", "b"], n=[1, 2]),
    ".events.log": b'{"n":1}\n',
    "meta.md": b"name: x\n",
}


@pytest.fixture
def torn(lab):
    """Both sides changed the same cell, and the same line of the notes."""
    lab.write(BASE)
    lab.usr("commit", DATASET).ok()
    lab.usr("push", DATASET, "lab", "-y").ok()
    datasets.write(
        lab.far,
        {**BASE, "records.parquet": table(id=["a", "b"], n=[8, 2]), "meta.md": b"name: y\n"},
    )
    lab.write({**BASE, "records.parquet": table(id=["a", "b"], n=[7, 2]), "meta.md": b"name: z\n"})
    return lab


def cells(lab):
    return pq.read_table(lab.folder / "records.parquet").column("n").to_pylist()


def test_conflicts_have_a_table_and_a_status_of_their_own(torn, tmp_path):
    before = torn.read()
    out = tmp_path / "audit.json"
    said = torn.usr("pull", DATASET, "lab", "-y", "--audit-json-out", out)
    said.failed("merge-conflict", 11)
    text = [line.split() for line in said.err.splitlines()]
    assert ["where", "base", "ours", "theirs"] in text
    assert ["records.parquet", "a", "n", "1", "7", "8"] in text
    assert "PULL audit: REFUSED" in said.out
    assert torn.read() == before
    audit = validate("audit", out.read_text())
    assert audit["transfer_state"] == "REFUSED"
    assert {c["path"] for c in audit["error"]["conflicts"]} == {"records.parquet", "meta.md"}
    said = torn.usr("pull", DATASET, "lab", "-y", "--json")
    assert said.status == 11
    body = json.loads(said.out)
    assert body["error"]["exit"] == 11
    assert len(body["error"]["conflicts"]) == 2


def test_a_merge_goes_on_with_decisions_until_nothing_conflicts(torn):
    torn.usr("pull", DATASET, "lab", "-y").failed("merge-conflict", 11)
    said = torn.usr("merge", "--continue", "--ours-rows", DATASET).failed("merge-conflict", 11)
    assert "meta.md" in said.err
    assert "records.parquet" not in said.err
    done = torn.usr("merge", "--continue", "--theirs", "meta.md", DATASET, "--json").ok()
    assert done.data["state"] == "MERGED"
    assert done.data["merge"]["chosen"] == {"meta.md": "theirs"}
    assert cells(torn) == [7, 2]
    assert torn.read()["meta.md"] == b"name: y\n"
    torn.usr("merge", "--continue", DATASET).failed("no-merge", 5)
    torn.usr("push", DATASET, "lab", "-y").ok()
    assert torn.usr("diff", DATASET, "lab").ok().lines[-1] == "Status     : up-to-date"


def test_a_merge_can_be_forgotten(torn):
    torn.usr("pull", DATASET, "lab", "-y").failed("merge-conflict", 11)
    before = torn.read()
    assert torn.usr("merge", "--abort", DATASET, "--json").ok().data["state"] == "ABORTED"
    torn.usr("merge", "--abort", DATASET).failed("no-merge", 5)
    assert torn.read() == before


def test_a_pull_that_decides(torn):
    said = torn.usr(
        "pull", DATASET, "lab", "-y", "--theirs-rows", "--ours", "meta.md", "--json"
    ).ok()
    assert said.data["transfer_state"] == "MERGED"
    assert said.data["merge"]["tables"]["records.parquet"]["resolved"] == 1
    assert cells(torn) == [8, 2]
    assert torn.read()["meta.md"] == b"name: z\n"


def test_a_merge_of_any_state_and_its_dry_run(torn):
    torn.usr("fetch", DATASET, "lab").ok()
    before = torn.read(), torn.refs()
    said = torn.usr("merge", "-n", f"lab/{DATASET}").failed("merge-conflict", 11)
    assert "meta.md" in said.err
    torn.usr("merge", "--abort", DATASET).failed("no-merge", 5)
    assert torn.read() == before[0]
    said = torn.usr("merge", f"lab/{DATASET}", "--theirs", "*").ok()
    assert said.lines[0].startswith(f"merged lab/{DATASET} (")
    assert said.lines[-1].endswith(f"`usr undo {DATASET}` takes it back")
    assert cells(torn) == [8, 2]
    assert "is in the history" in torn.usr("merge", f"lab/{DATASET}").ok().out


def test_a_dry_pull_of_both_changed_says_so_and_stores_nothing(torn):
    before = torn.everything()
    said = torn.usr("pull", DATASET, "lab", "--dry-run").ok()
    assert "PULL audit: DRY-RUN" in said.out
    assert f"then usr merge -n lab/{DATASET}" in said.out
    assert torn.everything() == before


@pytest.mark.parametrize(
    "words",
    [
        ["merge"],
        ["merge", "--continue", "--abort"],
        ["merge", "--continue", "a", "b"],
        ["merge", DATASET, "--ours-rows", "--theirs-rows"],
        ["merge", f"{DATASET}:meta.md"],
    ],
    ids=" ".join,
)
def test_usage(torn, words):
    torn.usr(*words).failed("usage", 2)


def test_a_damaged_note_of_a_merge_is_told(torn):
    torn.usr("pull", DATASET, "lab", "-y").failed("merge-conflict", 11)
    [note] = (torn.root / ".usr" / "merge").iterdir()
    note.write_text("{")
    said = torn.usr("merge", "--continue", DATASET).failed("decode", 6)
    assert "usr merge --abort" in said.err
