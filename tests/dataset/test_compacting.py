"""A compact file says what its parts said, each key once; parts that do not overlap stay whole."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import overlays
from support.overlays import Layer, part
from usrstore.dataset import compacting, overlay, rowgroups

TYPES = {"infer__a": pa.int64(), "infer__v": pa.list_(pa.float32()), "infer__t": pa.string()}
VALUES = {
    "infer__a": st.none() | st.integers(-9, 9),
    "infer__v": st.none() | st.lists(st.none() | st.integers(-9, 9).map(float), max_size=3),
    "infer__t": st.none() | st.text("ab é", max_size=3),
}


@st.composite
def layers(draw):
    """Up to five parts that overlap, with columns, keys with white space, and ties in time."""
    found = []
    for number in range(draw(st.integers(1, 5))):
        names = draw(st.lists(st.sampled_from(sorted(TYPES)), unique=True))
        ids = draw(st.lists(st.sampled_from("uvwxyz"), unique=True, max_size=6))
        rows = [
            {
                "id": draw(st.sampled_from([key, f" {key}", f"{key}\n"])),
                **{name: draw(VALUES[name]) for name in names},
            }
            for key in ids
        ]
        if draw(st.integers(0, 5)) == 0:
            rows.append({"id": None})
        created_us = overlays.NOON_US + draw(st.integers(0, 2))
        made = part("infer", number, rows, {n: TYPES[n] for n in names}, created_us=created_us)
        made.name = overlay.part_name(created_us, f"{number:032x}")
        found.append(made)
    return found


def tables(folder, scratch, *, order=None):
    found = overlay.load(str(folder))["infer"]
    plan = compacting.plan(str(folder), found, order)
    return plan, list(plan.tables(str(scratch)))


def rows_by_key(plan, made):
    table = pa.concat_tables(made) if made else plan.schema.empty_table()
    rows = {}
    for row in table.to_pylist():
        key = overlays.compared(row.pop("id"), "id")
        assert key not in rows, "each key once"
        rows[key] = row
    return rows


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(layers(), st.integers(1, 4), st.sampled_from([1, 1 << 20]), st.integers(1, 4))
def test_a_compact_file_says_what_its_parts_said(memory_home, parts, batch, hold, group):
    folder = overlays_folder(memory_home)
    for layer in parts:
        layer.write(folder, row_group_size=group)
    before = rowgroups.BATCH_ROWS, compacting._HOLD_BYTES
    rowgroups.BATCH_ROWS, compacting._HOLD_BYTES = batch, hold
    try:
        plan, made = tables(folder, folder / "scratch")
    finally:
        rowgroups.BATCH_ROWS, compacting._HOLD_BYTES = before
    assert rows_by_key(plan, made) == overlays.compacted(parts)
    assert plan.rows == sum(map(len, made))


def overlays_folder(home):
    import shutil

    folder = home / "compacting"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def test_parts_that_do_not_overlap_are_the_row_groups(home):
    for number, ids in enumerate(("ab", "cde", "f")):
        rows = [{"id": key, "infer__a": number} for key in ids]
        part("infer", number, rows, {"infer__a": pa.int64()}).write(home)
    plan, made = tables(home, home / "scratch")
    assert plan.groups == ((0, 2), (2, 5), (5, 6))
    assert [table.column("id").to_pylist() for table in made] == [
        ["a", "b"],
        ["c", "d", "e"],
        ["f"],
    ]
    assert not (home / "scratch").exists(), "nothing has to be sorted"


def test_a_key_of_several_parts_stays_with_the_newest(home):
    types = {"infer__a": pa.int64(), "infer__t": pa.string()}
    part("infer", 1, [{"id": "a", "infer__t": "old"}, {"id": "b"}], types).write(home)
    part("infer", 2, [{"id": "c"}, {"id": "a", "infer__a": 2}], types).write(home)
    _, made = tables(home, home / "scratch", order=["infer__t", "infer__a"])
    assert [table.to_pylist() for table in made] == [
        [{"id": "b", "infer__t": None, "infer__a": None}],
        [
            {"id": "c", "infer__t": None, "infer__a": None},
            {"id": "a", "infer__t": "old", "infer__a": 2},
        ],
    ]


def test_large_row_groups_are_cut_and_small_ones_kept(home, monkeypatch):
    monkeypatch.setattr(rowgroups, "BATCH_ROWS", 3)
    rows = [{"id": f"{n}"} for n in range(8)]
    part("infer", 1, rows, {}).write(home, row_group_size=5)
    plan, made = tables(home, home / "scratch")
    assert [len(table) for table in made] == [3, 2, 3]
    assert plan.rows == 8


def test_types_widen_and_keys_of_other_names_are_found(home):
    part("infer", 1, [{"id": "a", "infer__a": 1}], {"infer__a": pa.int32()}).write(home)
    part("infer", 2, [{"id": "b", "infer__a": 2}], {"infer__a": pa.int64()}).write(home)
    plan, made = tables(home, home / "scratch")
    assert plan.schema.field("infer__a").type == pa.int64()
    assert rows_by_key(plan, made) == {"a": {"infer__a": 1}, "b": {"infer__a": 2}}


@pytest.mark.parametrize("key", ["sequence", "sequence_ci"])
def test_keys_are_one_if_they_are_compared_alike(home, key):
    for number, value in enumerate(("acgt", "ACGT ")):
        rows = [{key: value, "infer__a": number}]
        part("infer", number, rows, {"infer__a": pa.int64()}, key=key).write(home)
    plan, _ = tables(home, home / "scratch")
    assert plan.rows == (1 if key == "sequence_ci" else 2)


def test_an_overlay_without_rows_compacts_to_one(home):
    Layer("infer", 1, "part-1.parquet", [], TYPES).write(home)
    plan, made = tables(home, home / "scratch")
    assert (plan.rows, made, plan.groups) == (0, [], ())
    assert plan.schema.names == ["id", *TYPES]
