"""Two tables are compared as a naive comparison of dictionaries would, in any file layout."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import rowtables
from support.datasets import noise
from usrstore.dataset import changes, parquetfile, rowhashes, rowsummary, tablediff, tablejoin
from usrstore.dataset.tablefile import TableFile
from usrstore.dataset.tablejoin import Rule
from usrstore.errors import IntegrityError, InvalidInputError

ROW = {"n": 1, "x": 1.0, "s": "a", "v": [1.0], "p": None}


@settings(max_examples=60, deadline=None)
@given(rowtables.pairs(), st.sampled_from([1, 3, 100]), st.sampled_from([2, 3, 100]), st.booleans())
def test_a_diff_is_that_of_dictionaries(pair, group, other, chunked):
    one, two = pair
    with tempfile.TemporaryDirectory() as folder:
        a = rowtables.write(Path(folder, "a"), one, group=group)
        b = rowtables.write(Path(folder, "b"), two, group=other, compression="zstd")
        files = [rowtables.with_chunks(path) for path in (a, b)] if chunked else [a, b]
        for hold in (tablejoin.HOLD_BYTES, 0):  # in memory, and by way of the disk
            parts = tablediff.deltas(*files, "id", scratch=f"{folder}/s", hold_bytes=hold)
            assert rowtables.found(parts) == rowtables.expected(one, two)
        assert not list(Path(folder).glob("s/**/*.arrows")), "nothing stays behind"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_rows_with_one_key_are_partners_as_they_come(one, two):
    with tempfile.TemporaryDirectory() as folder:
        a = rowtables.write(Path(folder, "a"), [(key, ROW) for key in one], group=2)
        b = rowtables.write(Path(folder, "b"), [(key, ROW) for key in two], group=3)
        for hold in (tablejoin.HOLD_BYTES, 0):
            added, removed = Counter(), Counter()
            parts = tablediff.deltas(
                a, b, "id", scratch=f"{folder}/s", unique=False, hold_bytes=hold
            )
            for delta in parts:
                added.update(delta.added.column("id").to_pylist())
                removed.update(delta.removed.column("id").to_pylist())
                assert not delta.cells
            assert added == Counter(two) - Counter(one)
            assert removed == Counter(one) - Counter(two)


def test_a_key_that_comes_twice_is_an_error_where_it_must_not(tmp_path):
    a = rowtables.write(tmp_path / "a", [("k", ROW), ("k", ROW)])
    b = rowtables.write(tmp_path / "b", [("k", ROW)])
    with pytest.raises(IntegrityError) as caught:
        list(tablediff.deltas(a, b, "id", scratch=str(tmp_path / "s")))
    assert caught.value.code == "duplicate-keys"


def test_keys_may_be_null_numbers_and_nothing(tmp_path):
    for values, kind in (([1, 2, None], pa.int64()), ([1.0, float("nan"), None], pa.float64())):
        a = pa.table({"k": pa.array(values, kind), "v": ["a", "b", "c"]})
        b = pa.table({"k": pa.array(values[::-1], kind), "v": ["c", "b!", "a"]})
        pq.write_table(a, tmp_path / "a")
        pq.write_table(b, tmp_path / "b")
        parts = list(
            tablediff.deltas(
                str(tmp_path / "a"), str(tmp_path / "b"), "k", scratch="", unique=False
            )
        )
        summary = rowsummary.summarize(parts, None)
        assert (summary.added, summary.removed, summary.changed) == (0, 0, 1)
        (change,) = summary.changed_rows
        assert change.cells == {"v": ("b", "b!")}


def test_keys_of_two_types_are_no_comparison(tmp_path):
    pq.write_table(pa.table({"k": [1, 2]}), tmp_path / "a")
    pq.write_table(pa.table({"k": ["1", "2"]}), tmp_path / "b")
    with pytest.raises(IntegrityError) as caught:
        list(tablediff.deltas(str(tmp_path / "a"), str(tmp_path / "b"), "k", scratch=""))
    assert caught.value.code == "key-types"


def test_a_key_that_is_no_column_is_named_with_those_there_are(tmp_path):
    a = rowtables.write(tmp_path / "a", [("k", ROW)])
    with pytest.raises(InvalidInputError) as caught:
        list(tablediff.deltas(a, a, "nope", scratch=""))
    assert "nope" in caught.value.message
    assert "id, n, x" in caught.value.hint


def test_columns_that_came_went_or_changed_type_are_told_and_not_compared(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "old": [1], "both": [1], "kind": [1]}), tmp_path / "a")
    pq.write_table(pa.table({"id": ["a"], "both": [2], "kind": ["1"], "new": [1]}), tmp_path / "b")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    schemas = tablediff.schemas(a, b, "id")
    assert [f.name for f in schemas.added] == ["new"]
    assert [f.name for f in schemas.removed] == ["old"]
    assert schemas.retyped == {"kind": (pa.int64(), pa.string())}
    assert schemas.common == ("id", "both")
    (delta,) = tablediff.deltas(a, b, "id", scratch="")
    assert list(delta.cells) == ["both"]
    assert tablediff.schemas(a, b, "id", ["both"]).changed is False


def big(start, end, **edits):
    """Rows of which a file of this size is not all footer."""
    return [
        (f"k{n:06}", {**ROW, "n": n, "s": noise(n, 40).hex(), **edits.get(f"k{n}", {})})
        for n in range(start, end)
    ]


class Watched:
    """A file that counts the bytes that are read of it."""

    def __init__(self, path):
        self.known = rowtables.with_chunks(path)
        self.path, self.bytes = path, 0

    def file(self):
        return TableFile(self.path, self._open, self.known.chunks)

    def _open(self):
        outer = self

        class Counting(io.BytesIO):
            def read(self, size=-1):
                data = super().read(size)
                outer.bytes += len(data)
                return data

        return Counting(Path(self.path).read_bytes())


def write_ours(path, pairs, group=5000):
    """A file as our own writer lays it out."""
    with parquetfile.writing(str(path), rowtables.table(pairs[:1]).schema) as writer:
        for start in range(0, len(pairs), group):
            writer.write(rowtables.table(pairs[start : start + group]))
            writer.end_group()
    return str(path)


def test_of_equal_files_only_the_footers_are_read(tmp_path):
    a = Watched(write_ours(tmp_path / "a", big(0, 20_000)))
    b = Watched(write_ours(tmp_path / "b", big(0, 20_000)))
    assert list(tablediff.deltas(a.file(), b.file(), "id", scratch="")) == []
    footer = 64 << 10  # what a reader takes of a file's end at once
    size = Path(a.path).stat().st_size
    assert size > 2 * footer
    assert max(a.bytes, b.bytes) <= 2 * footer


def test_one_changed_value_costs_its_column_of_its_row_group(tmp_path):
    a = Watched(write_ours(tmp_path / "a", big(0, 20_000)))
    b = Watched(write_ours(tmp_path / "b", big(0, 20_000, k7000={"n": -1})))
    assert rowtables.found(tablediff.deltas(a.file(), b.file(), "id", scratch="")) == (
        set(),
        set(),
        {("k007000", "n"): ("7000", "-1")},
    )
    groups = rowhashes.groups(a.known, pq.read_metadata(a.path), by_cut=True)
    column = sum(length for name in ("n", "id") for _, length in groups[1].ranges[name])
    assert max(a.bytes, b.bytes) <= 2 * (64 << 10) + 2 * column


def test_rows_that_were_appended_cost_themselves(tmp_path):
    a = write_ours(tmp_path / "a", big(0, 20_000))
    with parquetfile.appending(a, str(tmp_path / "b")) as writer:
        writer.write(rowtables.table(big(20_000, 20_100)))
    one, two = Watched(a), Watched(str(tmp_path / "b"))
    (delta,) = tablediff.deltas(one.file(), two.file(), "id", scratch="")
    assert (len(delta.added), len(delta.removed), delta.cells) == (100, 0, {})
    assert delta.added.column(changes.ROW).to_pylist() == list(range(20_000, 20_100))
    assert one.bytes <= 2 * (64 << 10)


def test_chunks_that_are_cut_otherwise_are_never_taken_for_equal(tmp_path):
    a = rowtables.write(tmp_path / "a", big(0, 50))
    b = rowtables.write(tmp_path / "b", big(0, 50, k7={"n": 0}))
    size = Path(b).stat().st_size
    whole = [(b"x" * 32, size)], [(b"y" * 32, size)]  # one chunk each, of other content
    files = [
        TableFile(path, lambda p=path: p, lambda c=chunks: c)
        for path, chunks in zip((a, b), whole, strict=True)
    ]
    assert len(rowtables.found(tablediff.deltas(*files, "id", scratch=""))[2]) == 1


def test_rows_in_another_order_wait_for_their_partners_and_no_longer(tmp_path):
    """Of two files that are one row apart, a few runs of rows are held, not the file."""
    kinds = rowtables.table([]).schema
    schema = changes.nothing(kinds).schema

    def runs(pairs):
        for start in range(0, len(pairs), 100):
            yield changes.numbered(rowtables.table(pairs[start : start + 100]), start)

    one, two = big(0, 5000), [*big(9000, 9001), *big(0, 5000)]
    parts = list(
        tablejoin.join(
            runs(one),
            runs(two),
            Rule("id", rowtables.NAMES),
            scratch=str(tmp_path / "never"),
            schemas=(schema, schema),
            hold_bytes=100_000,
        )
    )
    assert rowtables.found(parts) == ({"k009000"}, set(), {})
    assert not (tmp_path / "never").exists()


def test_a_summary_counts_all_and_holds_the_first(tmp_path):
    a = rowtables.write(tmp_path / "a", big(0, 50))
    b = rowtables.write(tmp_path / "b", big(10, 70, **{f"k{n}": {"n": -n} for n in range(20, 40)}))
    summary = rowsummary.summarize(
        tablediff.deltas(a, b, "id", scratch=str(tmp_path / "s")), limit=3
    )
    assert (summary.added, summary.removed, summary.changed) == (20, 10, 20)
    assert summary.cells == {"n": 20}
    assert [row["id"] for row in summary.added_rows] == ["k000050", "k000051", "k000052"]
    assert len(summary.removed_rows) == len(summary.changed_rows) == 3
    assert summary.changed_rows[0] == ("k000020", {"n": (20, -20)})
