"""`usrstore.dataset`: what tools do with a dataset, and that hundreds of them may at once."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import usrstore
import usrstore.dataset as usr
from support import arrays
from support.faults import CRASHED, Crash, count_calls, in_child
from usrstore.errors import (
    ChangedWhileReadError,
    ConflictError,
    InvalidInputError,
    LockedError,
    NotFoundError,
    RegistryError,
    UnsupportedError,
)
from usrstore.odb import flock
from usrstore.root import Root

ACTOR = {"tool": "infer", "run_id": "7", "host": "node-3"}
NAME = "densegen/x"


@pytest.fixture
def root(home):
    return home


@pytest.fixture
def table(root):
    made = usr.create(root, NAME, ACTOR, source="a test")
    made.register("infer", "score:float64,tags:list<string>")
    made.add_sequences(["ACGT", "GGCC", "TTTTA"])
    return made


def scores(*sequences, value=1.0):
    return [{"id": usr.row_id(name), "score": value} for name in sequences]


def run_usr(root, *words):
    done = subprocess.run(
        [sys.executable, "-m", "usrcli", "--root", str(root), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ── importing ───────────────────────────────────────────────────────────────────────────
def test_importing_it_loads_nothing():
    code = "import sys, usrstore.dataset; print([m for m in sys.modules if m.startswith('usrst')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['usrstore', 'usrstore.dataset']"


def test_its_names_are_frozen():
    assert usr.__all__ == ["Dataset", "create", "open", "row_id"]
    assert [name for name in vars(usr.Dataset) if not name.startswith("_")] == [
        "name", "folder", "schema", "add_sequences", "write_overlay_part", "register", "log_event",
        "lock", "scan", "to_arrow", "to_pandas", "to_polars", "events",
    ]  # fmt: skip
    with pytest.raises(AttributeError):
        usr.nothing  # noqa: B018


# ── writing ─────────────────────────────────────────────────────────────────────────────
def test_rows_come_as_sequences_mappings_tables_or_frames(table):
    table.add_sequences([{"sequence": "AAAA", "source": "mine"}])
    table.add_sequences(pa.table({"sequence": ["CCCC"], "alphabet": ["dna_5"]}))
    table.add_sequences(pd.DataFrame({"sequence": ["GGGG"]}))
    added = table.add_sequences(pl.DataFrame({"sequence": ["GGGG", "TTTT"]}), skip_known=True)
    assert (added.rows_written, added.rows_skipped, added.rows) == (1, 1, 7)
    rows = table.to_arrow(["sequence", "source", "alphabet", "length"]).to_pylist()
    assert rows[3] == {"sequence": "AAAA", "source": "mine", "alphabet": "dna_4", "length": 4}
    assert rows[4]["alphabet"] == "dna_5"
    assert [row["sequence"] for row in rows] == [
        "ACGT", "GGCC", "TTTTA", "AAAA", "CCCC", "GGGG", "TTTT",
    ]  # fmt: skip


def test_rows_are_all_taken_or_none_and_all_that_is_wrong_is_said(table):
    with pytest.raises(InvalidInputError) as caught:
        table.add_sequences(["ACGT", "AXG", "CCCCC", ""])
    for word in ("row 1", "row 2", "row 4", "nothing was changed"):
        assert word in caught.value.message
    assert table.to_arrow().num_rows == 3
    with pytest.raises(InvalidInputError, match="a row is a int"):
        table.add_sequences([7])
    assert table.add_sequences([]).rows_written == 0


def test_rna_and_protein_have_ids_of_their_own(table):
    table.add_sequences(["ACGU"], bio_type="rna", alphabet="rna_4")
    ids = table.to_arrow(["id"]).column("id").to_pylist()
    assert ids[-1] == usr.row_id("ACGU", bio_type="rna") != usr.row_id("ACGU")


@pytest.mark.parametrize("form", [lambda rows: rows, pa.Table.from_pylist, pd.DataFrame])
def test_overlay_parts_come_as_mappings_tables_or_frames_and_the_newest_wins(table, form):
    table.write_overlay_part(form(scores("ACGT", "GGCC")), "infer")
    wrote = table.write_overlay_part(form(scores("GGCC", value=2.0)), "infer")
    assert wrote.path.startswith("_derived/infer/part-")
    assert table.to_arrow(["infer__score"]).column(0).to_pylist() == [1.0, 2.0, None]


def test_an_overlay_part_is_keyed_by_sequence_where_that_is_what_a_tool_has(table):
    rows = [{"text": "TTTTA", "tags": ["a", "b"]}]
    table.write_overlay_part(rows, "infer", "sequence", key_column="text")
    assert table.to_arrow(["infer__tags"]).column(0).to_pylist() == [None, None, ["a", "b"]]


def test_a_bad_part_is_refused_and_nothing_is_written(table, root):
    with pytest.raises(RegistryError) as caught:
        table.write_overlay_part(scores("ACGT"), "annot")
    assert "usr namespace register" in caught.value.hint
    with pytest.raises(InvalidInputError):
        table.write_overlay_part(scores("AAAAAAAAA"), "infer")
    with pytest.raises(InvalidInputError, match="no mapping"):
        table.write_overlay_part([1, 2], "infer")
    with pytest.raises(InvalidInputError):
        table.write_overlay_part("rows", "infer")
    assert not (root / NAME / "_derived").exists()
    nothing = table.write_overlay_part(scores("AAAAAAAAA"), "infer", allow_missing=True)
    assert (nothing.path, nothing.rows_missing) == (None, 1)


def test_a_namespace_is_agreed_upon_once(table):
    assert table.register("infer", "score:float64,tags:list<string>") is False
    assert table.register("infer", "tags:list<string>") is False  # that and more is there
    with pytest.raises(ConflictError):
        table.register("infer", "score:float64,rank:int8")
    with pytest.raises(ConflictError):
        table.register("infer", "score:string")


def test_events_name_the_actor_that_was_handed_in(table, monkeypatch):
    monkeypatch.setenv("USR_ACTOR_TOOL", "somebody-else")
    table.log_event("qc", args={"passed": 3, "api_key": "s3cret"}, metrics={"n": 1})
    (event,) = table.events(1)
    assert (event["action"], event["actor"]) == ("qc", ACTOR)
    assert event["args"] == {"passed": 3, "api_key": "***REDACTED***"}
    assert [row["action"] for row in table.events()] == [
        "registry_freeze", "init", "registry_freeze", "import_rows", "qc",
    ]  # fmt: skip
    with pytest.raises(InvalidInputError):
        table.log_event("qc", args={"bad": float("nan")})


def test_an_actor_says_at_least_which_tool_it_is(root, table):
    with pytest.raises(InvalidInputError, match="needs at least a tool"):
        usr.open(root, NAME, {"run_id": "1"})
    assert usr.open(root, "x", usrstore.who("ada")).name == NAME
    with pytest.raises(NotFoundError):
        usr.open(root, "densegen/y", ACTOR)
    with pytest.raises(ConflictError):
        usr.create(root, NAME, ACTOR)


# ── the lock ────────────────────────────────────────────────────────────────────────────
def test_who_holds_the_lock_writes_while_others_wait(table, root):
    other = usr.open(root, NAME, {"tool": "densegen"}, lock_timeout_s=0.05)
    with table.lock():
        with pytest.raises(LockedError):
            other.add_sequences(["CCCC"])
        with table.lock() as again:
            again.add_sequences(["AAAA"])
        assert other.to_arrow(["id"]).num_rows == 4  # readers do not wait
        table.write_overlay_part(scores("AAAA"), "infer")
    other.add_sequences(["CCCC"])
    assert table.to_arrow(["id"]).num_rows == 5


def test_the_lock_is_the_one_that_other_tools_take(table, root):
    theirs = flock.hold(str(root / NAME / ".usr.lock"), timeout_s=0)
    with table.lock(), pytest.raises(LockedError), theirs:
        pass
    with flock.hold(str(root / NAME / ".usr.lock"), timeout_s=0):
        pass


def test_an_error_under_the_lock_gives_it_back(table):
    with pytest.raises(InvalidInputError), table.lock():
        table.add_sequences(["NOT DNA"])
    table.add_sequences(["AAAA"])


# ── reading ─────────────────────────────────────────────────────────────────────────────
def test_a_table_a_frame_and_a_scan_say_the_same(table):
    table.write_overlay_part(scores("GGCC"), "infer")
    wanted = table.to_arrow()
    assert wanted.schema.names == [*table.schema.names]
    assert table.to_polars()["infer__score"].to_list() == [None, 1.0, None]
    assert table.to_pandas(["sequence"])["sequence"].tolist() == ["ACGT", "GGCC", "TTTTA"]
    batches = list(table.scan(batch_rows=2))
    assert [len(batch) for batch in batches] == [2, 1]
    assert pa.Table.from_batches(batches) == wanted
    with pytest.raises(InvalidInputError, match="no such column"):
        table.to_arrow(["nothing"])


def test_an_empty_dataset_is_a_table_of_no_rows(root):
    empty = usr.create(root, "densegen/none", ACTOR)
    assert empty.to_arrow(["id", "length"]).schema.names == ["id", "length"]
    assert list(empty.scan()) == []


def test_a_scan_is_of_one_moment_whatever_parts_come(table):
    table.write_overlay_part(scores("ACGT"), "infer")
    rows = table.scan(["infer__score"], batch_rows=1)
    assert next(rows).to_pylist() == [{"infer__score": 1.0}]
    table.write_overlay_part(scores("GGCC"), "infer")
    assert [row.to_pylist()[0]["infer__score"] for row in rows] == [None, None]


def test_a_scan_whose_files_were_replaced_says_so(table):
    rows = table.scan(["id"], batch_rows=1)
    next(rows)
    table.add_sequences(["CCCC"])
    with pytest.raises(ChangedWhileReadError):
        list(rows)


def test_reading_goes_on_beside_writers(table):
    """A writer's act shows whole or not at all, and a reader that meets one waits for its end."""
    table.write_overlay_part(scores("ACGT"), "infer")
    stop = threading.Event()
    problems = []

    def write():
        mine = usr.open(table.folder[: -len(NAME)], NAME, ACTOR)
        try:
            while not stop.is_set():
                mine.write_overlay_part(scores("ACGT"), "infer")
        except Exception as exc:
            problems.append(exc)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(8):
            assert table.to_arrow(["id", "infer__score"]).num_rows == 3
    finally:
        stop.set()
        writer.join()
    assert not problems


