"""The stage: whatever order chunks come in, however often it is cut off, only what hashes counts."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from support.datasets import noise
from support.faults import count_calls
from usrstore.errors import HashMismatchError
from usrstore.objects.chunklist import ChunkList
from usrstore.objects.ids import ChunkId, ContentHash, Kind, ObjectId, TreeId, hash_object
from usrstore.objects.tree import FileEntry
from usrstore.odb.extents import Extent
from usrstore.worktree import stage as staging
from usrstore.worktree import stagelog
from usrstore.worktree.source import FolderSource
from usrstore.worktree.stage import Stage, Target

TREE, OTHER_TREE = TreeId(ObjectId(b"1" * 32)), TreeId(ObjectId(b"2" * 32))
A, B, C = (noise(name, size) for name, size in (("a", 3000), ("b", 2000), ("c", 1000)))


def chunk(data):
    return ChunkId(hash_object(Kind.CHUNK, data))


def target(path, *pieces):
    whole = b"".join(pieces)
    entry = FileEntry(path, len(whole), ContentHash(hash_object(Kind.CHUNK, whole)), None)
    return Target(path, entry, ChunkList((chunk(piece), len(piece)) for piece in pieces))


TARGETS = [target("one", A, B), target("two", B, C, B), target("three", C)]
PIECES = {chunk(piece): piece for piece in (A, B, C)}


@pytest.fixture
def stage(tmp_path):
    opened = Stage(str(tmp_path), TREE, TARGETS)
    yield opened
    opened.close()


def read(stage):
    paths = {item.path: Path(stage.path(number)) for number, item in enumerate(stage.targets)}
    return {name: path.read_bytes() for name, path in paths.items()}


def place_all(stage):
    for oid, _ in list(stage.wanted()):
        stage.place(oid, PIECES[oid])


def test_each_chunk_is_wanted_once_in_the_order_of_the_files(stage):
    assert list(stage.wanted()) == [(chunk(A), 3000), (chunk(B), 2000), (chunk(C), 1000)]
    assert stage.paths_of(chunk(B)) == ["one", "two"]
    assert stage.lacks(chunk(A))
    assert not stage.lacks(chunk(b"other"))


@pytest.mark.parametrize("seed", range(6))
def test_chunks_that_arrive_in_any_order_make_the_files(stage, seed):
    oids = list(PIECES)
    random.Random(seed).shuffle(oids)
    for oid in oids:
        stage.place(oid, PIECES[oid])
        assert not stage.lacks(oid)
    assert list(stage.wanted()) == []
    stage.verify()
    assert read(stage) == {"one": A + B, "two": B + C + B, "three": C}
    assert [(item.path, size) for item, (_, size) in stage.verified()] == [
        (item.path, os.stat(stage.path(n)).st_mtime_ns) for n, item in enumerate(TARGETS)
    ]


def test_an_empty_file_is_staged_without_any_chunk(tmp_path):
    stage = Stage(str(tmp_path), TREE, [target("empty")])
    stage.verify()
    assert read(stage) == {"empty": b""}
    stage.close()


def test_what_landed_is_not_wanted_again_by_the_next_run(stage, tmp_path):
    stage.place(chunk(B), B)
    stage.close()
    again = Stage(str(tmp_path), TREE, TARGETS)
    assert again.bytes_resumed == 2000
    assert [oid for oid, _ in again.wanted()] == [chunk(A), chunk(C)]
    place_all(again)
    again.verify()
    again.close()


@pytest.mark.parametrize("cut", [1, 47, 49])
def test_a_note_that_was_cut_off_counts_for_nothing(stage, tmp_path, cut):
    place_all(stage)
    stage.close()
    log = os.path.join(stage.folder, "landed")
    os.truncate(log, os.path.getsize(log) - cut)
    again = Stage(str(tmp_path), TREE, TARGETS)
    assert len(list(again.wanted())) == (1 if cut < 48 else 2)
    place_all(again)
    again.verify()
    again.close()


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("how", ["gone", "short"])
def test_what_was_noted_but_is_not_there_is_wanted_again(stage, tmp_path, number, how):
    """A promotion that was taken back has moved staged files away."""
    place_all(stage)
    stage.close()
    if how == "gone":
        os.unlink(stage.path(number))
    else:
        os.truncate(stage.path(number), 500)
    again = Stage(str(tmp_path), TREE, TARGETS)
    place_all(again)
    again.verify()
    assert read(again) == {"one": A + B, "two": B + C + B, "three": C}
    again.close()


def test_other_targets_never_mistake_the_files_of_an_earlier_run(stage, tmp_path):
    """The same state, but by now the folder lacks other files: number 0 is another file."""
    place_all(stage)
    stage.close()
    again = Stage(str(tmp_path), TREE, TARGETS[1:])
    assert again.bytes_resumed == 0
    with again.salvage() as leftovers:
        assert again.fill(leftovers.try_read) == 3000
    assert list(again.wanted()) == []
    again.verify()
    assert read(again) == {"two": B + C + B, "three": C}
    again.close()


def test_another_state_takes_over_what_it_shares_with_an_interrupted_one(stage, tmp_path):
    stage.place(chunk(A), A)
    stage.place(chunk(B), B)
    stage.close()
    with open(stage.path(0), "r+b") as file:
        file.write(b"damaged")  # A is there no more, though the log says so
    other = Stage(str(tmp_path), OTHER_TREE, [target("new", C, B, A)])
    with other.salvage() as leftovers:
        assert len(leftovers) == 2
        assert other.fill(leftovers.try_read) == 2000
    assert [oid for oid, _ in other.wanted()] == [chunk(C), chunk(A)]
    other.close()


def test_the_folder_is_a_source_that_verification_checks(stage, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "f").write_bytes(C + A)
    with FolderSource(str(tmp_path / "folder")) as source:
        source.add("f", [(chunk(C), 1000), (chunk(A), 3000)])
        assert stage.fill_from(source) == 4000
    assert [oid for oid, _ in stage.wanted()] == [chunk(B)]
    place_all(stage)
    stage.verify()


def extents_of(tmp_path, *runs):
    """Open files that hold chunks one behind the other, after some bytes of something else."""
    found = []
    for number, pieces in enumerate(runs):
        path = tmp_path / f"pack-{number}"
        path.write_bytes(b"before" + b"".join(pieces))
        fd = os.open(path, os.O_RDONLY)
        found.append(Extent(fd, len(b"before"), [(chunk(p), len(p)) for p in pieces]))
    return found


@pytest.mark.parametrize("runs", [[[A, B, C]], [[C, B, A]], [[B, C], [A]], [[A], [B], [C]]])
def test_extents_make_the_files_however_the_chunks_lie(stage, tmp_path, runs):
    assert stage.fill_extents(extents_of(tmp_path, *runs)) == len(A + B + C)
    assert list(stage.wanted()) == []
    stage.verify()
    assert read(stage) == {"one": A + B, "two": B + C + B, "three": C}


def test_an_extent_within_one_file_is_one_copy(tmp_path):
    pieces = [noise(f"n{n}", 1000) for n in range(50)]
    stage = Stage(str(tmp_path / "home"), TREE, [target("one", *pieces)])
    found = extents_of(tmp_path, pieces)
    calls = count_calls(lambda: stage.fill_extents(found))
    assert [op for op, _ in calls] == ["create", "copy", "write"]
    stage.verify()
    stage.close()


def test_an_extent_that_lies_in_two_files_is_one_copy_to_each(tmp_path):
    pieces = [noise(f"n{n}", 1000) for n in range(50)]
    both = [target("one", *pieces), target("two", A, *pieces)]
    stage = Stage(str(tmp_path / "home"), TREE, both)
    found = extents_of(tmp_path, pieces)
    calls = count_calls(lambda: stage.fill_extents(found))
    assert [op for op, _ in calls] == ["create", "copy", "create", "copy", "write"]
    stage.place(chunk(A), A)
    stage.verify()
    stage.close()


def test_what_an_extent_had_damaged_is_read_again_and_nothing_else(stage, tmp_path):
    spoilt = bytes(len(B))
    path = tmp_path / "pack"
    path.write_bytes(A + spoilt + C)
    fd = os.open(path, os.O_RDONLY)
    stage.fill_extents([Extent(fd, 0, [(chunk(p), len(p)) for p in (A, B, C)])])
    asked = []

    def again(oid):
        asked.append(oid)
        return PIECES[oid]

    stage.verify(again=again)
    assert read(stage) == {"one": A + B, "two": B + C + B, "three": C}
    assert set(asked) == {chunk(B)}


def test_what_nobody_can_read_again_is_thrown_away(stage, tmp_path):
    place_all(stage)
    with open(stage.path(0), "r+b") as file:
        file.write(b"x")
    with pytest.raises(HashMismatchError, match="one: expected"):
        stage.verify(again=lambda _oid: None)
    assert not os.path.exists(stage.path(0))
    assert {oid for oid, _ in stage.wanted()} == {chunk(A), chunk(B)}


def test_a_source_that_lost_bytes_is_left_alone(stage, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "f").write_bytes(C + A[:100])
    with FolderSource(str(tmp_path / "folder")) as source:
        source.add("f", [(chunk(C), 1000), (chunk(A), 3000)])
        assert stage.fill_from(source) == 1000
    assert stage.lacks(chunk(A))


@pytest.mark.parametrize("damage", ["a flipped byte", "a byte too many", "a byte too few"])
def test_a_staged_file_that_is_not_what_the_state_says_is_thrown_away(stage, tmp_path, damage):
    place_all(stage)
    path = stage.path(1)
    with open(path, "r+b") as file:
        if damage == "a flipped byte":
            file.seek(2500)
            byte = file.read(1)
            file.seek(2500)
            file.write(bytes([byte[0] ^ 1]))
        else:
            file.truncate(5001 if damage == "a byte too many" else 4999)
    with pytest.raises(HashMismatchError) as caught:
        stage.verify()
    assert caught.value.message.startswith("two: expected 5000 bytes, ")
    again = Stage(str(tmp_path / "again"), TREE, TARGETS)
    assert again.bytes_resumed == 0
    again.close()


def test_many_small_files_are_made_durable_by_one_call(tmp_path):
    pieces = [noise(n, 100) for n in range(40)]
    stage = Stage(str(tmp_path), TREE, [target(str(n), piece) for n, piece in enumerate(pieces)])
    for piece in pieces:
        stage.place(chunk(piece), piece)
    stage.verify()
    syncs = [op for op, _ in count_calls(stage.sync) if "sync" in op]
    assert syncs == ["syncfs"] or len(syncs) == 41
    stage.close()


def test_a_few_files_are_made_durable_one_by_one_with_their_names(stage):
    place_all(stage)
    stage.verify()
    calls = count_calls(stage.sync)
    folders = [stage.folder, stage.home, os.path.dirname(stage.home)]
    files = [stage.path(number) for number in range(3)]
    assert [path for op, path in calls if op == "fsync"] == files + folders


def test_only_the_damaged_file_is_fetched_again(stage, tmp_path):
    place_all(stage)
    os.truncate(stage.path(0), 10)
    with pytest.raises(HashMismatchError, match="one"):
        stage.verify()
    stage.close()
    again = Stage(str(tmp_path), TREE, TARGETS)
    wanted = list(again.wanted())
    assert (chunk(A), 3000) in wanted
    assert (chunk(C), 1000) not in wanted
    place_all(again)
    again.verify()
    assert read(again) == {"one": A + B, "two": B + C + B, "three": C}
    again.close()


def test_what_was_thrown_away_is_not_believed_because_a_later_piece_came_first(stage, tmp_path):
    place_all(stage)
    Path(stage.path(1)).write_bytes(b"x" * 5000)
    with pytest.raises(HashMismatchError, match="two"):
        stage.verify()
    stage.place(chunk(C), C)
    stage.place(chunk(B), B)
    stage.close()
    again = Stage(str(tmp_path), TREE, TARGETS)
    place_all(again)
    again.verify()
    again.close()


# ── hashed while they arrive ────────────────────────────────────────────────────────────
@pytest.fixture
def hashed(monkeypatch):
    """The staged files that are read in order to be hashed."""
    seen = []
    whole = staging.hash_file

    def hash_file(path):
        seen.append(int(os.path.basename(path)))
        return whole(path)

    monkeypatch.setattr(staging, "hash_file", hash_file)
    return seen


def land(stage, *oids):
    for oid in oids or [oid for oid, _ in stage.wanted()]:
        stage.land([(oid, PIECES[oid])])


@pytest.mark.parametrize("at_once", [True, False])
def test_files_whose_chunks_land_in_order_are_not_read_to_be_verified(stage, hashed, at_once):
    wanted = [(oid, PIECES[oid]) for oid, _ in stage.wanted()]
    for chunks in [wanted] if at_once else [[chunk] for chunk in wanted]:
        stage.land(chunks)
    stage.verify()
    assert read(stage) == {"one": A + B, "two": B + C + B, "three": C}
    assert hashed == [2]  # all it consists of came for another file's sake


@pytest.mark.parametrize("seed", range(6))
def test_chunks_that_land_in_any_order_make_the_files(stage, seed):
    oids = list(PIECES)
    random.Random(seed).shuffle(oids)
    land(stage, *oids)
    stage.verify()
    assert read(stage) == {"one": A + B, "two": B + C + B, "three": C}


def test_what_was_hashed_is_not_hashed_again_by_the_next_run(stage, tmp_path, hashed):
    land(stage, chunk(A), chunk(B))
    land(stage, chunk(C))
    stage.landed_all()
    stage.close()
    again = Stage(str(tmp_path), TREE, TARGETS)
    assert list(again.wanted()) == []
    again.verify()
    assert hashed == [2]
    again.close()


def test_a_file_that_was_cut_off_is_hashed_from_its_beginning(stage, tmp_path, hashed):
    land(stage, chunk(A))
    stage.close()
    again = Stage(str(tmp_path), TREE, TARGETS)
    land(again)
    again.verify()
    assert read(again) == {"one": A + B, "two": B + C + B, "three": C}
    assert 0 not in hashed  # what lies there is read by the tally, once
    again.close()


def test_what_was_hashed_before_the_machine_went_down_is_hashed_again(
    stage, tmp_path, hashed, monkeypatch
):
    land(stage)
    stage.landed_all()
    stage.close()
    monkeypatch.setattr(stagelog, "boot", lambda: b"x" * 36)
    again = Stage(str(tmp_path), TREE, TARGETS)
    again.verify()
    assert hashed == [0, 1, 2]
    again.close()


@pytest.mark.parametrize("number", range(2))
def test_a_file_that_was_written_to_after_it_was_hashed_is_hashed_again(
    stage, tmp_path, hashed, number
):
    land(stage)
    stage.landed_all()
    stage.close()
    with open(stage.path(number), "r+b") as file:
        file.write(b"damaged")
    os.utime(stage.path(number), ns=(1, 1))
    again = Stage(str(tmp_path), TREE, TARGETS)
    with pytest.raises(HashMismatchError):
        again.verify()
    assert number in hashed
    again.close()


def test_a_chunk_that_is_not_what_the_file_says_is_found_by_the_running_hash(stage):
    """The recipe names chunks that do not make the content that the tree names."""
    wrong = FileEntry("one", 5000, ContentHash(chunk(C)), None)
    other = Stage(stage.home, OTHER_TREE, [Target("one", wrong, TARGETS[0].chunks)])
    land(other)
    with pytest.raises(HashMismatchError, match="one: expected 5000 bytes"):
        other.verify()
    other.close()


# ── hashed behind a copy ────────────────────────────────────────────────────────────────
LARGE = [noise(f"large{n}", 50_000) for n in range(4)]
ALONE = noise("alone", 100_000)
COPIED = [target("alone", ALONE), target("large", *LARGE), target("again", LARGE[3], LARGE[0])]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A stage that is filled a chunk or two at a time."""
    monkeypatch.setattr(staging, "_PORTION_BYTES", 60_000)
    opened = Stage(str(tmp_path / "home"), TREE, COPIED)
    yield opened
    opened.close()


