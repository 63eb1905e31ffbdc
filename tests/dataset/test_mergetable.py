"""Tables merge as a naive merge of dictionaries would, in any file layout."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore.dataset import mergetable, parquetfile, tablediff, uniquekeys
from usrstore.errors import IntegrityError

COLUMNS = {"id": pa.string(), "n": pa.int64(), "x": pa.float64(), "v": pa.list_(pa.float32())}
KEYS = [f"k{number:02}" for number in range(14)]

values = st.fixed_dictionaries(
    {
        "n": st.none() | st.integers(0, 3),
        "x": st.none() | st.sampled_from([0.0, 1.5, math.nan]),
        "v": st.none() | st.lists(st.sampled_from([0.0, 2.0, math.nan]), max_size=2),
    }
)
tables = st.dictionaries(st.sampled_from(KEYS), values, max_size=10)


@st.composite
def edited(draw, base):
    """A later version: rows gone, rows changed, rows added; in the order of the base."""
    rows = {}
    for key, row in base.items():
        match draw(st.sampled_from(["keep", "keep", "keep", "change", "remove"])):
            case "keep":
                rows[key] = row
            case "change":
                name = draw(st.sampled_from(["n", "x", "v"]))
                rows[key] = {**row, name: draw(values)[name]}
    new = draw(
        st.lists(st.sampled_from([k for k in KEYS if k not in base]), max_size=3, unique=True)
    )
    for key in new:
        rows[key] = draw(values)
    return rows


@st.composite
def histories(draw):
    base = draw(tables)
    return base, draw(edited(base)), draw(edited(base)), draw(st.sampled_from([1, 2, 100]))


def write(path, rows, group):
    columns = {name: [] for name in COLUMNS}
    for key, row in rows.items():
        columns["id"].append(key)
        for name in ("n", "x", "v"):
            columns[name].append(row[name])
    table = pa.table({n: pa.array(c, COLUMNS[n]) for n, c in columns.items()})
    pq.write_table(table, path, row_group_size=group)
    return str(path)


def read(path):
    return {row.pop("id"): row for row in pq.read_table(path).to_pylist()}


def same(a, b):
    """Equal, where NaN is NaN and the order of a row's columns does not matter."""
    return shown(a) == shown(b)


def shown(value):
    if isinstance(value, dict) and value.keys() == {"n", "x", "v"}:
        return repr(sorted(value.items()))
    if isinstance(value, dict):
        return [(key, shown(row)) for key, row in value.items()]
    return repr(value)


def naive(base, ours, theirs):
    """The merge of two dictionaries of rows, and the keys that conflict."""
    merged, conflicts = {}, set()
    order = [*theirs, *(key for key in ours if key not in theirs)]
    for key in dict.fromkeys([*order, *(base or {})]):
        a, b = ours.get(key), theirs.get(key)
        if base is None:
            o = None
        else:
            o = base.get(key)
        if a is None and b is None:
            continue
        if o is None:
            if a is not None and b is not None and not same(a, b):
                conflicts.add(key)
            merged[key] = b if b is not None else a
        elif a is None or b is None:
            kept = b if a is None else a
            if not same(kept, o):
                conflicts.add(key)
        else:
            row = {}
            for name in o:
                x, y, z = a[name], b[name], o[name]
                if not same(x, z) and not same(y, z) and not same(x, y):
                    conflicts.add(key)
                row[name] = y if same(x, z) else x
            merged[key] = row
    return merged, conflicts


def run(folder, base, ours, theirs, group, **options):
    folder = Path(folder)
    paths = {
        name: write(folder / name, rows, group)
        for name, rows in (("base", base), ("ours", ours), ("theirs", theirs))
        if rows is not None
    }
    out = folder / "out"
    out.unlink(missing_ok=True)
    done = mergetable.merge(
        paths.get("base"), paths["ours"], paths["theirs"], str(out),
        key="id", scratch=str(folder / "scratch"), **options,
    )  # fmt: skip
    return done, out


@settings(max_examples=150, deadline=None)
@given(histories(), st.booleans())
def test_a_merge_is_what_a_naive_merge_gives(history, known):
    base, ours, theirs, group = history
    base = base if known else None
    expected, conflicts = naive(base, ours, theirs)
    with tempfile.TemporaryDirectory() as folder:
        done, out = run(folder, base, ours, theirs, group)
        if conflicts:
            assert {c.key for c in done.conflicts} == conflicts
            assert not out.exists()
        else:
            assert done.total == 0
            assert same(read(out), expected)
            assert list(read(out)) == list(expected)
            assert done.rows == len(expected)


