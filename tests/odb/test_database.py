"""The object database: many packs as one set, and batches that are there whole or not at all."""

from __future__ import annotations

import errno
import os

import pytest

from usrstore.errors import (
    DiskFullError,
    HashMismatchError,
    IntegrityError,
    ObjectNotFoundError,
    StorageError,
)
from usrstore.objects import recipe
from usrstore.objects.ids import ChunkId, Kind, ObjectId, RecipeId, hash_object
from usrstore.odb import catalogue as catalogues
from usrstore.odb import database as databases
from usrstore.odb import durable, packindex
from usrstore.odb import pack as packs
from usrstore.odb.backend.folder import FolderBackend
from usrstore.odb.database import Database, Overlay
from usrstore.odb.packindex import MAGIC, Row


def chunk(number, size=40):
    data = b"%d " % number * size
    return hash_object(Kind.CHUNK, data), data


def node(number):
    data = recipe.Recipe(0, (recipe.Part(ChunkId(chunk(number)[0]), 40),)).encode()
    return hash_object(Kind.RECIPE, data), data


def put(batch, number):
    batch.put(Kind.CHUNK, *chunk(number))
    batch.put(Kind.RECIPE, *node(number))


class Store:
    """A database in a folder, opened anew at will, and what really lies there."""

    def __init__(self, home):
        self.path = home / "store"
        self.packs = self.path / "packs"
        self.packs.mkdir(parents=True)

    def open(self):
        return Database(FolderBackend(str(self.path)), str(self.packs))

    def names(self):
        return sorted(os.listdir(self.packs))

    def fill(self, *numbers):
        """One batch for each number; gives the pack of each chunk."""
        database = self.open()
        for number in numbers:
            with database.batch() as batch:
                put(batch, number)
        return [f"{database.find(chunk(number)[0]).pack.pack}.pack" for number in numbers]


@pytest.fixture
def store(home):
    return Store(home)


def test_objects_of_many_packs_are_one_set(store):
    store.fill(*range(20))
    database = store.open()
    for number in range(20):
        for kind, (oid, data) in ((Kind.CHUNK, chunk(number)), (Kind.RECIPE, node(number))):
            assert database.has(oid)
            assert database.get(kind, oid) == data
    absent = [chunk(number)[0] for number in range(20, 25)]
    assert database.missing([*absent, chunk(3)[0]]) == absent
    with pytest.raises(ObjectNotFoundError, match="is not in this store"):
        database.get(Kind.CHUNK, absent[0])


@pytest.mark.parametrize("merge", [0, 3, 4096])
def test_packs_answer_alike_whether_they_are_merged_or_searched(store, monkeypatch, merge):
    monkeypatch.setattr(catalogues, "_MERGE_OBJECTS", merge)
    with store.open().batch() as batch:
        for number in range(50):
            put(batch, number)
    store.fill(*range(50, 55))
    database = store.open()
    assert not database.missing([chunk(number)[0] for number in range(55)])
    assert database.missing([chunk(99)[0]])
    assert database.get(Kind.RECIPE, node(7)[0]) == node(7)[1]


@pytest.mark.parametrize("few", [0, 10_000], ids=["at once", "one by one"])
@pytest.mark.parametrize("merge", [0, 4096])
def test_a_question_about_many_ids_is_answered_as_about_each(store, monkeypatch, merge, few):
    monkeypatch.setattr(catalogues, "_MERGE_OBJECTS", merge)
    monkeypatch.setattr(databases, "FEW", few)
    monkeypatch.setattr(catalogues, "FEW", few)
    for start in range(0, 300, 60):
        fill_in_one(store, range(start, start + 60))
    database = store.open()
    asked = [chunk(number)[0] for number in range(600, -1, -3)]
    absent = [oid for oid in asked if not store.open().has(oid)]
    assert database.missing([*asked, asked[0]]) == [*absent, asked[0]]
    assert len(absent) == 101


def test_ids_that_begin_alike_are_told_apart(store):
    """Eight equal bytes can be made with patience; the table knows ids by them."""
    ids = [ObjectId(b"8 bytes!" + bytes([number]) * 24) for number in range(6)]
    for oid in ids[:4]:
        pack, index = packindex.encode([(oid, Row(8, 1, 1, Kind.CHUNK, 0))])
        data = MAGIC + b"x" + index + packindex.encode_trailer(9, 1, pack)
        (store.packs / f"{pack}.pack").write_bytes(data)
    database = store.open()
    assert [database.has(oid) for oid in ids] == [True] * 4 + [False] * 2
    assert {oid for oid, _, _ in database.locate(frozenset(ids))} == set(ids[:4])


