"""Packs: what goes in comes out or is refused; no damage anywhere gives other bytes."""

from __future__ import annotations

import mmap
import os
import random
import struct
import tracemalloc

import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore.errors import (
    DecodeError,
    HashMismatchError,
    IntegrityError,
    ObjectNotFoundError,
)
from usrstore.objects.ids import Kind, ObjectId, PackId, hash_object
from usrstore.odb import compress, packindex
from usrstore.odb.backend.folder import FolderBackend
from usrstore.odb.backend.memory import MemoryBackend
from usrstore.odb.pack import Pack, PackWriter, checked, pack_key, pack_of_key
from usrstore.odb.packindex import MAGIC, TRAILER, PackIndex, Row

LINE = b'{"event": 1, "action": "append"}\n'
OBJECTS = [
    (Kind.CHUNK, b""),
    (Kind.CHUNK, b"a"),
    (Kind.CHUNK, LINE * 30),
    (Kind.CHUNK, blake3(b"noise").digest(length=300)),
    (Kind.TREE, b"\x93\x01\x00\x90"),
]


def named(objects):
    return [(kind, hash_object(kind, data), data) for kind, data in objects]


def written(home):
    """A pack with the objects, in a folder backend."""
    backend = FolderBackend(str(home / "store"))
    writer = PackWriter(str(home / "store" / "packs"))
    for kind, oid, data in named(OBJECTS):
        writer.add(kind, oid, data)
    pack, index = writer.finish(backend)
    return backend, pack, index


def opened(backend, pack):
    return Pack(backend, pack, backend.stat(pack_key(pack)).size)


def packs_folder(home):
    return sorted(os.listdir(home / "store" / "packs"))


@pytest.mark.spec("F-37")
@pytest.mark.spec("F-38")
@pytest.mark.spec("F-39")
@pytest.mark.spec("F-40")
def test_a_pack_is_laid_out_as_written_down(home):
    _, pack, index = written(home)
    data = (home / "store" / pack_key(pack)).read_bytes()
    assert data[:8] == data[-8:] == b"USRPACK1"
    offset, count, name = struct.unpack(">QI4x32s", data[-56:-8])
    assert (count, name) == (len(OBJECTS), pack)
    assert data[offset:-56] == index
    assert blake3(index, derive_key_context="usrstore v1 index").digest() == pack
    ids = [index[at * 32 : at * 32 + 32] for at in range(count)]
    assert ids == sorted(oid for _, oid, _ in named(OBJECTS))
    rows = {
        oid: struct.unpack_from(">QIIBB2s", index, 32 * count + 20 * at)
        for at, oid in enumerate(ids)
    }
    at = 8
    for kind, oid, body in named(OBJECTS):
        start, stored, size, number, encoding, zero = rows[oid]
        assert (start, size, number, zero) == (at, len(body), kind, b"\0\0")
        assert encoding == (1 if body == LINE * 30 else 0)
        at += stored
    assert at == offset
    assert packs_folder(home) == [f"{pack}.pack"]


def test_objects_come_out_as_they_went_in(home):
    backend, pack, _ = written(home)
    reader = opened(backend, pack)
    assert reader.index.count == len(OBJECTS)
    for kind, oid, data in named(OBJECTS):
        row = reader.index.find(oid)
        assert row.kind == kind
        assert reader.read(oid, row) == data
    assert reader.index.find(hash_object(Kind.CHUNK, b"other")) is None


def test_an_object_can_be_read_before_its_pack_is_finished_and_is_stored_once(home):
    writer = PackWriter(str(home / "packs"))
    for _ in range(3):
        for kind, oid, data in named(OBJECTS):
            writer.add(kind, oid, data)
    assert len(writer) == len(OBJECTS)
    for _, oid, data in named(OBJECTS):
        assert oid in writer
        assert writer.read(oid) == data
    writer.abandon()
    writer.abandon()
    assert os.listdir(home / "packs") == []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(Kind),
            st.binary(max_size=2000) | st.binary(max_size=20).map(lambda b: b * 300),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_any_objects_come_out_as_they_went_in(memory_home, objects):
    backend = MemoryBackend()
    writer = PackWriter(str(memory_home / "any"))
    for kind, oid, data in named(objects):
        writer.add(kind, oid, data)
    pack, _ = writer.finish(backend)
    reader = opened(backend, pack)
    for _, oid, data in named(objects):
        assert reader.read(oid, reader.index.find(oid)) == data


