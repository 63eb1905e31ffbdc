"""A writer that gathers: all of it arrives, in order, however little a call takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrstore.remote.gather import GatheringWriter


class Reluctant:
    """Takes at most so many bytes at a time."""

    def __init__(self, most):
        self.most = most
        self.taken = []

    def __call__(self, pieces):
        data = b"".join(pieces)[: self.most]
        self.taken.append(data)
        return len(data)


@given(
    pieces=st.lists(st.binary(max_size=40), max_size=20),
    most=st.integers(min_value=1, max_value=50),
    views=st.booleans(),
)
def test_all_of_it_arrives_in_order(pieces, most, views):
    call = Reluctant(most)
    writer = GatheringWriter(call)
    for piece in pieces:
        writer.write(memoryview(piece) if views else piece)
    writer.flush()
    assert b"".join(call.taken) == b"".join(pieces)


def test_pieces_wait_for_one_another_and_never_without_end():
    call = Reluctant(1 << 30)
    writer = GatheringWriter(call)
    writer.write(b"a" * 1000)
    assert call.taken == []
    writer.write(bytes(1 << 20))
    assert list(map(len, call.taken)) == [1000 + (1 << 20)]
    for _ in range(600):  # more than one call may be given
        writer.write(b"x")
    assert list(map(len, call.taken[1:])) == [512]
    writer.flush()
    assert len(call.taken[-1]) == 88


def test_who_no_longer_reads_is_noticed():
    def gone(_pieces):
        raise BrokenPipeError

    writer = GatheringWriter(gone)
    writer.write(b"a")
    with pytest.raises(BrokenPipeError):
        writer.flush()
