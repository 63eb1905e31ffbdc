"""A bucket is collected by whoever asks: nothing that a ref names goes, whoever writes meanwhile."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from support import buckets, datasets
from support.bares import Lake
from support.datasets import DATASET, events, noise
from support.lab import USR, make_config
from usrstore.dataset import registry
from usrstore.errors import ConflictError, IntegrityError, StorageError, UnsupportedError
from usrstore.objects.ids import Kind, ManifestId, hash_object
from usrstore.objects.names import DatasetId, head_ref
from usrstore.odb import reach
from usrstore.odb.docket import Docket
from usrstore.odb.pack import pack_key, scratch_of
from usrstore.odb.states import States
from usrstore.verbs import bucketgc
from usrstore.verbs.bare import database_of
from usrstore.verbs.retention import DAY_S, Retention

FILES = {
    "records.parquet": noise("records", 300_000),
    ".events.log": events(1, 2),
    "meta.md": b"# x\n",
}
NOW, DAY = Retention(grace=0.0), Retention()


@pytest.fixture
def lake(home):
    return Lake(home)


@pytest.fixture
def ada(lake):
    return lake.place("ada", FILES)


def collect(lake, place, retention=NOW, **options):
    scratch = scratch_of(place.root.store)
    return bucketgc.collect(
        lake.backend, "the lake", place.who, retention, scratch=scratch, **options
    )


def later(lake, seconds=2 * DAY_S):
    """All that lies in the bucket is older by so much."""
    values = lake.backend._values
    for key, (data, time_s) in list(values.items()):
        values[key] = data, time_s - seconds


def packs(lake):
    return {stat.key for stat in lake.backend.list("packs/")}


def litter(lake, place, name="litter", size=50_000):
    """What a push leaves that was killed before its state: a pack that nothing reaches."""
    data = noise(name, size)
    oid = hash_object(Kind.CHUNK, data)
    with database_of(lake.backend, scratch_of(place.root.store)).batch() as batch:
        batch.put(Kind.CHUNK, oid, data)
    return oid


def versions(lake, place, count, first=0):
    """So many pushes, and what each held."""
    made = {}
    for number in range(first, first + count):
        place.write({**FILES, "records.parquet": noise(f"v{number}", 40_000)})
        lake.push(place)
        made[ManifestId(lake.head())] = place.read()
    return made


def files_of(lake, oid):
    get = database_of(lake.backend, None).get
    listing = reach.listing(get, reach.manifest(get, oid).tree)
    return {
        path: b"".join(get(Kind.CHUNK, chunk) for chunk, _ in reach.chunks(get, entry))
        for path, entry in listing.items()
    }


def test_without_a_rule_every_state_that_was_pushed_stays_whole(lake, ada):
    made = versions(lake, ada, 4)
    later(lake)
    collect(lake, ada)
    for oid, files in made.items():
        assert files_of(lake, oid) == files


def test_what_nothing_reaches_is_condemned_and_goes_a_time_of_grace_later(lake, ada):
    lake.push(ada)
    kept = packs(lake)
    oid = litter(lake, ada)
    young = packs(lake)
    assert collect(lake, ada, DAY).collected.condemned == []
    assert packs(lake) == young, "its writer may still be at work"
    later(lake)
    done = collect(lake, ada, DAY, dry_run=True).collected
    assert (len(done.condemned), done.swept, Docket(lake.backend).newest().number) == (2, [], 0)
    done = collect(lake, ada, DAY).collected
    assert (len(done.condemned), done.swept) == (2, [])
    assert packs(lake) == young, "condemned, and still there for who reads it"
    assert collect(lake, ada, DAY).collected.swept == []
    later(lake)
    assert len(collect(lake, ada, DAY).collected.swept) == 2
    assert packs(lake) == kept
    assert not database_of(lake.backend, None).has(oid)
    assert lake.files() == FILES


def test_rules_give_up_old_states_and_never_a_head_or_a_tag(lake, ada):
    from usrstore.verbs import tags

    made = versions(lake, ada, 5)
    oids = list(made)
    tags.create(ada.root, ada.who, DATASET, "v1", ada.head())
    lake.push(ada)  # nothing else is new
    made |= versions(lake, ada, 8, first=5)
    later(lake, 30 * DAY_S)
    done = collect(lake, ada, Retention(grace=0.0, keep_last=1))
    assert {row.oid for row in done.lighter} == set(made) - {oids[4], lake.head()}
    assert files_of(lake, oids[4]) == made[oids[4]]
    assert files_of(lake, lake.head()) == ada.read()
    bob = lake.place("bob")
    lake.pull(bob)
    assert bob.read() == ada.read()
    assert list(tags.tags(bob.root, bob.who)) == []  # its state is not the newest any more
    history = [oid for oid, _ in reach.ancestry(database_of(lake.backend, None).get, lake.head())]
    assert history == list(reversed(made)), "what they were is still known"


def test_many_small_pushes_become_few_packs(lake, ada):
    made = versions(lake, ada, 12)
    before = packs(lake)
    later(lake)
    lake.backend.calls.clear()
    collect(lake, ada)
    assert len(packs(lake)) <= 4 < len(before)
    for oid, files in made.items():
        assert files_of(lake, oid) == files
    reads = [key for verb, key in lake.backend.calls if verb == "read"]
    assert len(reads) < 8 * len(before), "neighbours are read together"


def test_a_push_relies_on_nothing_that_is_condemned(lake, ada):
    """What an abandoned push left is not taken for stored once it is to go."""
    big = {**FILES, "_artifacts/big": noise("big", 200_000)}
    ada.write(FILES)
    lake.push(ada)
    bob = lake.place("bob")
    lake.pull(bob)
    bob.write(big)
    peer = lake.peer(bob)
    peer.promote = lambda: (_ for _ in ()).throw(StorageError("killed before its state"))
    with pytest.raises(StorageError):
        lake.push(bob, peer)
    later(lake)
    assert collect(lake, ada, DAY).collected.condemned
    lake.push(bob)
    later(lake)
    assert collect(lake, ada, DAY).collected.swept
    assert lake.files() == big


@pytest.mark.parametrize("grace", [DAY, NOW])
def test_a_push_that_a_collection_overtakes_ends_whole_or_says_so(lake, ada, grace):
    """It counted on a pack that nobody's state reaches; that is condemned before it moves the ref."""
    lake.push(ada)
    bob = lake.place("bob")
    lake.pull(bob)
    bob.write({**FILES, "_artifacts/litter": noise("litter", 50_000)})
    litter(lake, ada)
    peer = lake.peer(bob)
    promote = peer.promote

    def late():
        later(lake)
        collect(lake, ada, grace)
        return promote()

    peer.promote = late
    try:
        lake.push(bob, peer)
    except ConflictError as exc:
        assert (exc.code, grace) == ("collected", NOW)
        assert lake.files() == FILES
        lake.push(bob)
    later(lake)
    collect(lake, ada, NOW)
    assert lake.files() == bob.read()


