"""The store of format 1 that is kept for ever: read by us, and by the written format alone."""

from __future__ import annotations

import json
import struct
import tarfile
from pathlib import Path

import msgpack
import pytest
import zstandard
from blake3 import blake3

from usrstore.objects.ids import Kind, ManifestId, ObjectId
from usrstore.objects.manifest import Signed
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.trust import policy
from usrstore.trust.policy import Policy

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden" / "v1"
EXPECTED = json.loads((GOLDEN / "store.json").read_text())
SECTIONS = {"snapshots": "_snapshots/", "derived": "_derived/"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    home = tmp_path_factory.mktemp("golden")
    with tarfile.open(GOLDEN / "store.tar") as tar:
        tar.extractall(home, filter="data")
    return home


@pytest.fixture(scope="module")
def root(unpacked):
    return Root(str(unpacked))


@pytest.mark.spec("F-44")
@pytest.mark.spec("F-52")
def test_the_golden_store_lists_its_refs_and_its_chain(root):
    assert {name: str(oid) for name, oid in root.states.refs().items()} == EXPECTED["refs"]
    assert [str(state.oid) for state in root.states.history()] == EXPECTED["states"]
    head = ManifestId(root.states.refs()["heads/densegen/demo"])
    assert [str(oid) for oid, _ in reach.ancestry(root.database.get, head)] == list(
        reversed(EXPECTED["manifests"])
    )
    assert not root.database.damaged


@pytest.mark.parametrize("oid", EXPECTED["manifests"])
def test_every_file_of_the_golden_store_comes_back_bit_for_bit(root, oid):
    expected = EXPECTED["manifests"][oid]
    get = root.database.get
    manifest = reach.manifest(get, ManifestId(ObjectId.parse(oid)))
    assert str(manifest.tree) == expected["tree"]
    listing = reach.listing(get, manifest.tree)
    assert {path: [e.size, str(e.content)] for path, e in listing.items()} == expected["files"]
    for path, entry in listing.items():
        pieces = [get(Kind.CHUNK, chunk) for chunk, _ in reach.chunks(get, entry) if entry.size]
        assert [len(piece) for piece in pieces] == [
            size for _, size in reach.chunks(get, entry) if entry.size
        ]
        assert blake3(b"".join(pieces)).hexdigest() == expected["files"][path][1]


def test_every_object_of_the_golden_store_hashes_to_its_name(root):
    kinds = set()
    for pack in root.database.packs():
        for oid, row in pack.index.items():
            pack.read(oid, row)
            kinds.add((Kind(row.kind), row.encoding))
    assert {kind for kind, _ in kinds} == set(Kind) - {Kind.STATE}
    assert {encoding for _, encoding in kinds} == {0, 1}


@pytest.mark.spec("F-42")
def test_the_index_of_every_data_pack_of_the_golden_store_is_kept_a_second_time(root):
    for pack in root.database.packs():
        if any(row.kind == Kind.CHUNK for _, row in pack.index.items()):
            assert root.database.get(Kind.INDEX, pack.pack) == pack.index.data()


def test_the_signature_of_the_golden_store_is_told_from_the_missing_one(root):
    judged = [
        policy.judge(
            Signed.decode(root.database.get(Kind.MANIFEST, ObjectId.parse(oid))), Policy()
        ).status
        for oid in EXPECTED["manifests"]
    ]
    assert judged == ["absent", "unknown"]


class PlainReader:
    """A store read with BLAKE3, MessagePack, Zstandard and docs/format.md, and nothing of ours."""

    def __init__(self, home):
        self.home = home
        self.where = {}
        for path in (home / "packs").glob("*.pack"):
            data = path.read_bytes()
            offset, count, name, magic = struct.unpack(">QI4x32s8s", data[-56:])
            index = data[offset:-56]
            assert (magic, data[:8], name.hex()) == (b"USRPACK1", b"USRPACK1", path.stem)
            assert blake3(index, derive_key_context="usrstore v1 index").digest() == name
            assert len(index) == 52 * count
            for at in range(count):
                row = struct.unpack_from(">QIIBB2x", index, 32 * count + 20 * at)
                self.where[index[32 * at : 32 * at + 32]] = (path, *row)

    def get(self, oid, context=None):
        path, offset, stored, size, _kind, encoding = self.where[oid]
        data = path.read_bytes()[offset : offset + stored]
        if encoding == 1:
            data = zstandard.decompress(data, max_output_size=size)
        assert len(data) == size
        name = blake3(data, derive_key_context=context) if context else blake3(data)
        assert name.digest() == oid
        return data

    def decode(self, oid, kind):
        return msgpack.unpackb(self.get(oid, f"usrstore v1 {kind}"))

    def newest(self):
        path = max((self.home / "states").iterdir(), key=lambda path: path.name)
        payload, signature = msgpack.unpackb(path.read_bytes())
        assert signature is None
        return msgpack.unpackb(payload)

    def folder(self, oid, prefix=""):
        _, height, entries = self.decode(oid, "tree")
        for name, *rest in entries:
            if height:
                yield from self.folder(rest[0], prefix)
            elif isinstance(rest[0], bytes):
                yield from self.folder(rest[0], f"{prefix}{name}/")
            else:
                yield f"{prefix}{name}", rest

    def recipe(self, oid):
        _, height, packed = self.decode(oid, "recipe")
        for part, _size in struct.iter_unpack(">32sQ", packed):
            if height:
                yield from self.recipe(part)
            else:
                yield self.get(part)

    def read(self, size, content, recipe):
        if size == 0:
            return b""
        data = self.get(content) if recipe is None else b"".join(self.recipe(recipe))
        assert (len(data), blake3(data).digest()) == (size, content)
        return data


def test_a_reader_made_from_the_written_format_alone_reads_every_file(unpacked):
    reader = PlainReader(unpacked / ".usr")
    refs = reader.newest()["refs"]
    assert {name: oid.hex() for name, oid in refs.items()} == EXPECTED["refs"]
    tag = msgpack.unpackb(reader.decode(refs["tags/densegen/demo/v1"], "tag")[0])
    assert tag["manifest"] == refs["heads/densegen/demo"]
    oid, seen = tag["manifest"], []
    while oid:
        seen.append(oid.hex())
        manifest = msgpack.unpackb(reader.decode(oid, "manifest")[0])
        expected = EXPECTED["manifests"][oid.hex()]
        found = {}
        for path, entry in reader.folder(manifest["tree"]):
            section, _, rest = path.partition("/")
            reader.read(*entry)
            found[SECTIONS.get(section, "") + rest] = [entry[0], entry[1].hex()]
        assert found == expected["files"]
        oid = manifest["parents"][0] if manifest["parents"] else None
    assert seen == list(reversed(EXPECTED["manifests"]))


def test_every_golden_file_is_named_by_a_test():
    texts = [path.read_text() for path in TESTS.rglob("*.py")]
    for path in (TESTS / "golden").rglob("*"):
        if path.is_file():
            assert any(f'"{path.name}"' in text for text in texts), f"no test names {path}"
        else:
            assert any(path.iterdir()), f"{path} is empty"
            assert any(f'"{path.name}"' in text for text in texts), f"no test names {path}"
