"""The reading commands: what they show, what they write (nothing), and what they refuse."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.overlays import NOON_US, Layer, part, row, row_id, write_base
from usrstore.dataset import query
from usrstore.errors import ChangedWhileReadError, OverlayError
from usrstore.objects.names import DatasetId
from usrstore.odb import durable
from usrstore.root import Root
from usrstore.verbs import reading

SEQUENCES = ["ACGT", "AAAA", "CCCC", "GGGG", "TTTT"]
NAME = "ns/x"


@pytest.fixture
def table(lab):
    """A dataset of five rows: two parts, one row deleted, a materialized column."""
    shutil.rmtree(lab.folder)
    write_base(
        lab.folder,
        [row(text, infer__note=f"old {text}") for text in SEQUENCES],
        {"infer__note": pa.string()},
    )
    types = {"infer__score": pa.float64(), "infer__vector": pa.list_(pa.float32())}
    rows = [
        {"id": row_id(text), "infer__score": n / 7, "infer__vector": [0.5] * n}
        for n, text in enumerate(SEQUENCES)
    ]
    part("infer", 1, rows, types).write(lab.folder)
    newer = [{"id": row_id("ACGT"), "infer__score": math.nan, "infer__note": "new"}]
    part("infer", 2, newer, {"infer__score": pa.float64(), "infer__note": pa.string()}).write(
        lab.folder
    )
    deleted = [{"id": row_id("CCCC"), "usr__deleted": True, "usr__deleted_reason": "bad"}]
    kinds = {"usr__deleted": pa.bool_(), "usr__deleted_reason": pa.string()}
    Layer("usr", NOON_US, None, deleted, kinds).write(lab.folder)
    (lab.root / "registry.yaml").write_text("namespaces: {}\n")
    return lab


READS = [
    ["ls"],
    ["info", NAME],
    ["schema", NAME],
    ["schema", NAME, "--tree"],
    ["cols", NAME],
    ["describe", NAME],
    ["head", NAME],
    ["cell", NAME, "--col", "infer__vector"],
    ["get", NAME, row_id("ACGT")],
    ["grep", NAME, "--pattern", "aaa"],
    ["export", NAME, "--fmt", "csv", "--out", "OUT"],
]


def everything(root):
    """Every path below a root: what it holds, and when it and its folder changed."""
    found = {}
    for at, folders, files in os.walk(root):
        for name in [*folders, *files, "."]:
            path = Path(at) / name
            stat = path.stat()
            data = path.read_bytes() if path.is_file() else None
            found[str(path)] = (data, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return found


@pytest.mark.parametrize("words", READS, ids=lambda words: " ".join(words[:1] + words[2:3]))
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_w13_reading_writes_nothing(table, tmp_path, words, as_json):
    """W13: reads appended events to the log of the dataset that they read."""
    if as_json and "--tree" in words:
        pytest.skip("the tree is for people")
    (table.folder / ".events.log").write_bytes(b"{}\n")
    before = everything(table.root)
    words = [str(tmp_path / "rows.csv") if word == "OUT" else word for word in words]
    said = table.usr(*words, *(["--json"] if as_json else [])).ok()
    assert said.out
    assert said.err == ""
    assert everything(table.root) == before


def test_ls_of_an_empty_root_is_an_empty_list(lab):
    assert lab.usr("--root", lab.there, "ls", "--json").ok().data == []
    assert lab.usr("--root", lab.there, "ls", "--format", "json").ok().data == []
    assert lab.usr("--root", lab.there, "ls").ok().out == f"(no datasets under {lab.there})\n"


def test_ls_has_the_fields_that_scripts_know(table):
    (row_,) = table.usr("ls", "--json").ok().data
    size = (table.folder / "records.parquet").stat().st_size
    assert (row_["dataset"], row_["rows"], row_["cols"], row_["size_bytes"]) == (NAME, 5, 8, size)
    assert "T" in row_["updated"]
    assert "+" not in row_["updated"]


def test_ls_names_a_dataset_whose_table_is_damaged(table):
    (table.folder / "records.parquet").write_bytes(b"not a table at all")
    (row_,) = table.usr("ls", "--json").ok().data
    assert (row_["rows"], row_["cols"], row_["size_bytes"]) == (None, None, 18)


def test_overlay_columns_are_seen_everywhere(table):
    info = table.usr("info", NAME, "--json").ok().data
    assert info["namespaces"] == ["infer", "usr"]
    assert info["rows"] == 5
    assert info["columns"][:8][-1] == "infer__note"
    fields = table.usr("schema", NAME, "--json").ok().data["fields"]
    assert [field["name"] for field in fields] == info["columns"]
    found = table.usr("cols", NAME, "--glob", "infer__*", "--json").ok().data
    assert {r["name"]: r["source"] for r in found} == dict.fromkeys(
        ["infer__note", "infer__score", "infer__vector"], "infer"
    )
    said = table.usr("schema", NAME, "--tree").ok()
    assert "infer__vector: list\n  element: float\n" in said.out


def test_head_shows_the_newest_values_in_the_order_of_the_base(table):
    rows = table.usr("head", NAME, "--json").ok().data
    assert [r["sequence"] for r in rows] == ["ACGT", "AAAA", "GGGG", "TTTT"]
    assert rows[0]["infer__note"] == "new"
    assert rows[1]["infer__note"] == "old AAAA", "the materialized value shows through"
    assert rows[0]["infer__score"] is None, "NaN is null in JSON"
    assert rows[1]["infer__score"] == 1 / 7
    assert "usr__deleted" not in rows[0]
    deleted = table.usr("head", NAME, "--include-deleted", "--json").ok().data
    assert [r["usr__deleted"] for r in deleted] == [None, None, True, None, None]
    assert len(table.usr("head", NAME, "-n", "2", "--json").ok().data) == 2


def test_w10_head_is_the_same_every_time(table):
    """W10: `head` was LIMIT without ORDER BY over a threaded join."""
    outs = {table.usr("head", NAME, "-n", "3", "--raw").ok().out for _ in range(10)}
    assert len(outs) == 1
    assert table.spawn("head", NAME, "-n", "3", "--raw").ok().out in outs


def test_text_is_cut_as_asked_and_raw_is_not(table):
    said = table.usr("head", NAME, "--columns", "infer__vector", "--max-list-items", "2").ok()
    assert said.lines[-1] == "[0.5, 0.5, … 4 in all]"
    said = table.usr("head", NAME, "--columns", "id", "--max-colwidth", "5").ok()
    assert said.lines[1] == row_id("ACGT")[:4] + "…"
    said = table.usr("head", NAME, "--columns", "infer__score", "--precision", "2").ok()
    assert said.lines[2].strip() == "0.14"
    said = table.usr("head", NAME, "--columns", "id,infer__vector", "--raw").ok()
    assert said.lines[-1] == f"{row_id('TTTT')}\t[0.5, 0.5, 0.5, 0.5]"


def test_a_dataset_is_inferred_from_where_one_stands(table, monkeypatch):
    monkeypatch.chdir(table.folder)
    assert table.usr("head", "--json").ok().data == table.usr("head", NAME, "--json").ok().data
    assert table.usr("info", "--json").ok().data["name"] == NAME
    assert table.usr("head", table.folder, "--json").ok().data


def test_cell_get_and_grep(table):
    said = table.usr("cell", NAME, "--row", "4", "--col", "infer__vector").ok()
    assert json.loads(said.out) == [0.5] * 4
    found = table.usr("cell", NAME, "--row", "0", "--glob", "infer__n*", "--json").ok().data
    assert found == {"row": 0, "values": {"infer__note": "new"}}
    table.usr("cell", NAME, "--row", "5", "--col", "id").failed("row-not-found", 4)
    rows = table.usr("get", NAME, "--id", f"{row_id('TTTT')},{row_id('ACGT')}", "--json").ok().data
    assert [r["sequence"] for r in rows] == ["ACGT", "TTTT"], "in the order of the base"
    said = table.usr("get", NAME, row_id("CCCC")).failed("row-not-found", 4)
    assert "--include-deleted" in said.err
    table.usr("get", NAME, row_id("CCCC"), "--include-deleted").ok()
    only = table.usr("get", NAME, row_id("ACGT"), "--columns", "length", "--json").ok().data
    assert only == [{"length": 4}]
    rows = table.usr("grep", NAME, "--pattern", "^[ac]{4}$", "--json").ok().data
    assert [r["sequence"] for r in rows] == ["AAAA"], "a deleted row does not match"
    rows = table.usr("grep", NAME, "--pattern", "a|t", "--limit", "2", "--json").ok().data
    assert len(rows) == 2
    table.usr("grep", NAME, "--pattern", "(").failed("pattern", 3)


def test_describe_counts_all_rows(table):
    found = {r["name"]: r for r in table.usr("describe", NAME, "--json").ok().data}
    assert (found["length"]["min"], found["length"]["max"], found["length"]["rows"]) == (4, 4, 4)
    assert found["infer__vector"]["max"] == 4
    assert found["infer__score"]["mean"] == pytest.approx((1 + 3 + 4) / 21), "NaN is left out"
    assert found["infer__note"]["source"] == "infer"
    assert found["source"]["distinct"] == 1
    only = table.usr("describe", NAME, "--columns", "usr__deleted", "--include-deleted", "--json")
    assert only.ok().data[0]["nulls"] == 4


def test_w11_exports_lose_nothing(table, tmp_path):
    """W11: lists in a CSV were numpy's text, elided; JSON lines cut moments to milliseconds."""
    long = [n / 3 for n in range(3000)]
    rows = [{"id": row_id("GGGG"), "infer__vector": long}]
    part("infer", 3, rows, {"infer__vector": pa.list_(pa.float64())}).write(table.folder)
    table.usr("export", NAME, "--fmt", "csv", "--out", tmp_path).ok()
    with (tmp_path / "ns_x.csv").open(newline="") as file:
        lines = {r["sequence"]: r for r in csv.DictReader(file)}
    assert json.loads(lines["GGGG"]["infer__vector"]) == long
    assert lines["ACGT"]["infer__score"] == ""
    assert lines["AAAA"]["infer__score"] == repr(1 / 7)
    assert "CCCC" not in lines
    base = pq.read_table(table.folder / "records.parquet")
    moments = pa.array([1_700_000_000_123_456] * 5, pa.timestamp("us", tz="UTC"))
    pq.write_table(base.set_column(6, "created_at", moments), table.folder / "records.parquet")
    out = tmp_path / "rows.jsonl"
    said = table.usr("export", NAME, "--fmt", "jsonl", "--out", out, "--json").ok()
    assert said.data["rows"] == 4
    assert said.data["bytes"] == out.stat().st_size
    first = json.loads(out.read_text().splitlines()[0])
    assert first["created_at"] == "2023-11-14T22:13:20.123456+00:00"
    assert first["infer__score"] is None
    table.usr("export", NAME, "--fmt", "parquet", "--out", out, "--include-deleted").ok()
    read = pq.read_table(out)
    assert read.num_rows == 5
    assert read.column("infer__vector").to_pylist()[3] == long
    assert read.schema.field("created_at").type == pa.timestamp("us", tz="UTC")
    assert math.isnan(read.column("infer__score").to_pylist()[0])


