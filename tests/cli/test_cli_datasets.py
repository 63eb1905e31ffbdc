"""Datasets from the command line: begun, filled, registered, kept, watched, tidied."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from support.lab import SCHEMAS, USR
from usrstore.dataset import registry, schema

X = "densegen/x"
ROWS = "sequence,source\nACGT,a\n acgtt ,\n,\n"


@pytest.fixture
def lab(lab):
    """The root as `usr init` left it."""
    (lab.root / "registry.yaml").write_bytes(registry.initial())
    return lab


@pytest.fixture
def begun(lab):
    """An empty dataset of its own, beside the sample."""
    lab.usr("init", X, "--source", "the lab", "--notes", "a  note").ok()
    return lab


def folder(lab):
    return lab.root / X


def files(lab):
    from support import datasets

    return datasets.read(folder(lab))


def csv(lab, text, name="rows.csv"):
    path = lab.home / name
    path.write_text(text)
    return path


def load(lab, text="sequence\nACGT\nACGG\n", *more):
    return lab.usr("import", X, "--from", "csv", "--path", csv(lab, text), *more)


def events(lab):
    return [json.loads(line) for line in files(lab)[".events.log"].splitlines()]


# ── init ────────────────────────────────────────────────────────────────────────────────
def test_a_new_dataset_keeps_every_rule_of_the_format(begun):
    lab = begun
    digest = hashlib.sha256((lab.root / "registry.yaml").read_bytes()).hexdigest()
    assert set(files(lab)) == {
        "records.parquet", ".events.log", "meta.md", f"_registry/registry.{digest}.yaml",
    }  # fmt: skip
    table = pq.read_table(folder(lab) / "records.parquet")
    assert schema.schema_problems(table.schema) == []
    metadata = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
    assert metadata["usr:schema_version"] == "1"
    assert metadata["usr:id_hash"] == "sha1_utf8_pipe"
    assert metadata["usr:registry_hash"] == digest
    assert metadata["usr:dataset_created_at"].startswith("20")
    notes = files(lab)["meta.md"].decode().splitlines()
    assert notes[0] == f"name: {X}"
    assert [line.partition(":")[0] for line in notes[1:5]] == [
        "created_at", "source", "notes", "schema",
    ]  # fmt: skip
    assert notes[3] == "notes: a note"
    assert re.fullmatch(r"### Updates \(\d{4}-\d\d-\d\d\)", notes[6])
    assert "```bash" in notes
    assert [event["action"] for event in events(lab)] == ["registry_freeze", "init"]
    moments = [event["timestamp_utc"] for event in events(lab)]
    assert moments == sorted(moments)
    assert events(lab)[1]["actor"]["tool"] == "usr"
    assert re.fullmatch(r"usr-pid-\d+", events(lab)[1]["actor"]["run_id"])


def test_init_says_where_and_refuses_what_is_there(begun):
    again = begun.usr("init", X).failed("dataset-exists", 5)
    assert "nothing was changed" in again.err
    said = begun.usr("init", "flat", "--json").ok()
    assert said.data == {"dataset": "flat", "path": str(begun.root / "flat"), "created": True}
    begun.usr("init", "a/b/c").failed("invalid-name", 3)
    begun.usr("init", "--notes", "x").failed("usage", 2)


def test_init_where_the_named_root_is_missing_says_how_to_make_one(lab, monkeypatch):
    monkeypatch.setenv("USR_ROOT", str(lab.home / "absent"))
    failed = lab.usr("init", "r").failed("not-found", 4)
    assert "usr init ./r" in failed.err
    lab.usr("init").ok()
    lab.usr("init", "r").ok()


def test_init_with_a_path_makes_a_root(lab, monkeypatch):
    monkeypatch.delenv("USR_ROOT")
    (lab.home / "new").mkdir()
    monkeypatch.chdir(lab.home / "new")
    failed = lab.usr("init", "x").failed("no-root", 4)
    assert "usr init ./x" in failed.err
    lab.usr("init", "./x").ok()
    assert (lab.home / "new" / "x" / "registry.yaml").exists()
    lab.usr("init").ok()
    assert (lab.home / "new" / "registry.yaml").exists()


def test_outside_any_root_the_hint_says_how_to_get_root_and_dataset(lab, monkeypatch):
    monkeypatch.delenv("USR_ROOT")
    (lab.home / "new").mkdir()
    monkeypatch.chdir(lab.home / "new")
    failed = lab.usr("init", "lab/x").failed("no-root", 4)
    assert "`usr init && usr init lab/x` makes this folder a root" in failed.err
    lab.usr("init").ok()  # what the hint says, word for word
    lab.usr("init", "lab/x").ok()
    assert (lab.home / "new" / "lab" / "x" / "records.parquet").exists()


def test_an_actor_is_named_by_the_environment_of_the_command(begun, monkeypatch):
    monkeypatch.setenv("USR_ACTOR_TOOL", "densegen")
    monkeypatch.setenv("USR_ACTOR_RUN_ID", "run-7")
    begun.usr("snapshot", X).ok()
    actor = events(begun)[-1]["actor"]
    assert (actor["tool"], actor["run_id"]) == ("densegen", "run-7")


def test_tables_are_fingerprinted_with_sha256_where_that_is_asked_for(begun, monkeypatch):
    assert "sha256" not in events(begun)[-1]["fingerprint"]
    monkeypatch.setenv("USR_EVENT_SHA256", "1")
    load(begun).ok()
    digest = hashlib.sha256(files(begun)["records.parquet"]).hexdigest()
    assert events(begun)[-1]["fingerprint"]["sha256"] == digest


# ── import ──────────────────────────────────────────────────────────────────────────────
def test_rows_get_their_ids_lengths_and_moments(begun):
    said = load(begun, ROWS, "--json").ok()
    data = said.data
    snapshot = data.pop("snapshot")
    assert data == {
        "dataset": X, "rows_read": 2, "rows_written": 2, "rows_skipped": 0, "rows": 2,
        "ignored": [],
    }  # fmt: skip
    rows = pq.read_table(folder(begun) / "records.parquet").to_pylist()
    assert [row["sequence"] for row in rows] == ["ACGT", "acgtt"]
    assert [row["id"] for row in rows] == [
        hashlib.sha1(b"dna|ACGT").hexdigest(), hashlib.sha1(b"dna|acgtt").hexdigest(),
    ]  # fmt: skip
    assert [row["length"] for row in rows] == [4, 5]
    assert [row["source"] for row in rows] == ["a", "rows.csv"]
    assert all(row["created_at"].year > 2000 for row in rows)
    assert files(begun)[snapshot] == files(begun)["records.parquet"]
    made = events(begun)[-1]
    assert made["action"] == "import_rows"
    assert made["args"] == {
        "n": 2, "source_param": str(begun.home / "rows.csv"), "on_conflict": "error",
    }  # fmt: skip
    assert made["metrics"] == {"rows_written": 2, "rows_skipped": 0}
    assert made["fingerprint"]["rows"] == 2
    assert "imported 2 rows" in files(begun)["meta.md"].decode()


def test_one_row_is_one_row_in_the_notes(begun):
    load(begun, "sequence\nACGT\n").ok()
    lab_rows = files(begun)["meta.md"].decode()
    assert "imported 1 row from rows.csv" in lab_rows
    row = pq.read_table(folder(begun) / "records.parquet")["id"][0]
    begun.usr("delete", X, "--id", row).ok()
    assert "Deleted 1 row\n" in files(begun)["meta.md"].decode()


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_each_format_brings_the_same_rows(begun, form):
    rows = [
        {"sequence": "ACGU", "bio_type": "rna", "alphabet": "rna_4", "source": "s", "length": 4,
         "created_at": "2026-01-02T03:04:05.000006+00:00"},
        {"sequence": "MKX", "bio_type": "protein", "alphabet": "protein_21", "source": "t",
         "length": 3, "created_at": "2026-01-02T04:04:05.000006+01:00"},
    ]  # fmt: skip
    path = begun.home / f"rows.{form}"
    if form == "csv":
        lines = [",".join(map(str, row.values())) for row in rows]
        path.write_text("\n".join([",".join(rows[0]), *lines]))
    elif form == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        table = pa.Table.from_pylist(rows)
        moments = pa.array([1767323045000006] * 2, pa.timestamp("us", tz="UTC"))
        pq.write_table(table.set_column(5, "created_at", moments), path)
    begun.usr("import", X, "--path", path).ok()  # the suffix says what it is
    found = pq.read_table(folder(begun) / "records.parquet").to_pylist()
    assert [{name: row[name] for name in ("sequence", "bio_type", "source")} for row in found] == [
        {name: row[name] for name in ("sequence", "bio_type", "source")} for row in rows
    ]
    assert {row["created_at"].isoformat() for row in found} == {"2026-01-02T03:04:05.000006+00:00"}


BAD = """id,sequence,length,bio_type,alphabet,created_at
,ACGT,,,,
,AXGT,,,,
,ACGT,,,,
,GGGG,5,,,
deadbeef,CCCC,,,,
,TTTT,,rna,,
,AAAA,,,,yesterday
,,,dna,,
too,short
"""


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_changed(begun):
    before = files(begun)
    said = load(begun, BAD).failed("bad-rows", 3)
    lines = said.err.splitlines()
    assert "has 8 problems; nothing was changed:" in lines[0]
    for line, word in zip(
        lines[1:9],
        [
            "row 2, sequence = 'AXGT': 'X' at letter 2 is not in dna_4",
            "row 3, sequence = 'ACGT': this record comes earlier in this input",
            "row 4, length = '5': the sequence has 4 letters",
            "row 5, id = 'deadbeef': the id of this sequence is",
            "row 6, alphabet = 'dna_4': an alphabet of dna, not of rna",
            "row 7, created_at = 'yesterday'",
            "row 8, sequence = None: a sequence is missing",
            "row 9, row = ['too', 'short']: 2 values for 6 columns",
        ],
        strict=True,
    ):
        assert word in "".join(lines[1:9]), (line, word)
    assert files(begun) == before


def test_records_that_are_there_are_refused_or_skipped(begun):
    load(begun).ok()
    before = files(begun)
    again = load(begun, "sequence\nACGT\nTTTT\nTTTT\n").failed("bad-rows", 3)
    assert "in the dataset already" in again.err
    assert "--on-conflict skip" in again.err
    assert files(begun) == before
    said = load(begun, "sequence\nACGT\nTTTT\nTTTT\n", "--on-conflict", "skip", "--json").ok()
    assert (said.data["rows_written"], said.data["rows_skipped"]) == (1, 2)
    inode = os.stat(folder(begun) / "records.parquet").st_ino
    said = load(begun, "sequence\nACGT\n", "--on-conflict", "skip").ok()
    assert "nothing new" in said.out
    assert os.stat(folder(begun) / "records.parquet").st_ino == inode


def test_an_import_leaves_old_row_groups_as_bytes(begun):
    load(begun).ok()
    before = files(begun)["records.parquet"]
    load(begun, "sequence\nTTTT\n").ok()
    after = files(begun)["records.parquet"]
    data = len(before) - 8 - int.from_bytes(before[-8:-4], "little")
    assert after.startswith(before[:data])
    names = [name for name in files(begun) if name.startswith("_snapshots/")]
    assert len(names) == 2


def test_columns_of_namespaces_in_the_base_are_filled_or_null(begun):
    base = folder(begun) / "records.parquet"
    table = pq.read_table(base)
    for name, kind in [("infer__n", pa.int8()), ("infer__v", pa.list_(pa.float32()))]:
        table = table.append_column(name, pa.array([], kind))
    pq.write_table(table, base)
    load(begun, "sequence\nACGT\n").ok()
    load(begun, 'sequence,infer__n,infer__v\nTTTT,7,"[1, 2.5]"\n').ok()
    rows = pq.read_table(base).to_pylist()
    assert [(row["infer__n"], row["infer__v"]) for row in rows] == [(None, None), (7, [1.0, 2.5])]
    said = load(begun, "sequence,infer__n\nGGGG,700\nCCCC,x\n").failed("bad-rows", 3)
    assert "row 1, infer__n = '700': not int8" in said.err
    assert "row 2, infer__n = 'x': not int8" in said.err


def test_columns_that_are_not_taken_are_named(begun):
    said = load(begun, "sequence,score\nACGT,1\n").ok()
    assert "left out: score" in said.err


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (["--from", "csv", "--path", "nope.csv"], "not-found", 4),
        (["--from", "xls", "--path", "x"], "usage", 2),
        (["--path", "rows.xls"], "invalid-input", 3),
        (["--from", "csv", "--path", "{csv}", "--bio-type", "rna"], "invalid-input", 3),
        (["--from", "csv", "--path", "{csv}", "--alphabet", "dna_9"], "invalid-input", 3),
        (["--from", "parquet", "--path", "{csv}"], "not-parquet", 6),
        (["--from", "jsonl", "--path", "{csv}"], "bad-rows", 3),
        (["--from", "csv", "--path", "{other}"], "bad-rows", 3),
        (["--from", "csv", "--path", "{empty}"], "invalid-input", 3),
        (["--from", "csv", "--path", "{twice}"], "invalid-input", 3),
        (["--from", "csv", "--path", "{bytes}"], "invalid-input", 3),
        (["--from", "jsonl", "--path", "{bytes}"], "invalid-input", 3),
    ],
)
def test_inputs_that_cannot_be_taken_change_nothing(begun, words, code, status):
    paths = {
        "csv": csv(begun, "sequence\nACGT\n"),
        "other": csv(begun, "seq\nACGT\n", "other.csv"),
        "empty": csv(begun, "", "empty.csv"),
        "twice": csv(begun, "sequence,sequence\nA,A\n", "twice.csv"),
        "bytes": begun.home / "bytes",
    }
    paths["bytes"].write_bytes(b"sequence\n\xff\xfe\n")
    before = files(begun)
    words = [word.format(**paths) for word in words]
    begun.usr("import", X, *words).failed(code, status)
    assert files(begun) == before


# ── namespace ───────────────────────────────────────────────────────────────────────────
def test_w29_types_with_commas_can_be_registered(lab):
    """A struct or a timestamp with a zone could not be said: every comma split the columns."""
    columns = (
        "s:struct<a:int8,b:list<string>>,infer__at:timestamp[us,UTC],v:fixed_size_list<float32>[8]"
    )
    said = lab.usr("namespace", "register", "infer", "--columns", columns, "--owner", "ada")
    assert said.ok().out == "Registered infer, 3 columns\n"
    body = yaml.safe_load((lab.root / "registry.yaml").read_text())["namespaces"]["infer"]
    assert body == {
        "owner": "ada", "description": "",
        "columns": [
            {"name": "infer__s", "type": "struct<a:int8,b:list<string>>"},
            {"name": "infer__at", "type": "timestamp[us, UTC]"},
            {"name": "infer__v", "type": "fixed_size_list<float32>[8]"},
        ],
    }  # fmt: skip
    shown = lab.usr("namespace", "show", "infer", "--json").ok().data
    assert shown["columns"] == body["columns"]
    listed = lab.usr("namespace", "list", "--json").ok().data
    assert [entry["name"] for entry in listed] == ["infer", "usr_state"]
    assert "infer__at  timestamp[us, UTC]" in lab.usr("namespace", "show", "infer").ok().out
    assert lab.usr("namespace", "list").ok().out.splitlines()[0].startswith("infer ")
    text = (lab.root / "registry.yaml").read_text()
    assert text == yaml.safe_dump(yaml.safe_load(text), sort_keys=True), "canonical"


def test_a_namespace_is_replaced_only_when_that_is_said(lab):
    def register(*words):
        return lab.usr("namespace", "register", "infer", *words)

    register("--columns", "a:int8").ok()
    assert "the same" in register("--columns", "infer__a:int8").ok().out
    said = register("--columns", "a:int16").failed("namespace-exists", 5)
    assert "infer__a:int8" in said.err
    assert register("--columns", "a:int16", "--overwrite", "--json").ok().data["changed"] is True
    lab.usr("namespace", "register", "usr_state", "--columns", "a:int8").failed("registry", 3)
    lab.usr("namespace", "register", "x", "--columns", "a:text").failed("registry", 3)
    lab.usr("namespace", "show", "nope").failed("namespace-not-found", 4)


def test_w24_twelve_that_register_at_once_lose_none(lab):
    """W24: of 12 concurrent calls 11 said Registered, 9 survived, 1 crashed on a half file."""
    words = [*USR, "namespace", "register"]
    children = [
        subprocess.Popen(
            [*words, f"n{number}", "--columns", "a:int8"], stdout=subprocess.PIPE, text=True
        )
        for number in range(12)
    ]
    said = [child.communicate(timeout=400)[0] for child in children]
    assert said == [f"Registered n{number}, 1 column\n" for number in range(12)]
    known = yaml.safe_load((lab.root / "registry.yaml").read_text())["namespaces"]
    assert set(known) == {"usr_state", *(f"n{number}" for number in range(12))}
    assert [path.name for path in lab.root.iterdir() if "tmp" in path.name] == []


# ── snapshot, events ────────────────────────────────────────────────────────────────────
def test_a_snapshot_is_a_copy_under_a_name_that_sorts(begun):
    load(begun).ok()
    path = begun.usr("snapshot", X, "--json").ok().data["snapshot"]
    assert re.fullmatch(r"_snapshots/records-\d{8}T\d{12}\.parquet", path)
    assert files(begun)[path] == files(begun)["records.parquet"]
    for _ in range(6):
        begun.usr("snapshot", X).ok()
    names = sorted(name for name in files(begun) if name.startswith("_snapshots/"))
    assert len(names) == 5
    assert path not in names


def test_w29_the_tail_takes_n(begun):
    """W29: the runbook said `events tail -n 10`, which did not exist."""
    load(begun).ok()
    said = begun.usr("events", "tail", X, "-n", "1").ok()
    assert json.loads(said.out)["action"] == "import_rows"
    assert said.out.count("\n") == 1
    assert begun.usr("events", "tail", X, "--n", "2").ok().out.count("\n") == 2
    whole = begun.usr("events", "tail", X, "--format", "raw").ok().out
    assert whole.encode() == files(begun)[".events.log"]
    said = begun.usr("events", "tail", X, "--json").ok()
    assert [json.loads(line) for line in said.lines] == events(begun)
    text = (SCHEMAS / "events-tail.json").read_text()
    for line in said.lines:
        jsonschema.validate(json.loads(line), json.loads(text))


def test_w13_reading_events_writes_nothing(begun):
    """W13: commands that only read wrote events."""
    before = begun.everything(), files(begun), sorted(os.listdir(folder(begun)))
    begun.usr("events", "tail", X).ok()
    begun.usr("namespace", "list").ok()
    begun.usr("namespace", "show", "usr_state").ok()
    assert (begun.everything(), files(begun), sorted(os.listdir(folder(begun)))) == before


def test_follow_goes_on_with_what_is_written(begun):
    child = subprocess.Popen(
        [*USR, "events", "tail", X, "-n", "1", "--follow"], stdout=subprocess.PIPE, text=True
    )
    assert json.loads(child.stdout.readline())["action"] == "init"
    begun.usr("snapshot", X).ok()
    assert json.loads(child.stdout.readline())["action"] == "snapshot"
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=120)
    assert child.returncode in (130, -signal.SIGINT)


# ── maintenance ─────────────────────────────────────────────────────────────────────────
def test_a_torn_log_is_seen_and_repaired_only_when_asked(begun):
    log = folder(begun) / ".events.log"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"event_version":1,"act')
    said = begun.usr("snapshot", X).failed("events-torn", 6)
    assert "events-repair" in said.err
    assert begun.usr("events", "tail", X).ok().out.count("\n") == 2
    assert begun.usr("events", "tail", X, "--format", "raw").ok().out.endswith('"act\n')
    found = begun.usr("maintenance", "events-repair", X, "--json").ok().data
    assert found["torn_bytes"] == 23
    assert files(begun)[found["kept"]] == b'{"event_version":1,"act'
    assert log.read_bytes().startswith(whole)
    assert events(begun)[-1]["action"] == "event_log_repair"
    assert "is whole" in begun.usr("maintenance", "events-repair", X).ok().out
    begun.usr("snapshot", X).ok()


def test_an_event_that_lacks_only_its_end_of_line_gets_it(begun):
    log = folder(begun) / ".events.log"
    whole = log.read_bytes()
    log.write_bytes(whole[:-1])
    assert "has one now" in begun.usr("maintenance", "events-repair", X).ok().out
    assert log.read_bytes().startswith(whole)


def test_a_registry_is_frozen_and_named_by_the_base_without_rewriting_rows(begun):
    load(begun).ok()
    begun.usr("namespace", "register", "infer", "--columns", "a:int8").ok()
    before = files(begun)["records.parquet"]
    found = begun.usr("maintenance", "registry-freeze", X, "--json").ok().data
    digest = hashlib.sha256((begun.root / "registry.yaml").read_bytes()).hexdigest()
    assert found == {"dataset": X, "registry_hash": digest, "frozen": True, "restamped": True}
    after = files(begun)
    data = len(before) - 8 - int.from_bytes(before[-8:-4], "little")
    assert after["records.parquet"].startswith(before[:data])
    footer = pq.read_metadata(folder(begun) / "records.parquet")
    assert footer.metadata[b"usr:registry_hash"] == digest.encode()
    assert footer.num_rows == 2
    assert f"_registry/registry.{digest}.yaml" in after
    again = begun.usr("maintenance", "registry-freeze", X, "--json").ok().data
    assert (again["frozen"], again["restamped"]) == (False, False)
    assert files(begun) == after


def garden(lab, *words):
    return lab.usr(
        "maintenance", "event-log-garden", X, "--retain-last", "2", "--write",
        "--acknowledge-notify-cursor-reset", "--reason", "long", *words,
    )  # fmt: skip


def test_a_garden_archives_what_it_takes_off(begun):
    for _ in range(4):
        begun.usr("snapshot", X).ok()
    before = files(begun)[".events.log"]
    words = ["maintenance", "event-log-garden", X, "--retain-last", "2"]
    assert "4 events would go" in begun.usr(*words).ok().out
    begun.usr(*words, "--write").failed("usage", 2)
    assert files(begun)[".events.log"] == before
    found = garden(begun, "--json").ok().data
    assert (found["lines"], found["retained"], found["written"]) == (6, 2, True)
    name = found["archive"]
    digest = hashlib.sha256(files(begun)[name]).hexdigest()
    assert re.fullmatch(r"\.events\.archive/events-\d{8}T\d{12}Z-[0-9a-f]{12}\.jsonl", name)
    assert name.endswith(f"-{digest[:12]}.jsonl")
    assert (files(begun)[name] + files(begun)[".events.log"]).startswith(before)
    last = events(begun)[-1]
    assert last["action"] == "event_log_garden"
    assert last["args"] == {"retain_last": 2, "reason": "long"}
    assert last["maintenance"]["removed_sha256"] == digest
    begun.usr("snapshot", X).ok()


def test_w15_a_garden_does_not_break_sync(begun):
    """W15: the log was no longer a prefix, and neither pull nor push worked any more."""
    lab = begun
    lab.usr("push", X, "lab", "-y").ok()
    for _ in range(3):
        lab.usr("snapshot", X).ok()
    garden(lab).ok()
    lab.usr("push", X, "lab", "-y").ok()
    assert "up-to-date" in lab.usr("diff", X, "lab").ok().out
    there = ["--root", lab.there]
    lab.usr(*there, "snapshot", X).ok()
    lab.usr("pull", X, "lab", "-y").ok()
    assert "up-to-date" in lab.usr("diff", X, "lab").ok().out
    lab.usr(*there, "maintenance", "event-log-garden", X, "--retain-last", "1", "--write",
            "--acknowledge-notify-cursor-reset").ok()  # fmt: skip
    lab.usr("pull", X, "lab", "-y").ok()
    assert "up-to-date" in lab.usr("diff", X, "lab").ok().out


def test_w15_a_gardened_log_continues_what_it_was_even_without_a_common_base(begun):
    lab = begun
    for _ in range(3):
        lab.usr("snapshot", X).ok()
    shutil.copytree(folder(lab), lab.there / X)
    shutil.copy(lab.root / "registry.yaml", lab.there)
    garden(lab).ok()
    lab.usr("push", X, "lab", "-y").ok()
    assert "up-to-date" in lab.usr("diff", X, "lab").ok().out


def test_rows_that_repeat_others_are_dropped(begun):
    load(begun, "sequence\nACGT\nGGGG\nacgt\nTTTT\n").ok()
    words = ["maintenance", "dedupe", X]
    assert "0 rows of 4 would go" in begun.usr(*words, "--dry-run").ok().out  # W29: without --key
    found = begun.usr(*words, "--key", "sequence_ci", "--dry-run", "--json").ok().data
    assert (found["dropped"], found["snapshot"]) == (1, None)
    assert found["examples"] == [schema.record_id("dna", "acgt")]
    begun.usr(*words, "--key", "sequence_ci", "--keep", "keep-last").ok()
    rows = pq.read_table(folder(begun) / "records.parquet").column("sequence").to_pylist()
    assert rows == ["GGGG", "acgt", "TTTT"]
    assert events(begun)[-1]["metrics"] == {"rows_before": 4, "rows_dropped": 1}
    begun.usr(*words, "--key", "sequence_ci", "--batch-size", "1").ok()
    assert events(begun)[-1]["metrics"] == {"rows_before": 4, "rows_dropped": 1}, "nothing to do"


def test_one_dataset_is_merged_into_another(begun):
    lab = begun
    lab.usr("init", "y").ok()
    load(lab, "sequence\nACGT\nGGGG\n").ok()
    other = csv(lab, "sequence,source\nacgt,theirs\nTTTT,theirs\n", "other.csv")
    lab.usr("import", "y", "--from", "csv", "--path", other).ok()
    words = ["maintenance", "merge", "--dest", X, "--src", "y", "--require-same-columns"]
    before = files(lab)
    assert "row 1, sequence = 'acgt'" in lab.usr(*words).failed("bad-rows", 3).err
    found = lab.usr(*words, "--if-duplicate", "skip", "--dry-run", "--json").ok().data
    assert (found["added"], found["skipped"], found["rows"]) == (1, 1, 3)
    assert files(lab) == before
    lab.usr(*words[:-1]).failed("usage", 2)
    lab.usr(*words, "--if-duplicate", "prefer-src").ok()
    rows = pq.read_table(folder(lab) / "records.parquet").to_pylist()
    assert [(row["sequence"], row["source"]) for row in rows] == [
        ("acgt", "theirs"), ("GGGG", "rows.csv"), ("TTTT", "theirs"),
    ]  # fmt: skip
    made = events(lab)[-1]
    assert made["action"] == "merge"
    assert made["metrics"] == {
        "rows_read": 2, "rows_written": 1, "rows_replaced": 1, "rows_skipped": 0,
    }  # fmt: skip
    lab.usr(*words, "--if-duplicate", "skip", "--no-avoid-casefold-dups").ok()


def test_columns_that_one_side_has_are_refused_or_united(begun):
    lab = begun
    lab.usr("init", "y").ok()
    load(lab, "sequence\nACGT\n").ok()
    base = lab.root / "y" / "records.parquet"
    table = pq.read_table(base).append_column("infer__n", pa.array([], pa.int8()))
    pq.write_table(table, base)
    other = csv(lab, "sequence,infer__n\nTTTT,7\n", "other.csv")
    lab.usr("import", "y", "--from", "csv", "--path", other).ok()
    words = ["maintenance", "merge", "--dest", X, "--src", "y"]
    said = lab.usr(*words, "--require-same-columns").failed("invalid-input", 3)
    assert "infer__n: only the source has it" in said.err
    lab.usr(*words, "--union-columns").ok()
    rows = pq.read_table(folder(lab) / "records.parquet").to_pylist()
    assert [(row["sequence"], row["infer__n"]) for row in rows] == [("ACGT", None), ("TTTT", 7)]


def test_overlay_parts_come_along_when_that_is_said(begun):
    lab = begun
    lab.usr("init", "y").ok()
    other = csv(lab, "sequence\nTTTT\n", "other.csv")
    lab.usr("import", "y", "--from", "csv", "--path", other).ok()
    words = ["maintenance", "merge", "--dest", X, "--src", "y", "--union-columns"]
    lab.usr(*words, "--carry-namespace", "infer").failed("invalid-input", 3)
    part = lab.root / "y/_derived/infer/part-20260101T000000000000Z-0.parquet"
    part.parent.mkdir(parents=True)
    table = pa.table({"id": [schema.record_id("dna", "TTTT")], "infer__n": [1]})
    pq.write_table(table.replace_schema_metadata({"usr:overlay_key": "id"}), part)
    found = lab.usr(*words, "--carry-namespace", "infer", "--json").ok().data
    assert found["carried"] == 1
    assert files(lab)[f"_derived/infer/{part.name}"] == part.read_bytes()
    lab.usr("maintenance", "merge", "--dest", X, "--src", X, "--union-columns").failed(
        "invalid-input", 3
    )


def test_w16_a_registry_travels_with_what_was_made_under_it(begun):
    """W16: after a pull into a fresh root nothing could be read: the registry stayed behind."""
    lab = begun
    lab.usr("namespace", "register", "infer", "--columns", "a:int8").ok()
    load(lab).ok()
    assert not (lab.there / "registry.yaml").exists()
    lab.usr("push", X, "lab", "-y").ok()
    shown = lab.usr("--root", lab.there, "namespace", "show", "infer", "--json").ok().data
    assert shown["columns"] == [{"name": "infer__a", "type": "int8"}]
    lab.usr("--root", lab.there, "snapshot", X).ok()


def test_w28_everything_that_is_made_has_the_modes_that_the_umask_leaves(lab):
    """W28: the event log was 0600, and nobody else of the lab could read it."""
    before = os.umask(0o002)
    try:
        lab.usr("init", X).ok()
        load(lab).ok()
    finally:
        os.umask(before)
    for at, _, names in os.walk(folder(lab)):
        for name in names:
            assert os.stat(os.path.join(at, name)).st_mode & 0o777 == 0o664, name
