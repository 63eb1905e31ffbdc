"""validate: finds what the incumbent finds, and what it misses (W12); changes nothing."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.overlays import NOON_US, Layer, part, row, row_id, write_base
from usrstore.dataset import namespaces, registry

NAME = "ns/x"
SEQUENCES = ["ACGT", "AAAA", "CCCC", "acgt"]
DOC = Path(__file__).parents[2] / "docs" / "cli.md"
SRC = Path(__file__).parents[2] / "src" / "usrstore"
INFER = {
    "columns": [{"name": "infer__a", "type": "float32"}, {"name": "infer__n", "type": "int64"}]
}
EVENT = {"action": "init", "timestamp_utc": "2026-01-01T00:00:00.000001+00:00"}


def known(**more):
    return registry.text({**registry.EMPTY["namespaces"], "infer": INFER, **more})


def overlay(number, keys, types=None, *, key="id", **values):
    types = types or {"infer__a": pa.float32()}
    rows = [{key: name, **dict.fromkeys(types, None), **values} for name in keys]
    return part("infer", number, rows, types, key=key)


@pytest.fixture
def table(lab):
    """A dataset in which everything is in order."""
    shutil.rmtree(lab.folder)
    write_base(lab.folder, [row(text) for text in SEQUENCES])
    overlay(1, [row_id("ACGT"), row_id("AAAA")], infer__a=0.5).write(lab.folder)
    (lab.folder / ".events.log").write_text(json.dumps(EVENT) + "\n")
    (lab.folder / "meta.md").write_text(f"name: {NAME}\nnotes:\n")
    (lab.folder / "_snapshots").mkdir()
    shutil.copy(
        lab.folder / "records.parquet",
        lab.folder / "_snapshots" / "records-20260101T000000000000.parquet",
    )
    frozen = registry.initial()
    (lab.folder / "_registry").mkdir()
    name = f"registry.{hashlib.sha256(frozen).hexdigest()}.yaml"
    (lab.folder / "_registry" / name).write_bytes(frozen)
    (lab.root / "registry.yaml").write_bytes(known())
    return lab


def change_base(lab, act):
    path = lab.folder / "records.parquet"
    pq.write_table(act(pq.read_table(path)), path)


def put(name, values, kind=None):
    """Replace or add a column of the base."""

    def act(table):
        column = pa.array(values, kind)
        if name in table.column_names:
            return table.set_column(table.column_names.index(name), name, column)
        return table.append_column(name, column)

    return lambda lab: change_base(lab, act)


def rows(*changed):
    return lambda lab: write_base(lab.folder, [row(text) for text in SEQUENCES] + list(changed))


def text(path, data):
    def act(lab):
        target = lab.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)

    return act


def flip(path):
    """One byte inside the pages of a Parquet file."""

    def act(lab):
        (target,) = lab.folder.glob(path)
        data = bytearray(target.read_bytes())
        for at in range(8, 60):
            data[at] ^= 0x5A
        target.write_bytes(data)

    return act


def layer(made):
    return lambda lab: made.write(lab.folder)


LINE = json.dumps(EVENT) + "\n"
EARLIER = json.dumps({**EVENT, "timestamp_utc": "2025-01-01T00:00:00+00:00"}) + "\n"
PART = "_derived/infer/part-*.parquet"
FAULTS = {
    # what the incumbent finds
    "a column is missing": (
        "base-columns",
        lambda lab: change_base(lab, lambda t: t.drop(["source"])),
    ),
    "a column of another type": ("base-columns", put("length", [4, 4, 4, 4], pa.int64())),
    "an id that is none": ("base-id", rows({**row("GGGG"), "id": "0" * 40})),
    "an id of another kind": ("base-id", rows({**row("GGGG"), "id": row_id("GGGG", "rna")})),
    "a letter": ("base-letters", rows(row("GGNG"))),
    "an alphabet": ("base-letters", rows({**row("GGGG"), "alphabet": "dna_9"})),
    "an alphabet of another kind": ("base-letters", rows({**row("GGGG"), "alphabet": "rna_4"})),
    "an empty sequence": ("base-letters", rows(row(""))),
    "a length": ("base-length", rows({**row("GGGG"), "length": 5})),
    "a null": ("base-null", rows({**row("GGGG"), "alphabet": None})),
    "a row twice": ("base-duplicate", rows(row("ACGT"))),
    "a key twice": ("overlay-duplicate", layer(overlay(2, [row_id("ACGT")] * 2))),
    "another type": (
        "overlay-type",
        layer(overlay(2, [row_id("ACGT")], {"infer__a": pa.float64()})),
    ),
    "an unknown column": (
        "overlay-column",
        layer(overlay(2, [row_id("ACGT")], {"infer__b": pa.float32()})),
    ),
    "an unknown namespace": (
        "overlay-unregistered",
        layer(part("other", 1, [{"id": row_id("ACGT"), "other__a": 1}], {"other__a": pa.int8()})),
    ),
    # what it misses
    "white space": ("base-untrimmed", rows({**row(" GGGG"), "length": 4})),
    "a damaged page of the base": ("parquet-unreadable", flip("records.parquet")),
    "a base that is no Parquet": ("parquet-unreadable", text("records.parquet", "no")),
    "a damaged page of an overlay": ("parquet-unreadable", flip(PART)),
    "an overlay that is no Parquet": (
        "overlay-unreadable",
        text("_derived/infer/part-x.parquet", "no"),
    ),
    "an overlay without metadata": (
        "overlay-metadata",
        lambda lab: pq.write_table(
            pa.table({"id": ["x"]}), lab.folder / "_derived/infer/part-x.parquet"
        ),
    ),
    "a row of no base row": ("overlay-orphans", layer(overlay(2, ["f" * 40]))),
    "a key that is null": ("overlay-key-null", layer(overlay(2, [None]))),
    "parts by different keys": ("overlay-keys", layer(overlay(2, ["ACGT"], key="sequence"))),
    "both forms": (
        "overlay-both-forms",
        layer(Layer("infer", NOON_US, None, [{"id": "x"}], {"infer__a": pa.float32()})),
    ),
    "a tombstone of another type": (
        "overlay-type",
        layer(Layer("usr", NOON_US, None, [{"id": row_id("ACGT")}], {"usr__deleted": pa.string()})),
    ),
    "a word of the state": (
        "state-word",
        layer(
            Layer(
                "usr_state",
                NOON_US,
                None,
                [{"id": row_id("ACGT"), "usr_state__split": "maybe"}],
                {"usr_state__split": pa.string()},
            )
        ),
    ),
    "a materialized column of another type": (
        "base-type",
        put("infer__a", [1, 1, 1, 1], pa.int64()),
    ),
    "a materialized column of nobody": ("base-unregistered", put("other__a", [1, 1, 1, 1])),
    "a snapshot that is no Parquet": (
        "parquet-unreadable",
        text("_snapshots/records-20260102T000000000000.parquet", "no"),
    ),
    "a snapshot of something else": (
        "snapshot-columns",
        lambda lab: pq.write_table(
            pa.table({"x": [1]}), lab.folder / "_snapshots/records-20260102T000000000000.parquet"
        ),
    ),
    "a snapshot's name": (
        "snapshot-name",
        lambda lab: shutil.copy(
            lab.folder / "records.parquet", lab.folder / "_snapshots" / "yesterday.parquet"
        ),
    ),
    "an event that is no JSON": ("events-line", text(".events.log", LINE + "{\n")),
    "an event that is none": ("events-line", text(".events.log", LINE + "[]\n")),
    "a torn line": ("events-torn", text(".events.log", LINE + '{"action"')),
    "events out of order": ("events-order", text(".events.log", LINE + EARLIER)),
    "another dataset's notes": ("meta-header", text("meta.md", "name: other\n")),
    "no notes": ("meta-missing", lambda lab: (lab.folder / "meta.md").unlink()),
    "a frozen registry under another name": (
        "frozen-registry",
        text(f"_registry/registry.{'0' * 64}.yaml", registry.initial()),
    ),
    "a left-over": ("left-over", text("records.tmp.parquet", "half")),
    "no registry": ("registry-missing", lambda lab: (lab.root / "registry.yaml").unlink()),
    "a bad registry": (
        "registry-bad",
        lambda lab: (lab.root / "registry.yaml").write_text("namespaces: {}\n"),
    ),
}
MILD = {
    "overlay-orphans",
    "snapshot-name",
    "events-order",
    "meta-header",
    "meta-missing",
    "left-over",
}


def test_a_dataset_in_order_is_ok_however_strict(table):
    said = table.usr("validate", NAME, "--strict").ok()
    assert said.out == f"{NAME}: OK\n"
    data = table.usr("validate", NAME, "--strict", "--json").ok().data
    assert (data["valid"], data["counts"], data["findings"]) == (True, {}, [])


@pytest.mark.parametrize("case", FAULTS)
def test_w12_every_fault_is_found_by_its_code(table, case):
    """W12: overlays were not held against the base, nor were snapshots or events looked at."""
    code, break_it = FAULTS[case]
    break_it(table)
    before = {path: path.read_bytes() for path in table.root.rglob("*") if path.is_file()}
    said = table.usr("validate", NAME, "--json")
    assert said.data["counts"].get(code) == 1, said.data
    if code not in ("parquet-unreadable", "registry-missing", "registry-bad"):
        assert set(said.data["counts"]) <= {code, "base-letters", "base-null"}, said.data
    assert said.status == (0 if code in MILD else 1)
    assert said.err == ""
    (found,) = [f for f in said.data["findings"] if f["code"] == code]
    assert found["mild"] == (code in MILD)
    strict = table.usr("validate", NAME, "--strict")
    assert strict.status == 1
    assert found["path"] in strict.out
    after = {path: path.read_bytes() for path in table.root.rglob("*") if path.is_file()}
    assert after == before


def test_a_finding_names_row_column_and_value(table):
    rows({**row("GGGG"), "length": 77})(table)
    (found,) = table.usr("validate", NAME, "--json").data["findings"]
    assert (found["path"], found["row"], found["column"], found["value"]) == (
        "records.parquet", 4, "length", "77",
    )  # fmt: skip
    said = table.usr("validate", NAME)
    assert said.lines[0] == ("error: records.parquet row 4, length = 77: not the sequence's length")
    layer(overlay(2, [row_id("CCCC"), "nobody's"]))(table)
    found = table.usr("validate", NAME, "--json").data["findings"]
    (orphan,) = [f for f in found if f["code"] == "overlay-orphans"]
    assert (orphan["row"], orphan["value"]) == (1, '"nobody\'s"')


def test_all_are_counted_and_the_first_are_named(table):
    many = [{**row("ACGT" * 2 + "A" * n), "length": 1} for n in range(50)]
    write_base(table.folder, many)
    data = table.usr("validate", NAME, "--json").data
    assert data["counts"]["base-length"] == 50
    assert len([f for f in data["findings"] if f["code"] == "base-length"]) == 20
    said = table.usr("validate", NAME)
    assert "… and 30 more like these" in said.lines


def test_w12_a_new_namespace_makes_no_old_dataset_invalid(table):
    """W12: validate failed by default after any namespace was registered."""
    old = registry.initial()
    digest = namespaces.registry_hash(old)
    change_base(table, lambda t: t.replace_schema_metadata({"usr:registry_hash": digest}))
    more = known(other={"columns": [{"name": "other__a", "type": "int8"}]})
    (table.root / "registry.yaml").write_bytes(more)
    table.usr("validate", NAME, "--strict").ok()
    modes = {"current": 1, "frozen": 1, "either": 1}  # the overlay does not say its registry
    modes |= {"namespace-current": 0, "namespace-frozen": 0, "namespace-either": 0}
    for mode, status in modes.items():
        assert table.usr("validate", NAME, "--registry-mode", mode).status == status, mode
    shutil.rmtree(table.folder / "_derived")
    assert table.usr("validate", NAME, "--registry-mode", "current").status == 1
    table.usr("validate", NAME, "--registry-mode", "frozen").ok()
    table.usr("validate", NAME, "--registry-mode", "either").ok()
    shutil.rmtree(table.folder / "_registry")
    said = table.usr("validate", NAME, "--registry-mode", "either", "--json")
    assert said.data["counts"] == {"registry-other": 1}


def test_a_namespace_that_changed_its_meaning_is_found(table):
    was = namespaces.load(known(), "it")["infer"]
    (target,) = (table.folder / "_derived" / "infer").iterdir()
    held = pq.read_table(target)
    meta = {**held.schema.metadata, "usr:namespace_contract_hash": namespaces.contract_hash(was)}
    pq.write_table(held.replace_schema_metadata(meta), target)
    table.usr("validate", NAME, "--strict").ok()
    grown = {"columns": [*INFER["columns"], {"name": "infer__z", "type": "int8"}]}
    (table.root / "registry.yaml").write_bytes(known(infer=grown))
    assert table.usr("validate", NAME, "--json").data["counts"] == {"contract-other": 1}
    data = known()
    name = f"registry.{hashlib.sha256(data).hexdigest()}.yaml"
    (table.folder / "_registry" / name).write_bytes(data)
    table.usr("validate", NAME, "--strict").ok()
    assert table.usr("validate", NAME, "--registry-mode", "namespace-current").status == 1
    table.usr("validate", NAME, "--registry-mode", "namespace-frozen").ok()


def test_what_our_own_commands_write_is_valid(lab):
    """init, import, attach, delete, state, materialize, snapshot: not one note."""
    (lab.root / "registry.yaml").write_bytes(known())
    lab.usr("init", "ns/y").ok()
    file = lab.home / "rows.csv"
    file.write_text("sequence\n" + "\n".join(SEQUENCES) + "\n")
    lab.usr("import", "ns/y", "--from", "csv", "--path", file).ok()
    file.write_text(f"id,infer__a\n{row_id('ACGT')},0.5\n")
    lab.usr("attach", "ns/y", "--path", file, "--namespace", "infer", "--key", "id").ok()
    lab.usr("delete", "ns/y", "--id", row_id("AAAA"), "--reason", "bad").ok()
    lab.usr("state", "set", "ns/y", "--id", row_id("CCCC"), "--split", "train").ok()
    lab.usr("snapshot", "ns/y").ok()
    for mode in ("current", "frozen", "namespace-current", "namespace-frozen"):
        said = lab.usr("validate", "ns/y", "--strict", "--registry-mode", mode)
        assert (said.status, said.out) == (0, "ns/y: OK\n"), mode
    lab.usr("materialize", "ns/y", "-y").ok()
    assert lab.usr("validate", "ns/y", "--strict").ok().out == "ns/y: OK\n"


def test_every_finding_of_validate_is_documented():
    made = set()
    for name in ("basecheck", "overlaycheck", "besides", "flaws"):
        made |= set(re.findall(r'"((?:base|overlay|snapshot|events|meta|frozen|state|left)-[a-z-]+)"',
                               (SRC / "dataset" / f"{name}.py").read_text()))  # fmt: skip
    made |= set(re.findall(r'flaws\.add\(\s*"([a-z-]+)"', (SRC / "verbs/validate.py").read_text()))
    _, _, rest = DOC.read_text().partition("\n## Findings of validate\n")
    stated = set(re.findall(r"^\| `([a-z-]+)` \|", rest.partition("\n## ")[0], re.MULTILINE))
    assert made <= stated
    assert {code for code, _ in FAULTS.values()} <= stated
