"""Chunks read from working files: checked each time, and never what the file has become."""

from __future__ import annotations

import os

import pytest

from support.datasets import noise
from usrstore.errors import ChangedWhileReadError
from usrstore.objects.ids import ChunkId, Kind, hash_object
from usrstore.worktree.scan import Stamp
from usrstore.worktree.source import FolderSource, Place

PIECES = [noise(n, 1000 + n) for n in range(4)]
CHUNKS = [(ChunkId(hash_object(Kind.CHUNK, piece)), len(piece)) for piece in PIECES]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "file").write_bytes(b"".join(PIECES))
    with FolderSource(str(tmp_path)) as opened:
        opened.add("file", CHUNKS)
        yield opened


def test_every_chunk_is_read_from_its_place_in_any_order(source):
    for (oid, _), piece in reversed(list(zip(CHUNKS, PIECES, strict=True))):
        assert source.read(oid) == source.try_read(oid) == piece
    assert len(source) == len(CHUNKS)
    assert source.find(CHUNKS[1][0]) == Place("file", 1000, 1001)


def test_the_first_file_that_holds_a_chunk_serves_it(source, tmp_path):
    source.add("elsewhere", CHUNKS)
    assert source.read(CHUNKS[0][0]) == PIECES[0]


def test_an_unknown_chunk_is_not_looked_for(source):
    unknown = ChunkId(hash_object(Kind.CHUNK, b"unknown"))
    assert source.find(unknown) is None
    assert source.try_read(unknown) is None


CHANGES = {
    "rewritten": lambda path: path.write_bytes(bytes(5000)),
    "truncated": lambda path: os.truncate(path, 500),
    "removed": lambda path: path.unlink(),
    "a link now": lambda path: (path.rename(path.with_name("o")), os.symlink("o", path)),
    "a folder now": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_file_that_is_no_longer_the_same_gives_nothing(source, tmp_path, how):
    CHANGES[how](tmp_path / "file")
    with pytest.raises(ChangedWhileReadError) as caught:
        source.read(CHUNKS[0][0])
    assert "file changed while it was being sent" in caught.value.message
    assert source.try_read(CHUNKS[0][0]) is None


def test_one_file_is_open_at_a_time(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with FolderSource(str(tmp_path)) as source:
        for number, piece in enumerate(PIECES):
            (tmp_path / str(number)).write_bytes(piece)
            source.add(str(number), [CHUNKS[number]])
        for oid, _ in CHUNKS:
            source.read(oid)
            assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before


# ── what this process hashed already ────────────────────────────────────────────────────
@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """A source that was told the file's stamp, and what it hashes from then on."""
    (tmp_path / "file").write_bytes(b"".join(PIECES))
    seen = []

    def counting(kind, data):
        seen.append(len(data))
        return hash_object(kind, data)

    monkeypatch.setattr("usrstore.worktree.source.hash_object", counting)
    stamp = Stamp.of(os.stat(tmp_path / "file"))
    with FolderSource(str(tmp_path), {"file": stamp}) as opened:
        opened.add("file", CHUNKS)
        yield opened, seen


NAMES = [oid for oid, _ in CHUNKS]


def test_what_nobody_touched_is_not_hashed_once_more(hashed):
    source, seen = hashed
    assert list(map(bytes, source.read_all(NAMES))) == PIECES
    assert seen == []


def test_one_chunk_by_itself_is_hashed_all_the_same(hashed):
    source, seen = hashed
    assert source.read(NAMES[1]) == PIECES[1]
    assert seen == [1001]


@pytest.mark.parametrize("how", ["in its place", "by another file", "and dated back"])
def test_what_was_touched_is_hashed_and_not_given(hashed, tmp_path, how):
    source, seen = hashed
    path = tmp_path / "file"
    before = os.stat(path)
    data = path.read_bytes()
    other = data[:1500] + bytes(1) + data[1501:]
    if how == "by another file":
        (tmp_path / "other").write_bytes(other)
        os.replace(tmp_path / "other", path)
    else:
        path.write_bytes(other)
    if how == "and dated back":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    given = source.read_all(NAMES)
    assert given[1] is None  # the byte that changed lies in the second
    assert [bytes(given[n]) for n in (0, 2, 3)] == [PIECES[n] for n in (0, 2, 3)]
    assert seen == [len(piece) for piece in PIECES]


def test_what_was_cut_short_is_not_taken_for_whole(hashed, tmp_path):
    source, _ = hashed
    os.truncate(tmp_path / "file", 2500)
    given = source.read_all(NAMES)
    assert [piece is None for piece in given] == [False, False, True, True]