def copy(stage, tmp_path, chunks):
    """Copy portion by portion what a pack of `chunks` has; whether all came in its order."""
    path = tmp_path / "pack"
    path.write_bytes(b"".join(chunks.values()))
    places, at = {}, 0
    for oid, data in chunks.items():
        places[oid] = at
        at += len(data)
    whole = True
    fd = os.open(path, os.O_RDONLY)
    for portion in stage.portions():
        here = [(oid, size) for oid, size in portion if oid in places]
        stage.fill_extents([Extent(fd, places[oid], [(oid, size)]) for oid, size in here])
        whole = whole and stage.filled(portion)
    os.close(fd)
    return whole


def contents():
    pieces = {"alone": ALONE, "large": b"".join(LARGE), "again": LARGE[3] + LARGE[0]}
    return pieces, {chunk(data): data for data in (ALONE, *LARGE)}


def test_files_that_are_copied_in_order_are_not_read_to_be_verified(copied, tmp_path, hashed):
    files, chunks = contents()
    assert copy(copied, tmp_path, chunks)
    copied.verify()
    assert read(copied) == files
    assert hashed == [2]  # all it consists of came for another file's sake


@pytest.mark.parametrize("spoilt", [ALONE, *LARGE])
def test_a_copy_that_is_not_what_its_name_says_is_never_believed(copied, tmp_path, spoilt):
    chunks = contents()[1]
    assert copy(copied, tmp_path, chunks | {chunk(spoilt): bytes(len(spoilt))})
    with pytest.raises(HashMismatchError):
        copied.verify()


@pytest.mark.parametrize("spoilt", [ALONE, *LARGE])
def test_a_copy_that_is_not_what_its_name_says_is_read_again(copied, tmp_path, spoilt):
    files, chunks = contents()
    copy(copied, tmp_path, chunks | {chunk(spoilt): bytes(len(spoilt))})
    copied.verify(again=chunks.get)
    assert read(copied) == files


@pytest.mark.parametrize("absent", [ALONE, *LARGE])
def test_what_was_not_there_to_copy_may_land_later(copied, tmp_path, absent):
    files, chunks = contents()
    there = {oid: data for oid, data in chunks.items() if data != absent}
    assert not copy(copied, tmp_path, there)
    copied.land([(chunk(absent), absent)])
    copied.verify()
    assert read(copied) == files