def test_a_collection_that_wakes_up_late_deletes_nothing_that_was_stored_since(lake, ada):
    """It slept between its fence and its deletes; others collected, and the bytes came back."""
    lake.push(ada)
    oid = litter(lake, ada)
    later(lake)
    collect(lake, ada, DAY)
    later(lake)
    delete, slept = lake.backend.delete, []

    def sleepy(key):
        if key.startswith("packs/") and not slept:
            slept.append(key)
            collect(lake, ada, DAY)  # another one: it sweeps what is due
            collect(lake, ada, DAY)  # and one more: what is gone is on nobody's list
            assert not database_of(lake.backend, None).has(oid)
            litter(lake, ada)  # the very pack that went, and now a state comes to reach it
            ada.write({**FILES, "_artifacts/again": noise("litter", 50_000)})
            lake.push(ada)
        delete(key)

    lake.backend.delete = sleepy
    collect(lake, ada, DAY)
    assert slept
    assert lake.files() == ada.read()


def test_no_two_packs_have_one_name(lake, ada):
    first = litter(lake, ada)
    (data,) = [stat.key for stat in lake.backend.list("packs/") if _has(lake, stat.key, first)]
    lake.backend.delete(data)
    before = packs(lake)
    assert litter(lake, ada) == first
    assert data not in packs(lake) - before


