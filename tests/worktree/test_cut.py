"""Cutting: the pieces are the file, always the same ones, and a small change keeps most of them."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from pyfastcdc import FastCDC

from usrstore.errors import ChangedWhileReadError
from usrstore.objects.ids import EMPTY_CONTENT
from usrstore.objects.recipe import RULE
from usrstore.worktree import cut, windows
from usrstore.worktree.cut import WHOLE_FILE_BYTES, Span, cut_file, spans
from usrstore.worktree.parquet import ColumnChunk, Footer, pages, read_footer

GOLDEN = Path(__file__).parent.parent / "golden" / "v1"
KIB, MIB = 1 << 10, 1 << 20


def noise(name, size):
    """Bytes that depend on no library's random numbers: BLAKE3's own stream."""
    return blake3(name.encode()).digest(length=size)


def table(rows, *, seed=0, per_row=32):
    floats = pa.py_buffer(random.Random(seed).randbytes(rows * per_row * 4))
    values = pa.Array.from_buffers(pa.float32(), rows * per_row, [None, floats])
    offsets = pa.array(range(0, rows * per_row + 1, per_row), pa.int32())
    return pa.table({
        "id": [f"{seed:08x}{number:032x}" for number in range(rows)],
        "kind": ["dna", "rna"] * (rows // 2),
        "logits": pa.ListArray.from_arrays(offsets, values),
    })  # fmt: skip


def written(data, **options):
    sink = io.BytesIO()
    pq.write_table(data, sink, compression="zstd", **options)
    return sink.getvalue()


PARQUET = {
    "one row group": written(table(20_000)),
    "row groups": written(table(20_000), row_group_size=3000),
    "small pages": written(table(20_000), data_page_size=1500, write_batch_size=20),
    "large pages": written(table(20_000), data_page_size=8 * MIB, write_batch_size=10**6),
    "content-defined pages": written(table(20_000), use_content_defined_chunking=True),
    "page index": written(table(6000), row_group_size=100, write_page_index=True),
    "a thousand columns": written(
        pa.table({f"column {number:04}": [number] * 9 for number in range(1000)})
    ),
}


@pytest.fixture(params=["one thread", "reading ahead"])
def threads(request, monkeypatch):
    """Either way of reading, whatever the size of the file."""
    monkeypatch.setattr(cut, "_AHEAD_BYTES", 0 if request.param == "reading ahead" else 1 << 60)


@pytest.fixture
def cutting(tmp_path):
    """Cut bytes by way of a file; checks on the way that the pieces are the file."""

    def run(data, size=None):
        path = tmp_path / "file"
        path.write_bytes(data)
        pieces, shown = [], []
        whole = len(data) if size is None else size

        def sink(oid, piece):
            assert whole <= WHOLE_FILE_BYTES or (oid, bytes(piece)) in shown
            pieces.append((oid, bytes(piece)))

        def prepare(oid, piece):
            shown.append((oid, bytes(piece)))

        fd = os.open(path, os.O_RDONLY)
        try:
            found = cut_file(fd, whole, sink, prepare)
        finally:
            os.close(fd)
        data = data[:size]
        assert b"".join(piece for _, piece in pieces) == data
        assert list(found.chunks) == [(oid, len(piece)) for oid, piece in pieces]
        assert all(oid == blake3(piece).digest() for oid, piece in pieces)
        assert all(length <= MIB for _, length in found.chunks)
        assert found.content == blake3(data).digest()
        return found

    return run


def cut_bytes(data):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return cut_file(file.fileno(), len(data))


def lengths(found):
    return [length for _, length in found.chunks]


def by_the_rule(data):
    """The rule once more, said plainly: over all bytes at once, each span cut in one pass."""
    if len(data) <= 64 * KIB:
        return [len(data)]

    def read(offset, length):
        return data[offset : offset + length]

    def fastcdc(part):
        cutter = FastCDC(65536, min_size=16384, max_size=262144, normalized_chunking=2)
        return [chunk.length for chunk in cutter.cut_buf(part)]

    facts = read_footer(read, len(data))
    if facts is None:
        return fastcdc(data)
    ends = []
    for column in facts.column_chunks:
        walked = [end for _, end in pages(read, column)]
        if column.end - column.start > 64 * KIB:
            since = column.start
            for end in walked:
                if end - since >= 4 * KIB:
                    ends.append(end)
                    since = end
        if column.end not in ends:
            ends.append(column.end)
    out, start = [], 0
    for end in [*ends, len(data)]:
        out += [end - start] if end - start <= 128 * KIB else fastcdc(data[start:end])
        start = end
    return out


def test_an_empty_file_is_one_chunk_of_length_zero(cutting):
    assert list(cutting(b"").chunks) == [(EMPTY_CONTENT, 0)]
    assert cutting(b"").content == EMPTY_CONTENT


@pytest.mark.parametrize("size", [1, 20_000, 64 * KIB])
def test_a_file_of_at_most_64_kib_is_one_chunk(cutting, size):
    found = cutting(noise("small", size))
    assert lengths(found) == [size]
    assert found.chunks.oid(0) == found.content


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "size",
    [64 * KIB + 1, 100_000, MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 77_777, 9 * MIB],
)
def test_other_files_are_cut_as_in_one_pass_over_all_their_bytes(cutting, size):
    data = noise("binary", size)
    assert lengths(cutting(data)) == by_the_rule(data)


def test_bytes_without_a_natural_boundary_are_cut_at_the_most(cutting):
    data = bytes(3 * MIB + 5)
    assert lengths(cutting(data)) == by_the_rule(data) == [256 * KIB] * 12 + [5]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", PARQUET)
def test_parquet_files_are_cut_by_the_rule(cutting, name):
    data = PARQUET[name]
    found = cutting(data)
    assert lengths(found) == by_the_rule(data)
    assert found.facts == read_footer(lambda at, length: data[at : at + length], len(data))


def test_small_parquet_files_have_facts_too(cutting):
    found = cutting(written(table(100)))
    assert (found.facts.rows, found.facts.columns, len(found.chunks)) == (100, 3, 1)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 300 * KIB), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([1000, 256 * KIB, 300_001, MIB]),
    st.booleans(),
)
def test_windows_leave_no_trace_in_the_boundaries(parts, window_bytes, ahead):
    data = b"".join(
        noise(str(seed), size) if random_looking else bytes([seed]) * size
        for seed, size, random_looking in parts
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "WINDOW_BYTES", window_bytes)
        patch.setattr(cut, "_AHEAD_BYTES", 0 if ahead else 1 << 60)
        found = cut_bytes(data)
    assert lengths(found) == by_the_rule(data)
    assert found.content == blake3(data).digest()


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["row groups", "small pages", "large pages"]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=9)), min_size=1, max_size=6),
    st.booleans(),
)
def test_a_damaged_parquet_file_is_cut_like_any_other(name, changes, in_footer):
    damaged = bytearray(PARQUET[name])
    first = len(damaged) - 3000 if in_footer else 0
    for where, junk in changes:
        position = first + int(where * (len(damaged) - first - len(junk)))
        damaged[position : position + len(junk)] = junk
    data = bytes(damaged)
    found = cut_bytes(data)
    assert sum(lengths(found)) == len(data)
    assert max(lengths(found)) <= 256 * KIB
    assert found.content == blake3(data).digest()


def test_a_layout_out_of_order_is_cut_as_a_whole():
    def facts(*chunks):
        return Footer(1, 1, EMPTY_CONTENT, tuple(ColumnChunk(*chunk) for chunk in chunks), 10**6)

    def plan(facts):
        return list(spans(lambda offset, length: bytes(length), 10**6 + 100, facts))

    whole = [Span(0, 10**6 + 100, whole=False)]
    assert plan(None) == whole
    assert plan(facts((4, 500), (499, 900))) == whole
    assert plan(facts((500, 900), (4, 500))) == whole
    # In order, the magic falls to the first span, and what is between to the one after.
    assert plan(facts((4, 500), (600, 900))) == [
        Span(0, 500, whole=True),
        Span(500, 900, whole=True),
        Span(900, 10**6 + 100, whole=False),
    ]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("size", [30_000, 300_000, 3 * MIB])
@pytest.mark.parametrize("missing", [1, 20_000])
def test_a_file_that_is_shorter_than_it_was_is_an_error(tmp_path, size, missing):
    (tmp_path / "file").write_bytes(noise("short", size - missing))
    with (tmp_path / "file").open("rb") as file, pytest.raises(ChangedWhileReadError):
        cut_file(file.fileno(), size)
    assert not any("read-ahead" in thread.name for thread in threading.enumerate())


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("size", [0, 30_000, 300_000, 3 * MIB])
def test_a_file_that_grows_is_cut_to_the_size_it_had(cutting, size):
    cutting(noise("grows", size + 100_000), size)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("size", [300_000, 3 * MIB])
def test_what_the_sink_raises_is_raised_and_the_reader_ends(tmp_path, size):
    (tmp_path / "file").write_bytes(noise("sink", size))

    def full(oid, piece):
        raise OSError(28, "No space left on device")

    with (tmp_path / "file").open("rb") as file, pytest.raises(OSError, match="No space"):
        cut_file(file.fileno(), size, full)
    assert not any("read-ahead" in thread.name for thread in threading.enumerate())


@pytest.mark.usefixtures("threads")
def test_a_sink_cannot_change_what_is_hashed(tmp_path):
    (tmp_path / "file").write_bytes(noise("readonly", 2 * MIB))
    with (tmp_path / "file").open("rb") as file:
        for size in (30_000, 2 * MIB):
            cut_file(
                file.fileno(),
                size,
                lambda oid, piece: pytest.fail() if not piece.readonly else None,
            )


@pytest.mark.usefixtures("threads")
def test_an_error_of_the_disk_is_passed_on(tmp_path):
    write_only = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        for size in (30_000, 300_000, 3 * MIB):
            with pytest.raises(OSError, match="Bad file descriptor"):
                cut_file(write_only, size)
    finally:
        os.close(write_only)


def new_bytes(before, after):
    known = {oid for oid, _ in before.chunks}
    return sum(length for oid, length in after.chunks if oid not in known)


def test_appending_one_percent_of_rows_keeps_most_chunks(cutting):
    base = table(50_000)
    grown = pa.concat_tables([base, table(500, seed=1)])
    before = cutting(written(base, row_group_size=5000))
    after = cutting(written(grown, row_group_size=5000))
    assert new_bytes(before, after) < 0.03 * sum(lengths(after))


def test_adding_a_column_keeps_the_chunks_of_the_others(cutting):
    base = table(20_000)
    grown = base.append_column("length", pa.array(range(20_000), pa.int32()))
    before = cutting(written(base))
    after = cutting(written(grown))
    assert new_bytes(before, after) < 0.1 * sum(lengths(after))


def test_appending_a_line_of_text_adds_about_a_chunk(cutting):
    log = b"".join(b'{"event": "append", "number": %d}\n' % number for number in range(100_000))
    assert new_bytes(cutting(log), cutting(log + b'{"event": "one more"}\n')) <= 256 * KIB


def test_memory_is_bounded_whatever_the_size():
    script = """
