"""The journal: read back whole, or not at all."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore.errors import DecodeError
from usrstore.objects.ids import ObjectId, TreeId
from usrstore.worktree import journal as journals
from usrstore.worktree.journal import Journal, Op, RefChange

ids = st.binary(min_size=32, max_size=32).map(ObjectId)
numbers = st.integers(0, 2**63 - 1)
marks = st.none() | st.tuples(numbers, numbers, numbers)
texts = st.text(max_size=12)
some = st.builds(
    Journal,
    dataset=texts,
    undoing=st.booleans(),
    tree=ids.map(TreeId),
    stage=texts,
    ops=st.lists(st.builds(Op, texts, st.none() | numbers, marks, marks), max_size=4).map(tuple),
    made=st.lists(texts, max_size=3).map(tuple),
    refs=st.lists(st.builds(RefChange, texts, st.none() | ids, st.none() | ids), max_size=3).map(
        tuple
    ),
    actor=texts,
    command=texts,
    reason=texts,
)
ONE = Journal(
    dataset="ns/x",
    undoing=False,
    tree=TreeId(ObjectId(b"t" * 32)),
    stage="quarantine/ns@x/abc",
    ops=(Op("meta.md", 0, (1, 2, 3), (4, 5, 6)), Op("gone", None, (7, 8, 9), None)),
    made=("", "new"),
    refs=(RefChange("heads/ns/x", None, ObjectId(b"m" * 32)),),
    actor="a@h",
    command="pull",
    reason="",
)


@settings(max_examples=150, deadline=None)
@given(some)
def test_what_is_written_is_what_is_read(journal):
    assert Journal.decode(journal.encode()) == journal


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_journal_or_a_decode_error(data):
    try:
        Journal.decode(data)
    except DecodeError:
        return


def test_any_damaged_byte_is_noticed():
    data = ONE.encode()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x81
        with pytest.raises(DecodeError):
            Journal.decode(bytes(damaged))
    for end in range(len(data)):
        with pytest.raises(DecodeError):
            Journal.decode(data[:end])


def test_a_journal_is_found_until_it_is_removed(tmp_path):
    path = str(tmp_path / "journal" / "ns@x")
    os.mkdir(tmp_path / "journal")
    assert journals.find(path) is None
    journals.write(path, ONE)
    assert journals.find(path) == ONE
    journals.write(path, ONE.turned_back())
    assert journals.find(path) == ONE.turned_back() != ONE
    assert os.listdir(tmp_path / "journal") == ["ns@x"]
    journals.remove(path)
    assert journals.find(path) is None
    journals.remove(path)


def test_a_journal_that_cannot_be_read_says_where_the_files_are(tmp_path):
    path = tmp_path / "ns@x"
    path.write_bytes(ONE.encode()[:-3])
    with pytest.raises(DecodeError) as caught:
        journals.find(str(path))
    assert str(path) in caught.value.message
    assert ".usr/quarantine" in caught.value.hint
    assert path.exists()