def _has(lake, key, oid):
    database = database_of(lake.backend, None)
    return any(
        pack_key(pack.pack) == key and pack.index.position(oid) is not None
        for pack in database.packs()
    )


def test_it_ends_clean_whichever_question_fails(lake, ada):
    made = versions(lake, ada, 3)
    litter(lake, ada)
    later(lake)
    whole = dict(lake.backend._values)
    lake.backend.calls.clear()
    collect(lake, ada)
    total, after = len(lake.backend.calls), packs(lake)
    assert total > 20
    for number in range(1, total + 1):
        for when in ("before", "after"):
            lake.backend._values = dict(whole)
            lake.backend.calls.clear()
            lake.backend.fail = (number, when)
            try:
                collect(lake, ada)
            except StorageError:
                pass
            lake.backend.fail = None
            for oid, files in made.items():
                assert files_of(lake, oid) == files, (number, when)
            collect(lake, ada)
            collect(lake, ada)
            assert len(packs(lake)) == len(after), (number, when)
            assert lake.files() == ada.read(), (number, when)


def test_damage_stops_it(lake, ada):
    lake.push(ada)
    litter(lake, ada)
    later(lake)
    key = min(packs(lake))
    data, time_s = lake.backend._values[key]
    lake.backend._values[key] = data[:-1] + bytes([data[-1] ^ 1]), time_s
    before = packs(lake)
    with pytest.raises(IntegrityError):
        collect(lake, ada)
    assert packs(lake) == before


def test_a_place_that_creates_twice_is_not_collected(lake, ada):
    lake.push(ada)
    litter(lake, ada)
    before, create = packs(lake), lake.backend.create
    lake.backend.create = lambda key, data: create(key, data) or True
    with pytest.raises(UnsupportedError):
        collect(lake, ada)
    assert packs(lake) == before


# ── a real server, and a person ─────────────────────────────────────────────────────────
def test_a_person_collects_a_bucket(lab, moto_server):
    for number in range(3):
        (lab.folder / "records.parquet").write_bytes(datasets.noise(f"v{number}", 200_000))
        lab.usr("push", DATASET, "b", "-y").ok()
    backend = moto_server.backend(lab.prefix)
    before = {stat.key: stat.size for stat in backend.list("packs/")}
    words = ["--keep-ops", "0s", "--keep-last", "1", "--grace", "0s"]
    said = lab.usr("gc", "b").ok()
    assert said.lines[-1] == "nothing to collect"
    data = lab.usr("gc", "b", *words, "--json", "--dry-run").ok().data
    assert (len(data["lighter"]), data["swept"]) == (2, [])
    assert {stat.key: stat.size for stat in backend.list("packs/")} == before
    data = lab.usr("gc", "b", *words, "--json").ok().data
    assert data["swept_bytes"] > 350_000
    left = sum(stat.size for stat in backend.list("packs/"))
    assert left < sum(before.values()) - 350_000
    other = lab.home / "other"
    other.mkdir()
    lab.usr("--root", other, "pull", DATASET, "b", "-y").ok()
    assert datasets.read(other / DATASET) == lab.read()
    (lab.folder / "meta.md").write_text("more\n")
    lab.usr("push", DATASET, "b", "-y").ok()
    assert list(backend.list("probe/")) == []