def test_an_export_that_fails_leaves_what_was_there(table, tmp_path):
    out = tmp_path / "rows.csv"
    out.write_text("mine")
    data = bytearray((table.folder / "records.parquet").read_bytes())
    data[4:400] = b"\xff" * 396
    (table.folder / "records.parquet").write_bytes(data)
    table.usr("export", NAME, "--fmt", "csv", "--out", out).failed("parquet-unreadable", 6)
    assert out.read_text() == "mine"
    assert os.listdir(tmp_path / "..") is not None
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    table.usr("export", NAME, "--fmt", "csv", "--out", tmp_path / "no" / "x").failed("not-found", 4)


def test_unknown_columns_and_states_are_refused_by_name(table):
    said = table.usr("head", NAME, "--columns", "id,nope,neither").failed("column-unknown", 3)
    assert "nope, neither" in said.err
    table.usr("head", f"{NAME}@v1").failed("revision-unreadable", 3)
    table.usr("head", "ns/nope").failed("dataset-not-found", 4)
    table.usr("cell", NAME).failed("usage", 2)
    table.usr("get", NAME).failed("usage", 2)


def test_a_read_looks_again_when_files_change_under_it(table):
    root, seen = Root(str(table.root)), []

    def act(view):
        if not seen:
            part("infer", 9, [{"id": row_id("AAAA"), "infer__note": "late"}],
                 {"infer__note": pa.string()}).write(table.folder)  # fmt: skip
        seen.append([r for b in view.take([1], ["infer__note"]) for r in b.to_pylist()])
        return seen[-1]

    assert reading.read(root, DatasetId(NAME), act) == [{"infer__note": "late"}]
    assert len(seen) == 2