import resource, tempfile
from usrstore.worktree.cut import cut_file
file = tempfile.TemporaryFile()
file.truncate(160 << 20)
fd = file.fileno()
cut_file(fd, 2 << 20)  # imports what it imports
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cut_file(fd, 160 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert int(out.stdout) < 8 * 1024


def test_importing_the_room_is_light():
    script = "import sys, usrstore.worktree.cut; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert not {"pyarrow", "numpy", "pyfastcdc", "asyncio", "json"} & set(out.stdout.split())


VECTORS = json.loads((GOLDEN / "cuts.json").read_text(encoding="utf-8"))
SOURCES = {
    "zeros": bytes,
    "lines": lambda count: b"".join(
        b"%d,%d,%08x\n" % (i, i * i % 9973, i * 2654435761 % 2**32) for i in range(count)
    ),
    "blake3": lambda seed, size: blake3(seed.encode()).digest(length=size),
    "file": lambda name: (GOLDEN / name).read_bytes(),
}


@pytest.mark.parametrize("vector", VECTORS["files"], ids=lambda vector: vector["name"])
def test_vectors_hold(cutting, vector):
    ((source, arguments),) = vector["source"].items()
    found = cutting(SOURCES[source](*arguments))
    assert VECTORS["rule"] == RULE
    assert {
        "name": vector["name"],
        "source": vector["source"],
        "size": sum(lengths(found)),
        "content": str(found.content),
        "first": str(found.chunks.oid(0)),
        "last": str(found.chunks.oid(len(found.chunks) - 1)),
        "lengths": lengths(found),
        "facts": found.facts
        and {
            "rows": found.facts.rows,
            "columns": found.facts.columns,
            "schema": str(found.facts.schema),
        },
    } == vector
