"""Parquet facts and layout: what pyarrow says, without pyarrow, and never an exception."""

from __future__ import annotations

import datetime as dt
import decimal
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore.worktree.parquet import ColumnChunk, pages, read_footer
from usrstore.worktree.thrift import read_struct

ROWS = 3000
TYPES = {
    "null": (pa.null(), None),
    "bool": (pa.bool_(), True),
    "int8": (pa.int8(), 3),
    "uint64": (pa.uint64(), 3),
    "int64": (pa.int64(), 3),
    "float16": (pa.float16(), 1.5),
    "float32": (pa.float32(), 1.5),
    "float64": (pa.float64(), 1.5),
    "string": (pa.string(), "ACGT"),
    "binary": (pa.binary(), b"\0\xff"),
    "fixed": (pa.binary(4), b"ACGT"),
    "fixed_long": (pa.binary(5), b"ACGTA"),
    "decimal": (pa.decimal128(10, 2), decimal.Decimal("1.25")),
    "decimal_wide": (pa.decimal128(12, 2), decimal.Decimal("1.25")),
    "decimal_fine": (pa.decimal128(10, 3), decimal.Decimal("1.25")),
    "date": (pa.date32(), dt.date(2026, 1, 1)),
    "time": (pa.time64("us"), dt.time(1, 2)),
    "timestamp_ms": (pa.timestamp("ms"), 5),
    "timestamp_us": (pa.timestamp("us"), 5),
    "timestamp_utc": (pa.timestamp("us", "UTC"), 5),
    "list": (pa.list_(pa.float32()), [1.0, 2.0]),
    "list_of_lists": (pa.list_(pa.list_(pa.int32())), [[1], []]),
    "struct": (pa.struct([("a", pa.int32()), ("b", pa.string())]), {"a": 1, "b": "x"}),
    "struct_renamed": (pa.struct([("a", pa.int32()), ("c", pa.string())]), {"a": 1, "c": "x"}),
    "map": (pa.map_(pa.string(), pa.int32()), [("k", 1)]),
}
EVERYTHING = pa.table(
    {
        **{
            name: pa.array([value, None] * (ROWS // 2), kind)
            for name, (kind, value) in TYPES.items()
        },
        "id": [f"{number:040x}" for number in range(ROWS)],
        "category": pa.array(["a", "b", "c"] * (ROWS // 3)).dictionary_encode(),
    }
)
WRITERS = {
    "default": {},
    "uncompressed": {"compression": "none"},
    "zstd": {"compression": "zstd", "compression_level": 9},
    "pages v2": {"data_page_version": "2.0", "compression": "zstd"},
    "no dictionaries": {"use_dictionary": False},
    "no statistics": {"write_statistics": False, "store_schema": False},
    "row groups": {"row_group_size": 700},
    "small pages": {"data_page_size": 512, "write_batch_size": 64},
    "page index": {"write_page_index": True, "write_page_checksum": True},
    "content-defined pages": {"use_content_defined_chunking": True},
    "format 1.0": {"version": "1.0"},
}


def written(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def reading(data):
    return lambda offset, length: data[offset : offset + length]


def footer(data):
    return read_footer(reading(data), len(data))


def fingerprint(kind, value=None, **options):
    return footer(written(pa.table({"x": pa.array([value], kind)}), **options)).schema


@pytest.mark.parametrize("writer", WRITERS)
def test_facts_and_column_chunks_agree_with_pyarrow(writer):
    data = written(EVERYTHING, **WRITERS[writer])
    facts = footer(data)
    theirs = pq.ParquetFile(io.BytesIO(data))
    assert facts.rows == ROWS
    assert facts.columns == len(theirs.schema_arrow.names)
    assert facts.offset == len(data) - 8 - theirs.metadata.serialized_size
    columns = [
        theirs.metadata.row_group(group).column(column)
        for group in range(theirs.num_row_groups)
        for column in range(theirs.metadata.num_columns)
    ]
    starts = [
        column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        for column in columns
    ]
    assert facts.column_chunks == tuple(
        ColumnChunk(start, start + column.total_compressed_size)
        for start, column in zip(starts, columns, strict=True)
    )


@pytest.mark.parametrize("writer", WRITERS)
def test_pages_tile_their_column_chunk_and_hold_all_its_values(writer):
    data = written(EVERYTHING, **WRITERS[writer])
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    expected = [
        metadata.row_group(group).column(column).num_values
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    for chunk, values in zip(footer(data).column_chunks, expected, strict=True):
        at, seen = chunk.start, 0
        for start, end in pages(reading(data), chunk):
            assert start == at < end
            header, body = read_struct(data, start, {3: None, 5: {1: None}, 8: {1: None}})
            assert body + header[3] == end
            seen += header.get(5, header.get(8, {1: 0}))[1]
            at = end
        assert at == chunk.end
        assert seen == values


def test_small_pages_and_dictionaries_are_seen_as_pages_of_their_own():
    data = written(EVERYTHING.select(["id"]), **WRITERS["small pages"], row_group_size=ROWS)
    (chunk,) = footer(data).column_chunks
    assert len(list(pages(reading(data), chunk))) > 10


def test_a_page_header_longer_than_the_first_look_is_read_whole():
    data = written(pa.table({"x": ["ACGT" * 9_000]}), use_dictionary=False, compression="none")
    (chunk,) = footer(data).column_chunks
    padded = bytearray(data)
    # A header with a kilobyte of statistics, such as other writers make, before an empty body.
    statistics = b"\x2c\x18\xff\x07" + b"m" * 1023 + b"\x00"
    header = b"\x15\x00\x15\x00\x15\x00" + statistics + b"\x00"
    padded[chunk.start : chunk.start + len(header)] = header
    spans = pages(reading(bytes(padded)), chunk)
    assert next(spans) == (chunk.start, chunk.start + len(header))


def test_bloom_filters_do_not_disturb_the_column_chunks():
    try:
        data = written(EVERYTHING, bloom_filter_options={"id": {"ndv": 3000, "fpp": 0.05}})
    except TypeError:
        pytest.skip("this pyarrow writes no bloom filters")
    assert footer(data).schema == footer(written(EVERYTHING)).schema
    assert footer(data).column_chunks == footer(written(EVERYTHING)).column_chunks


def test_an_empty_table_has_facts_whose_column_chunks_are_dictionaries_at_most():
    data = written(EVERYTHING.slice(0, 0))
    assert footer(data).rows == 0
    assert footer(data).columns == len(TYPES) + 2
    assert footer(data).schema == footer(written(EVERYTHING)).schema
    assert all(len(list(pages(reading(data), c))) == 1 for c in footer(data).column_chunks)


def test_a_table_without_columns_is_parquet():
    assert footer(written(pa.table({}))).columns == 0


def test_the_fingerprint_is_the_hash_of_the_text_that_the_docstring_describes():
    schema = pa.schema([
        pa.field("a b\\\n", pa.int64(), nullable=False),
        pa.field("logits", pa.list_(pa.float32())),
        pa.field("at", pa.timestamp("us", "UTC")),
    ])  # fmt: skip
    text = (
        "2 - 0 - - - - - a b\\\\\\n\n"
        "- - 1 1 3 - - {3:{}} logits\n"
        "- - 2 1 - - - - list\n"
        "4 - 1 - - - - - element\n"
        "2 - 1 - 10 - - {8:{1:true,2:{2:{}}}} at\n"
    )
    data = written(schema.empty_table())
    assert footer(data).schema == blake3(text.encode()).digest()


def test_the_fingerprint_says_nothing_of_rows_layout_codec_or_metadata():
    layouts = [
        written(EVERYTHING, **options) for name, options in WRITERS.items() if name != "format 1.0"
    ]
    described = EVERYTHING.replace_schema_metadata({"who": "me"})
    prints = {footer(data).schema for data in [*layouts, written(described)]}
    assert len(prints) == 1


def test_different_types_have_different_fingerprints():
    prints = {name: fingerprint(kind) for name, (kind, _) in TYPES.items()}
    assert len(set(prints.values())) == len(prints)


def test_types_that_parquet_stores_alike_have_one_fingerprint():
    alike = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
    assert len({fingerprint(kind) for kind in alike}) == 1


def test_names_order_and_nullability_are_part_of_the_fingerprint():
    fields = [pa.field("a", pa.int64()), pa.field("b", pa.int64())]
    variants = [fields, fields[::-1], fields[:1], [fields[0].with_nullable(False), fields[1]]]
    prints = {footer(written(pa.schema(v).empty_table())).schema for v in variants}
    assert len(prints) == len(variants)


SMALL = written(EVERYTHING.select(["id", "list", "category"]).slice(0, 50), compression="zstd")


def look_everywhere(data):
    facts = footer(data)
    for chunk in facts.column_chunks if facts else ():
        spans = list(pages(reading(data), chunk))
        assert [spans[0][0], *(end for _, end in spans)] == [
            *(start for start, _ in spans),
            chunk.end,
        ]
    return facts


def test_a_truncated_file_is_no_parquet_file():
    for length in range(len(SMALL) - 4):
        assert look_everywhere(SMALL[:length]) is None
        assert look_everywhere(SMALL[:length] + b"PAR1") is None


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=9)
)
def test_damage_anywhere_never_raises(changes):
    damaged = bytearray(SMALL)
    for position, value in changes:
        damaged[position] = value
    look_everywhere(bytes(damaged))


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_damage_in_the_footer_never_raises(data):
    damaged = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(footer(SMALL).offset, len(SMALL) - 9))
        damaged[position] = data.draw(st.integers(0, 255))
    look_everywhere(bytes(damaged))


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(0, 500))
def test_random_bytes_between_the_magic_never_raise(data, length):
    look_everywhere(b"PAR1" + data + length.to_bytes(4, "little") + b"PAR1")


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("empty", b""),
        ("only the magic", b"PAR1PAR1"),
        ("an encrypted footer", b"PARE" + SMALL[4:-4] + b"PARE"),
        ("a footer as long as the file", b"PAR1" + b"\xff\xff\xff\x7fPAR1"),
        ("a footer that reaches into the magic", b"PAR1\0\x02\0\0\0PAR1"),
        ("text", b"id,sequence\n" * 100),
        ("an empty footer", b"PAR1\0\x01\0\0\0PAR1"),
    ],
)
def test_what_is_not_understood_is_no_parquet_file(what, data):
    assert footer(data) is None


def test_summary_files_whose_data_lie_elsewhere_are_no_parquet_files(tmp_path):
    collected = []
    pq.write_to_dataset(EVERYTHING.select(["id"]), tmp_path / "d", metadata_collector=collected)
    pq.write_metadata(EVERYTHING.select(["id"]).schema, tmp_path / "_metadata", collected)
    assert footer((tmp_path / "_metadata").read_bytes()) is None


def test_an_error_of_the_disk_is_passed_on():
    def broken(offset, length):
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        read_footer(broken, 100)


def test_a_footer_costs_three_reads_at_most():
    calls = []

    def counting(data):
        def read(offset, length):
            calls.append(length)
            return data[offset : offset + length]

        return read

    wide = written(pa.table({f"column {number}": [number] for number in range(500)}))
    assert read_footer(counting(wide), len(wide)).columns == 500
    assert len(calls) == 3
    calls.clear()
    read_footer(counting(SMALL), len(SMALL))
    assert len(calls) == 2
