"""The joined view is what the oracle says, in whatever way it is read."""

from __future__ import annotations

import math
import os
import tempfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import overlays
from support.overlays import Layer, part, row, write_base
from usrstore.dataset import query
from usrstore.errors import ChangedWhileReadError, IntegrityError, InvalidInputError

TYPES = {
    "a__number": pa.int32(),
    "a__text": pa.string(),
    "b__list": pa.list_(pa.float32()),
    "b__flag": pa.bool_(),
}
VALUES = {
    "a__number": st.integers(-5, 5),
    "a__text": st.sampled_from(["", "x", "y", "ü"]),
    "b__list": st.lists(st.sampled_from([0.0, 0.5, -1.0]), max_size=2),
    "b__flag": st.booleans(),
}
SEQUENCES = ["ACGT", "AAAA", "CCCC", "GGGG", "TTTT", "ACAC", "GTGT", "AC", "GT"]
TOMBSTONES = {"usr__deleted": pa.bool_(), "usr__deleted_reason": pa.string()}


@st.composite
def datasets(draw):
    """Base rows, which columns of them are materialized, and layers of overlays."""
    sequences = draw(st.lists(st.sampled_from(SEQUENCES), min_size=1, max_size=8, unique=True))
    grown = draw(st.sets(st.sampled_from(sorted(TYPES))))
    base = [
        row(text, **{name: draw(st.none() | VALUES[name]) for name in sorted(grown)})
        for text in sequences
    ]
    layers = []
    for namespace in draw(st.sets(st.sampled_from(["a", "b"]))):
        key = draw(st.sampled_from(["id", "sequence", "sequence_norm", "sequence_ci"]))
        names = [name for name in TYPES if name.startswith(namespace)]
        count = draw(st.integers(0, 4))  # none: one compact file
        for number in range(max(1, count)):
            types = {n: TYPES[n] for n in names if draw(st.booleans())} or {
                names[0]: TYPES[names[0]]
            }
            rows = []
            for text in draw(st.lists(st.sampled_from(SEQUENCES), max_size=6, unique=True)):
                spelled = overlays.row_id(text) if key == "id" else text
                if key == "sequence_ci" and draw(st.booleans()):
                    spelled = spelled.lower()
                spelled = draw(st.sampled_from(["", " ", "\t"])) + spelled
                values = {n: draw(st.none() | VALUES[n]) for n in types}
                rows.append({key: spelled, **values})
            made = part(namespace, draw(st.integers(0, 3)) * 10 + number, rows, types, key=key)
            layers.append(
                made if count else Layer(namespace, made.created_us, None, rows, types, key)
            )
    if draw(st.booleans()):
        rows = [
            {
                "id": overlays.row_id(text),
                "usr__deleted": draw(st.sampled_from([True, False, None])),
            }
            for text in draw(st.lists(st.sampled_from(SEQUENCES), unique=True))
        ]
        layers.append(Layer("usr", overlays.NOON_US, None, rows, TOMBSTONES))
    return base, {name: TYPES[name] for name in sorted(grown)}, layers


def write(folder, base, types, layers):
    write_base(folder, base, types, row_group_size=3)
    for layer in layers:
        layer.write(folder, row_group_size=2)


def rows_of(batches):
    return [row for batch in batches for row in batch.to_pylist()]


@settings(deadline=None, max_examples=40)
@given(datasets(), st.integers(1, 9), st.booleans())
def test_every_way_of_reading_shows_what_the_oracle_sees(given_, run, deleted):
    base, types, layers = given_
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as scratch:
        write(folder, base, types, layers)
        view = query.open_view(folder)
        told = overlays.seen(base, layers)
        shown = [r for r in told if deleted or not r.get("usr__deleted")]
        names = view.choose((), deleted=deleted)
        assert set(names) >= {n for r in told for n in r if not n.startswith("usr__")}
        expected = [{name: r.get(name) for name in names} for r in shown]

        def read(**how):
            with tempfile.TemporaryDirectory(dir=scratch) as place:
                return rows_of(view.batches(scratch=place, deleted=deleted, **how))

        assert read() == expected
        assert read(run_rows=run) == expected  # joined on the disk
        assert rows_of(view.head(run, deleted=deleted)) == expected[:run]
        some = list(range(0, len(base), 2))
        chosen = [{name: told[i].get(name) for name in names} for i in some]
        assert rows_of(view.take(some, names)) == chosen
        for name in names:  # a projection shows the same values
            assert [
                r[name] for r in rows_of(view.batches([name], scratch=scratch, deleted=deleted))
            ] == [r[name] for r in expected]
        view.check()


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "x"
    write_base(folder, [row(text) for text in SEQUENCES])
    return folder


