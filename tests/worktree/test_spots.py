"""Where chunks belong: packed tables say what a dictionary of lists would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrstore.objects.chunklist import ChunkList
from usrstore.objects.ids import ChunkId, ObjectId
from usrstore.worktree import spots as spotting
from usrstore.worktree.spots import Spots
from usrstore.worktree.stagelog import Spot

# Some begin with the same bits, and differ behind what a table holds of them.
IDS = [
    ChunkId(ObjectId(bytes([a]) * 5 + bytes(26) + bytes([b]))) for a in (0, 7, 255) for b in (1, 2)
]
files = st.lists(
    st.lists(st.tuples(st.sampled_from(IDS), st.integers(1, 9)), max_size=6), max_size=5
)


def plain(chunks_of_files):
    found = {}
    for file, chunks in enumerate(chunks_of_files):
        offset = 0
        for oid, size in chunks:
            found.setdefault(oid, []).append(Spot(file, offset, size))
            offset += size
    return found


@pytest.mark.parametrize("at_once", [1, 3, spotting._SORT_AT_ONCE])
@given(chunks_of_files=files)
def test_every_chunk_is_found_wherever_it_belongs(at_once, chunks_of_files):
    before, spotting._SORT_AT_ONCE = spotting._SORT_AT_ONCE, at_once
    try:
        spots = Spots([ChunkList(chunks) for chunks in chunks_of_files])
    finally:
        spotting._SORT_AT_ONCE = before
    told = plain(chunks_of_files)
    for oid in IDS:
        assert spots.of(oid) == told.get(oid, [])
    assert list(spots.lacking()) == [(oid, some[0].size) for oid, some in told.items()]


@given(files, st.sets(st.sampled_from(IDS)), st.integers(0, 4))
def test_what_has_landed_is_wanted_no_more_until_its_file_is_lost(chunks_of_files, landing, lost):
    spots = Spots([ChunkList(chunks) for chunks in chunks_of_files])
    told = plain(chunks_of_files)
    for oid in landing & told.keys():
        spots.land(spots.numbers(oid)[0])
    landed = {oid: told[oid][0] for oid in told if oid in landing}
    assert dict(spots.landed()) == landed
    assert [oid for oid, _ in spots.lacking()] == [oid for oid in told if oid not in landing]
    if lost < len(chunks_of_files):
        spots.lose(lost)
        still = {oid for oid in landed if all(spot.file != lost for spot in told[oid])}
        assert dict(spots.landed()) == {oid: landed[oid] for oid in still}