@pytest.mark.parametrize(
    "key",
    ["packs/x.pack", "packs/.pack", f"packs/{'0' * 64}", f"packs/{'A' * 64}.pack", f"other/{'0' * 64}.pack", f"packs/{'0' * 64}.pack.pack", "packs/", ""],
    ids=range(8),
)  # fmt: skip
def test_a_key_that_names_no_pack_is_none(key):
    assert pack_of_key(key) is None


def test_a_pack_and_its_key_name_each_other():
    pack = PackId(ObjectId(bytes(32)))
    assert pack_of_key(pack_key(pack)) == pack


# ── damage ──────────────────────────────────────────────────────────────────────────────
def read_all(data, pack):
    """What a reader gets from these bytes: objects, or the error of each."""
    backend = MemoryBackend()
    backend.create(pack_key(pack), data)
    reader = Pack(backend, pack, len(data))
    found = {}
    for oid, row in reader.index.items():
        try:
            found[oid] = bytes(reader.read(oid, row))
        except (DecodeError, HashMismatchError):
            found[oid] = None
    return found


@pytest.mark.spec("F-41")
@pytest.mark.spec("F-4")
def test_a_byte_changed_anywhere_gives_an_error_or_the_same_bytes(home):
    _, pack, _ = written(home)
    data = (home / "store" / pack_key(pack)).read_bytes()
    whole = {oid: body for _, oid, body in named(OBJECTS)}
    assert read_all(data, pack) == whole
    refused = lost = 0
    for at in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            try:
                found = read_all(bytes(damaged), pack)
            except DecodeError:
                refused += 1
                continue
            assert found.keys() == whole.keys()
            wrong = {oid for oid, body in found.items() if body != whole[oid]}
            assert all(found[oid] is None for oid in wrong)
            lost += len(wrong)
    tail = 52 * len(OBJECTS) + TRAILER.size
    assert refused == 3 * tail
    assert lost >= 3 * 300


@pytest.mark.spec("F-41")
def test_a_pack_that_is_cut_off_or_has_more_behind_it_is_refused(home):
    _, pack, _ = written(home)
    data = (home / "store" / pack_key(pack)).read_bytes()
    for size in range(len(data)):
        with pytest.raises(DecodeError):
            read_all(data[:size], pack)
    for more in (b"\0", bytes(56), data[-56:]):
        with pytest.raises(DecodeError):
            read_all(data + more, pack)


@pytest.mark.spec("F-40")
def test_a_pack_under_another_packs_name_is_refused(home):
    _, pack, _ = written(home)
    data = (home / "store" / pack_key(pack)).read_bytes()
    with pytest.raises(DecodeError):
        read_all(data, PackId(hash_object(Kind.INDEX, b"other")))


def test_a_pack_that_is_gone_is_not_found(home):
    backend, pack, _ = written(home)
    reader = opened(backend, pack)
    backend.delete(pack_key(pack))
    with pytest.raises(ObjectNotFoundError):
        oid, row = next(reader.index.items())
        reader.read(oid, row)
    with pytest.raises(ObjectNotFoundError):
        Pack(backend, pack, 500)


@pytest.mark.spec("F-40")
def test_a_name_taken_by_the_same_pack_is_as_good_as_written(home):
    _, pack, index = written(home)
    assert written(home)[1:] == (pack, index)
    assert packs_folder(home) == [f"{pack}.pack"]


