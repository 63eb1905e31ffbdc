"""What every backend promises. The helpers look and write around it, so that a wrong read
cannot hide a wrong write."""

from __future__ import annotations

import os
import threading
import time

import pytest

from usrstore.errors import InvalidNameError, ObjectNotFoundError, StorageError
from usrstore.odb import durable
from usrstore.odb.backend.backend import MAP_BYTES, check_key, view
from usrstore.odb.backend.folder import FolderBackend
from usrstore.odb.backend.memory import MemoryBackend

RACERS = 16


class Folder:
    """A folder backend, and a way around it."""

    def __init__(self, home):
        self.root = home / "backend"
        self.backend = FolderBackend(str(self.root))

    def write(self, key, data):
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read(self, key):
        return (self.root / key).read_bytes()

    def keys(self):
        return sorted(
            str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()
        )


class Memory:
    """A backend in memory, and a way around it."""

    def __init__(self, _home):
        self.backend = MemoryBackend()

    def write(self, key, data):
        self.backend._values[key] = (data, time.time())

    def read(self, key):
        return self.backend._values[key][0]

    def keys(self):
        return sorted(self.backend._values)


class Bucket:
    """A bucket of a real server, and a way around our client: another's."""

    def __init__(self, server):
        self.backend = server.backend()
        self.server, self.prefix = server, self.backend.address.prefix
        self.client = server.client()

    def write(self, key, data):
        self.client.put_object(Bucket=self.server.bucket, Key=f"{self.prefix}/{key}", Body=data)

    def read(self, key):
        found = self.client.get_object(Bucket=self.server.bucket, Key=f"{self.prefix}/{key}")
        return found["Body"].read()

    def keys(self):
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.server.bucket, Prefix=f"{self.prefix}/"
        )
        found = [row["Key"] for page in pages for row in page.get("Contents", ())]
        return sorted(key.removeprefix(f"{self.prefix}/") for key in found)


@pytest.fixture(
    params=["folder", "memory", "moto", pytest.param("ceph", marks=pytest.mark.slow)],
)
def place(request, home):
    if request.param in ("moto", "ceph"):
        return Bucket(request.getfixturevalue(f"{request.param}_server"))
    return {"folder": Folder, "memory": Memory}[request.param](home)


@pytest.fixture
def backend(place):
    return place.backend


@pytest.mark.spec("F-1")
def test_a_value_is_created_whole_and_once(place, backend):
    assert backend.create("packs/a", b"first") is True
    assert place.read("packs/a") == b"first"
    assert backend.create("packs/a", b"second") is False
    assert place.read("packs/a") == b"first"
    assert place.keys() == ["packs/a"]


def test_an_empty_value_and_a_large_one_are_values(place, backend):
    large = os.urandom(3 << 20)
    assert backend.create("packs/empty", b"")
    assert backend.create("packs/large", large)
    assert (place.read("packs/empty"), place.read("packs/large")) == (b"", large)
    assert backend.read("packs/empty") == b""
    assert backend.read("packs/large") == large
    assert backend.stat("packs/empty").size == 0
    assert backend.create("packs/empty", b"x") is False


@pytest.mark.spec("F-1")
def test_a_finished_file_can_be_adopted_and_stays_the_callers_to_remove(place, backend, home):
    file = home / "finished"
    file.write_bytes(b"whole")
    assert backend.create("packs/a", file) is True
    assert file.read_bytes() == b"whole"
    other = home / "other"
    other.write_bytes(b"late")
    assert backend.create("packs/a", other) is False
    file.unlink()
    other.unlink()
    assert place.read("packs/a") == b"whole"