@settings(max_examples=60, deadline=None)
@given(histories(), st.sampled_from(["ours", "theirs"]))
def test_whoever_is_preferred_wins_what_both_changed_and_nothing_else(history, prefer):
    base, ours, theirs, group = history
    expected, conflicts = naive(base, ours, theirs)
    with tempfile.TemporaryDirectory() as folder:
        _, out = run(folder, base, ours, theirs, group, prefer=prefer)
        found = read(out)
        side = ours if prefer == "ours" else theirs
        for key, row in expected.items():
            if key not in conflicts:
                assert same(found.get(key), row), key
        for key in conflicts:
            if key not in side:
                assert key not in found
            elif key not in base:
                assert same(found[key], side[key])
            else:
                for name in ("n", "x", "v"):
                    if not same(side[key][name], base[key][name]):
                        assert same(found[key][name], side[key][name]), (key, name)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_merge_laws(history):
    """Equal sides: nothing happens. One side unchanged: the other. No row of one side is lost."""
    base, ours, theirs, group = history
    with tempfile.TemporaryDirectory() as folder:
        _, out = run(folder, base, ours, ours, group)
        assert same(read(out), ours)
        _, out = run(folder, base, base, theirs, group)
        assert same(read(out), theirs)
        _, out = run(folder, base, ours, base, group)
        assert same(dict(sorted(read(out).items())), dict(sorted(ours.items())))
        done, out = run(folder, base, ours, theirs, group)
        if not done.total:
            new = {*ours, *theirs} - {*base}
            assert new <= {*read(out)}


@settings(max_examples=60, deadline=None)
@given(histories())
def test_order_of_merging_does_not_change_the_table(history):
    base, ours, theirs, group = history
    with tempfile.TemporaryDirectory() as folder:
        one, out = run(folder, base, ours, theirs, group)
        first = None if one.total else dict(sorted(read(out).items()))
        two, out = run(folder, base, theirs, ours, group)
        second = None if two.total else dict(sorted(read(out).items()))
        assert same(first, second)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_what_changed_can_be_spilled(history):
    """Rows that are sorted into parts on the disk give the same difference."""
    base, ours, _, group = history
    with tempfile.TemporaryDirectory() as folder:
        a, b = write(Path(folder) / "a", base, group), write(Path(folder) / "b", ours, group)
        whole = tablediff.collect(tablediff.deltas(a, b, "id", scratch=f"{folder}/s"))
        parts = tablediff.collect(
            tablediff.deltas(a, b, "id", scratch=f"{folder}/t", hold_bytes=64)
        )
        if whole is None or parts is None:
            assert whole is None or whole.empty
            assert parts is None or parts.empty
            return
        assert same(whole.added.to_pylist(), parts.added.to_pylist())
        assert same(whole.removed.to_pylist(), parts.removed.to_pylist())
        for name in {*whole.cells, *parts.cells}:
            pair = [
                sorted(
                    zip(
                        d.cells[name].keys.to_pylist(),
                        map(repr, d.cells[name].new.to_pylist()),
                        strict=True,
                    )
                )
                for d in (whole, parts)
            ]
            assert pair[0] == pair[1]


# ── columns ─────────────────────────────────────────────────────────────────────────────
def put(path, **columns):
    parquetfile.write(str(path), pa.table(columns), {"usr:schema_version": "1"})
    return str(path)


def merged(tmp_path, base, ours, theirs, **options):
    out = tmp_path / "out"
    out.unlink(missing_ok=True)
    done = mergetable.merge(
        base, ours, theirs, str(out), key="id", scratch=str(tmp_path / "s"), **options
    )
    return done, (pq.read_table(out).to_pydict() if out.exists() else None)


def test_columns_that_each_side_added_are_all_there(tmp_path):
    base = put(tmp_path / "b", id=["a", "b"], n=[1, 2])
    ours = put(tmp_path / "o", id=["a", "b", "c"], n=[1, 2, 3], mine=["x", "y", "z"])
    theirs = put(tmp_path / "t", id=["a", "b", "d"], n=[1, 2, 4], yours=[0.5, 0.6, 0.7])
    done, table = merged(tmp_path, base, ours, theirs)
    assert table == {
        "id": ["a", "b", "d", "c"],
        "n": [1, 2, 4, 3],
        "yours": [0.5, 0.6, 0.7, None],
        "mine": ["x", "y", None, "z"],
    }
    assert done.columns == ("mine",)
    assert (done.ours_added, done.theirs_added) == (1, 1)


def test_a_column_that_one_side_took_away_stays_away_unless_the_other_changed_it(tmp_path):
    base = put(tmp_path / "b", id=["a"], n=[1], old=[7])
    ours = put(tmp_path / "o", id=["a"], n=[1])
    theirs = put(tmp_path / "t", id=["a", "b"], n=[1, 2], old=[7, 7])
    _, table = merged(tmp_path, base, ours, theirs)
    assert table == {"id": ["a", "b"], "n": [1, 2]}
    changed = put(tmp_path / "u", id=["a"], n=[1], old=[8])
    done, table = merged(tmp_path, base, ours, changed)
    assert table is None
    assert done.conflicts[0].column == "old"