@pytest.mark.spec("F-40")
@pytest.mark.parametrize("how", ["cut", "flip", "empty"])
def test_a_name_taken_by_a_damaged_pack_is_an_error_and_never_a_loss(home, how):
    _, pack, _ = written(home)
    path = home / "store" / pack_key(pack)
    data = path.read_bytes()
    damaged = {"cut": data[:-1], "flip": data[:9] + b"\xff" + data[10:], "empty": b""}[how]
    path.write_bytes(damaged)
    writer = PackWriter(str(home / "store" / "packs"))
    for kind, oid, body in named(OBJECTS):
        writer.add(kind, oid, body)
    with pytest.raises(IntegrityError, match="is damaged and has the name") as caught:
        writer.finish(FolderBackend(str(home / "store")))
    assert "move that file" in caught.value.hint
    writer.abandon()
    assert packs_folder(home) == [f"{pack}.pack"]
    path.unlink()
    assert written(home)[1] == pack


# ── indexes ─────────────────────────────────────────────────────────────────────────────
def index_of(ids):
    return packindex.encode((oid, Row(8 + at, 1, 1, 1, 0)) for at, oid in enumerate(ids))


@pytest.mark.spec("F-38")
@pytest.mark.parametrize("count", [1, 2, 3, 100, 5000, 100_000])
def test_every_id_of_an_index_is_found_and_no_other(count):
    source = random.Random(count)
    ids = [ObjectId(source.randbytes(32)) for _ in range(count)]
    pack, data = index_of(ids)
    index = PackIndex.check(memoryview(data), pack)
    for at in range(0, count, max(1, count // 2000)):
        assert index.find(ids[at]).offset == 8 + at
        near = bytearray(ids[at])
        near[31] ^= 1
        assert index.find(bytes(near)) is None
        assert index.find(source.randbytes(32)) is None
    for edge in (bytes(32), b"\xff" * 32):
        assert index.find(edge) is None
    assert list(index.ids()) == sorted(ids)


@pytest.mark.spec("F-38")
@pytest.mark.parametrize("fill", [b"\0", b"\x7f", b"\xff"])
def test_ids_that_all_begin_alike_are_found_as_well(fill):
    ids = [ObjectId(fill * 24 + number.to_bytes(8, "big")) for number in range(0, 4000, 2)]
    pack, data = index_of(ids)
    index = PackIndex.check(data, pack)
    for at, oid in enumerate(ids):
        assert index.find(oid).offset == 8 + at
        assert index.find(oid[:31] + bytes([oid[31] + 1])) is None


@settings(deadline=None)
@given(
    st.sets(
        st.binary(min_size=1, max_size=3).map(lambda b: ObjectId((b + bytes(32))[:32])), min_size=1
    ),
    st.binary(max_size=3),
)
def test_ids_that_crowd_together_are_found_as_well(ids, other):
    pack, data = index_of(sorted(ids))
    index = PackIndex.check(data, pack)
    for oid in ids:
        assert index.find(oid) is not None
    other = (other + bytes(32))[:32]
    assert (index.find(other) is not None) == (other in ids)


@pytest.mark.spec("F-39")
@pytest.mark.parametrize(
    ("offset", "count", "size"),
    [(8, 0, 64), (8, 1, 115), (8, 1, 117), (7, 1, 115), (8, (1 << 18) + 1, 8 + 52 * ((1 << 18) + 1) + 56), (1 << 63, 1, 116)],
)  # fmt: skip
def test_a_trailer_that_cannot_be_true_is_refused(offset, count, size):
    pack = PackId(ObjectId(bytes(32)))
    with pytest.raises(DecodeError):
        packindex.decode_trailer(packindex.encode_trailer(offset, count, pack), pack, size)
    assert packindex.decode_trailer(packindex.encode_trailer(8, 1, pack), pack, 116) == (8, 1)


def hostile_pack(row, stored, oid):
    """A pack whose index is well made and says whatever `row` says."""
    pack, index = packindex.encode([(oid, row)])
    data = MAGIC + stored
    data += index + packindex.encode_trailer(len(data), 1, pack)
    backend = MemoryBackend()
    backend.create(pack_key(pack), data)
    reader = Pack(backend, pack, len(data))
    return lambda: reader.read(oid, reader.index.find(oid))


@pytest.mark.spec("F-41")
@pytest.mark.spec("F-43")
@pytest.mark.parametrize("kind", [Kind.CHUNK, Kind.TREE])
def test_a_row_that_promises_too_much_is_refused_before_room_is_made(kind):
    most = (1 << 20) if kind is Kind.CHUNK else (16 << 20)
    bomb = zstandard.ZstdCompressor().compress(bytes(most + 1))
    oid = hash_object(kind, b"x")
    read = hostile_pack(Row(8, len(bomb), most + 1, kind, 1), bomb, oid)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="over the limit"):
            read()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.spec("F-41")
@pytest.mark.parametrize(
    "row",
    [
        Row(8, 1, 1, 0, 0),
        Row(8, 1, 1, 99, 0),
        Row(8, 1, 1, 2, 0),
        Row(8, 1, 1, 1, 2),
        Row(8, 1, 2, 1, 0),
        Row(8, 2, 1, 1, 0),
        Row(8, 1, 1, 1, 1),
        Row(0, 1, 1, 1, 0),
        Row(1 << 40, 1, 1, 1, 0),
        Row((1 << 64) - 1, (1 << 32) - 1, 1, 1, 0),
        Row(8, 0, 0, 1, 0),
    ],
    ids=str,
)
def test_a_row_that_lies_gives_no_bytes(row):
    with pytest.raises(IntegrityError):
        hostile_pack(row, b"x", hash_object(Kind.CHUNK, b"x"))()


def test_an_object_is_named_with_the_place_where_it_is_damaged():
    oid = hash_object(Kind.CHUNK, b"x")
    with pytest.raises(HashMismatchError, match=f"{oid.short} in pack 7"):
        checked(oid, Row(0, 1, 1, Kind.CHUNK, 0), b"y", "pack 7")


# ── compression ─────────────────────────────────────────────────────────────────────────
@pytest.mark.spec("F-43")
@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=3000)
    | st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 2000)).map(
        lambda pair: pair[0] * pair[1]
    )
)
def test_bytes_expand_to_what_they_were(data):
    encoding, stored = compress.shrink(memoryview(data))
    assert len(stored) <= len(data)
    assert bytes(compress.expand(encoding, bytes(stored), len(data))) == data


