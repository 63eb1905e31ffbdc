"""`usr serve` as a process of its own, under attack: it says why, ends in time, and stays small.

Every attack is measured: exit status, peak memory beside that of a server that is only greeted,
what the root holds afterwards. What it prints at the end says how many there were.
"""

from __future__ import annotations

import os
from itertools import chain

import pytest

from support import datasets, liars
from support.besieged import HELLO, attack, frame, message, objects
from support.people import MALLORY
from usrstore.objects import recipe, tree
from usrstore.objects.ids import ContentHash, Kind, ObjectId, hash_object
from usrstore.objects.manifest import Manifest
from usrstore.remote.wire import MAX_DATA_BYTES, MAX_MESSAGE_BYTES

MIB = 1 << 20
METADATA = 8 * MIB  # what these servers allow for metadata
ROOM = 7 * MAX_MESSAGE_BYTES + 4 * METADATA  # the most that any attack may cost


@pytest.fixture
def served(make_pair, monkeypatch, home):
    pair = make_pair(datasets.old_files())
    pair.push()
    (home / "config" / "usr").mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    return pair.there


@pytest.fixture(scope="module")
def resting(tmp_path_factory):
    """The peak of a server to which only hello is said."""
    root = tmp_path_factory.mktemp("resting")
    return attack(root, [message(HELLO)]).peak


def compare(**changes):
    return message(
        {
            "op": "compare", "dataset": "ns/x", "intent": "pull", "root": None, "have": b"",
            "known": b"", "seen": None, "verify_registry": False, "lock_timeout_ms": 300,
            **changes,
        }
    )  # fmt: skip


def plan(**changes):
    return message(
        {
            "op": "plan", "dataset": "ns/x", "manifest": bytes(32), "registry": None,
            "expected_root": None, "expected_head": None, "primary": "hash", "sidecars": True,
            "content_hashes": True, "verify_registry": True, "keep_replaced": False,
            "lock_timeout_ms": 300, **changes,
        }
    )  # fmt: skip


