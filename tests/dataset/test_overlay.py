"""Which overlays a dataset has, what their footers say, and which of them is newer."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import overlays
from support.overlays import Layer, part
from usrstore.dataset import keys, overlay
from usrstore.errors import OverlayError

SCORE = {"infer__score": pa.float64()}


def scores(*values):
    return [{"id": f"{n}", "infer__score": value} for n, value in enumerate(values)]


@pytest.fixture
def folder(home):
    path = home / "ns" / "x"
    overlays.write_base(path, [overlays.row("ACGT"), overlays.row("TTGA")])
    return path


def raised(code, act, *args):
    with pytest.raises(OverlayError) as caught:
        act(*args)
    assert caught.value.code == code
    return caught.value.message


# ── discovery ───────────────────────────────────────────────────────────────────────────
def test_a_dataset_without_overlays_has_none(folder):
    assert overlay.find(str(folder)) == {}
    assert overlay.load(str(folder)) == {}


def test_compact_files_and_parts_are_found_by_namespace(folder):
    Layer("annot", 1, None, [], {"annot__label": pa.string()}).write(folder)
    for number in (2, 1):
        part("infer", number, scores(1.0), SCORE).write(folder)
    found = overlay.load(str(folder))
    assert list(found) == ["annot", "infer"]
    assert found["annot"].compact
    assert not found["infer"].compact
    assert [file.path for file in found["infer"].files] == list(overlay.find(str(folder))["infer"])
    assert overlay.load(str(folder), ["infer", "nope"]).keys() == {"infer"}


def test_what_is_archived_unfinished_or_no_overlay_is_passed_over(folder):
    derived = folder / "_derived"
    for path in (
        "_archived/infer-20260101T000000/part-1.parquet",
        "_archived/infer-20260101T000000.parquet",
        "infer.tmp.parquet",
        "infer.duckdb.tmp.parquet",
        "infer/part-1.parquet.tmp",
        "infer/digest_ledger.json",
        "infer/.tmp-0123.parquet",
        ".infer.parquet.usr-sync-1a2b",
        "notes.txt",
    ):
        (derived / path).parent.mkdir(parents=True, exist_ok=True)
        (derived / path).write_bytes(b"whatever")
    (derived / "empty").mkdir()
    assert overlay.find(str(folder)) == {}


def test_a_compact_file_and_parts_at_once_are_an_error_that_names_both(folder):
    for namespace in ("infer", "annot"):
        Layer(namespace, 1, None, [], {}).write(folder)
        names = [part(namespace, number, [], {}).write(folder).name for number in (1, 2)]
    message = raised("overlay-both-forms", overlay.find, str(folder))
    assert f"_derived/annot.parquet and _derived/annot/{names[0]} (of 2 parts)" in message
    assert "_derived/infer.parquet and _derived/infer/part-" in message


# ── footers ─────────────────────────────────────────────────────────────────────────────
def test_a_footer_tells_what_an_overlay_is(folder):
    layer = part("infer", 1, scores(1.0, None, 2.0), SCORE)
    path = layer.write(folder)
    found = overlay.inspect(str(folder), layer.path)
    assert (found.namespace, found.key, found.key_column) == ("infer", "id", "id")
    assert found.created_us == layer.created_us
    assert (found.rows, found.size) == (3, path.stat().st_size)
    assert found.columns == ["infer__score"]
    assert found.nulls == {"id": 0, "infer__score": 1}
    assert (found.registry_hash, found.contract_hash) == (None, None)


def test_a_column_that_holds_no_value_is_not_filled(folder):
    types = {**SCORE, "infer__vector": pa.list_(pa.float32()), "infer__empty": pa.string()}
    rows = [{"id": "1", "infer__score": 0.0, "infer__vector": [1.0]}]
    layer = part("infer", 1, rows, types)
    layer.write(folder)
    assert overlay.inspect(str(folder), layer.path).filled == ["infer__score", "infer__vector"]
    part("infer", 2, [], types).write(folder)
    assert overlay.load(str(folder))["infer"].files[1].filled == []


def test_a_footer_without_statistics_counts_as_filled(folder):
    layer = part("infer", 1, scores(None), SCORE)
    layer.write(folder, write_statistics=False)
    assert overlay.inspect(str(folder), layer.path).filled == ["infer__score"]


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"usr:overlay_namespace": "infer"}, "it has no usr:overlay_key"),
        (
            {"usr:overlay_namespace": "infer", "usr:overlay_key": "name"},
            "usr:overlay_key is 'name'",
        ),
        ({"usr:overlay_namespace": "annot", "usr:overlay_key": "id"}, "belongs to 'annot'"),
    ],
)
def test_a_file_that_is_no_overlay_is_named(folder, metadata, says):
    path = folder / "_derived" / "infer" / "part-1.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": ["1"]}).replace_schema_metadata(metadata), path)
    message = raised("overlay-metadata", overlay.load, str(folder))
    assert message.startswith("_derived/infer/part-1.parquet is not an overlay: ")
    assert says in message


def test_a_file_that_is_not_parquet_is_named(folder):
    path = folder / "_derived" / "infer.parquet"
    path.parent.mkdir()
    path.write_bytes(b"PAR1 and nothing else")
    message = raised("overlay-unreadable", overlay.load, str(folder))
    assert message.startswith("_derived/infer.parquet cannot be read as Parquet")


def test_parts_with_different_keys_are_an_error(folder):
    part("infer", 1, scores(1.0), SCORE).write(folder)
    part("infer", 2, [], SCORE, key="sequence").write(folder)
    assert "by sequence" in raised("overlay-keys", overlay.load, str(folder))


def test_schemas_of_parts_unite_and_types_widen(folder):
    part("infer", 1, [], {"infer__a": pa.int32()}).write(folder)
    part("infer", 2, [], {"infer__b": pa.string(), "infer__a": pa.int64()}).write(folder)
    schema = overlay.load(str(folder))["infer"].schema
    assert schema == pa.schema([("infer__a", pa.int64()), ("infer__b", pa.string())])


def test_types_that_nothing_holds_are_an_error(folder):
    part("infer", 1, [], {"infer__a": pa.int32()}).write(folder)
    part("infer", 2, [], {"infer__a": pa.string()}).write(folder)
    found = overlay.load(str(folder))["infer"]
    assert "infer__a" in raised("overlay-types", lambda: found.schema)


# ── order ───────────────────────────────────────────────────────────────────────────────
def test_a_later_created_at_is_newer_whatever_the_name_says(folder):
    late = Layer("infer", 9_000_000, "part-a.parquet", [], SCORE)
    early = Layer("infer", 1_000_000, "part-z.parquet", [], SCORE)
    silent = Layer("infer", None, "part-zz.parquet", [], SCORE)
    for layer in (late, silent, early):
        layer.write(folder)
    files = overlay.load(str(folder))["infer"].files
    assert [file.path for file in files] == [silent.path, early.path, late.path]


def test_at_the_same_moment_the_later_name_is_newer(folder):
    for name in ("part-b.parquet", "part-a.parquet"):
        Layer("infer", 5_000_000, name, [], SCORE).write(folder)
    files = overlay.load(str(folder))["infer"].files
    assert [file.path[-8:] for file in files] == ["-a.parquet"[-8:], "-b.parquet"[-8:]]


@settings(deadline=None)
@given(st.integers(0, 4_000_000_000_000_000))
def test_moments_come_back(time_us):
    assert overlay.parse_moment(overlay.format_moment(time_us)) == time_us


def test_moments_that_other_tools_write():
    noon = overlays.NOON_US
    assert overlay.parse_moment("2026-01-31T12:00:00.000000Z") == noon
    assert overlay.parse_moment("2026-01-31T13:00:00+01:00") == noon
    assert overlay.parse_moment("2026-01-31T12:00:00") == noon
    assert overlay.parse_moment("yesterday") == overlay.parse_moment("") == 0


def test_the_name_of_a_part_is_the_moment_and_a_token():
    name = overlay.part_name(overlays.NOON_US + 7, "ab" * 16)
    assert name == f"part-20260131T120000000007Z-{'ab' * 16}.parquet"
    assert overlay.part_path("infer", overlays.NOON_US + 7, "ab" * 16) == f"_derived/infer/{name}"
    assert overlay.compact_path("infer") == "_derived/infer.parquet"


def test_a_new_part_is_newer_than_those_that_are_there_whatever_their_clocks():
    noon = overlays.NOON_US
    paths = [overlay.part_path("infer", noon + n, f"{n:032x}") for n in (5, 9, 7)]
    paths.append("_derived/infer/part-by-hand.parquet")
    assert overlay.next_moment(paths, noon) == noon + 10
    assert overlay.next_moment(paths, noon + 50) == noon + 50
    assert overlay.next_moment([], noon) == noon


def test_metadata_leaves_out_what_is_not_known():
    made = overlay.metadata("usr", "id", 0, registry_hash="r", contract_hash=None)
    assert made == {
        "usr:overlay_namespace": "usr",
        "usr:overlay_key": "id",
        "usr:overlay_created_at": "1970-01-01T00:00:00.000000Z",
        "usr:registry_hash": "r",
    }


# ── keys ────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("id", ["acGT", "x", None]),
        ("sequence", ["acGT", "x", None]),
        ("sequence_norm", ["acGT", "x", None]),
        ("sequence_ci", ["ACGT", "X", None]),
    ],
)
def test_keys_are_compared_without_white_space(key, found):
    assert keys.normalize(pa.array([" acGT\n", "\tx", None]), key).to_pylist() == found


def test_the_keys_of_the_base_are_in_the_order_of_its_rows(folder):
    assert keys.of_base(str(folder), "sequence_ci").to_pylist() == ["ACGT", "TTGA"]
    ids = [overlays.row_id("ACGT"), overlays.row_id("TTGA")]
    assert keys.of_base(str(folder), "id").to_pylist() == ids


@pytest.mark.parametrize(
    ("rows", "key", "says"),
    [
        ([overlays.row("ACGT"), overlays.row("AC", bio_type="rna")], "sequence", "(dna, rna)"),
        ([overlays.row("ACGT"), overlays.row("ACGT")], "sequence", "share a key (ACGT)"),
        ([overlays.row("ACGT"), overlays.row("acgt")], "sequence_ci", "share a key (ACGT)"),
        ([overlays.row("ACGN", alphabet="dna_5")], "sequence_ci", "not dna_5"),
    ],
)
def test_a_base_that_a_key_does_not_fit(home, rows, key, says):
    overlays.write_base(home / "x", rows)
    message = raised("overlay-key-unfit", keys.of_base, str(home / "x"), key)
    assert says in message
    assert "nothing was changed" in message


def test_the_same_rows_fit_the_keys_that_tell_them_apart(home):
    overlays.write_base(home / "x", [overlays.row("ACGT"), overlays.row("acgt")])
    assert keys.of_base(str(home / "x"), "sequence").to_pylist() == ["ACGT", "acgt"]


def test_repeated_keys_are_found_in_order_and_nulls_do_not_count():
    assert keys.repeated(pa.array(["b", "a", "b", None, None, "a", "c"])) == ["b", "a"]
    assert keys.repeated(pa.array(["b", None, None])) == []
    assert keys.repeated(pa.array(["x"] * 9 + ["y"] * 2), limit=1) == ["x"]