def test_a_reader_does_not_wait_for_a_writer_that_died(table, root, home):
    part = scores("ACGT")
    write = functools.partial(table.write_overlay_part, part, "infer")
    write()  # the first one makes folders, too
    calls = count_calls(write)
    renamed = max(n for n, (op, path) in enumerate(calls, 1) if "part-" in path and op == "rename")
    died = in_child(write, tap=Crash(when="after", number=renamed), log=home / "log")
    assert died == CRASHED
    with pytest.raises(ConflictError) as caught:
        table.to_arrow()
    assert (caught.value.code, "usr recover" in caught.value.hint) == ("journal-pending", True)
    table.add_sequences(["CCCC"])  # a writer recovers first
    assert Root(str(root)).journaled() == []
    assert table.to_arrow(["infer__score"]).column(0).to_pylist() == [1.0, None, None, None]


def test_a_package_that_is_missing_is_named(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UnsupportedError) as caught:
        table.to_polars()
    assert "pip install polars" in caught.value.hint


# ── a job array ─────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("tasks", [12, pytest.param(200, marks=pytest.mark.deep)])
def test_of_an_array_of_processes_that_write_at_once_none_is_lost(home, tasks):
    here, there = home / "here", home / "there"
    here.mkdir()
    there.mkdir()
    table = usr.create(here, NAME, ACTOR)
    table.register(arrays.NAMESPACE, arrays.COLUMNS)
    table.add_sequences([*map(arrays.sequence, range(tasks)), "TTTT"])
    said = arrays.run(str(here), NAME, tasks, timeout_s=500)
    assert sorted(said) == list(range(tasks))
    parts = {str(path.relative_to(here / NAME)) for path in (here / NAME).rglob("part-*.parquet")}
    assert set(said.values()) == parts
    rows = table.to_arrow(["infer__score", "infer__task"]).to_pylist()
    assert rows[:-1] == [{"infer__score": n / 2, "infer__task": n} for n in range(tasks)]
    assert rows[-1]["infer__task"] in range(tasks)
    written = [event for event in table.events() if event["action"] == "write_overlay_part"]
    assert {event["artifacts"]["overlay"]["path"] for event in written} == parts
    assert {event["actor"]["run_id"] for event in written} == {f"array-{n}" for n in range(tasks)}
    remotes = home / "remotes.yaml"
    place = {"remotes": {"lab": {"type": "folder", "base_dir": str(there)}}}
    remotes.write_text(json.dumps(place))
    run_usr(here, "validate", NAME, "--strict")
    run_usr(here, "--remotes-config", remotes, "push", NAME, "lab", "-y")
    assert "up-to-date" in run_usr(here, "--remotes-config", remotes, "diff", NAME, "lab")
    copied = usr.open(there, NAME, ACTOR)
    assert copied.to_arrow(["infer__task"]).column(0).to_pylist()[:-1] == list(range(tasks))