def test_compression_is_used_where_it_pays():
    noise = blake3(b"noise").digest(length=100_000)
    assert compress.shrink(LINE * 1000)[0] == compress.ZSTD
    assert compress.shrink(noise)[0] == compress.RAW
    assert compress.shrink(b"a" * 255)[0] == compress.RAW
    assert compress.shrink(noise[:50_000] + bytes(100) + noise[50_000:])[0] == compress.RAW


FRAME = zstandard.ZstdCompressor().compress(LINE * 30)
UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(LINE * 30)
SIZE = len(LINE * 30)


@pytest.mark.spec("F-43")
@pytest.mark.parametrize(
    ("encoding", "stored", "size"),
    [
        (0, b"abc", 2),
        (0, b"abc", 4),
        (1, b"", 0),
        (1, b"", 5),
        (1, b"abc", 3),
        (1, FRAME, SIZE - 1),
        (1, FRAME, SIZE + 1),
        (1, FRAME[:-1], SIZE),
        (1, FRAME[:5], SIZE),
        (1, FRAME + b"x", SIZE),
        (1, FRAME + FRAME, SIZE),
        (1, FRAME + FRAME, 2 * SIZE),
        (1, UNSIZED, SIZE),
        (2, FRAME, SIZE),
        (255, b"abc", 3),
    ],
    ids=range(15),
)
def test_stored_bytes_that_are_not_exactly_the_object_are_refused(encoding, stored, size):
    with pytest.raises(DecodeError):
        compress.expand(encoding, stored, size)
    assert compress.expand(1, FRAME, SIZE) == LINE * 30


@pytest.mark.spec("F-43")
def test_a_stream_that_would_grow_without_end_makes_no_room():
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(200 << 20))
    assert len(bomb) < 30_000
    tracemalloc.start()
    try:
        for size in (10, len(bomb), 1 << 20):
            with pytest.raises(DecodeError):
                compress.expand(1, bomb, size)
        # One that claims little and holds much.
        lying = bytearray(zstandard.ZstdCompressor().compress(bytes(100_000)))
        assert zstandard.frame_content_size(bytes(lying)) == 100_000
        at = bytes(lying).index((100_000).to_bytes(4, "little"))
        lying[at : at + 4] = (70_000).to_bytes(4, "little")
        with pytest.raises(DecodeError):
            compress.expand(1, bytes(lying), 70_000)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


