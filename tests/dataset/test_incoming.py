"""CSV, JSON lines, JSON and Parquet files, read a batch at a time."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore.dataset import incoming
from usrstore.errors import InvalidInputError

ROWS = [{"id": "a", "x": 1}, {"id": "b", "x": None}]


def rows_of(path, stray=None):
    """All rows of a file as dicts, with their numbers checked."""
    found = []
    for batch in incoming.open_table(str(path)).batches(stray or pytest.fail):
        assert batch.first == len(found) + 1
        columns = {n: c if isinstance(c, list) else c.to_pylist() for n, c in batch.columns.items()}
        assert all(len(column) == batch.rows for column in columns.values())
        found += [{n: c[i] for n, c in columns.items()} for i in range(batch.rows)]
    return found


def refused(path):
    with pytest.raises(InvalidInputError) as caught:
        rows_of(path, lambda *_: None)
    assert caught.value.code == "input-unreadable"
    assert "nothing was changed" in caught.value.message
    return caught.value.message


def test_every_format_gives_the_same_rows(home):
    (home / "t.csv").write_text("id,x\na,1\n\nb,\n")
    (home / "t.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    (home / "t.json").write_text(json.dumps(ROWS, indent=2))
    pq.write_table(pa.Table.from_pylist(ROWS), home / "t.parquet")
    assert rows_of(home / "t.csv") == [{"id": "a", "x": "1"}, {"id": "b", "x": ""}]
    assert rows_of(home / "t.jsonl") == ROWS
    assert rows_of(home / "t.json") == ROWS
    assert rows_of(home / "t.parquet") == ROWS


def test_headers_are_known_before_the_rows(home):
    (home / "t.csv").write_text("\ufeffid, x \na,1\n", encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(ROWS), home / "t.parquet")
    (home / "t.jsonl").write_text("")
    assert incoming.open_table(str(home / "t.csv")).header == ("id", "x")
    assert incoming.open_table(str(home / "t.parquet")).header == ("id", "x")
    assert incoming.open_table(str(home / "t.jsonl")).header is None


def test_rows_that_are_none_are_told_with_their_numbers_and_counted(home):
    (home / "t.csv").write_text("id,x\na,1\nb\nc,3,4\nd,5\n")
    (home / "t.jsonl").write_text('{"id": "a"}\n{"id": \n[1]\n{"id": "d"}\n')
    (home / "t.json").write_text('[{"id": "a"}, 7, "x", {"id": "d"}]')
    for name in ("t.csv", "t.jsonl", "t.json"):
        told = []
        found = rows_of(home / name, lambda row, why, told=told: told.append((row, why)))
        assert [row["id"] for row in found] == ["a", None, None, "d"]
        assert [row for row, _ in told] == [2, 3]
        assert all(why for _, why in told)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("t.csv", b"", "it is empty"),
        ("t.csv", b"id,id\n", "names 'id' twice"),
        ("t.csv", b'id,x\na,"b', "unexpected end of data"),
        ("t.csv", b"id,x\na,\xff\xfe\n", "it is not UTF-8"),
        ("t.jsonl", b"\xff\n", "it is not UTF-8"),
        ("t.json", b"{}", "not a JSON array of objects"),
        ("t.json", b"", "it ends early"),
        ("t.json", b'[{"a": 1}', "it ends early"),
        ("t.json", b'[{"a": 1}] more', "something follows"),
        ("t.json", b'[{"a": nope}]', "it is not JSON"),
        ("t.parquet", b"PAR1PAR1", "cannot be read"),
        ("t.xlsx", b"", ".xlsx says nothing about its format"),
        ("t", b"", "no suffix says nothing"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(home, name, data, says):
    (home / name).write_bytes(data)
    message = refused(home / name)
    assert str(home / name) in message
    assert says in message


def test_a_missing_file_and_a_folder_are_refused(home):
    assert "no such file" in refused(home / "nope.csv")
    (home / "folder.csv").mkdir()
    assert "it is a folder" in refused(home / "folder.csv")


CELL = st.text('ab",; \n\r\té', max_size=5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(CELL, CELL), max_size=12), st.integers(1, 5))
def test_any_cells_come_back_in_batches_of_any_size(memory_home, pairs, size):
    path = memory_home / "cells.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "x"), *pairs])
    old, incoming.BATCH_ROWS = incoming.BATCH_ROWS, size
    try:
        found = rows_of(path)
    finally:
        incoming.BATCH_ROWS = old
    assert [(row["id"], row["x"]) for row in found] == pairs


OBJECTS = st.lists(
    st.dictionaries(
        st.sampled_from("abc"), st.none() | st.integers() | st.text('a"[]{}, é', max_size=5)
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(OBJECTS, st.integers(1, 9))
def test_any_objects_come_back_however_the_file_is_cut(memory_home, objects, piece):
    path = memory_home / "objects.json"
    path.write_text(json.dumps(objects), encoding="utf-8")
    old, incoming._CHUNK = incoming._CHUNK, piece
    try:
        found = rows_of(path)
    finally:
        incoming._CHUNK = old
    assert len(found) == len(objects)
    for row, wanted in zip(found, objects, strict=True):
        assert {name: value for name, value in row.items() if value is not None} == {
            name: value for name, value in wanted.items() if value is not None
        }
