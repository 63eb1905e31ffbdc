"""What is fuzzed: every decoder, and both ends of the wire. Bytes go in; only declared errors come out.

A target is a function of bytes. What it lets out beyond `UsrError` (and `ThriftError`, which
only the Parquet reader above it sees) is a finding. Where a value was read, it is written
again and must give the same bytes: two spellings of one value are a finding, too.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable

from fuzz import filetargets
from usrstore.errors import UsrError
from usrstore.objects import codec, recipe, state, tree
from usrstore.objects.ids import Kind, ObjectId, PackId, hash_object, seal
from usrstore.objects.manifest import Manifest, Signed, Tag
from usrstore.odb import compress, docket, packindex, salvage
from usrstore.odb.backend.archive import ArchiveBackend
from usrstore.odb.backend.memory import MemoryBackend
from usrstore.odb.pack import Pack, pack_key
from usrstore.odb.packindex import PackIndex
from usrstore.remote import messages
from usrstore.remote.client import WirePeer
from usrstore.remote.peer import Ask, Weight
from usrstore.remote.serve import Limits, serve
from usrstore.remote.wire import StreamChannel, Wire
from usrstore.trust import sshsig
from usrstore.trust.signers import AllowedSigners
from usrstore.worktree import parquet, statcache, thrift
from usrstore.worktree.journal import Journal

MAX_BYTES = 4096
MAX_METADATA = 1 << 20


def _again(value, encoded: bytes, data: bytes) -> None:
    assert encoded == data, f"{value!r} has two spellings"


def a_tree(data: bytes) -> None:
    found = tree.Tree.decode(data)
    _again(found, found.encode(), data)


def a_listing(data: bytes) -> None:
    """A whole tree in which every node is the same bytes: no work without end."""
    oid = hash_object(Kind.TREE, data)
    tree.flatten(oid, lambda _oid: data)


def a_recipe(data: bytes) -> None:
    found = recipe.Recipe.decode(data)
    _again(found, found.encode(), data)


def a_manifest(data: bytes) -> None:
    signed = Signed.decode(data)
    _again(signed, signed.encode(), data)
    found = Manifest.parse(signed.payload)
    _again(found, found.payload(), signed.payload)


def a_tag(data: bytes) -> None:
    signed = Signed.decode(data)
    found = Tag.parse(signed.payload)
    _again(found, found.payload(), signed.payload)


def a_signature(data: bytes) -> None:
    found = sshsig.Signature.decode(data)
    sshsig.check(found, b"payload", namespace="usrstore")


def signers(data: bytes) -> None:
    found = AllowedSigners.parse(data.decode("utf-8", "replace"))
    assert AllowedSigners.parse(found.text()).signers == found.signers


def a_state(data: bytes) -> None:
    found = state.State.decode(data)
    _again(found, found.encode(), data)


def a_value(data: bytes) -> None:
    codec.encode(codec.decode(data, limit=MAX_BYTES, containers=1000))
    codec.span(data)


def a_pack_index(data: bytes) -> None:
    """An index that hashes to its name, whatever is in it: a writer may be hostile."""
    name = PackId(hash_object(Kind.INDEX, data))
    index = PackIndex.check(data, name)
    for oid in list(index.ids())[:64]:
        index.find(oid)
    index.find(bytes(32))
    list(index.items())
    list(index.beginning("00"))
    index.disorder(1 << 40)


def a_pack(data: bytes) -> None:
    """A whole pack under the name that its trailer gives."""
    name = PackId(hash_object(Kind.INDEX, data[8:]))
    if len(data) >= packindex.TRAILER.size:
        name = PackId(ObjectId(packindex.TRAILER.unpack(data[-packindex.TRAILER.size :])[2]))
    backend = MemoryBackend()
    backend.create(pack_key(name), data)
    found = Pack(backend, name, len(data))
    for oid, row in list(found.index.items())[:64]:
        found.read(oid, row)


def a_broken_pack(data: bytes) -> None:
    """What is saved of a pack of which nothing may be right."""
    with tempfile.NamedTemporaryFile(prefix="usr-fuzz-") as file:
        file.write(data)
        file.flush()
        with salvage.PackFile(file.name) as pack:
            list(salvage.scan(pack, salvage.Wanted()))


def a_journal(data: bytes) -> None:
    _sealed_or_not(Journal.decode, data)


def a_stat_cache(data: bytes) -> None:
    def act(sealed: bytes) -> None:
        cache = statcache.StatCache.decode(sealed, recipe.RULE)
        assert isinstance(cache.files, dict)

    _sealed_or_not(act, data)


def a_docket(data: bytes) -> None:
    found = docket.Entry.decode(data)
    _again(found, found.encode(), data)


def _sealed_or_not(act: Callable[[bytes], object], data: bytes) -> None:
    """As it is, and with a sum that holds: a sum is no signature."""
    try:
        act(data)
    except UsrError:
        pass
    act(seal(data))


def a_compressed_chunk(data: bytes) -> None:
    compress.frame(data, 1 << 20)
    for encoding in (0, 1, 2):
        try:
            compress.expand(encoding, data, int.from_bytes(data[:3], "big"))
        except UsrError:
            continue


def a_thrift_struct(data: bytes) -> None:
    try:
        thrift.read_struct(data, 0, None)
    except thrift.ThriftError:
        return


def a_parquet_file(data: bytes) -> None:
    """A footer around the bytes, so that they are reached; then every page that it names."""
    for file in (data, b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1"):

        def read(offset: int, length: int, file: bytes = file) -> bytes:
            return file[offset : offset + length]

        footer = parquet.read_footer(read, len(file))
        for chunk in footer.column_chunks[:16] if footer else ():
            at = chunk.start
            for start, end in parquet.pages(read, chunk):
                assert start == at < end
                at = end
            assert at == chunk.end


def a_bundle(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(prefix="usr-fuzz-") as file:
        file.write(data)
        file.flush()
        found = ArchiveBackend([file.name])
        try:
            for row in list(found.list(""))[:64]:
                found.read(row.key)
        finally:
            found.close()


def frames(data: bytes) -> None:
    for act in (Wire.receive, lambda wire: list(wire.receive_objects())):
        try:
            act(Wire(StreamChannel(io.BytesIO(data), io.BytesIO())))
        except UsrError:
            continue


def a_message(data: bytes) -> None:
    """One message in every place where one is read."""
    value = codec.decode(data, limit=MAX_BYTES, longest=4096, containers=64)
    for parse in (
        messages.parse_probe,
        messages.parse_weighed,
        messages.parse_ask,
        messages.parse_listed,
        lambda fields: messages.parse_compared(fields, {}, {}),
        lambda fields: messages.parse_proposal(fields, {}, {}),
        lambda fields: messages.parse_error(fields, "r"),
    ):
        try:
            parse(codec.Fields(value, "message"))
        except (UsrError, ValueError):
            continue  # the ends make a ProtocolError of a ValueError


class _Nothing:
    """A peer that has nothing, so that the conversation itself is what is tried."""

    def __getattr__(self, name: str):
        raise AttributeError(name)

    def probe(self):
        raise UsrError("no")

    def datasets(self):
        return []

    def compare(self, _ask):
        raise UsrError("no")

    def want(self, _contents, _have):
        return iter(())

    def send(self, _oids):
        return iter(())

    def offer(self, recipes):
        return list(recipes)

    def plan(self, _proposal):
        raise UsrError("no")

    def publish(self, pieces):
        list(pieces)
        raise UsrError("no")

    def hold(self, pieces):
        list(pieces)

    def promote(self):
        raise UsrError("no")

    def weigh(self, size, *, may_write=True):
        return Weight(size, 1, None, None)

    def close(self):
        pass


def a_client(data: bytes) -> None:
    """All that a client says to a serving end: nothing whatever comes out but frames."""
    out = io.BytesIO()
    limits = Limits(max_metadata=MAX_METADATA, datasets={"ns/x": True})
    serve(StreamChannel(io.BytesIO(data), out), _Nothing(), tool="fuzz", limits=limits)
    assert out.getvalue().startswith(b"\0usr-serve\0")


def a_server(data: bytes) -> None:
    """All that a serving end says to a client, for each of its questions."""
    from usrstore.objects.ids import ChunkId, ContentHash, ManifestId, ObjectId
    from usrstore.remote.peer import Proposal

    zero = ObjectId(bytes(32))
    proposal = Proposal("ns/x", ManifestId(zero), {}, {}, None, None, None)
    for act in (
        lambda peer: peer.probe(),
        lambda peer: peer.datasets(),
        lambda peer: peer.compare(Ask("ns/x", "pull")),
        lambda peer: list(peer.want([ContentHash(zero)], frozenset())),
        lambda peer: list(peer.send([ChunkId(zero)])),
        lambda peer: peer.offer([]),
        lambda peer: peer.plan(proposal),
        lambda peer: peer.publish([]),
        lambda peer: peer.hold([]),
        lambda peer: peer.promote(),
        lambda peer: peer.weigh(1),
        lambda peer: peer.carry(1),
    ):
        channel = StreamChannel(io.BytesIO(data), io.BytesIO())
        try:
            act(WirePeer(Wire(channel), "remote r", lambda: None))
        except UsrError:
            continue


TARGETS: dict[str, Callable[[bytes], object]] = {
    "tree": a_tree, "listing": a_listing, "recipe": a_recipe, "manifest": a_manifest,
    "tag": a_tag, "signature": a_signature, "signers": signers, "state": a_state,
    "value": a_value, "packindex": a_pack_index, "pack": a_pack, "salvage": a_broken_pack,
    "journal": a_journal, "statcache": a_stat_cache, "docket": a_docket,
    "compressed": a_compressed_chunk, "thrift": a_thrift_struct, "parquet": a_parquet_file,
    "bundle": a_bundle, "frames": frames, "message": a_message, "client": a_client,
    "server": a_server, **filetargets.TARGETS,
}  # fmt: skip


def run(name: str, data: bytes) -> bool:
    """One input for one target; whether it was taken for good."""
    try:
        TARGETS[name](data)
    except UsrError:
        return False
    return True


def scratch() -> str:
    return os.path.join(tempfile.gettempdir(), "usr-fuzz")
