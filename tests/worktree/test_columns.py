"""What our own footer reader says of columns is what registries and pyarrow say of them."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.datasets import sample_parquet
from usrstore.dataset import types
from usrstore.worktree import columns

TOLD_APART = [
    *types.SCALARS,
    *("timestamp[ms]", "timestamp[us]", "timestamp[ns]", "timestamp[us, UTC]"),
    *("list<float32>", "list<list<int8>>", "struct<a:int8,b:list<string>>", "struct<only:bool>"),
    *("list<struct<a:int8>>", "list<struct<x:timestamp[ns],y:list<bool>>>"),
]
AS_PARQUET_HAS_IT = {
    "timestamp[s]": "timestamp[ms]",
    "timestamp[us, Europe/Rome]": "timestamp[us, UTC]",
    "fixed_size_list<float64>[3]": "list<float64>",
}


def written(schema, **options):
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink, **options)
    return sink.getvalue()


def read(data):
    return columns.read_columns(lambda at, count: data[at : at + count], len(data))


@pytest.mark.parametrize("text", [*TOLD_APART, *AS_PARQUET_HAS_IT])
@pytest.mark.parametrize("compliant", [True, False])
def test_every_type_of_the_registry_is_read_back(text, compliant):
    schema = pa.schema([("x", types.to_arrow(types.parse(text))), ("id", pa.string())])
    found = read(written(schema, use_compliant_nested_type=compliant))
    assert found.types == {"x": AS_PARQUET_HAS_IT.get(text, text), "id": "string"}


def test_what_registries_have_no_word_for_keeps_parquets_own():
    kinds = {"b": pa.binary(), "d": pa.date32(), "m": pa.decimal128(9, 2), "n": pa.null()}
    found = read(written(pa.schema(kinds)))
    assert found.types == {"b": "binary", "d": "date32", "m": "decimal", "n": "null"}


def test_several_ways_to_hold_a_text_are_one():
    kinds = {"l": pa.large_string(), "d": pa.dictionary(pa.int32(), pa.string())}
    assert set(read(written(pa.schema(kinds))).types.values()) == {"string"}


def test_metadata_is_read():
    schema = pa.schema([("id", pa.string())], metadata={"usr:overlay_key": "id", "ü": "é"})
    found = read(written(schema)).metadata
    assert (found["usr:overlay_key"], found["ü"]) == ("id", "é")


@given(st.data())
def test_damaged_footers_are_no_parquet_and_no_accident(data):
    whole = sample_parquet()
    at = data.draw(st.integers(len(whole) - 3000, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    found = read(bytes(damaged))
    assert found is None or isinstance(found.types, dict)
    assert read(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None