# ── large indexes ───────────────────────────────────────────────────────────────────────
def large_pack(home, count=6000):
    """A pack whose index is mapped, written around the writer; gives its path and its ids."""
    source = random.Random(count)
    ids = sorted(ObjectId(source.randbytes(32)) for _ in range(count))
    pack, index = packindex.encode((oid, Row(8, 1, 1, Kind.CHUNK, 0)) for oid in ids)
    data = MAGIC + b"x" + index
    data += packindex.encode_trailer(9, count, pack)
    path = home / "store" / pack_key(pack)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path, pack, ids


@pytest.mark.spec("F-41")
def test_a_large_index_is_mapped_and_answers_as_a_small_one_does(home):
    path, pack, ids = large_pack(home)
    reader = Pack(FolderBackend(str(home / "store")), pack, path.stat().st_size)
    assert isinstance(reader.index._bytes.obj, mmap.mmap)
    absent = [ObjectId(random.Random(1 << 20).randbytes(32)) for _ in range(100)]
    for _ in range(2):  # by searching, and by steps
        for at in (*range(0, 6000, 7), 5999):
            assert reader.index.position(ids[at]) == at
        assert all(reader.index.position(oid) is None for oid in absent)
    memory = MemoryBackend()
    memory.create(pack_key(pack), path.read_bytes())
    other = Pack(memory, pack, path.stat().st_size)
    assert list(other.index.items()) == list(reader.index.items())


@pytest.mark.spec("F-41")
def test_what_a_large_damaged_index_says_is_not_believed(home):
    path, pack, ids = large_pack(home)
    data = bytearray(path.read_bytes())
    data[-56 - 20 * 6000 + 3] ^= 1  # a row; the ids are as they were
    path.write_bytes(data)
    reader = Pack(FolderBackend(str(home / "store")), pack, len(data))
    with pytest.raises(DecodeError, match=f"index of pack {pack.short} is damaged"):
        reader.index.find(ids[77])


@pytest.mark.spec("F-41")
def test_an_object_that_would_lie_in_the_index_is_refused():
    oid = hash_object(Kind.CHUNK, b"x")
    with pytest.raises(DecodeError, match="outside"):
        hostile_pack(Row(8, 2, 2, Kind.CHUNK, 0), b"x", oid)()


@pytest.mark.spec("F-38")
def test_an_id_is_not_found_between_two_others():
    """The search by steps looks for bytes; a match must begin where an id begins."""
    ids = [ObjectId(bytes([n]) * 32) for n in range(1, 200)]
    pack, data = index_of(ids)
    index = PackIndex.check(data, pack)
    for _ in range(100):
        index.find(ids[0])
    for cut in range(1, 32):
        straddling = bytes([7]) * (32 - cut) + bytes([8]) * cut
        assert index.find(straddling) is None
    assert all(index.find(oid).offset == 8 + at for at, oid in enumerate(ids))


@pytest.mark.spec("F-38")
@pytest.mark.parametrize("wrong", ["order", "twice", "before", "beyond"])
def test_disorder_of_a_well_hashed_index_is_named(wrong):
    ids = [ObjectId(bytes([n]) * 32) for n in (1, 2, 3)]
    rows = [Row(8, 1, 1, 1, 0)] * 3
    if wrong == "order":
        ids.reverse()
    if wrong == "twice":
        ids[1] = ids[0]
    if wrong == "before":
        rows[1] = Row(7, 1, 1, 1, 0)
    if wrong == "beyond":
        rows[1] = Row(10, 1, 1, 1, 0)
    data = b"".join(ids) + b"".join(packindex._ROW.pack(*row) for row in rows)
    index = PackIndex.check(data, hash_object(Kind.INDEX, data))
    assert index.disorder(10) is not None
    good = [ObjectId(bytes([n]) * 32) for n in (1, 2)]
    pack, data = index_of(good)
    assert PackIndex.check(data, pack).disorder(10) is None
