"""Questions and answers as wire messages, and back, each field checked ([P-6]…[P-12])."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar, cast

from usrstore import errors
from usrstore.errors import DecodeError, ProtocolError, RemoteError, UsrError
from usrstore.objects.codec import Fields
from usrstore.objects.ids import (
    ID_BYTES,
    ContentHash,
    Kind,
    ManifestId,
    ObjectId,
    StateId,
    TreeId,
    hash_object,
)
from usrstore.objects.manifest import MAX_REGISTRY_BYTES
from usrstore.objects.names import check_dataset
from usrstore.objects.tree import FolderEntry
from usrstore.remote.peer import (
    Ask,
    Checks,
    Compared,
    Held,
    Intent,
    Nodes,
    Probe,
    Proposal,
    Seen,
    Tagged,
    Weight,
)
from usrstore.remote.wire import MAX_MESSAGE_BYTES, Record

Id = TypeVar("Id", bound=ObjectId)
_MODES = ("hash", "auto", "size", "parquet")
_INTENTS = ("diff", "pull", "push")
MAX_METADATA_BYTES = 1 << 30
_NODE_BYTES = 256  # what an object costs us beside its bytes
NAME_BYTES = 32  # of a name in a run of names
_MAX_TAGGED = 1024  # names or notes about tags of one answer
_MAX_LISTED_BYTES = 32 << 20
MAX_GAUGE_BYTES = 1 << 30  # of one measurement
MAX_GAUGED_BYTES = 4 << 30  # of all measurements of one session
GAUGE_PIECE_BYTES = 1 << 20


def pack_ids(oids: Iterable[ObjectId]) -> bytes:
    return b"".join(oids)


def unpack_ids(data: bytes) -> list[Any]:
    if len(data) % ID_BYTES:
        raise DecodeError("a list of ids that is cut off")
    return [ObjectId(data[at : at + ID_BYTES]) for at in range(0, len(data), ID_BYTES)]


def _ids(fields: Fields, name: str) -> list[Any]:
    return unpack_ids(fields.data(name, most=MAX_MESSAGE_BYTES))


def _oid(fields: Fields, name: str) -> ObjectId:
    return ObjectId(fields.data(name, most=ID_BYTES))


def _maybe_oid(fields: Fields, name: str) -> ObjectId | None:
    return None if fields.is_nil(name) else _oid(fields, name)


def _seen(fields: Fields, name: str) -> Seen | None:
    if fields.is_nil(name):
        return None
    match fields.sequence(name, most=2):
        case [int(number), bytes(oid)]:
            return Seen(number, StateId(ObjectId(oid)))
        case _:
            raise DecodeError(f"{name} is not a state")


def _timeout(fields: Fields) -> float:
    return fields.integer("lock_timeout_ms", most=86_400_000) / 1000


_NOBODY = "0" * 64


def listed_message(held: Sequence[Held]) -> dict[str, Any]:
    """One line a dataset: its head in hex (zeros: none yet), a blank, its id."""
    lines = (f"{row.head.hex() if row.head else _NOBODY} {row.dataset}\n" for row in held)
    return {"op": "listed", "datasets": "".join(lines)}


def parse_listed(fields: Fields) -> list[Held]:
    """Raises: ProtocolError."""
    text = fields.text("datasets", most=_MAX_LISTED_BYTES)
    fields.done()
    held = []
    for line in text.split("\n")[:-1]:
        head, _, name = line.partition(" ")
        try:
            oid = None if head == _NOBODY else ManifestId(ObjectId.parse(head))
            held.append(Held(check_dataset(name), oid))
        except UsrError as exc:
            raise ProtocolError(f"a list of datasets that cannot be read: {exc.message}") from exc
    return held


def probe_message(probe: Probe) -> dict[str, Any]:
    return {"op": "probed", **asdict(probe)}


def parse_probe(fields: Fields) -> Probe:
    probe = Probe(
        tool=printable(fields.text("tool", most=256)),
        base_dir=printable(fields.text("base_dir", most=4096)),
        writable=fields.flag("writable"),
        has_store=fields.flag("has_store"),
        exclusive_create=fields.flag("exclusive_create"),
        flock=fields.flag("flock"),
        free_bytes=fields.integer("free_bytes"),
        free_inodes=_count(fields, "free_inodes"),
        now_us=fields.integer("now_us", most=1 << 60),
        registry=fields.flag("registry"),
    )
    fields.done()
    return probe


def weighed_message(weight: Weight) -> dict[str, Any]:
    return {"op": "weighed", **weight._asdict()}


def parse_weighed(fields: Fields) -> Weight:
    weight = Weight(
        size=fields.integer("size", most=MAX_GAUGE_BYTES),
        hash_us=fields.integer("hash_us", most=1 << 60),
        read_us=_count(fields, "read_us"),
        write_us=_count(fields, "write_us"),
    )
    fields.done()
    return weight


def gauge_records(size: int) -> Iterator[Record]:
    """A run of chunks of no meaning, `size` bytes together; random, so that no link packs them."""
    piece = memoryview(os.urandom(min(size, GAUGE_PIECE_BYTES)))
    oid = hash_object(Kind.CHUNK, piece)
    whole, rest = divmod(size, GAUGE_PIECE_BYTES)
    for _ in range(whole):
        yield Kind.CHUNK, oid, 0, GAUGE_PIECE_BYTES, piece
    if rest:
        last = piece[:rest]
        yield Kind.CHUNK, hash_object(Kind.CHUNK, last), 0, rest, last


def gauge_received(records: Iterable[Record], size: int) -> None:
    """Let a run of chunks go by. Raises: ProtocolError, if it is not `size` bytes of them."""
    total = 0
    for kind, _, encoding, raw, stored in records:
        total += len(stored)
        if kind is not Kind.CHUNK or encoding or raw != len(stored) or not raw or total > size:
            raise ProtocolError(f"something else than {size} bytes of chunks")
    if total != size:
        raise ProtocolError(f"{total} bytes of chunks in place of {size}")


def ask_message(ask: Ask) -> dict[str, Any]:
    return {
        "op": "compare",
        "dataset": ask.dataset,
        "intent": ask.intent,
        "root": ask.root,
        "have": pack_ids(sorted(ask.have)),
        "known": pack_ids(sorted(ask.known)),
        "seen": ask.seen,
        "verify_registry": ask.verify_registry,
        "lock_timeout_ms": round(ask.lock_timeout_s * 1000),
    }


def parse_ask(fields: Fields) -> Ask:
    root = _maybe_oid(fields, "root")
    intent = fields.text("intent", most=8)
    if intent not in _INTENTS:
        raise DecodeError(f"an unknown intent {intent!r}")
    return Ask(
        dataset=fields.text("dataset", most=1024),
        intent=cast("Intent", intent),
        root=None if root is None else TreeId(root),
        have=frozenset(_ids(fields, "have")),
        known=frozenset(_ids(fields, "known")),
        seen=_seen(fields, "seen"),
        verify_registry=fields.flag("verify_registry"),
        lock_timeout_s=_timeout(fields),
    )


def compared_message(answer: Compared) -> dict[str, Any]:
    return {
        "op": "compared",
        "exists": answer.exists,
        "has_store": answer.has_store,
        "writable": answer.writable,
        "root": None if answer.root is None else list(answer.root[1:]),
        "rows": answer.rows,
        "columns": answer.columns,
        "schema": answer.schema,
        "events": answer.events,
        "registry": answer.registry,
        "state": answer.state,
        "seen": answer.seen,
        "head": answer.head,
        "notes": list(answer.notes),
        "now_us": answer.now_us,
    }


def compared_records(answer: Compared) -> Iterable[Record]:
    for oid, (kind, data) in answer.nodes.items():
        yield kind, oid, 0, len(data), data
    for manifest, data in answer.manifests.items():
        yield Kind.MANIFEST, manifest, 0, len(data), data


def parse_compared(fields: Fields, nodes: Nodes, manifests: dict[ManifestId, bytes]) -> Compared:
    root = None
    if not fields.is_nil("root"):
        match fields.sequence("root", most=3):
            case [bytes(oid), int(files), int(size)]:
                root = FolderEntry("", TreeId(ObjectId(oid)), files, size)
            case _:
                raise DecodeError("a root that is no folder")
    schema, head = _maybe_oid(fields, "schema"), _maybe_oid(fields, "head")
    return Compared(
        exists=fields.flag("exists"),
        has_store=fields.flag("has_store"),
        writable=fields.flag("writable"),
        root=root,
        rows=_count(fields, "rows"),
        columns=_count(fields, "columns"),
        schema=None if schema is None else ContentHash(schema),
        events=_count(fields, "events"),
        nodes=nodes,
        registry=_registry(fields),
        state=_seen(fields, "state"),
        seen=None if fields.is_nil("seen") else fields.flag("seen"),
        head=None if head is None else ManifestId(head),
        manifests=manifests,
        notes=tuple(str(note)[:4096] for note in fields.sequence("notes", most=64)),
        now_us=fields.integer("now_us", most=1 << 60),
    )


def _count(fields: Fields, name: str) -> int | None:
    return None if fields.is_nil(name) else fields.integer(name, most=1 << 60)


def _registry(fields: Fields) -> bytes | None:
    return None if fields.is_nil("registry") else fields.data("registry", most=MAX_REGISTRY_BYTES)


def proposal_message(proposal: Proposal) -> dict[str, Any]:
    return {
        "op": "plan",
        "dataset": proposal.dataset,
        "manifest": proposal.manifest,
        "registry": proposal.registry,
        "expected_root": proposal.expected_root,
        "expected_head": proposal.expected_head,
        "primary": proposal.checks.primary,
        "sidecars": proposal.checks.sidecars,
        "content_hashes": proposal.checks.content_hashes,
        "verify_registry": proposal.checks.registry,
        "keep_replaced": proposal.keep_replaced,
        "lock_timeout_ms": round(proposal.lock_timeout_s * 1000),
    }


def proposal_records(proposal: Proposal) -> Iterable[Record]:
    for manifest, data in proposal.manifests.items():
        yield Kind.MANIFEST, manifest, 0, len(data), data
    for oid, (kind, data) in proposal.nodes.items():
        yield kind, oid, 0, len(data), data


def parse_proposal(fields: Fields, nodes: Nodes, manifests: dict[ManifestId, bytes]) -> Proposal:
    mode = fields.text("primary", most=16)
    if mode not in _MODES:
        raise DecodeError(f"an unknown verification mode {mode!r}")
    root, head = _maybe_oid(fields, "expected_root"), _maybe_oid(fields, "expected_head")
    return Proposal(
        dataset=fields.text("dataset", most=1024),
        manifest=ManifestId(_oid(fields, "manifest")),
        manifests=manifests,
        nodes=nodes,
        registry=_registry(fields),
        expected_root=None if root is None else TreeId(root),
        expected_head=None if head is None else ManifestId(head),
        checks=Checks(
            primary=mode,  # type: ignore[arg-type]
            sidecars=fields.flag("sidecars"),
            content_hashes=fields.flag("content_hashes"),
            registry=fields.flag("verify_registry"),
        ),
        keep_replaced=fields.flag("keep_replaced"),
        lock_timeout_s=_timeout(fields),
    )


def tagged_message(tagged: Tagged) -> dict[str, Any]:
    return {"op": "tagged", "taken": tagged.taken, "notes": tagged.notes}


def parse_tagged(fields: Fields) -> Tagged:
    taken, notes = (
        tuple(printable(str(text)[:4096]) for text in fields.sequence(name, most=_MAX_TAGGED))
        for name in ("taken", "notes")
    )
    fields.done()
    return Tagged(taken, notes)


def error_message(error: UsrError) -> dict[str, Any]:
    return {
        "op": "error",
        "family": type(error).__name__,
        "code": error.code,
        "message": error.message[:8192],
        "hint": (error.hint or "")[:4096],
    }


def parse_error(fields: Fields, where: str) -> UsrError:
    """The error of the other end, as one of ours; an unknown family becomes a RemoteError."""
    family = getattr(errors, fields.text("family", most=64), RemoteError)
    if not (isinstance(family, type) and issubclass(family, UsrError)):
        family = RemoteError
    code = fields.text("code", most=64)
    message = printable(fields.text("message", most=65536))
    if not message.startswith(("post-push-", "post-pull-")):
        message = f"{where}: {message}"
    hint = printable(fields.text("hint", most=65536)) or None
    return family(message, hint=hint, code=code)


def printable(text: str) -> str:
    """Text of another host, made harmless for a terminal."""
    text = text.replace("\r\n", "\n").removesuffix("\r")  # as ssh ends its lines
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def split_records(
    records: Iterable[Record], *, kinds: Sequence[Kind], most: int = MAX_METADATA_BYTES
) -> tuple[Nodes, dict[ManifestId, bytes]]:
    """Metadata objects of a run, each hashed against its name.

    Args:
        records: the run.
        kinds: what may be in it.
        most: bytes that all of it may cost, 256 for each object included.

    Raises:
        ProtocolError: an object that does not hash to its name, or of a kind not asked for; one
            that came before; too many of them.
    """
    nodes: Nodes = {}
    manifests: dict[ManifestId, bytes] = {}
    total = 0
    for kind, oid, encoding, size, stored in records:
        data = bytes(stored)
        total += len(data) + _NODE_BYTES
        if total > most:
            raise ProtocolError(
                f"more than {most} bytes of metadata; nothing was changed",
                hint="raise --max-metadata at the serving end",
                code="too-much-metadata",
            )
        if kind not in kinds or encoding != 0 or size != len(data):
            raise ProtocolError(f"a {kind.word} that was not asked for")
        if hash_object(kind, data) != oid:
            raise ProtocolError(
                f"{kind.word} {oid.short} arrived damaged: it does not hash to its name",
                code="hash-mismatch",
            )
        if oid in nodes or oid in manifests:
            raise ProtocolError(f"{kind.word} {oid.short} was sent twice")
        if kind is Kind.MANIFEST:
            manifests[ManifestId(oid)] = data
        else:
            nodes[oid] = (kind, data)
    return nodes, manifests
