"""Ids: what they hash, and how they are written."""

from __future__ import annotations

import pytest
from blake3 import blake3

from usrstore.errors import InvalidInputError
from usrstore.objects.ids import (
    EMPTY_CONTENT,
    ContentHasher,
    Kind,
    ObjectId,
    hash_object,
)


@pytest.mark.spec("F-3")
def test_a_chunk_and_a_file_are_named_by_the_plain_hash():
    assert str(hash_object(Kind.CHUNK, b"abc")) == blake3(b"abc").hexdigest()
    hasher = ContentHasher()
    for piece in (b"a", bytearray(b"b"), memoryview(b"c")):
        hasher.update(piece)
    assert hasher.digest() == hash_object(Kind.CHUNK, memoryview(b"abc"))
    assert EMPTY_CONTENT.hex().startswith("af1349b9f5f9a1a6")


@pytest.mark.spec("F-4")
def test_no_two_kinds_give_the_same_bytes_the_same_id():
    assert len({hash_object(kind, b"abc") for kind in Kind}) == len(Kind)
    assert [int(kind) for kind in Kind] == [1, 2, 3, 4, 5, 6, 7]
    assert (
        hash_object(Kind.TREE, b"abc").hex()
        == blake3(b"abc", derive_key_context="usrstore v1 tree").hexdigest()
    )


@pytest.mark.spec("F-5")
def test_an_id_is_written_as_64_lower_case_digits_and_read_back():
    oid = hash_object(Kind.TREE, b"abc")
    assert len(str(oid)) == 64
    assert str(oid) == str(oid).lower()
    assert ObjectId.parse(str(oid)) == oid
    assert oid.short == str(oid)[:12]
    assert oid.short in repr(oid)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 63,
        "0" * 65,
        "A" * 64,
        "g" * 64,
        "0" * 63 + " ",
        "٠" * 64,
        "0x" + "0" * 62,
        "0" * 63 + "\n",
    ],
    ids=lambda text: repr(text[:3]) + str(len(text)),
)
def test_what_is_not_64_digits_is_no_id(text):
    with pytest.raises(InvalidInputError):
        ObjectId.parse(text)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_an_id_has_32_bytes(size):
    with pytest.raises(InvalidInputError):
        ObjectId(bytes(size))
