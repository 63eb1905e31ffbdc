"""What changed for a reader is what a naive comparison of two joined views says."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import overlays, rowtables
from support.overlays import part, row, row_id, seen
from usrstore.dataset import resolved
from usrstore.errors import InvalidInputError

SEQUENCES = ["ACGT", "TTGA", "GGCC", "CATG", "AAAA"]
TYPES = {"infer__score": pa.float64(), "infer__n": pa.int32()}
MARKS = {"usr__deleted": pa.bool_()}
NAMES = [*overlays.BASE.names, *TYPES]


@st.composite
def states(draw):
    """Base rows, and layers that each name a few of them (or rows that are not there)."""
    chosen = draw(st.lists(st.sampled_from(SEQUENCES), unique=True, min_size=1))
    base = [row(s, source=draw(st.sampled_from(["x", "y"]))) for s in chosen]
    layers = []
    for number in range(draw(st.integers(0, 3))):
        key = "id"
        named = draw(st.lists(st.sampled_from(SEQUENCES), unique=True, min_size=1, max_size=3))
        rows = [
            {
                key: row_id(s),
                "infer__score": draw(st.none() | st.sampled_from([0.5, float("nan")])),
                "infer__n": draw(st.none() | st.integers(0, 2)),
            }
            for s in named
        ]
        layers.append(part("infer", number, rows, TYPES))
    if draw(st.booleans()):
        named = draw(st.lists(st.sampled_from(SEQUENCES), unique=True, min_size=1, max_size=2))
        rows = [{"id": row_id(s), "usr__deleted": draw(st.booleans())} for s in named]
        layers.append(overlays.Layer("usr", 1, None, rows, MARKS))
    return base, layers


def write(folder, state):
    base, layers = state
    overlays.write_base(folder, base, row_group_size=2)
    for layer in layers:
        layer.write(folder)
    return str(folder)


def views(before, after):
    """The oracle: each side's rows as {id: row}, with every column that both sides have."""
    shown = []
    for base, layers in (before, after):
        rows = [r for r in seen(base, layers) if not r.get("usr__deleted")]
        shown.append({r["id"]: r for r in rows})
    names = set.intersection(
        *(
            {*overlays.BASE.names, *(n for la in layers for n in la.types)}
            for _, layers in (before, after)
        )
    )
    return *shown, names - {"id", "usr__deleted"}


def same_bytes(one, two):
    def same(path, other):
        a, b = Path(one, path), Path(two, other)
        return a.exists() and b.exists() and a.read_bytes() == b.read_bytes()

    return same


@pytest.mark.parametrize("looked_up", [True, False])
@settings(max_examples=40, deadline=None)
@given(before=states(), after=states(), keep=st.booleans())
def test_a_resolved_diff_is_that_of_the_joined_views(looked_up, before, after, keep):
    if keep:  # the base as it was: only overlays differ
        after = (before[0], after[1])
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        if not looked_up:
            patch.setattr(resolved, "_LOOK_UP_ROWS", -1)
        one, two = write(f"{home}/one", before), write(f"{home}/two", after)
        found = resolved.compare(one, two, same_bytes(one, two))
        added, removed, cells = rowtables.found(found.deltas(f"{home}/scratch"))
        old, new, names = views(before, after)
        assert added == new.keys() - old.keys()
        assert removed == old.keys() - new.keys()
        assert cells == {
            (key, name): (repr(old[key][name]), repr(new[key][name]))
            for key in old.keys() & new.keys()
            for name in names
            if repr(old[key][name]) != repr(new[key][name])
        }


def test_parts_that_became_one_file_change_nothing_for_a_reader(tmp_path):
    base = [row(s) for s in SEQUENCES]
    layers = [
        part("infer", n, [{"id": row_id(s), "infer__n": n}], TYPES)
        for n, s in enumerate(SEQUENCES[:3])
    ]
    whole = [
        {"id": row_id(s), "infer__n": n, "infer__score": None} for n, s in enumerate(SEQUENCES[:3])
    ]
    one = write(tmp_path / "one", (base, layers))
    two = write(tmp_path / "two", (base, [overlays.Layer("infer", 9, None, whole, TYPES)]))
    found = resolved.compare(one, two, same_bytes(one, two))
    assert list(found.deltas(str(tmp_path / "s"))) == []
    assert not found.schemas.changed


def test_a_new_namespace_is_columns_and_reads_no_row(tmp_path, monkeypatch):
    base = [row(s) for s in SEQUENCES]
    one = write(tmp_path / "one", (base, []))
    fresh = part("infer", 1, [{"id": row_id(SEQUENCES[0]), "infer__n": 5}], TYPES)
    two = write(tmp_path / "two", (base, [fresh]))
    found = resolved.compare(one, two, same_bytes(one, two))
    monkeypatch.setattr(resolved.rowgroups, "batches", None)  # whoever reads rows fails
    assert list(found.deltas(str(tmp_path / "s"))) == []
    assert [f.name for f in found.schemas.added] == list(TYPES)
    assert found.values() == {"infer__score": 0, "infer__n": 1}
    assert found.sources()["infer__n"] == "infer"


def test_overlays_by_sequence_are_found_by_sequence(tmp_path):
    base = [row(s) for s in SEQUENCES]
    rows = [{"sequence": " ACGT ", "infer__n": 1}]
    layers = [part("infer", 1, rows, {"infer__n": pa.int32()}, key="sequence")]
    again = [{"sequence": "ACGT", "infer__n": 2}, {"sequence": "nowhere", "infer__n": 3}]
    newer = part("infer", 2, again, {"infer__n": pa.int32()}, key="sequence")
    one = write(tmp_path / "one", (base, layers))
    two = write(tmp_path / "two", (base, [*layers, newer]))
    found = resolved.compare(one, two, same_bytes(one, two))
    assert rowtables.found(found.deltas(str(tmp_path / "s"))) == (
        set(),
        set(),
        {(row_id("ACGT"), "infer__n"): ("1", "2")},
    )


def test_a_column_that_nobody_has_is_an_error_that_lists_those_there_are(tmp_path):
    one = write(tmp_path / "one", ([row("ACGT")], []))
    with pytest.raises(InvalidInputError) as caught:
        resolved.compare(one, one, same_bytes(one, one), columns=["nope"])
    assert caught.value.code == "column-unknown"
    assert "sequence" in caught.value.hint