def test_a_pack_that_a_collection_took_is_done_without(store):
    """Whatever was live in it lies elsewhere by then."""
    (first,) = store.fill(1)
    hidden = store.path / "hidden"
    (store.packs / first).rename(hidden)
    fill_in_one(store, range(3))
    hidden.rename(store.packs / first)
    database = store.open()
    assert database.has(chunk(1)[0])
    (store.packs / first).unlink()
    assert database.get(Kind.CHUNK, chunk(1)[0]) == chunk(1)[1]
    for name in store.names():
        if name.endswith(".pack"):
            (store.packs / name).unlink()
    with pytest.raises(ObjectNotFoundError):
        database.get(Kind.CHUNK, chunk(1)[0])


@pytest.mark.spec("F-41")
def test_a_large_pack_with_a_damaged_index_is_passed_over_once_it_is_asked(store, monkeypatch):
    monkeypatch.setattr(packs, "SMALL", 0)
    monkeypatch.setattr(catalogues, "_MERGE_OBJECTS", 0)
    (first,) = store.fill(1)
    store.fill(2)
    path = store.packs / first
    data = bytearray(path.read_bytes())
    data[-58] ^= 1
    path.write_bytes(data)
    database = store.open()
    assert not database.has(chunk(1)[0])
    assert database.get(Kind.CHUNK, chunk(2)[0]) == chunk(2)[1]
    assert list(database.damaged) == [f"packs/{first}"]
    assert path.name not in {f"{pack.pack}.pack" for pack in database.packs()}


def test_an_object_of_another_kind_is_not_given(store):
    store.fill(1)
    with pytest.raises(IntegrityError, match="is not a tree"):
        store.open().get(Kind.TREE, chunk(1)[0])


@pytest.mark.spec("F-46")
def test_a_pack_that_came_since_is_found_before_anything_is_said_to_be_missing(store):
    database = store.open()
    with pytest.raises(ObjectNotFoundError):
        database.get(Kind.CHUNK, chunk(1)[0])
    store.fill(1)
    assert database.get(Kind.CHUNK, chunk(1)[0]) == chunk(1)[1]


def test_an_id_is_found_by_its_beginning(store):
    store.fill(*range(30))
    database = store.open()
    oid = chunk(5)[0]
    assert database.matching(oid.hex()[:12]) == [(oid, Kind.CHUNK)]
    assert database.matching("") == sorted(set(database.matching("")))
    everything = {found for found, _ in database.matching("")}
    assert {chunk(n)[0] for n in range(30)} | {node(n)[0] for n in range(30)} <= everything


# ── damage ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.spec("F-41")
@pytest.mark.parametrize("how", ["index", "cut", "empty", "not a pack"])
def test_a_pack_with_a_damaged_end_is_passed_over_and_named(store, how):
    first, _ = store.fill(1, 2)
    path = store.packs / first
    data = path.read_bytes()
    path.write_bytes(
        {
            "index": data[:-60] + b"\xff" + data[-59:],
            "cut": data[:-1],
            "empty": b"",
            "not a pack": b"x" * 500,
        }[how]
    )
    database = store.open()
    assert database.get(Kind.CHUNK, chunk(2)[0]) == chunk(2)[1]
    assert list(database.damaged) == [f"packs/{first}"]
    with pytest.raises(ObjectNotFoundError, match="1 damaged packs were not read"):
        database.get(Kind.CHUNK, chunk(1)[0])
    database.refresh()
    assert list(database.damaged) == [f"packs/{first}"]


@pytest.mark.spec("F-3")
def test_a_damaged_object_is_an_error_and_the_others_of_its_pack_are_not(store):
    database = store.open()
    with database.batch() as batch:
        for number in (1, 2):
            put(batch, number)
    found = database.find(chunk(1)[0])
    path = store.packs / f"{found.pack.pack}.pack"
    data = bytearray(path.read_bytes())
    data[found.row.offset] ^= 1
    path.write_bytes(data)
    database = store.open()
    with pytest.raises(HashMismatchError, match=f"pack {found.pack.pack.short}"):
        database.get(Kind.CHUNK, chunk(1)[0])
    assert database.get(Kind.CHUNK, chunk(2)[0]) == chunk(2)[1]
    assert not database.damaged


@pytest.mark.spec("F-41")
def test_a_damaged_copy_is_made_good_by_another(store):
    (first,) = store.fill(1)
    hidden = store.path / "hidden"
    (store.packs / first).rename(hidden)
    with store.open().batch() as batch:
        put(batch, 2)
        put(batch, 1)
    hidden.rename(store.packs / first)
    copies = [
        (store.packs / f"{pack.pack}.pack", row.offset)
        for pack in store.open().packs()
        if (row := pack.index.find(chunk(1)[0]))
    ]
    assert len(copies) == 2
    for path, offset in copies:
        data = bytearray(whole := path.read_bytes())
        data[offset] ^= 0xFF
        path.write_bytes(data)
        assert store.open().get(Kind.CHUNK, chunk(1)[0]) == chunk(1)[1]
        path.write_bytes(whole)
    for path, offset in copies:
        data = bytearray(path.read_bytes())
        data[offset] ^= 0xFF
        path.write_bytes(data)
    with pytest.raises(HashMismatchError):
        store.open().get(Kind.CHUNK, chunk(1)[0])


