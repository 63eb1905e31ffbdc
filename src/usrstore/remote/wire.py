"""Frames: 4-byte length, 1-byte type, body ([P-1]…[P-5]). Only this room knows them.

    M  one message: a msgpack map
    D  objects: u32 length of a msgpack list of (kind, id, encoding, size, stored), then bytes
    E  the end of a run of D frames
Every length is checked before it is believed; a frame from a hostile end can cost at most
its own bounded size in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from usrstore.errors import ConnectionLostError, DecodeError, ProtocolError, UsrError
from usrstore.objects import codec
from usrstore.objects.ids import ID_BYTES, Kind, ObjectId

PROTOCOL = 1
MAGIC = b"\0usr-serve\0"
MAX_MESSAGE_BYTES = 64 << 20
MAX_DATA_BYTES = 17 << 20
BATCH_BYTES = 1 << 20
READ_BYTES = 64 << 10  # that a reader keeps: what is longer goes past its buffer, uncopied
_MAX_HEAD_BYTES = 2 << 20  # a batch of the smallest objects needs half of it
_MAX_ITEMS = 4096  # of a list or map in a message; ids travel packed
_MAX_CONTAINERS = 64  # lists and maps in a message
_MOST_BYTES = {b"M": MAX_MESSAGE_BYTES, b"D": MAX_DATA_BYTES, b"E": 0}
FRAME_HEAD = struct.Struct(">Ic")
_U32 = struct.Struct(">I")
_KINDS: dict[object, Kind] = {int(kind): kind for kind in Kind}


Record = tuple[Kind, ObjectId, int, int, bytes | memoryview]
"""(kind, id, encoding, true size, stored bytes)."""


class Channel(Protocol):
    """A pair of byte streams."""

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises: ConnectionLostError."""
        ...

    def write(self, data: bytes | memoryview) -> None:
        """Raises: ConnectionLostError."""
        ...

    def flush(self) -> None: ...


class Wire:
    """Messages and object runs over a channel; counts what passes."""

    def __init__(self, channel: Channel, *, max_data: int | None = None) -> None:
        self._channel = channel
        self._max_data = max_data
        self.sent = 0
        self.received = 0

    def send(self, message: dict[str, Any]) -> None:
        self._frame(b"M", codec.encode(message))
        self._channel.flush()

    def receive(self) -> dict[str, Any]:
        """Raises: ProtocolError, ConnectionLostError."""
        kind, body = self._read()
        if kind != b"M":
            raise ProtocolError(f"a frame of type {kind!r} where a message belongs")
        return _message(body)

    def send_objects(self, records: Iterable[Record]) -> None:
        """A run of objects, gathered into frames of about 1 MiB."""
        rows: list[list[object]] = []
        parts: list[bytes | memoryview] = []
        size = 0
        for kind, oid, encoding, raw, stored in records:
            rows.append([int(kind), oid, encoding, raw, len(stored)])
            parts.append(stored)
            size += len(stored) + 48
            if size >= BATCH_BYTES:
                self._objects(rows, parts)
                rows, parts, size = [], [], 0
        if rows:
            self._objects(rows, parts)
        self._frame(b"E", b"")
        self._channel.flush()

    def _objects(self, rows: list[list[object]], parts: list[bytes | memoryview]) -> None:
        self._frame(b"D", encode_object_heads(rows), *parts)

    def receive_objects(
        self, *, on_message: Callable[[dict[str, Any]], None] | None = None
    ) -> Iterator[Record]:
        """A run of objects, checked for shape only: hashing is the caller's.

        Raises:
            ProtocolError, ConnectionLostError; and what `on_message` raises for a message
            that comes in between (an error of the other end).
        """
        total = 0
        while True:
            kind, body = self._read()
            if kind == b"E":
                return
            if kind == b"M" and on_message is not None:
                on_message(_message(body))
                raise ProtocolError("a message inside a run of objects")
            if kind != b"D":
                raise ProtocolError(f"a frame of type {kind!r} inside a run of objects")
            total += len(body)
            if self._max_data is not None and total > self._max_data:
                raise ProtocolError(
                    f"more than the {self._max_data} bytes that this end accepts",
                    hint="raise --max-bytes at the serving end",
                )
            yield from decode_objects(body)

    def send_ids(self, kind: Kind, oids: Iterable[ObjectId]) -> None:
        """A run of names without bytes: there may be more of them than a message holds."""
        self.send_objects((kind, oid, 0, 0, b"") for oid in oids)

    def receive_ids(
        self,
        kind: Kind,
        *,
        most: int | None = None,
        on_message: Callable[[dict[str, Any]], None] | None = None,
    ) -> Iterator[ObjectId]:
        """Raises: as `receive_objects`; ProtocolError for anything but `most` names of this kind."""
        records = self.receive_objects(on_message=on_message)
        for number, (found, oid, _, _, stored) in enumerate(records):
            if most is not None and number >= most:
                raise ProtocolError(f"more than {most} names in one run")
            if found is not kind or len(stored):
                raise ProtocolError(f"a {found.word} in a run of names")
            yield oid

    def _frame(self, kind: bytes, *parts: bytes | memoryview) -> None:
        size = sum(map(len, parts))
        self._channel.write(FRAME_HEAD.pack(size, kind))
        for part in parts:
            self._channel.write(part)
        self.sent += FRAME_HEAD.size + size

    def _read(self) -> tuple[bytes, bytes]:
        size, kind = FRAME_HEAD.unpack(self._channel.read(FRAME_HEAD.size))
        limit = _MOST_BYTES.get(kind)
        if limit is None:
            raise ProtocolError(f"a frame of type {kind!r}, which there is not")
        if size > limit:
            raise ProtocolError(f"a frame of {size} bytes; at most {limit} are allowed")
        body = self._channel.read(size)
        self.received += FRAME_HEAD.size + size
        return kind, body


