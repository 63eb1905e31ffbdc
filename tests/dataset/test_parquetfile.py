"""Parquet as we write it: equal rows are equal bytes, and an append keeps what was there."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import datasets
from usrstore.dataset import parquetfile, schema
from usrstore.errors import IntegrityError
from usrstore.worktree import parquet as footers

META = schema.base_metadata(created_at="2026-11-24", registry_hash="0" * 64)


def table(count, seed=1):
    rng = random.Random(seed)
    sequences = ["".join(rng.choices("ACGT", k=60)) for _ in range(count)]
    return pa.table(
        {
            "id": [schema.record_id("dna", sequence) for sequence in sequences],
            "bio_type": ["dna"] * count,
            "sequence": sequences,
            "alphabet": ["dna_4"] * count,
            "length": pa.array([60] * count, pa.int32()),
            "source": ["test"] * count,
            "created_at": pa.array(range(count), pa.timestamp("us", tz="UTC")),
        },
        schema=schema.base_schema(),
    )


def write(path, made, metadata=META):
    path.unlink(missing_ok=True)
    parquetfile.write(str(path), made, metadata)
    return path.read_bytes()


def data_of(raw):
    """The bytes before the footer."""
    return raw[: len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")]


def read(path):
    return pq.read_table(path).replace_schema_metadata(None)


def test_the_same_rows_are_the_same_bytes(home):
    assert write(home / "a", table(5000)) == write(home / "b", table(5000))


def test_what_is_written_is_what_the_format_asks_for(home):
    write(home / "a", table(3000))
    facts = parquetfile.facts(str(home / "a"))
    assert (facts.rows, facts.columns, facts.groups) == (3000, 7, (3000,))
    assert facts.metadata == META
    footer = pq.read_metadata(home / "a")
    assert footer.format_version == "2.6"
    group = footer.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(7)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert all(column.statistics.has_min_max for column in columns.values())
    with_dictionary = {name for name, c in columns.items() if c.has_dictionary_page}
    assert with_dictionary == {"bio_type", "alphabet", "source"}, "only where values repeat"


def test_full_row_groups_of_65536_and_the_rest(home):
    with parquetfile.writing(str(home / "a"), schema.base_schema(), META) as writer:
        for seed in range(3):
            writer.write(table(30_000, seed))
    assert parquetfile.facts(str(home / "a")).groups == (65_536, 24_464)
    whole = pa.concat_tables([table(30_000, seed) for seed in range(3)])
    assert read(home / "a").equals(whole)


def test_a_part_is_a_row_group_where_that_is_wished(home):
    with parquetfile.writing(str(home / "a"), schema.base_schema(), META) as writer:
        for seed in range(3):
            writer.write(table(100 + seed, seed))
            writer.end_group()
    assert parquetfile.facts(str(home / "a")).groups == (100, 101, 102)


def test_pages_are_cut_by_content(home):
    """Rows taken out in the middle leave the pages behind them as they were."""
    whole = table(40_000)
    raw = write(home / "a", whole)
    footer = footers.read_footer(lambda at, n: raw[at : at + n], len(raw))
    first = set()
    for chunk in footer.column_chunks:
        first |= {raw[a:b] for a, b in footers.pages(lambda at, n: raw[at : at + n], chunk)}
    assert max(map(len, first)) < 300_000
    fewer = pa.concat_tables([whole.slice(0, 15_000), whole.slice(15_100)])
    raw = write(home / "b", fewer)
    footer = footers.read_footer(lambda at, n: raw[at : at + n], len(raw))
    new = 0
    for chunk in footer.column_chunks:
        for start, end in footers.pages(lambda at, n: raw[at : at + n], chunk):
            new += (end - start) * (raw[start:end] not in first)
    assert new < len(raw) / 3


@pytest.mark.parametrize("old", [0, 10, 70_000])
def test_an_append_keeps_the_old_row_groups_byte_by_byte(home, old):
    before, more = table(old), table(500, 2)
    raw = write(home / "a", before)
    stamped = {**META, schema.META_REGISTRY_HASH: "1" * 64}
    with parquetfile.appending(str(home / "a"), str(home / "b"), stamped) as writer:
        writer.write(more)
    longer = (home / "b").read_bytes()
    assert (home / "a").read_bytes() == raw
    assert longer.startswith(data_of(raw))
    assert read(home / "b").equals(pa.concat_tables([before, more]))
    facts = parquetfile.facts(str(home / "b"))
    assert facts.metadata == stamped
    assert facts.groups[-1] == 500
    footer = footers.read_footer(lambda at, n: longer[at : at + n], len(longer))
    assert footer.rows == old + 500


def test_an_append_without_new_metadata_keeps_the_old(home):
    write(home / "a", table(5))
    with parquetfile.appending(str(home / "a"), str(home / "b")) as writer:
        writer.write(table(5, 2))
    assert parquetfile.facts(str(home / "b")).metadata == META


def test_row_groups_can_be_found_by_their_statistics_after_appends(home):
    write(home / "0", table(50))
    for number in range(4):
        with parquetfile.appending(str(home / f"{number}"), str(home / f"{number + 1}")) as writer:
            writer.write(table(50, number + 2))
    wanted = table(50, 4).column("id")[7].as_py()
    assert pq.read_table(home / "4", filters=[("id", "=", wanted)]).num_rows == 1


def test_many_small_appends_are_tidied_up_now_and_then(home):
    write(home / "0", table(1))
    for number in range(70):
        with parquetfile.appending(str(home / f"{number}"), str(home / f"{number + 1}")) as writer:
            writer.write(table(1, number + 2))
    facts = parquetfile.facts(str(home / "70"))
    assert facts.rows == 71
    assert len(facts.groups) < 10
    whole = pa.concat_tables([table(1), *(table(1, n + 2) for n in range(70))])
    assert read(home / "70").equals(whole)


def test_an_append_to_what_other_writers_left(home):
    """Page indexes, other codecs and settings of theirs stay what they are."""
    made = table(1000)
    pq.write_table(
        made.replace_schema_metadata(META), home / "a", compression="snappy", write_page_index=True,
        row_group_size=300, data_page_version="2.0",
    )  # fmt: skip
    with parquetfile.appending(str(home / "a"), str(home / "b")) as writer:
        writer.write(table(10, 2))
    assert read(home / "b").equals(pa.concat_tables([made, table(10, 2)]))
    assert pq.read_metadata(home / "b").row_group(0).column(0).compression == "SNAPPY"


def test_what_another_writer_laid_out_differently_is_written_anew(home):
    made = pa.table({"id": ["a", "b"], "infer__v": pa.array([[1.0], None], pa.list_(pa.float32()))})
    pq.write_table(made, home / "a", use_compliant_nested_type=False)
    with parquetfile.appending(str(home / "a"), str(home / "b"), META) as writer:
        writer.write(made)
    assert read(home / "b").equals(pa.concat_tables([made, made]))
    assert parquetfile.facts(str(home / "b")).metadata == META
    stamped = pa.table({"at": pa.array([1, 2], pa.timestamp("us"))})
    pq.write_table(stamped, home / "c", use_deprecated_int96_timestamps=True)
    with parquetfile.appending(str(home / "c"), str(home / "d")) as writer:
        writer.write(stamped)
    assert read(home / "d").column("at").to_pylist() == stamped.column("at").to_pylist() * 2


def test_rows_come_back_in_order_and_in_bounded_batches(home):
    write(home / "a", table(1000))
    batches = list(parquetfile.batches(str(home / "a"), ["id"], rows=300))
    assert [batch.num_rows for batch in batches] == [300, 300, 300, 100]
    assert (
        pa.concat_tables(batches).column("id").to_pylist() == table(1000).column("id").to_pylist()
    )


def test_what_is_no_parquet_file_is_named(home):
    (home / "a").write_bytes(b"nothing of the kind")
    with pytest.raises(IntegrityError) as caught:
        parquetfile.facts(str(home / "a"))
    assert caught.value.code == "not-parquet"
    assert str(home / "a") in caught.value.message


def column_bytes(path):
    """The bytes of each column chunk, in order."""
    data, footer = path.read_bytes(), pq.read_metadata(path)
    found = []
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            column = footer.row_group(group).column(index)
            start = column.dictionary_page_offset or column.data_page_offset
            found.append(data[start : start + column.total_compressed_size])
    return found


@pytest.mark.parametrize("limit", [1 << 30, 0])
def test_parts_of_one_file_have_the_bytes_of_files_of_their_own(home, monkeypatch, limit):
    monkeypatch.setattr(parquetfile, "_MAX_PASSED_BYTES", limit)
    noise = [datasets.noise(number, 300_000) for number in range(3)]
    parts = [
        pa.table(
            {"a": [data[n : n + 20].hex() for n in range(0, len(data), 20)], "b": [1] * 15_000}
        )
        for data in noise
    ]
    with parquetfile.writing(str(home / "all"), parts[0].schema, {"k": "v"}) as writer:
        for part in parts:
            writer.write(part)
            writer.end_part()
    assert pq.read_table(home / "all").equals(pa.concat_tables(parts))
    facts = parquetfile.facts(str(home / "all"))
    assert (facts.groups, facts.metadata) == ((15_000,) * 3, {"k": "v"})
    alone = []
    for number, part in enumerate(parts):
        parquetfile.write(str(home / f"{number}"), part, {"k": "v"})
        alone += column_bytes(home / f"{number}")
    assert (column_bytes(home / "all") == alone) is (limit > 0)
    assert column_bytes(home / "all")[:2] == alone[:2]


def test_a_file_of_no_parts_has_a_schema(home):
    schema = pa.schema([("a", pa.string())])
    with parquetfile.writing(str(home / "none"), schema) as writer:
        writer.end_part()
    assert pq.read_schema(home / "none").names == ["a"]