# ── batches ─────────────────────────────────────────────────────────────────────────────
def test_what_is_there_is_not_stored_again(store):
    store.fill(1, 2)
    before = store.names()
    with store.open().batch() as batch:
        assert batch.put(Kind.CHUNK, *chunk(1)) is False
        assert batch.put(Kind.RECIPE, *node(2)) is False
    assert store.names() == before
    assert batch.bytes_stored == 0
    with store.open().batch() as batch:
        assert batch.put(Kind.CHUNK, *chunk(3)) is True
        assert batch.put(Kind.CHUNK, *chunk(3)) is False
    assert batch.bytes_stored > 0


def test_a_chunk_that_was_prepared_is_stored_as_one_that_was_not(store):
    names = []
    chunks = [chunk(n, size) for n, size in ((1, 5), (2, 9000), (1, 5), (3, 40))]
    noise = os.urandom(9000)
    chunks.append((hash_object(Kind.CHUNK, noise), noise))
    for prepared in (False, True):
        database = store.open()
        with database.batch() as batch:
            for oid, data in chunks:
                seen = bytearray(data)
                if prepared:
                    batch.prepare(ChunkId(oid), memoryview(seen))
                    seen[:] = bytes(len(seen))  # what was shown is not what is kept
                batch.put(Kind.CHUNK, oid, data)
        assert [store.open().get(Kind.CHUNK, oid) for oid, _ in chunks] == [d for _, d in chunks]
        names.append(store.names())
        for name in store.names():
            os.unlink(store.packs / name)
    assert names[0] == names[1]


def test_a_batch_reads_what_it_was_given_and_what_was_there(store):
    store.fill(1)
    with store.open().batch() as batch:
        put(batch, 2)
        assert batch.holds(chunk(2)[0])
        assert not batch.holds(chunk(1)[0])
        for number in (1, 2):
            assert batch.get(Kind.CHUNK, chunk(number)[0]) == chunk(number)[1]
            assert batch.get(Kind.RECIPE, node(number)[0]) == node(number)[1]


def test_an_empty_batch_writes_nothing(store):
    with store.open().batch():
        pass
    Overlay(store.open()).flush()
    assert store.names() == []


def test_a_batch_that_fails_keeps_nothing_and_leaves_no_file(store):
    store.fill(1)
    before = store.names()
    database = store.open()
    with pytest.raises(KeyError), database.batch() as batch:
        put(batch, 2)
        raise KeyError
    assert store.names() == before
    assert not database.has(chunk(2)[0])
    assert not store.open().has(chunk(2)[0])


def changes(act):
    """The changes to the disk that `act` makes."""
    calls = []
    with durable.tapped(
        lambda when, op, path: calls.append((op, path)) if when == "before" else None
    ):
        act()
    return calls


class Fail:
    """The change number `at` fails with `error`; after it, if `on`, every other but removals."""

    def __init__(self, at, error, *, on=False):
        self.left = at
        self.error = error
        self.on = on

    def __call__(self, when, op, _path):
        if when == "before" and self.left >= 0:
            self.left -= 1
            if self.left < 0:
                raise OSError(self.error, os.strerror(self.error))
        elif when == "before" and self.on and op not in ("unlink", "close"):
            raise OSError(self.error, os.strerror(self.error))


def one_batch(store):
    with store.open().batch() as batch:
        put(batch, 2)
        put(batch, 3)


