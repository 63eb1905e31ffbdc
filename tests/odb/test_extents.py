"""Extents: chunks that lie as they are, found as few long ranges of open packs."""

from __future__ import annotations

import os

from usrstore.objects.ids import ChunkId, Kind, hash_object
from usrstore.odb import extents
from usrstore.odb.backend.folder import FolderBackend
from usrstore.odb.backend.memory import MemoryBackend
from usrstore.odb.database import Database


def noise(number):
    data = number.to_bytes(4, "big") + os.urandom(996)
    return ChunkId(hash_object(Kind.CHUNK, data)), data


def filled(tmp_path, *batches):
    (tmp_path / "packs").mkdir(exist_ok=True)
    database = Database(FolderBackend(str(tmp_path)), str(tmp_path / "packs"))
    for chunks in batches:
        with database.batch() as batch:
            for oid, data in chunks:
                batch.put(Kind.CHUNK, oid, data)
    return database


def read(found):
    """What the extents hold, chunk by chunk, read while their files are open."""
    pieces, count = [], 0
    for extent in found:
        count += 1
        at = extent.offset
        for oid, size in extent.chunks:
            pieces.append((oid, os.pread(extent.fd, size, at)))
            at += size
    return pieces, count


def test_neighbours_are_one_extent_and_packs_are_kept_apart(tmp_path):
    first, second = [noise(n) for n in range(20)], [noise(n) for n in range(20, 30)]
    database = filled(tmp_path, first, second)
    wanted = [(oid, len(data)) for oid, data in [*first, *second]]
    assert read(extents.find(database, wanted)) == ([*first, *second], 2)
    backwards = list(reversed(wanted))
    pieces, count = read(extents.find(database, backwards))
    assert (dict(pieces), count) == (dict([*first, *second]), 30)


def test_what_is_compressed_missing_or_of_another_size_is_left_out(tmp_path):
    chunks = [noise(n) for n in range(6)]
    text = b"the same words again " * 100
    packed = ChunkId(hash_object(Kind.CHUNK, text)), text
    database = filled(tmp_path, [*chunks[:3], packed, *chunks[3:5]])
    wanted = [(oid, len(data)) for oid, data in [*chunks[:3], packed, *chunks[3:]]]
    pieces, _ = read(extents.find(database, wanted))
    assert pieces == chunks[:5]
    assert read(extents.find(database, [(chunks[0][0], 5)])) == ([], 0)


def test_packs_that_are_no_files_have_none(tmp_path):
    database = Database(MemoryBackend(), str(tmp_path))
    oid, data = noise(1)
    with database.batch() as batch:
        batch.put(Kind.CHUNK, oid, data)
    assert database.has(oid)
    assert read(extents.find(database, [(oid, len(data))])) == ([], 0)
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []
