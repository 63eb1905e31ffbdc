"""Joins of keys: the same places whatever memory there is, and errors that keep their names."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest

from support.overlays import SEQUENCES, part, row, row_id, write_base
from usrstore.dataset import locate, query
from usrstore.errors import IntegrityError, StorageError

ROWS = 1_200_000


def keys(numbers, step=1 << 16):
    """Arrays of keys that look like ids."""
    for start in range(0, len(numbers), step):
        some = numbers[start : start + step]
        yield pa.array([hashlib.sha1(b"%d" % n).hexdigest() for n in some], pa.large_string())


@pytest.fixture
def scratch(tmp_path):
    return str(tmp_path / "not" / "there yet")


def test_a_join_spills_and_finds_every_place(scratch):
    overlay = range(ROWS - 1, -1, -3)
    found = locate.join(keys(range(ROWS)), keys(overlay), scratch=scratch, memory_bytes=96 << 20)
    nth = -1
    for nths, places in found:
        for a, b in zip(nths.to_pylist(), places.to_pylist(), strict=True):
            nth += 1
            assert (a, b) == (nth, overlay[nth])
    assert nth == len(overlay) - 1


def test_strays_and_repeats(scratch):
    memory = {"scratch": scratch, "memory_bytes": 64 << 20}
    files = [range(4), [2, 9, 9], [8, 8, 8, 1]]
    none = pa.array([None], pa.large_string())
    strays = locate.strays(keys(range(5)), [*map(keys, files), [none]], **memory)
    assert [nth for nth, _ in strays] == [5, 6, 7, 8, 9]
    repeats = list(locate.repeats([*map(keys, files), [none, none]], **memory))
    assert [(rows, first) for _, rows, first in repeats] == [(2, 5), (3, 7)]


def test_what_reading_the_keys_raised_comes_out_as_it_was(scratch):
    def broken():
        yield from keys(range(3))
        raise IntegrityError("a damaged page")

    with pytest.raises(IntegrityError, match="a damaged page"):
        list(locate.join(keys(range(3)), broken(), scratch=scratch, memory_bytes=64 << 20))


def test_no_room_is_an_error_of_the_machine(tmp_path):
    (tmp_path / "join").write_text("no folder can be here")
    with pytest.raises(StorageError, match="ran out of room"):
        list(locate.repeats([keys(range(ROWS))], scratch=str(tmp_path), memory_bytes=48 << 20))


def test_a_damaged_overlay_is_named_by_a_large_read_as_well(tmp_path):
    folder = tmp_path / "x"
    write_base(folder, [row(text) for text in SEQUENCES])
    types = {"a__n": pa.int32()}
    path = part("a", 1, [{"id": row_id(t), "a__n": 1} for t in SEQUENCES], types).write(folder)
    data = bytearray(path.read_bytes())
    data[8:60] = bytes(byte ^ 0x5A for byte in data[8:60])
    path.write_bytes(data)
    view = query.open_view(str(folder))
    with pytest.raises(IntegrityError, match="cannot be read as Parquet"):
        list(view.batches(scratch=str(tmp_path / "s"), run_rows=2))