def test_a_read_of_a_dataset_that_never_rests_says_so(table):
    root, tries = Root(str(table.root)), []

    def act(view):
        tries.append(view)
        os.utime(table.folder / "records.parquet", ns=(len(tries), len(tries)))

    with pytest.raises(ChangedWhileReadError):
        reading.read(root, DatasetId(NAME), act)
    assert len(tries) == 5


def test_an_overlay_that_goes_away_meanwhile_is_looked_for_again(table, monkeypatch):
    root, real, calls = Root(str(table.root)), query.overlay.load_listed, []

    def vanish(folder, *more):
        calls.append(folder)
        if len(calls) == 1:
            (victim,) = Path(folder, "_derived", "infer").glob("part-*1.parquet")
            victim.unlink()
            raise OverlayError("gone")
        return real(folder, *more)

    monkeypatch.setattr(query.overlay, "load_listed", vanish)
    assert reading.read(root, DatasetId(NAME), lambda view: len(view.overlays["infer"].files)) == 1


def test_a_folder_between_two_states_is_not_read(table):
    root = Root(str(table.root))
    path = root.journal_path(DatasetId(NAME))
    durable.make_folder(os.path.dirname(path))
    Path(path).write_bytes(b"half")
    said = table.usr("head", NAME).failed("journal-pending", 5)
    assert "usr recover" in said.err


