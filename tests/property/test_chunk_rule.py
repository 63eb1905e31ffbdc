"""The chunk rule said once more from the written format alone, and held against our cutter."""

from __future__ import annotations

import hashlib
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore.worktree import cut, parquet

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
KIB = 1 << 10
GEAR = [
    int.from_bytes(hashlib.md5(bytes([value]) * 64, usedforsecurity=False).digest()[:8], "big")
    for value in range(256)
]
SHORT, LONG = 0x0000D90707537000, 0x0000D90313530000


def first_cut(b):
    n = len(b)
    if n <= 16384:
        return n
    limit = min(n, 262144)
    h = 0
    for i in range(16384, limit // 2 * 2):
        h = (2 * h + GEAR[b[i]]) & 0xFFFFFFFFFFFFFFFF
        if not h & (SHORT if i < 65536 else LONG):
            return i
    return limit


def fastcdc(b):
    lengths = []
    while b:
        lengths.append(first_cut(b))
        b = b[lengths[-1] :]
    return lengths


def by_the_written_rule(data):
    if len(data) <= 64 * KIB:
        return [len(data)]

    def read(offset, length):
        return data[offset : offset + length]

    footer = parquet.read_footer(read, len(data))
    places = [(c.start, c.end) for c in footer.column_chunks] if footer else []
    if footer is None or any(a[1] > b[0] for a, b in pairwise([(0, 0), *places])):
        return fastcdc(data)
    ends = []
    for chunk in footer.column_chunks:
        if chunk.end - chunk.start > 64 * KIB:
            since = chunk.start
            for _, end in list(parquet.pages(read, chunk))[:-1]:
                if end - since >= 4 * KIB:
                    ends.append(end)
                    since = end
        ends.append(chunk.end)
    lengths = []
    for start, end in pairwise([0, *ends, len(data)]):
        lengths += [end - start] if end - start <= 128 * KIB else fastcdc(data[start:end])
    return lengths


def our_cut(data):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return [length for _, length in cut.cut_file(file.fileno(), len(data)).chunks]


@pytest.mark.spec("F-50")
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 300_000), st.sampled_from([0, 1, 60]))
def test_any_file_is_cut_where_the_written_rule_cuts_it(seed, size, dull):
    data = blake3(b"%d" % seed).digest(length=size)
    data = bytes(dull * 1000) + data + bytes(dull * 2000)
    assert our_cut(data) == by_the_written_rule(data)


@pytest.mark.spec("F-48")
@pytest.mark.spec("F-50")
def test_a_file_without_a_cut_is_cut_at_the_greatest_length():
    data = bytes(700 * KIB)
    assert our_cut(data) == by_the_written_rule(data) == [256 * KIB, 256 * KIB, 188 * KIB]


@pytest.mark.spec("F-48")
def test_the_golden_table_is_cut_where_the_written_rule_cuts_it():
    data = (GOLDEN / "sample.parquet").read_bytes()
    lengths = by_the_written_rule(data)
    assert our_cut(data) == lengths
    assert lengths != fastcdc(data)


@pytest.mark.spec("F-12")
@pytest.mark.spec("F-48")
@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 64 * KIB + 1, 300 * KIB])
def test_a_file_of_64_kib_is_one_chunk_and_a_longer_one_is_cut(size):
    data = blake3(b"small").digest(length=size)
    lengths = our_cut(data)
    assert lengths == by_the_written_rule(data)
    assert size > 64 * KIB or lengths == [size]
    assert size < 300 * KIB or len(lengths) > 1


def facts(data):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        fd = file.fileno()
        return parquet.read_footer(lambda at, length: os.pread(fd, length, at), len(data))


@pytest.mark.spec("F-49")
def test_what_is_no_whole_parquet_file_is_cut_as_any_other():
    data = (GOLDEN / "sample.parquet").read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    found = facts(data)
    assert found is not None
    assert found.offset == len(data) - 8 - size
    footer = len(data) - 8 - size
    spoiled = {
        "no magic at the start": b"PAR2" + data[4:],
        "no magic at the end": data[:-4] + b"PARE",
        "too short": b"PAR1PAR1",
        "a length past the file": data[:-8] + (1 << 31).to_bytes(4, "little") + b"PAR1",
        "a length that leaves no room": data[:-8] + len(data).to_bytes(4, "little") + b"PAR1",
        "no metadata": data[:footer] + bytes(size) + data[-8:],
        "metadata cut short": data[:footer]
        + data[footer : footer + 20]
        + (20).to_bytes(4, "little")
        + b"PAR1",
        "cut off": data[:-1],
    }
    for how, bad in spoiled.items():
        assert facts(bad) is None, how
        if how in ("no magic at the end", "no metadata"):
            assert our_cut(bad) == fastcdc(bad)


@pytest.mark.spec("F-26")
def test_the_facts_of_a_table_are_those_of_its_footer():
    import pyarrow.parquet as pq

    found = facts((GOLDEN / "sample.parquet").read_bytes())
    metadata = pq.read_metadata(GOLDEN / "sample.parquet")
    assert found.rows == metadata.num_rows
    assert found.columns == len(metadata.schema.to_arrow_schema())
    assert len(found.schema) == 32
