"""Where fuzzing begins: one good input or more for each target, made by our own encoders."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path

from fuzz import fileseeds, filetargets
from usrstore.objects import codec
from usrstore.objects.ids import Kind, ObjectId, PackId, hash_object
from usrstore.objects.recipe import RULE
from usrstore.odb import compress, docket, packindex
from usrstore.remote.wire import PROTOCOL, StreamChannel, Wire
from usrstore.worktree.statcache import StatCache

GOLDEN = Path(__file__).parent.parent / "golden" / "v1"
_VECTORS = json.loads((GOLDEN / "vectors.json").read_text())
_KIND = {
    "tree": "tree", "listing": "tree", "recipe": "recipe", "manifest": "manifest", "tag": "tag",
    "state": "state", "value": "manifest", "signers": "", "thrift": "", "frames": "",
}  # fmt: skip
HELLO = {"op": "hello", "protocol": PROTOCOL}


def _objects(kind: str) -> Iterator[bytes]:
    for row in _VECTORS["objects"].values():
        if row["kind"] == kind and len(row["bytes"]) <= 4000:
            yield bytes.fromhex(row["bytes"])


def _spoken(*acts) -> bytes:
    out = io.BytesIO()
    wire = Wire(StreamChannel(io.BytesIO(), out))
    for act in acts:
        act(wire)
    return out.getvalue()


_COMPARE = {
    "op": "compare", "dataset": "ns/x", "intent": "pull", "root": None, "have": b"", "known": b"",
    "seen": None, "verify_registry": False, "lock_timeout_ms": 300,
}  # fmt: skip
_COMPARED = {
    "op": "compared", "exists": True, "has_store": True, "writable": True,
    "root": [bytes(32), 1, 1], "rows": 1, "columns": 1, "schema": bytes(32), "events": 1,
    "registry": b"", "state": [1, bytes(32)], "seen": True, "head": bytes(32), "notes": ["n"],
    "now_us": 1,
}  # fmt: skip
_PLAN = {
    "op": "plan", "dataset": "ns/x", "manifest": bytes(32), "registry": None,
    "expected_root": None, "expected_head": None, "primary": "hash", "sidecars": True,
    "content_hashes": True, "verify_registry": True, "keep_replaced": False,
    "lock_timeout_ms": 300,
}  # fmt: skip
_SAID = [
    {"op": "probe"}, {"op": "list"}, {"op": "weigh", "size": 1}, _COMPARE, {"op": "want", "contents": bytes(32), "have": b""},
    {"op": "offer", "recipes": bytes(32)},
]  # fmt: skip
_ANSWERS = [
    {"op": "weighed", "size": 1, "hash_us": 1, "read_us": None, "write_us": None},
    {"op": "carried"}, {"op": "held"}, {"op": "listed", "datasets": "0" * 64 + " ns/x\n"}, _COMPARED, {"op": "recipes"},
    {"op": "chunks"}, {"op": "lacking", "recipes": bytes(32)}, {"op": "planned", "resumed": 0},
    {"op": "published", "number": 1, "state": bytes(32)},
    {"op": "error", "family": "ForkError", "code": "fork", "message": "m", "hint": "h"},
]  # fmt: skip


def _records() -> list:
    data = next(_objects("tree"))
    return [(Kind.TREE, hash_object(Kind.TREE, data), 0, len(data), data)]


def _pack() -> bytes:
    data = b"twelve bytes"
    oid = hash_object(Kind.CHUNK, data)
    magic = packindex.MAGIC
    row = packindex.Row(len(magic), len(data), len(data), int(Kind.CHUNK), 0)
    pack, index = packindex.encode([(ObjectId(oid), row)])
    end = len(magic) + len(data)
    return magic + data + index + packindex.encode_trailer(end, 1, pack)


def _tar() -> bytes:
    from usrstore.odb.backend import archive

    body = b"{}"
    return archive.header("about.json", len(body)) + body + archive.padding(len(body)) + bytes(1024)


def seeds(name: str) -> list[bytes]:
    """Good inputs of a target; none of them is large."""
    if name in filetargets.TARGETS:
        return fileseeds.seeds(name, _objects, _pack())
    if _KIND.get(name):
        return list(_objects(_KIND[name]))[:12]
    if name == "signature":
        from usrstore.objects.manifest import Signed

        return [s for data in _objects("manifest") if (s := Signed.decode(data).signature)]
    if name == "signers":
        key = _VECTORS["public key"]
        return [f'# lab\nada,bob namespaces="usrstore",valid-after="20260101" {key} c\n'.encode()]
    if name in ("pack", "salvage"):
        return [_pack()]
    if name == "packindex":
        return [_pack()[len(packindex.MAGIC) + 12 : -packindex.TRAILER.size]]
    if name == "docket":
        return [docket.Entry(2, {PackId(ObjectId(bytes(32))): 1}, frozenset()).encode()]
    if name == "journal":
        return [codec.encode([1, "ns/x", False, None, "stage", [], [], [], ["a", "c", "r"]])]
    if name == "statcache":
        return [StatCache(RULE).encode()[:-32]]
    if name == "compressed":
        return [bytes(compress.shrink(b"line\n" * 400)[1]), b"\0\1\0" + bytes(256)]
    if name in ("thrift", "parquet"):
        file = (GOLDEN / "sample.parquet").read_bytes()
        length = struct.unpack("<I", file[-8:-4])[0]
        footer = file[-8 - length : -8]
        return [footer[:4096], file[:4096]]
    if name == "bundle":
        return [_tar()]
    if name == "message":
        return [codec.encode(value) for value in (*_SAID, _PLAN, *_ANSWERS)]
    if name == "client":
        run = [lambda wire, v=value: wire.send(v) for value in _SAID]
        return [
            _spoken(lambda wire: wire.send(HELLO), *run),
            _spoken(lambda wire: (wire.send(_PLAN), wire.send_objects(_records()))),
        ]
    said = [
        _spoken(
            lambda wire: wire.send({**HELLO, "tool": "t"}),
            lambda wire, v=value: (wire.send(v), wire.send_objects(_records())),
        )
        for value in _ANSWERS
    ]
    return (
        said if name == "server" else [_spoken(lambda wire: wire.send_objects(_records())), *said]
    )