def test_small_reads_do_not_load_what_large_ones_need(table):
    words = [sys.executable, "-X", "importtime", "-m", "usrcli", "head", NAME]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pyarrow.parquet" in loaded
    # The attempt to import numpy or pandas is listed, too; what they consist of is not.
    assert not loaded & {"duckdb", "numpy.version", "pandas.core"}


def test_ls_loads_no_arrow(table):
    code = (
        "import sys; from usrcli import main; main.run(['ls']); sys.exit('pyarrow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize(
    ("rows", "parts", "most_mb"),
    [(200_000, 20, 512), pytest.param(4_000_000, 100, 1024, marks=pytest.mark.deep)],
)
def test_memory_does_not_grow_with_the_rows(tmp_path, rows, parts, most_mb):
    """The larger one comes to 2.4 GB of decoded columns."""
    bench = Path(__file__).parents[2] / "bench" / "joined.py"
    folder = tmp_path / "ns" / "x"
    make = [sys.executable, bench, "make", folder, "--rows", rows, "--parts", parts]
    subprocess.run([str(word) for word in make], check=True)
    (tmp_path / "registry.yaml").write_text("namespaces: {}\n")
    words = ["--root", str(tmp_path), "describe", "ns/x"]
    # The kernel counts what the parent held before exec as the child's own peak; VmHWM does not.
    code = (
        "import sys; from usrcli import main; status = main.run(sys.argv[1:]); "
        "print(open('/proc/self/status').read(), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    peak_kb = int(done.stderr.partition("VmHWM:")[2].split()[0])
    assert peak_kb < most_mb << 10, f"{peak_kb >> 10} MB"