def test_only_a_bucket_is_collected_from_afar(lab):
    there = lab.home / "there"
    lab.usr("remotes", "add", "f", "--type", "folder", "--base-dir", there, "--no-check").ok()
    said = lab.usr("gc", "f").failed("invalid-input", 3)
    assert f"usr --root {there} gc" in said.err


@pytest.fixture(params=[pytest.param("moto", marks=pytest.mark.deep), "ceph"])
def server(request):
    return request.getfixturevalue(f"{request.param}_server")


PUSHERS, COLLECTORS, ROUNDS = 12, 4, 3


@pytest.mark.slow
def test_sixteen_processes_push_and_collect_and_nothing_is_lost(home, server):
    """Every push ends whole, or says that something was collected; no time of grace at all."""
    config = make_config(home / "config")
    prefix = buckets.fresh()
    url = f"s3://{server.bucket}/{prefix}"
    remote = {"type": "bucket", "url": url, "endpoint": server.endpoint}
    remotes = home / "remotes.yaml"
    remotes.write_text(json.dumps({"remotes": {"b": remote}}))
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(config),
        "USR_REMOTES_PATH": str(remotes),
        **server.environment,
    }

    def start(root, *words):
        return subprocess.Popen(
            [*USR, "--root", str(root), *words, "--json"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def content(number, turn):
        """Some of it comes back: that is what a writer finds in packs that are about to go."""
        return {
            "records.parquet": noise(f"{number} {turn % 2}", 60_000),
            "_artifacts/same": noise(f"same {turn % 2}", 70_000),
            "_artifacts/turn": b"%d" % turn,
        }

    roots = [home / f"root-{number}" for number in range(PUSHERS + COLLECTORS)]
    for root in roots:
        root.mkdir()
        (root / "registry.yaml").write_bytes(registry.initial())
    seed = home / "seed"
    seed.mkdir()
    (seed / "registry.yaml").write_bytes(registry.initial())
    datasets.write(seed / "ns/seed", {"records.parquet": noise("seed", 10_000)})
    said, err = start(seed, "push", "ns/seed", "b", "-y").communicate(timeout=60)
    assert '"TRANSFERRED"' in said, err
    gc = ["gc", "b", "--grace", "0s", "--keep-last", "1", "--keep-ops", "0s"]
    swept = 0
    for turn in range(ROUNDS):
        left = list(range(PUSHERS))
        for number in left:
            datasets.write(roots[number] / f"ns/d{number}", content(number, turn))
        for attempt in range(8):
            pushes = {n: start(roots[n], "push", f"ns/d{n}", "b", "-y") for n in left}
            sweeps = [start(root, *gc) for root in roots[PUSHERS:]] if attempt < 4 else []
            left = []
            for number, child in pushes.items():
                out, err = child.communicate(timeout=180)
                if child.returncode:
                    code = json.loads(out)["error"]["code"]
                    assert code in TOO_SLOW, err
                    left.append(number)
            for child in sweeps:
                out, err = child.communicate(timeout=180)
                body = json.loads(out)
                if child.returncode:
                    assert body["error"]["code"] in TOO_SLOW, err
                else:
                    swept += len(body["data"]["swept"])
            if not left:
                break
        assert not left, "with nobody collecting, a push goes through"
    assert swept, "something was deleted meanwhile"
    backend = server.backend(prefix)
    history = list(States(backend).history())
    get = database_of(backend, None).get
    for number in range(PUSHERS):
        head = ManifestId(history[0].refs[head_ref(DatasetId(f"ns/d{number}"))])
        listing = reach.listing(get, reach.manifest(get, head).tree)
        found = {
            path: b"".join(get(Kind.CHUNK, oid) for oid, _ in reach.chunks(get, entry))
            for path, entry in listing.items()
        }
        assert found == content(number, ROUNDS - 1)


# A time of grace of nothing is too short for anybody: what a command had counted on is gone, and
# it says so. A bucket's server may also say that it is asked too much.
TOO_SLOW = {"collected", "object-not-found", "incomplete", "conflict", "bucket-busy", "ref-moved"}
