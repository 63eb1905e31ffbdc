"""A packed list of chunks says what a plain list of pairs would."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from usrstore.objects.chunklist import ChunkList
from usrstore.objects.ids import ChunkId, ObjectId

pairs = st.lists(
    st.tuples(
        st.binary(min_size=32, max_size=32).map(lambda data: ChunkId(ObjectId(data))),
        st.integers(0, 1 << 20),
    ),
    max_size=30,
)


@given(pairs)
def test_it_holds_what_was_added_in_its_order(chunks):
    packed = ChunkList(chunks)
    assert list(packed) == chunks
    assert len(packed) == len(chunks)
    offsets = list(accumulate((size for _, size in chunks), initial=0))
    assert [packed.offset(number) for number in range(len(chunks) + 1)] == offsets
    assert packed.size == offsets[-1]
    assert [packed.oid(number) for number in range(len(chunks))] == [oid for oid, _ in chunks]
    for number, (oid, _) in enumerate(chunks):
        assert packed.holds(number, oid)
        assert not packed.holds(number, bytes(31) + bytes([oid[31] ^ 1]))


@given(pairs, pairs)
def test_lists_are_equal_if_their_chunks_are(one, two):
    assert (ChunkList(one) == ChunkList(two)) == (one == two)
