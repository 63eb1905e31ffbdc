"""Manifest: one dataset state, signed; tag: a signed name for a manifest ([F-23]…[F-28]).

Both are `[payload, signature]`: the payload is itself canonical bytes, so that what is
signed is exactly what is stored, and the signature is a raw SSHSIG blob or nil.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from usrstore.errors import DecodeError, InvalidNameError
from usrstore.objects import codec, names
from usrstore.objects.ids import (
    ContentHash,
    Kind,
    ManifestId,
    ObjectId,
    TagId,
    TreeId,
    hash_object,
)
from usrstore.objects.tree import FileEntry

MAX_SIGNED_BYTES = 1 << 18
MAX_MESSAGE_BYTES = 1 << 16
MAX_SIGNATURE_BYTES = 1 << 14
MAX_PARENTS = 16
MAX_POLICY = 32
MAX_REGISTRY_BYTES = codec.MAX_CHUNK_BYTES  # always one chunk
_MAX_FIELDS = 32  # some more than there are, so that a later format can be told


@dataclass(frozen=True, slots=True)
class Manifest:
    """One state of one dataset.

    Attributes:
        sequence: greatest sequence of the parents + 1; 1 for a first state.
        time_us: UTC, microseconds since 1970.
        registry: the root's registry.yaml at that moment.
        rows, columns, schema: of the primary, as its Parquet footer states them; else None.
        events: complete lines of the event log; None if there is no log.
        policy: every opt-out in force when the state was made, sorted.
    """

    dataset: str
    sequence: int
    tree: TreeId
    parents: tuple[ManifestId, ...]
    author: str
    host: str
    tool: str
    time_us: int
    message: str
    registry: FileEntry | None = None
    rows: int | None = None
    columns: int | None = None
    schema: ContentHash | None = None
    events: int | None = None
    policy: tuple[str, ...] = ()

    def payload(self) -> bytes:
        """The bytes that are signed.

        Raises:
            InvalidInputError: a field that no reader would accept.
        """
        return codec.readable(self._encode, self.parse, "manifest")

    def _encode(self) -> bytes:
        return codec.encode(
            {
                "format": codec.FORMAT,
                "kind": Kind.MANIFEST.word,
                "dataset": self.dataset,
                "sequence": self.sequence,
                "tree": self.tree,
                "parents": list(self.parents),
                "author": self.author,
                "host": self.host,
                "tool": self.tool,
                "time_us": self.time_us,
                "message": self.message,
                "registry": self.registry,
                "rows": self.rows,
                "columns": self.columns,
                "schema": self.schema,
                "events": self.events,
                "policy": list(self.policy),
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> Manifest:
        """Raises: DecodeError."""
        fields = _fields(payload, Kind.MANIFEST)
        manifest = cls(
            dataset=_dataset(fields),
            sequence=fields.integer("sequence", most=1 << 53),
            tree=TreeId(_oid(fields, "tree")),
            parents=tuple(
                ManifestId(_id(p, "parent")) for p in fields.sequence("parents", most=MAX_PARENTS)
            ),
            author=fields.text("author", most=1024),
            host=fields.text("host", most=1024),
            tool=fields.text("tool", most=1024),
            time_us=fields.integer("time_us", most=1 << 60),
            message=fields.text("message", most=MAX_MESSAGE_BYTES),
            registry=None if fields.is_nil("registry") else _registry(fields),
            rows=_count(fields, "rows"),
            columns=_count(fields, "columns"),
            schema=None if fields.is_nil("schema") else ContentHash(_oid(fields, "schema")),
            events=_count(fields, "events"),
            policy=tuple(
                codec.text(p, "policy", most=256)
                for p in fields.sequence("policy", most=MAX_POLICY)
            ),
        )
        fields.done()
        if len(set(manifest.parents)) != len(manifest.parents):
            raise DecodeError("a manifest that names one parent twice")
        if list(manifest.policy) != sorted(set(manifest.policy)):
            raise DecodeError("a manifest whose policy is not sorted and unique")
        if (manifest.sequence == 1) != (not manifest.parents) or manifest.sequence == 0:
            raise DecodeError(
                f"a manifest with sequence {manifest.sequence} and {len(manifest.parents)} parents"
            )
        return codec.same(manifest, manifest._encode(), payload, "manifest")


@dataclass(frozen=True, slots=True)
class Tag:
    """A signed name for a manifest; also a countersignature of it."""

    dataset: str
    name: str
    manifest: ManifestId
    tagger: str
    time_us: int
    message: str

    def payload(self) -> bytes:
        """The bytes that are signed.

        Raises:
            InvalidInputError: a field that no reader would accept.
        """
        return codec.readable(self._encode, self.parse, "tag")

    def _encode(self) -> bytes:
        return codec.encode(
            {
                "format": codec.FORMAT,
                "kind": Kind.TAG.word,
                "dataset": self.dataset,
                "name": self.name,
                "manifest": self.manifest,
                "tagger": self.tagger,
                "time_us": self.time_us,
                "message": self.message,
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> Tag:
        """Raises: DecodeError."""
        fields = _fields(payload, Kind.TAG)
        tag = cls(
            dataset=_dataset(fields),
            name=_name(fields),
            manifest=ManifestId(_oid(fields, "manifest")),
            tagger=fields.text("tagger", most=1024),
            time_us=fields.integer("time_us", most=1 << 60),
            message=fields.text("message", most=MAX_MESSAGE_BYTES),
        )
        fields.done()
        return codec.same(tag, tag._encode(), payload, "tag")


@dataclass(frozen=True, slots=True)
class Signed:
    """A payload and the signature over it; its bytes are the stored object."""

    payload: bytes
    signature: bytes | None

    def encode(self) -> bytes:
        return codec.encode([self.payload, self.signature])

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Signed:
        """Raises: DecodeError."""
        match codec.decode(data, limit=MAX_SIGNED_BYTES, longest=2, maps=0):
            case [bytes(payload), None | bytes() as signature]:
                if signature is not None:
                    codec.data(signature, "signature", most=MAX_SIGNATURE_BYTES)
            case _:
                raise DecodeError("not a signed object: [payload, signature]")
        signed = cls(payload, signature)
        return codec.same(signed, signed.encode(), data, "signed object")


def manifest_id(data: bytes) -> ManifestId:
    return ManifestId(hash_object(Kind.MANIFEST, data))


def tag_id(data: bytes) -> TagId:
    return TagId(hash_object(Kind.TAG, data))


def _fields(payload: bytes, kind: Kind) -> codec.Fields:
    value = codec.decode(payload, limit=MAX_SIGNED_BYTES, longest=MAX_POLICY, maps=_MAX_FIELDS)
    fields = codec.Fields(value, kind.word)
    if fields.integer("format") != codec.FORMAT or fields.text("kind", most=32) != kind.word:
        raise codec.refused(value, kind.word)
    return fields


def _dataset(fields: codec.Fields) -> str:
    dataset = fields.text("dataset", most=2 * names.MAX_NAME_BYTES + 1)
    try:
        return names.check_dataset(dataset)
    except InvalidNameError as exc:
        raise DecodeError(exc.message) from exc


def _name(fields: codec.Fields) -> str:
    try:
        return names.check_tag(fields.text("name", most=names.MAX_NAME_BYTES))
    except InvalidNameError as exc:
        raise DecodeError(exc.message) from exc


def _id(value: Any, what: str) -> ObjectId:
    data = codec.data(value, what, most=32)
    if len(data) != 32:
        raise DecodeError(f"{what} is an id of {len(data)} bytes")
    return ObjectId(data)


def _oid(fields: codec.Fields, name: str) -> ObjectId:
    return _id(fields.data(name, most=32), name)


def _count(fields: codec.Fields, name: str) -> int | None:
    return None if fields.is_nil(name) else fields.integer(name, most=1 << 60)


def _registry(fields: codec.Fields) -> FileEntry:
    match fields.sequence("registry", most=4):
        case ["registry.yaml", int(size), bytes(content), None]:
            return FileEntry(
                "registry.yaml",
                codec.integer(size, "registry.size", most=MAX_REGISTRY_BYTES),
                ContentHash(_id(content, "registry.content")),
                None,
            )
        case _:
            raise DecodeError("manifest.registry is not a file entry")