def test_a_column_with_two_types_is_a_conflict(tmp_path):
    base = put(tmp_path / "b", id=["a"])
    ours = put(tmp_path / "o", id=["a"], n=[1])
    theirs = put(tmp_path / "t", id=["a"], n=["one"])
    done, table = merged(tmp_path, base, ours, theirs)
    assert table is None
    assert done.conflicts == (mergetable.CellConflict("", "n", None, "int64", "string"),)


def test_rows_that_only_follow_leave_the_bytes_of_theirs(tmp_path):
    rows = [f"k{n:06}" for n in range(20_000)]
    base = put(tmp_path / "b", id=rows)
    ours = put(tmp_path / "o", id=[*rows, "mine"])
    theirs = str(tmp_path / "t")
    with parquetfile.appending(base, theirs) as writer:
        writer.write(pa.table({"id": ["yours"]}))
    done, table = merged(tmp_path, base, ours, theirs)
    assert table["id"] == [*rows, "yours", "mine"]
    data, before = (tmp_path / "out").read_bytes(), Path(theirs).read_bytes()
    size = int.from_bytes(before[-8:-4], "little") + 8
    assert data.startswith(before[:-size])
    assert parquetfile.facts(str(tmp_path / "out")).metadata == {"usr:schema_version": "1"}
    assert done.rows == 20_002


def test_a_key_that_comes_twice_is_an_error_that_says_what_to_do(tmp_path):
    base = put(tmp_path / "b", id=["a"])
    ours = put(tmp_path / "o", id=["a", "b", "b"])
    try:
        merged(tmp_path, base, ours, base)
    except IntegrityError as exc:
        assert exc.code == "duplicate-keys"
        assert "dedupe" in exc.hint
    else:
        raise AssertionError("merged")


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_a_key_that_comes_twice_anywhere_in_any_version_is_refused_by_name(data):
    """In groups that nobody changed, far apart, in the base alone: where no join would meet it."""
    rows = [f"k{number:03}" for number in range(data.draw(st.integers(2, 40)))]
    group = data.draw(st.sampled_from([1, 3, 50]))
    versions = {"b": list(rows), "o": [*rows, "mine"], "t": [*rows, "yours"]}
    spoiled = data.draw(st.sets(st.sampled_from("bot"), min_size=1))
    twice = data.draw(st.sampled_from(rows))
    place = data.draw(st.integers(0, len(rows)))
    for name in spoiled:
        versions[name].insert(place, twice)
    with tempfile.TemporaryDirectory() as home:
        paths = {}
        for name, ids in versions.items():
            paths[name] = str(Path(home) / name)
            table = pa.table({"id": ids, "n": list(range(len(ids)))})
            pq.write_table(table, paths[name], row_group_size=group)
        names = {"o": "our version", "t": "their version", "b": "what both began with"}
        with pytest.raises(IntegrityError) as caught:
            merged(Path(home), paths["b"], paths["o"], paths["t"])
        assert caught.value.code == "duplicate-keys"
        assert repr(twice) in caught.value.message
        for name, text in names.items():
            assert (text in caught.value.message) == (name in spoiled)
        assert not (Path(home) / "out").exists()
        with pytest.raises(IntegrityError) as again:
            uniquekeys.check(
                {names[name]: paths[name] for name in "otb"}, "id", scratch=home, hold_rows=0
            )
        assert again.value.message == caught.value.message


def test_many_keys_that_tell_rows_apart_pass_out_of_core(tmp_path):
    base, ours = ([f"{n:07}" for n in range(count)] for count in (50_000, 60_000))
    for name, ids in (("b", base), ("o", ours), ("t", ours[::-1])):
        pq.write_table(pa.table({"id": ids}), tmp_path / name, row_group_size=7000)
    versions = {name: str(tmp_path / name) for name in "bot"}
    uniquekeys.check(versions, "id", scratch=str(tmp_path / "s"), hold_rows=0)
    uniquekeys.check(versions, "id", scratch=str(tmp_path / "s"))


def test_a_missing_key_in_rows_that_nobody_changed_is_refused(tmp_path):
    paths = [str(tmp_path / name) for name in "bot"]
    for number, path in enumerate(paths):
        ids = ["a", None, "b", *([f"new {number}"] if number else [])]
        pq.write_table(pa.table({"id": ids}), path, row_group_size=3)
    with pytest.raises(IntegrityError, match="missing in our version and their version and what"):
        merged(tmp_path, *paths)


def test_row_groups_that_are_the_same_in_one_table_are_rows_twice(tmp_path):
    base = str(tmp_path / "b")
    pq.write_table(pa.table({"id": ["a", "b", "a", "b"]}), base, row_group_size=2)
    with pytest.raises(IntegrityError, match="'a' in our version"):
        merged(tmp_path, base, base, base)