def names(count, kind=1):
    rows = [[kind, os.urandom(32), 0, 0, 0] for _ in range(20_000)]
    piece = objects(rows)
    return (piece for _ in range(count // 20_000))


def forged_nodes():
    """Small trees without end, each one new and each with its right name."""
    for start in range(0, 10_000_000, 5000):
        datas = [b"%07d" % number for number in range(start, start + 5000)]
        rows = [[int(Kind.TREE), hash_object(Kind.TREE, data), 0, 7, 7] for data in datas]
        yield objects(rows, b"".join(datas))


def bomb():
    """A chunk of 16 MiB in a kilobyte, under a name it does not have."""
    import zstandard  # only to make what must be refused

    return zstandard.ZstdCompressor().compress(bytes(16 * MIB))


ATTACKS = {
    "a frame that claims four gigabytes": ([b"\xff\xff\xff\xffM"], "protocol"),
    "objects that claim more than a frame holds": (
        [compare(), plan(), b"\x7f\xff\xff\xffD" + bytes(100)],
        "protocol",
    ),
    "a frame of no type": ([frame(b"Q", b"")], "protocol"),
    "the largest message, all zeros": ([frame(b"M", bytes(MAX_MESSAGE_BYTES))], "protocol"),
    "the largest message, lists in lists": (
        [frame(b"M", b"\x91" * (MAX_MESSAGE_BYTES - 1) + b"\x90")],
        "protocol",
    ),
    "a message of many empty lists": (
        [frame(b"M", b"\xdd" + (16 * MIB).to_bytes(4, "big") + b"\x90" * (16 * MIB))],
        "protocol",
    ),
    "a map that claims four thousand million entries": (
        [frame(b"M", b"\xdf\xff\xff\xff\xff")],
        "protocol",
    ),
    "as many known ids as fit": (
        lambda: [compare(have=os.urandom(MAX_MESSAGE_BYTES - 4096))],
        None,
    ),
    "another protocol": ([message({"op": "hello", "protocol": 99})], "protocol-version"),
    "an older protocol": ([message({"op": "hello", "protocol": 0})], "protocol-version"),
    "a dataset outside": ([compare(dataset="../../etc")], "invalid-name"),
    "a dataset with a root of its own": ([compare(dataset="/etc")], "invalid-name"),
    "the store as a dataset": ([compare(dataset=".usr")], "invalid-name"),
    "empty frames without end": ([compare(), plan(), *[objects([])] * 1000], "protocol"),
    "names without end": (
        lambda: chain([compare(), message({"op": "send"})], names(10_000_000)),
        "protocol",
    ),
    "small trees without end": (
        lambda: chain([compare(), plan()], forged_nodes()),
        "too-much-metadata",
    ),
    "a tree twice": (
        lambda: (compare(), plan(), *[next(forged_nodes())] * 2),
        "protocol",
    ),
    "publish before plan": ([compare(), message({"op": "publish"}), frame(b"E", b"")], "protocol"),
    "chunks where trees belong": (
        [compare(), plan(), objects([[1, bytes(32), 0, 4, 4]], b"four")],
        "protocol",
    ),
    "a tree that does not hash to its name": (
        [compare(), plan(), objects([[3, bytes(32), 0, 4, 4]], b"four")],
        "hash-mismatch",
    ),
    "a plan for a state that is not there": ([compare(), plan(), frame(b"E", b"")], None),
    "an unknown kind of object": (
        [compare(), plan(), objects([[99, bytes(32), 0, 4, 4]], b"four")],
        "protocol",
    ),
    "a head longer than its frame": (
        [compare(), plan(), frame(b"D", b"\xff\xff\xff\xff" + bytes(40))],
        "protocol",
    ),
    "a browser": ([b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], "protocol"),
    "noise": (lambda: (os.urandom(3 * MIB),), "protocol"),
    "a compressed tree": (
        lambda: (compare(), plan(), objects([[3, bytes(32), 1, 16 * MIB, len(bomb())]], bomb())),
        "protocol",
    ),
}
assert MAX_DATA_BYTES < MAX_MESSAGE_BYTES


@pytest.mark.parametrize("what", ATTACKS)
@pytest.mark.spec("P-15")
@pytest.mark.spec("T-8")
def test_an_attack_ends_with_a_reason_and_costs_little(served, resting, what):
    said, code = ATTACKS[what]
    before = served.everything()
    said = said() if callable(said) else said
    fate = attack(served.path, chain([message(HELLO)], said), "--max-metadata", str(METADATA))
    assert fate.status == 0, fate
    assert "Traceback" not in fate.stderr, fate.stderr
    if code is not None:
        assert fate.code == code, fate.answers
    assert fate.peak < resting + ROOM, (fate.peak // MIB, resting // MIB)
    assert served.everything() == before
    print(f"{what}: {fate.code}, {(fate.peak - resting) / MIB:.0f} MiB, {fate.seconds:.1f} s")


# ── few bytes that stand for very much ────────────────────────────────────────────────────
def pushed(root, nodes):
    """A push of a new dataset whose state was made for it."""
    manifest = Manifest(
        dataset="ns/new", sequence=1, tree=root, parents=(), author="m", host="h", tool="t",
        time_us=1, message="", registry=None, rows=None, columns=None, schema=None, events=None,
        policy=(),
    )  # fmt: skip
    oid, data = liars.sign(manifest, MALLORY)
    rows = [[int(Kind.MANIFEST), oid, 0, len(data), len(data)]]
    rows += [[int(kind), name, 0, len(node), len(node)] for name, (kind, node) in nodes.items()]
    payload = data + b"".join(node for _, node in nodes.values())
    asked = [compare(dataset="ns/new", intent="push"), plan(dataset="ns/new", manifest=oid)]
    return [*asked, objects(rows, payload), frame(b"E", b"")]


def files_over_and_over():
    """A million files in a few kilobytes: a folder of a folder, again and again."""
    nodes = {}

    def put(oid, data):
        nodes[oid] = (Kind.TREE, data)

    content = ContentHash(hash_object(Kind.CHUNK, b"x"))
    entry = tree.build_folder([tree.FileEntry("x" * 200, 1, content, None)], put)
    for _ in range(3):
        rows = [entry._replace(name=f"{number:03d}" + "y" * 200) for number in range(100)]
        entry = tree.build_folder(rows, put)
    top = tree.build_folder([entry._replace(name="auxiliary")], put)
    assert top.files == 10**6
    return pushed(top.tree, nodes)


def chunks_over_and_over():
    """A file of a million chunks in a few kilobytes: the same one, again and again."""
    nodes = {}
    part, height = recipe.Part(hash_object(Kind.CHUNK, b"x"), 1), 0
    while part.size < 10**6:
        node = recipe.Recipe(height, (part,) * 250)
        oid = hash_object(Kind.RECIPE, node.encode())
        nodes[oid] = (Kind.RECIPE, node.encode())
        part, height = recipe.Part(oid, node.size), height + 1
    entry = tree.FileEntry("large", part.size, ContentHash(ObjectId(bytes(32))), part.oid)
    root = tree.build({"large": entry}, lambda o, data: nodes.__setitem__(o, (Kind.TREE, data)))
    return pushed(root.tree, nodes)


@pytest.mark.parametrize("said", [files_over_and_over, chunks_over_and_over])
def test_few_nodes_that_name_very_much_are_refused_before_they_are_spelled_out(
    served, resting, said
):
    before = served.everything()
    fate = attack(served.path, said(), "--max-metadata", str(METADATA))
    assert (fate.status, fate.code) == (0, "too-much-metadata"), fate.answers
    assert fate.peak < resting + 64 * MIB, fate.peak // MIB
    assert served.everything() == before
    print(f"{said.__name__}: {(fate.peak - resting) / MIB:.0f} MiB, {fate.seconds:.1f} s")


# ── time ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.spec("P-16")
@pytest.mark.parametrize("said", [[], [message(HELLO)], [b"\0\0"]], ids=["mute", "hello", "half"])
def test_a_client_that_says_nothing_is_left(served, said):
    fate = attack(served.path, said, "--idle-timeout", "0.5", hang_up=False)
    assert (fate.status, fate.code) == (0, "too-slow")


def test_a_client_that_drips_is_left_though_it_never_stops(served):
    import time

    left = list(message({"op": "hello", "protocol": 1, "pad": "x" * 5000}))

    def drops():
        while left:
            yield bytes([left.pop(0)])
            time.sleep(0.05)

    fate = attack(served.path, drops(), "--idle-timeout", "1", hang_up=False)
    assert (fate.status, fate.code) == (0, "too-slow")
    assert left, "it was not heard out"


def test_a_client_that_asks_and_does_not_read_is_left(served):
    import subprocess
    import sys

    served.write({**datasets.old_files(), "_artifacts/large": datasets.noise("large", 4 * MIB)})
    words = [sys.executable, "-m", "usrcli", "serve", "--stdio", "--idle-timeout", "0.5"]
    process = subprocess.Popen(
        [*words, "--root", str(served.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        process.stdin.write(message(HELLO) + compare() + message({"op": "list"}) * 40_000)
        process.stdin.flush()
    except BrokenPipeError:
        pass
    try:
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.stdout.close()
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass


def test_a_session_ends_when_its_time_is_over(served):
    def asking():
        import time

        for _ in range(200):
            yield message({"op": "list"})
            time.sleep(0.02)

    fate = attack(served.path, asking(), "--max-time", "0.7", hang_up=False)
    assert (fate.status, fate.code) == (0, "session-too-long")


# ── what is served ────────────────────────────────────────────────────────────────────────
@pytest.mark.spec("P-17")
@pytest.mark.spec("T-9")
def test_a_link_out_of_the_root_is_not_served(served, home):
    outside = home / "outside"
    datasets.write(outside, datasets.old_files())
    (served.path / "ns" / "link").symlink_to(outside)
    (served.path / "away").symlink_to(home)
    for dataset in ("ns/link", "away/outside"):
        for intent in ("pull", "push", "diff"):
            fate = attack(served.path, [compare(dataset=dataset, intent=intent)])
            assert (fate.status, fate.code) == (0, "refused")
    assert datasets.read(outside) == datasets.old_files()


def test_a_link_inside_the_root_is_served(served):
    (served.path / "ns" / "also").symlink_to(served.path / "ns" / "x")
    fate = attack(served.path, [compare(dataset="ns/also", intent="diff")])
    assert [answer["op"] for answer in fate.answers] == ["hello", "compared"]


@pytest.mark.spec("P-18")
@pytest.mark.parametrize("intent", ["pull", "push"])
def test_datasets_are_served_each_in_its_mode(served, intent):
    def code(dataset, *options):
        return attack(served.path, [compare(dataset=dataset, intent=intent)], *options).code

    assert code("ns/x", "--dataset", "ns/x", "--dataset", "ns/y:ro") is None
    assert code("ns/x", "--dataset", "ns/y") == "refused"
    assert code("ns/x", "--dataset", "ns/x:ro") == (None if intent == "pull" else "read-only")
    assert code("ns/x", "--read-only") == (None if intent == "pull" else "read-only")


@pytest.mark.spec("P-23")
@pytest.mark.parametrize(
    ("asked", "tagged", "options", "code"),
    [
        ("ns/x", "ns/x", ("--read-only",), "read-only"),
        ("ns/x", "ns/x", ("--dataset", "ns/x:ro"), "read-only"),
        ("ns/x", "ns/y", ("--dataset", "ns/x", "--dataset", "ns/y:ro"), "read-only"),
        ("ns/x", "ns/y", (), "graft"),
        (None, "ns/x", (), "protocol"),
    ],
)
def test_tags_alone_are_refused_where_a_push_would_be(served, asked, tagged, options, code):
    first = [compare(dataset=asked, intent="diff")] if asked else []
    tag = [message({"op": "tag", "dataset": tagged}), frame(b"E", b"")]
    assert attack(served.path, [*first, *tag], *options).code == code


def test_chunks_of_other_datasets_are_not_given_to_those_who_may_not_read_them(served):
    """Not even to somebody who knows their names."""
    secret = datasets.noise("secret", 5000)
    datasets.write(served.path / "ns" / "secret", {"records.parquet": secret})
    from usrstore.verbs import commit

    commit.commit(served.site(dataset="ns/secret"), message="kept")
    oid = hash_object(Kind.CHUNK, secret)
    ask = [compare(), message({"op": "send"}), objects([[1, oid, 0, 0, 0]]), frame(b"E", b"")]
    assert attack(served.path, ask, "--dataset", "ns/x").code == "object-not-found"
    want = message({"op": "want", "contents": bytes(ContentHash(oid)), "have": b""})
    assert attack(served.path, [compare(), want]).code == "object-not-found"