def test_two_base_rows_with_one_id_both_get_the_value(dataset, tmp_path):
    twice = [row("ACGT"), row("AAAA"), row("ACGT")]
    write_base(dataset, twice)
    part("a", 1, [{"id": overlays.row_id("ACGT"), "a__n": 1}], {"a__n": pa.int32()}).write(dataset)
    view = query.open_view(dataset)
    for how in ({}, {"run_rows": 2}):
        found = rows_of(view.batches(["a__n"], scratch=str(tmp_path / str(len(how))), **how))
        assert found == [{"a__n": 1}, {"a__n": None}, {"a__n": 1}]


def test_what_no_join_may_convert_comes_back_as_it_is(dataset, tmp_path):
    """Half floats, nanoseconds with a zone, fixed-size lists, structs: exact in every way."""
    types = {
        "a__half": pa.float16(),
        "a__at": pa.timestamp("ns", tz="UTC"),
        "a__pair": pa.list_(pa.float64(), 2),
        "a__struct": pa.struct([("x", pa.uint64()), ("y", pa.string())]),
        "a__nan": pa.float64(),
    }
    rows = [
        {
            "id": overlays.row_id(text),
            "a__half": 0.5,
            "a__at": 1_700_000_000_123_456_789 + number,
            "a__pair": [1.0, None],
            "a__struct": {"x": 2**64 - 1, "y": None},
            "a__nan": math.nan,
        }
        for number, text in enumerate(SEQUENCES)
    ]
    part("a", 1, rows, types).write(dataset)
    view = query.open_view(dataset)
    for how in ({}, {"run_rows": 2}):
        scratch = tmp_path / str(len(how))
        table = pa.Table.from_batches(view.batches(list(types), scratch=str(scratch), **how))
        assert {name: table.schema.field(name).type for name in types} == types
        assert table.column("a__at").cast(pa.int64()).to_pylist() == [r["a__at"] for r in rows]
        assert table.column("a__half").cast(pa.float32()).to_pylist() == [0.5] * len(rows)
        assert table.column("a__pair").to_pylist() == [[1.0, None]] * len(rows)
        assert table.column("a__struct").to_pylist() == [r["a__struct"] for r in rows]
        assert all(math.isnan(value) for value in table.column("a__nan").to_pylist())


def test_a_view_of_files_that_changed_says_so(dataset):
    view = query.open_view(dataset)
    view.check()
    layer = part("a", 1, [{"id": overlays.row_id("AC"), "a__n": 1}], {"a__n": pa.int32()})
    path = layer.write(dataset)
    with pytest.raises(ChangedWhileReadError):
        view.check()
    again = query.open_view(dataset)
    os.utime(path, ns=(0, 0))
    with pytest.raises(ChangedWhileReadError):
        again.check()


def test_unknown_columns_are_all_named(dataset):
    with pytest.raises(InvalidInputError, match="no such column: nope, nor this"):
        query.open_view(dataset).choose(["id", "nope", "nor this"])


def test_damaged_pages_are_named_and_not_a_traceback(dataset, tmp_path):
    path = dataset / "records.parquet"
    data = bytearray(path.read_bytes())
    data[10:200] = b"\xff" * 190
    path.write_bytes(data)
    view = query.open_view(dataset)
    with pytest.raises(IntegrityError, match=r"records\.parquet cannot be read as Parquet"):
        rows_of(view.batches(scratch=str(tmp_path / "s")))


def test_reading_a_base_that_is_no_parquet_is_refused(dataset):
    (dataset / "records.parquet").write_bytes(b"not a table")
    with pytest.raises(IntegrityError, match="cannot be read as Parquet"):
        query.open_view(dataset)