@pytest.mark.spec("F-1")
@pytest.mark.parametrize("adopt", [False, True], ids=["bytes", "file"])
def test_of_many_threads_that_race_for_a_key_exactly_one_creates_it(place, backend, home, adopt):
    for number in range(5):
        barrier = threading.Barrier(RACERS)
        results = [None] * RACERS

        def race(who, number=number, barrier=barrier, results=results):
            data = b"%d" % who * 1000
            value = data
            if adopt:
                value = home / f"{number}-{who}"
                value.write_bytes(data)
            barrier.wait()
            results[who] = backend.create(f"states/{number}", value)

        threads = [threading.Thread(target=race, args=(who,)) for who in range(RACERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == [False] * (RACERS - 1) + [True]
        assert place.read(f"states/{number}") == b"%d" % results.index(True) * 1000
    assert place.keys() == [f"states/{number}" for number in range(5)]


@pytest.mark.spec("F-1")
def test_of_many_processes_that_race_for_a_key_exactly_one_creates_it(home):
    place = Folder(home)
    place.root.mkdir()
    ready, go = os.pipe()
    children = {}
    for who in range(RACERS):
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.read(ready, 1)  # the end of the pipe: everybody at once
            wins = sum(
                1 << number
                for number in range(6)
                if place.backend.create(f"states/{number}", b"%d" % who)
            )
            os._exit(wins)
        children[pid] = who
    os.close(ready)
    os.close(go)
    wins = {who: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, who in children.items()}
    for number in range(6):
        (winner,) = (who for who, bits in wins.items() if bits >> number & 1)
        assert place.read(f"states/{number}") == b"%d" % winner
    assert place.keys() == [f"states/{number}" for number in range(6)]


@pytest.mark.spec("F-1")
def test_no_reader_sees_a_part_of_a_value(place, backend):
    whole = [b"%d" % number * 200_000 for number in range(30)]
    seen, done = [], threading.Event()

    def watch():
        while not done.is_set():
            for stat in list(backend.list("packs/")):
                data = backend.read(stat.key)
                seen.append(len(data) == stat.size and data in whole)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number, data in enumerate(whole):
        backend.create(f"packs/{number}", data)
    done.set()
    watcher.join()
    assert all(seen)


def test_a_range_is_what_slicing_gives(place, backend):
    data = b"0123456789"
    place.write("packs/ten", data)
    for start in range(-14, 15):
        begin = max(0, len(data) + start) if start < 0 else start
        assert backend.read("packs/ten", start) == data[begin:]
        for length in range(15):
            assert backend.read("packs/ten", start, length) == data[begin : begin + length]


def test_what_is_not_there_is_not_found(place, backend):
    place.write("packs/a/b", b"x")
    for key in ("packs/b", "other", "packs/a", "packs/a/b/c"):
        with pytest.raises(ObjectNotFoundError):
            backend.read(key)
        with pytest.raises(ObjectNotFoundError):
            backend.read(key, -8)
        assert backend.stat(key) is None
        backend.delete("packs/never")
    assert list(backend.list("nothing/")) == []
    assert list(backend.list("packs/a/b/")) == []


def test_a_stat_says_how_large_and_how_old(place, backend):
    place.write("packs/a", b"12345")
    found = backend.stat("packs/a")
    assert (found.key, found.size) == ("packs/a", 5)
    assert abs(found.mtime_s - time.time()) < 60
    assert next(iter(backend.list("packs/"))) == found


@pytest.mark.spec("F-1")
def test_a_listing_has_every_key_below_its_prefix_in_order(place, backend):
    keys = [
        "packs/a",
        "packs/a-b",
        "packs/a.b",
        "packs/a0",
        "packs/ab/c",
        "packs/ab/d/e",
        "packs/b",
        "packs/ab-",
    ]
    keys += [f"packs/{number:03}" for number in range(50)]
    for key in (*keys, "states/1", "pack/x", "packsx/y"):
        place.write(key, key.encode())
    found = list(backend.list("packs/"))
    assert [stat.key for stat in found] == sorted(keys)
    assert all(stat.size == len(stat.key) for stat in found)
    assert [stat.key for stat in backend.list("packs/ab/")] == ["packs/ab/c", "packs/ab/d/e"]


def test_deleting_twice_is_no_error_and_frees_the_key(place, backend):
    place.write("packs/a", b"x")
    place.write("packs/b", b"y")
    backend.delete("packs/a")
    backend.delete("packs/a")
    assert place.keys() == ["packs/b"]
    assert backend.create("packs/a", b"again")
    assert place.read("packs/a") == b"again"


def test_a_key_that_is_deleted_while_a_listing_runs_is_no_error(place, backend):
    for number in range(5):
        place.write(f"packs/{number}", b"x")
    listing = backend.list("packs/")
    next(listing)
    for number in range(5):
        backend.delete(f"packs/{number}")
    assert len(list(listing)) <= 4


BAD_KEYS = [
    "", "/", "/a", "a/", "a//b", "..", ".", "a/..", "../a", "a/../b", ".a", "a/.b", "-a", "A", "a b", "a\0", "a\n",
    "é", "a\\b", "a:b", "a_b", "x" * 513, "packs/.tmp-1",
]  # fmt: skip


@pytest.mark.spec("F-2")
@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: ascii(key)[:12])
def test_a_bad_key_is_refused_by_every_verb(place, backend, key):
    with pytest.raises(InvalidNameError):
        backend.read(key)
    with pytest.raises(InvalidNameError):
        backend.create(key, b"x")
    with pytest.raises(InvalidNameError):
        backend.stat(key)
    with pytest.raises(InvalidNameError):
        backend.delete(key)
    if not key.endswith("/"):
        with pytest.raises(InvalidNameError):
            list(backend.list(f"{key}/"))
    assert place.keys() == []


@pytest.mark.spec("F-2")
@pytest.mark.parametrize("key", ["a", "0", "a-b.c", "packs/0a.pack", "a/b/c/d", "a..b", "x" * 512])
def test_a_good_key_is_taken(key):
    assert check_key(key) == key


def test_a_view_is_what_reading_gives_and_outlives_its_key(place, backend):
    data = os.urandom(MAP_BYTES + 10_000)
    place.write("packs/a", data)
    for start, length in ((0, len(data)), (5000, MAP_BYTES), (9_999, MAP_BYTES), (3, 10)):
        seen = view(backend, "packs/a", start, length)
        assert seen == data[start : start + length]
        assert seen.readonly
    large = view(backend, "packs/a", 17, MAP_BYTES)
    backend.delete("packs/a")
    assert large == data[17 : 17 + MAP_BYTES]
    with pytest.raises(ObjectNotFoundError):
        view(backend, "packs/a", 17, MAP_BYTES)


def test_a_value_that_is_shorter_than_a_view_of_it_is_an_error_and_no_crash(home):
    place = Folder(home)
    place.write("packs/a", bytes(1000))
    with pytest.raises(StorageError, match="cannot map"):
        view(place.backend, "packs/a", 0, MAP_BYTES)


# ── a folder, in particular ─────────────────────────────────────────────────────────────
@pytest.mark.spec("F-2")
@pytest.mark.spec("F-44")
def test_what_is_no_key_is_passed_over_by_a_listing_of_a_folder(home):
    place = Folder(home)
    place.write("packs/a", b"x")
    for stray in (
        ".tmp-123",
        ".nfs0001",
        "README",
        "Copy of a",
        ".snapshot/packs/a",
        "Lost+Found/x",
        "a~",
    ):
        place.write(f"packs/{stray}", b"stray")
    (place.root / "packs" / "link").symlink_to("a")
    os.mkfifo(place.root / "packs" / "pipe")
    assert [stat.key for stat in place.backend.list("packs/")] == ["packs/a"]


@pytest.mark.spec("F-45")
def test_a_folder_gives_a_name_only_to_what_is_complete_and_synced(home):
    place = Folder(home)
    calls = []
    with durable.tapped(lambda when, op, path: calls.append((when, op, os.path.basename(path)))):
        place.backend.create("states/1", b"value")
    done = [(op, name) for when, op, name in calls if when == "after"]
    order = [op for op, _ in done]
    order = order[order.index("create") :]  # before it the folder is made, and its name synced
    assert order == ["create", "write", "fsync", "close", "link", "fsync-folder", "unlink"]
    assert all(
        name.startswith(".tmp-")
        for op, name in done
        if op in ("create", "write", "fsync", "unlink")
    )
