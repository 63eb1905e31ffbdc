"""Scrubbing finds every damaged object, and only those, wherever it lies."""

from __future__ import annotations

import os

import pytest

from support.datasets import noise
from usrstore.errors import StorageError
from usrstore.objects.ids import Kind, hash_object
from usrstore.odb import scrub as scrubbing
from usrstore.odb.backend.folder import FolderBackend
from usrstore.odb.backend.memory import MemoryBackend
from usrstore.odb.database import Database
from usrstore.odb.scrub import scrub

TEXT = b"a line of text that a compressor likes\n" * 400


def filled(backend, scratch):
    """A data pack of raw and compressed chunks, of every size around a run's."""
    database = Database(backend, str(scratch))
    with database.batch() as batch:
        for number, size in enumerate([1, 300, 70_000, 1 << 20, 5, 1 << 20, 200_000, 999_999]):
            data = noise(number, size)
            batch.put(Kind.CHUNK, hash_object(Kind.CHUNK, data), data)
        for number in range(50):
            data = b"%d" % number + TEXT
            batch.put(Kind.CHUNK, hash_object(Kind.CHUNK, data), data)
    return next(pack for pack in database.packs() if pack.index.count > 10)


@pytest.fixture
def pack(tmp_path):
    return filled(FolderBackend(str(tmp_path)), tmp_path / "packs")


def flip(tmp_path, pack, offset):
    path = tmp_path / "packs" / f"{pack.pack}.pack"
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_whole_pack_has_no_faults_and_every_byte_was_read(pack):
    seen = []
    assert scrub(pack, progress=seen.append) == []
    assert sum(seen) == sum(row.stored for _, row in pack.index.items())


def test_a_pack_in_memory_is_scrubbed_alike(tmp_path):
    assert scrub(filled(MemoryBackend(), tmp_path)) == []


def test_each_damaged_object_is_found_and_no_other(tmp_path, pack):
    for oid, row in list(pack.index.items())[::7]:
        where = row.offset + row.stored // 2
        flip(tmp_path, pack, where)
        (fault,) = scrub(pack)
        assert (fault.oid, fault.row) == (oid, row)
        assert oid.short in fault.reason
        flip(tmp_path, pack, where)


def test_faults_come_in_the_order_they_lie(tmp_path, pack):
    for _, row in pack.index.items():
        flip(tmp_path, pack, row.offset)
    found = [fault.row.offset for fault in scrub(pack)]
    assert len(found) == pack.index.count
    assert found == sorted(found)


def test_a_sector_that_cannot_be_read_costs_what_lies_on_it(pack, monkeypatch):
    """The disk refuses one place; everything beside it is still hashed."""
    bad = max(pack.index.items(), key=lambda item: item[1].stored)[1].offset + 10

    def preadv(fd, buffers, offset, preadv=os.preadv):
        if offset <= bad < offset + sum(map(len, buffers)):
            raise OSError(5, os.strerror(5))
        return preadv(fd, buffers, offset)

    def pread(fd, size, offset, pread=os.pread):
        if offset <= bad < offset + size:
            raise OSError(5, os.strerror(5))
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "pread", pread)
    (fault,) = scrub(pack)
    assert fault.row.offset <= bad < fault.row.offset + fault.row.stored
    assert "Input/output error" in fault.reason


def test_what_a_thread_stumbles_over_reaches_the_caller(pack, monkeypatch):
    def refuse(*_args):
        raise StorageError("the machine is on fire")

    monkeypatch.setattr(scrubbing._Work, "_hash", refuse)
    with pytest.raises(StorageError):
        scrub(pack)


def test_an_empty_object_does_not_hide_the_one_that_begins_where_it_lies(tmp_path):
    """The empty chunk has no bytes of its own: whichever name comes first, nothing is damaged."""
    empty = hash_object(Kind.CHUNK, b"")
    others = {data: hash_object(Kind.CHUNK, data) for data in (noise(n, 7) for n in range(8))}
    assert min(others.values()) < empty < max(others.values())
    for data, oid in others.items():
        database = Database(MemoryBackend(), str(tmp_path))
        with database.batch() as batch:
            batch.put(Kind.CHUNK, empty, b"")
            batch.put(Kind.CHUNK, oid, data)
        (pack,) = [pack for pack in database.packs() if pack.holds_data]
        assert len({row.offset for _, row in pack.index.items()}) == 1
        assert scrub(pack) == []