def _message(body: bytes) -> dict[str, Any]:
    try:
        value = codec.decode(
            body, limit=MAX_MESSAGE_BYTES, longest=_MAX_ITEMS, containers=_MAX_CONTAINERS
        )
    except DecodeError as exc:
        raise ProtocolError(f"a message that cannot be read: {exc.message}") from exc
    if not isinstance(value, dict):
        raise ProtocolError("a message that is no map")
    return value


def encode_object_heads(rows: list[list[object]]) -> bytes:
    """How a D frame begins: what is in it, before the bytes themselves."""
    head = codec.encode(rows)
    return _U32.pack(len(head)) + head


def decode_objects(body: bytes) -> Iterator[Record]:
    """The objects of a D frame. Raises: ProtocolError."""
    try:
        (length,) = _U32.unpack_from(body)
        rows = codec.decode(
            memoryview(body)[4 : 4 + length],
            limit=_MAX_HEAD_BYTES,
            containers=_MAX_HEAD_BYTES // 40,
        )
        if not isinstance(rows, list):
            raise DecodeError("no list")
        if not rows:
            raise DecodeError("no objects: a run without end could be made of such frames")
        at = 4 + length
        view = memoryview(body)
        records: list[Record] = []
        for kind, oid, encoding, raw, stored in rows:
            if not (type(encoding) is type(raw) is type(stored) is int):
                raise DecodeError("an encoding or a size that is no number")
            end = at + stored
            if not at <= end <= len(body):
                raise DecodeError("an object that reaches past its frame")
            if not (0 <= encoding <= 255 and 0 <= raw <= codec.MAX_OBJECT_BYTES):
                raise DecodeError("an encoding or a size that there is not")
            name = ObjectId(codec.data(oid, "id", most=ID_BYTES))
            records.append((_kind(kind), name, encoding, raw, view[at:end]))
            at = end
        if at != len(body):
            raise DecodeError("bytes after the last object")
    except (UsrError, ValueError, TypeError, struct.error) as exc:
        raise ProtocolError(f"a run of objects that cannot be read: {exc}") from exc
    yield from records


def _kind(value: object) -> Kind:
    kind = _KINDS.get(value) if type(value) is int else None
    if kind is None:
        raise DecodeError(f"a kind of object that there is not: {value!r}")
    return kind


class StreamChannel:
    """A channel over two binary file objects."""

    def __init__(self, reader: Any, writer: Any, *, lost: Callable[[], str] | None = None) -> None:
        self._reader = reader
        self._writer = writer
        self._lost = lost or (lambda: "the other end went away")

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._reader.read(size)
        except OSError as exc:
            raise self._gone() from exc
        if len(data) != size:
            raise self._gone()
        return data

    def write(self, data: bytes | memoryview) -> None:
        try:
            self._writer.write(data)
        except (OSError, ValueError) as exc:
            raise self._gone() from exc

    def flush(self) -> None:
        try:
            self._writer.flush()
        except (OSError, ValueError) as exc:
            raise self._gone() from exc

    def _gone(self) -> ConnectionLostError:
        return ConnectionLostError(
            f"the connection was lost: {self._lost()}; nothing was promoted",
            hint="run the same command again; what has arrived is kept",
        )
