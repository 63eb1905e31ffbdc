"""Known objects: what was written once is written the same way, and read, for ever."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from blake3 import blake3

from usrstore.objects import recipe, tree
from usrstore.objects.ids import (
    ChunkId,
    ContentHash,
    Kind,
    ManifestId,
    ObjectId,
    PackId,
    RecipeId,
    StateId,
    TreeId,
    hash_object,
)
from usrstore.objects.manifest import Manifest, Signed, Tag, manifest_id, tag_id
from usrstore.objects.recipe import Recipe
from usrstore.objects.state import State
from usrstore.objects.tree import FileEntry, Tree
from usrstore.odb import packindex
from usrstore.odb.backend.memory import MemoryBackend
from usrstore.odb.pack import Pack, pack_key
from usrstore.odb.packindex import MAGIC, Row
from usrstore.trust import sshsig
from usrstore.trust.sshsig import PublicKey, Signature, field

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "v1"
SEED = bytes(range(32))
TIME_US = 1_767_225_600_000_000
CONTEXTS = {kind: f"usrstore v1 {kind.word}" for kind in Kind if kind is not Kind.CHUNK}


class FixedKey:
    """An Ed25519 key that everybody knows; Ed25519 signs the same bytes the same way."""

    def __init__(self):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._private = Ed25519PrivateKey.from_private_bytes(SEED)
        raw = self._private.public_key().public_bytes_raw()
        self.public_key = PublicKey(field(b"ssh-ed25519") + field(raw))

    def sign(self, message, *, namespace=sshsig.NAMESPACE):
        data = sshsig.to_sign(message, namespace=namespace)
        raw = self._private.sign(data)
        return Signature(self.public_key, namespace, "sha512", "ssh-ed25519", raw).encode()


def chunk(number):
    data = b"chunk %d\n" % number
    return ChunkId(hash_object(Kind.CHUNK, data)), len(data)


def small_file(path):
    data = f"the bytes of {path}\n".encode()
    return FileEntry(
        path.rpartition("/")[2], len(data), ContentHash(hash_object(Kind.CHUNK, data)), None
    )


class Book:
    """Collects objects under names."""

    def __init__(self):
        self.objects = {}

    def add(self, name, kind, data):
        self.objects[name] = {
            "kind": kind.word,
            "id": str(hash_object(kind, data)),
            "bytes": bytes(data).hex(),
        }
        return hash_object(kind, data)

    def nodes(self, name, kind):
        """A `put` that numbers what it is given, in the order of writing."""
        count = 0

        def put(_oid, data):
            nonlocal count
            self.add(f"{name}/{count}", kind, data)
            count += 1

        return put


def build():
    """Every vector, made anew."""
    book = Book()
    book.add("chunk/empty", Kind.CHUNK, b"")
    book.add("chunk/line", Kind.CHUNK, b"hello\n")

    two = RecipeId(
        book.add(
            "recipe/two chunks",
            Kind.RECIPE,
            Recipe(0, tuple(recipe.Part(*chunk(n)) for n in (1, 2))).encode(),
        )
    )
    long = recipe.build(map(chunk, range(300)), book.nodes("recipe/300 chunks", Kind.RECIPE))
    tall = recipe.build(map(chunk, range(20_000)), lambda _oid, _data: None)

    book.add("tree/empty", Kind.TREE, Tree(0, ()).encode())
    paths = [
        "records.parquet",
        ".events.log",
        "_snapshots/2026-01-01.parquet",
        "_derived/infer/part-1.parquet",
        "_derived/infer/part-2.parquet",
        "meta.md",
        "_artifacts/\u00fcber/a b.svg",
    ]
    listing = {path: small_file(path) for path in paths}
    size = sum(chunk(n)[1] for n in (1, 2))
    whole = ContentHash(hash_object(Kind.CHUNK, b"chunk 1\nchunk 2\n"))
    listing["records.parquet"] = FileEntry("records.parquet", size, whole, two)
    root = tree.build(listing, book.nodes("tree/five sections", Kind.TREE)).tree
    many = {f"_views/{n:03}.json": small_file(f"_views/{n:03}.json") for n in range(300)}
    wide = tree.build(many, book.nodes("tree/300 files", Kind.TREE)).tree

    first = Manifest(
        dataset="densegen/demo",
        sequence=1,
        tree=root,
        parents=(),
        author="ada",
        host="lab",
        tool="usrstore 0.1.0",
        time_us=TIME_US,
        message="first",
    )
    unsigned = ManifestId(
        book.add("manifest/unsigned", Kind.MANIFEST, Signed(first.payload(), None).encode())
    )
    second = Manifest(
        dataset="densegen/demo",
        sequence=2,
        tree=wide,
        parents=(unsigned,),
        author="ada",
        host="lab",
        tool="usrstore 0.1.0",
        time_us=TIME_US + 1,
        message="second\n\n\u00fcber alles\n",
        registry=small_file("registry.yaml"),
        rows=1000,
        columns=7,
        schema=ContentHash(hash_object(Kind.CHUNK, b"a schema")),
        events=3,
        policy=("no-verify-derived-hashes", "no-verify-sidecars"),
    )
    payload = second.payload()
    signed = ManifestId(
        book.add(
            "manifest/signed", Kind.MANIFEST, Signed(payload, FixedKey().sign(payload)).encode()
        )
    )

    tag = Tag("densegen/demo", "v1", signed, "ada", TIME_US + 2, "published").payload()
    tagged = book.add("tag/signed", Kind.TAG, Signed(tag, FixedKey().sign(tag)).encode())

    one = State(1, None, {"heads/densegen/demo": unsigned}, TIME_US, "ada@lab", "usr commit", "")
    book.add("state/first", Kind.STATE, one.encode())
    refs = {"heads/densegen/demo": signed, "tags/densegen/demo/v1": tagged}
    both = State(2, one.oid, refs, TIME_US + 3, "ada@lab", "usr tag v1", "for the paper")
    book.add("state/second", Kind.STATE, both.encode())

    objects = [
        (Kind.CHUNK, b"chunk 1\n"),
        (Kind.CHUNK, b"chunk 2\n"),
        (Kind.TREE, Tree(0, ()).encode()),
    ]
    data, rows = MAGIC, []
    for kind, body in objects:
        rows.append((hash_object(kind, body), Row(len(data), len(body), len(body), kind, 0)))
        data += body
    pack, index = packindex.encode(rows)
    book.add("index/three objects", Kind.INDEX, index)
    data += index + packindex.encode_trailer(len(data), len(rows), pack)

    return {
        "format": 1,
        "signing key (Ed25519 seed)": SEED.hex(),
        "public key": FixedKey().public_key.line(),
        "objects": book.objects,
        "roots": {
            "recipe/300 chunks": str(long),
            "recipe/20000 chunks": str(tall),
            "tree/five sections": str(root),
            "tree/300 files": str(wide),
        },
        "packs": {"raw": {"id": str(pack), "bytes": data.hex()}},
    }


VECTORS = json.loads((GOLDEN / "vectors.json").read_text())
OBJECTS = VECTORS["objects"]
DECODERS = {
    "recipe": Recipe.decode,
    "tree": Tree.decode,
    "manifest": Signed.decode,
    "tag": Signed.decode,
    "state": State.decode,
}


@pytest.mark.spec("F-52")
def test_every_vector_is_written_again_byte_for_byte():
    made = build()
    assert {name: VECTORS[name] for name in made if name != "packs"} == {
        name: made[name] for name in made if name != "packs"
    }
    assert VECTORS["packs"]["raw"] == made["packs"]["raw"]


@pytest.mark.spec("F-3")
@pytest.mark.spec("F-4")
@pytest.mark.parametrize("name", OBJECTS)
def test_the_id_of_a_vector_is_the_hash_of_its_bytes_in_the_context_of_its_kind(name):
    row = OBJECTS[name]
    data = bytes.fromhex(row["bytes"])
    kind = Kind[row["kind"].upper()]
    if kind is Kind.CHUNK:
        assert row["id"] == blake3(data).hexdigest()
    else:
        assert row["id"] == blake3(data, derive_key_context=CONTEXTS[kind]).hexdigest()


@pytest.mark.parametrize("name", [name for name in OBJECTS if name.split("/")[0] in DECODERS])
def test_a_vector_comes_back_from_its_bytes(name):
    data = bytes.fromhex(OBJECTS[name]["bytes"])
    assert DECODERS[OBJECTS[name]["kind"]](data).encode() == data


def test_the_payloads_of_signed_vectors_come_back_from_their_bytes():
    for name, kind in (
        ("manifest/signed", Manifest),
        ("manifest/unsigned", Manifest),
        ("tag/signed", Tag),
    ):
        signed = Signed.decode(bytes.fromhex(OBJECTS[name]["bytes"]))
        assert kind.parse(signed.payload).payload() == signed.payload
    data = bytes.fromhex(OBJECTS["manifest/signed"]["bytes"])
    assert str(manifest_id(data)) == OBJECTS["manifest/signed"]["id"]
    data = bytes.fromhex(OBJECTS["tag/signed"]["bytes"])
    assert str(tag_id(data)) == OBJECTS["tag/signed"]["id"]


@pytest.mark.spec("F-29")
@pytest.mark.parametrize("name", ["manifest/signed", "tag/signed"])
def test_the_signatures_of_the_vectors_hold_and_name_the_known_key(name):
    signed = Signed.decode(bytes.fromhex(OBJECTS[name]["bytes"]))
    signature = Signature.decode(signed.signature)
    assert sshsig.check(signature, signed.payload, namespace="usrstore")
    assert signature.public_key.line() == VECTORS["public key"]
    assert not sshsig.check(signature, signed.payload + b"\0", namespace="usrstore")
    assert not sshsig.check(signature, signed.payload, namespace="git")


def by_id(kind):
    return {
        bytes.fromhex(row["id"]): bytes.fromhex(row["bytes"])
        for row in OBJECTS.values()
        if row["kind"] == kind
    }


@pytest.mark.parametrize("name", ["tree/five sections", "tree/300 files"])
def test_the_trees_of_the_vectors_are_read_from_their_roots(name):
    nodes = by_id("tree")
    listing = tree.flatten(TreeId(ObjectId.parse(VECTORS["roots"][name])), nodes.__getitem__)
    assert len(listing) == {"tree/five sections": 7, "tree/300 files": 300}[name]
    for path, entry in listing.items():
        if path != "records.parquet":
            assert entry == small_file(path)


def test_the_long_recipe_of_the_vectors_gives_its_chunks_in_order():
    nodes = by_id("recipe")
    root = RecipeId(ObjectId.parse(VECTORS["roots"]["recipe/300 chunks"]))
    assert Recipe.decode(nodes[root]).height == 1
    size = sum(chunk(n)[1] for n in range(300))
    parts = recipe.chunks(root, size, nodes.__getitem__)
    assert [(part.oid, part.size) for part in parts] == [chunk(n) for n in range(300)]


@pytest.mark.spec("F-37")
@pytest.mark.spec("F-40")
@pytest.mark.spec("F-43")
@pytest.mark.parametrize("name", ["raw", "zstd"])
def test_the_packs_of_the_vectors_are_read(name):
    row = VECTORS["packs"][name]
    data = bytes.fromhex(row["bytes"])
    backend = MemoryBackend()
    pack = PackId(ObjectId.parse(row["id"]))
    backend.create(pack_key(pack), data)
    opened = Pack(backend, pack, len(data))
    found = {oid: bytes(opened.read(oid, at)) for oid, at in opened.index.items()}
    if name == "raw":
        expected = [
            (Kind.CHUNK, b"chunk 1\n"),
            (Kind.CHUNK, b"chunk 2\n"),
            (Kind.TREE, b"\x93\1\0\x90"),
        ]
    else:
        expected = [(Kind.CHUNK, b"a line that comes again\n" * 100)]
        assert [at.encoding for _, at in opened.index.items()] == [1]
    assert found == {hash_object(kind, body): body for kind, body in expected}


def test_a_state_of_the_vectors_names_the_one_before_it():
    first = State.decode(bytes.fromhex(OBJECTS["state/first"]["bytes"]))
    second = State.decode(bytes.fromhex(OBJECTS["state/second"]["bytes"]))
    assert second.previous == first.oid == StateId(ObjectId.parse(OBJECTS["state/first"]["id"]))


def examples():
    """The worked examples of the written format: name, bytes, id."""
    text = (ROOT / "docs" / "format.md").read_text()
    for block in re.findall(r"```vector\n(.*?)```", text, re.DOTALL):
        name, *lines = block.splitlines()
        given = "".join(line.partition("|")[0] for line in lines if not line.startswith("id"))
        (oid,) = (line.split()[1] for line in lines if line.startswith("id"))
        yield name, given.replace(" ", ""), oid


@pytest.mark.spec("F-52")
def test_the_worked_examples_of_the_written_format_are_vectors():
    shown = list(examples())
    assert len(shown) >= 5
    assert {name.partition("/")[0] for name, _, _ in shown} == {
        "tree",
        "recipe",
        "manifest",
        "tag",
        "state",
    }
    for name, given, oid in shown:
        assert (given, oid) == (OBJECTS[name]["bytes"], OBJECTS[name]["id"]), name