@pytest.mark.spec("F-45")
@pytest.mark.parametrize("on", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_change_leaves_whole_packs_and_no_temporary_file(home, error, on):
    count = len(changes(lambda: one_batch(Store(home / "counting"))))
    assert count > 12
    for at in range(count):
        store = Store(home / f"{at}")
        store.fill(1)
        with durable.tapped(Fail(at, error, on=on)), pytest.raises(StorageError) as caught:
            one_batch(store)
        assert isinstance(caught.value, DiskFullError) == (error == errno.ENOSPC)
        assert not any(name.startswith(".tmp-") for name in store.names())
        database = store.open()
        assert database.get(Kind.CHUNK, chunk(1)[0]) == chunk(1)[1]
        assert not database.damaged
        for pack in database.packs():
            for oid, row in pack.index.items():
                pack.read(oid, row)
        # I3: metadata is never there without the data that it names.
        if database.has(node(3)[0]):
            assert database.has(chunk(3)[0])
        one_batch(store)
        assert store.open().get(Kind.CHUNK, chunk(3)[0]) == chunk(3)[1]


def test_a_single_failure_leaves_no_temporary_file(home):
    for at in range(len(changes(lambda: one_batch(Store(home / "counting"))))):
        store = Store(home / f"{at}")
        with durable.tapped(Fail(at, errno.EIO)), pytest.raises(StorageError):
            one_batch(store)
        assert not any(name.startswith(".tmp-") for name in store.names())


@pytest.mark.spec("F-45")
@pytest.mark.spec("F-37")
def test_data_packs_have_their_names_before_the_metadata_that_needs_them(store):
    calls = changes(lambda: one_batch(store))
    links = [os.path.basename(path).removesuffix(".pack") for op, path in calls if op == "link"]
    kinds = {
        str(pack.pack): {Kind(row.kind) for _, row in pack.index.items()}
        for pack in store.open().packs()
    }
    assert [kinds[name] for name in links] == [{Kind.CHUNK}, {Kind.RECIPE, Kind.INDEX}]
    # Each is synced, then named, then its name is synced, before the next is begun.
    order = [op for op, _ in calls if op in ("fsync", "link", "fsync-folder")]
    assert order == ["fsync", "link", "fsync-folder"] * 2


@pytest.mark.spec("F-37")
def test_packs_roll_by_size_and_by_number_and_data_go_first(store, monkeypatch):
    monkeypatch.setattr(databases, "ROLL_OBJECTS", 4)
    calls = changes(lambda: fill_in_one(store, range(30)))
    links = [os.path.basename(path).removesuffix(".pack") for op, path in calls if op == "link"]
    packs = {str(pack.pack): pack for pack in store.open().packs()}
    assert len(packs) == len(links) > 10
    assert all(pack.index.count <= 4 for pack in packs.values())
    seen = set()
    for name in links:
        for oid, row in packs[name].index.items():
            if row.kind == Kind.RECIPE:
                data = bytes(packs[name].read(oid, row))
                assert all(part.oid in seen for part in recipe.Recipe.decode(data).parts)
            seen.add(oid)
    database = store.open()
    for name, pack in packs.items():
        if any(row.kind == Kind.CHUNK for _, row in pack.index.items()):
            assert database.get(Kind.INDEX, ObjectId.parse(name))
    monkeypatch.setattr(databases, "ROLL_OBJECTS", 1000)
    monkeypatch.setattr(databases, "ROLL_BYTES", 1000)
    other = Store(store.path)
    fill_in_one(other, range(100, 130))
    assert not other.open().missing([chunk(number)[0] for number in range(100, 130)])


def fill_in_one(store, numbers):
    with store.open().batch() as batch:
        for number in numbers:
            put(batch, number)
            for extra in range(2):  # more metadata than data
                body = b"metadata %d %d" % (number, extra)
                batch.put(Kind.MANIFEST, hash_object(Kind.MANIFEST, body), body)


@pytest.mark.spec("F-42")
def test_the_index_of_a_data_pack_is_kept_in_the_metadata_pack_of_the_same_batch(store):
    (name,) = store.fill(1)
    database = store.open()
    index = database.get(Kind.INDEX, ObjectId.parse(name.removesuffix(".pack")))
    data = (store.packs / name).read_bytes()
    assert index == data[-56 - len(index) : -56]


def test_a_store_that_is_only_read_takes_nothing(store):
    database = Database(FolderBackend(str(store.path)), None)
    with pytest.raises(IntegrityError, match="only read"), database.batch() as batch:
        put(batch, 1)
    assert store.names() == []


# ── overlays ────────────────────────────────────────────────────────────────────────────
def test_an_overlay_keeps_new_objects_to_itself_until_it_is_flushed(store):
    store.fill(1)
    overlay = Overlay(store.open())
    overlay.put(Kind.RECIPE, *node(2))
    assert overlay.get(Kind.RECIPE, node(2)[0]) == node(2)[1]
    assert overlay.get(Kind.CHUNK, chunk(1)[0]) == chunk(1)[1]
    assert overlay.has(node(2)[0])
    assert overlay.has(chunk(1)[0])
    assert not overlay.has(node(3)[0])
    with pytest.raises(IntegrityError):
        overlay.get(Kind.TREE, node(2)[0])
    with pytest.raises(ObjectNotFoundError):
        overlay.get(Kind.RECIPE, RecipeId(node(3)[0]))
    assert not store.open().has(node(2)[0])
    overlay.flush()
    assert store.open().get(Kind.RECIPE, node(2)[0]) == node(2)[1]
    before = store.names()
    overlay.flush()
    assert store.names() == before
