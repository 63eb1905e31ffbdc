"""The serving end: one connection, one dataset at a time, every byte of it suspect.

It answers questions in any order that makes sense, and hangs up with an error message on
the first thing that does not. What a client may ask at all is decided by `Limits`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from usrstore.errors import ConnectionLostError, ProtocolError, ReadOnlyError, UsrError
from usrstore.objects.codec import Fields
from usrstore.objects.ids import ChunkId, Kind
from usrstore.remote import messages
from usrstore.remote.patience import BUSY_S, Patience
from usrstore.remote.peer import Outcome, Peer, Piece
from usrstore.remote.wire import MAGIC, MAX_MESSAGE_BYTES, PROTOCOL, Channel, Wire


@dataclass(frozen=True, slots=True)
class Limits:
    """What this end allows.

    Attributes:
        read_only: refuse pushes.
        datasets: the only ones that may be asked for, and whether each may be pushed; None
            for all.
        max_bytes: how much one push may send.
        max_metadata: what the trees, recipes and manifests of one push may cost in memory.
        patience: how long the client may keep us waiting; None for ever.
    """

    read_only: bool = False
    datasets: Mapping[str, bool] | None = None
    max_bytes: int | None = None
    max_metadata: int = messages.MAX_METADATA_BYTES
    patience: Patience | None = None

    def takes(self, size: int) -> bool:
        """Whether some dataset may be pushed with so many bytes."""
        pushed = self.datasets is None or any(self.datasets.values())
        return pushed and not self.read_only and size <= (self.max_bytes or size)

    def check(self, dataset: str, *, writing: bool) -> None:
        """Raises: ReadOnlyError, with the code `refused` for what is not served at all."""
        if self.datasets is not None and dataset not in self.datasets:
            raise ReadOnlyError(
                f"{dataset} is not served here; nothing was changed",
                hint="`usr ls-remote` shows what is",
                code="refused",
            )
        if writing and self.read_only:
            raise ReadOnlyError(
                "this remote is served read-only; nothing was changed",
                hint="diff and pull work; to push, ask whoever set up `usr serve --read-only`",
            )
        if writing and self.datasets is not None and not self.datasets[dataset]:
            raise ReadOnlyError(
                f"{dataset} is served read-only; nothing was changed",
                hint="diff and pull work; to push, ask whoever set up `usr serve --dataset`",
            )


def serve(channel: Channel, peer: Peer, *, tool: str, limits: Limits) -> None:
    """Answer until the client hangs up. Errors go to the client, never to our stdout."""
    channel.write(MAGIC)
    wire = Wire(channel, max_data=limits.max_bytes)
    session = _Session(wire, peer, limits)
    try:
        wire.send({"op": "hello", "protocol": PROTOCOL, "tool": tool})
        while True:
            try:
                message = wire.receive()
            except ConnectionLostError:
                return
            session.answer(message)
    except ConnectionLostError:
        return
    except UsrError as exc:
        _tell(wire, exc)
    except (ValueError, TypeError, KeyError, struct.error) as exc:
        _tell(wire, ProtocolError(f"a question that cannot be read: {exc}"))
    except OSError as exc:
        _tell(wire, UsrError(f"the serving end failed: {exc}", code="storage"))
    finally:
        peer.close()


def _tell(wire: Wire, error: UsrError) -> None:
    try:
        wire.send(messages.error_message(error))
    except ConnectionLostError:
        return


class _Session:
    def __init__(self, wire: Wire, peer: Peer, limits: Limits) -> None:
        self._wire = wire
        self._peer = peer
        self._limits = limits
        self._gauged = 0
        self._handlers: dict[str, Callable[[Fields], None]] = {
            "hello": self._hello,
            "probe": self._probe,
            "weigh": self._weigh,
            "carry": self._carry,
            "list": self._list,
            "compare": self._compare,
            "want": self._want,
            "send": self._send,
            "offer": self._offer,
            "plan": self._plan,
            "publish": self._publish,
            "hold": self._hold,
            "promote": self._promote,
            "tag": self._tag,
        }

    def answer(self, message: dict[str, Any]) -> None:
        fields = Fields(message, "question")
        op = fields.text("op", most=32)
        handler = self._handlers.get(op)
        if handler is None:
            raise ProtocolError(f"an unknown question {op!r}")
        handler(fields)

    def _hello(self, fields: Fields) -> None:
        protocol = fields.integer("protocol")
        if protocol != PROTOCOL:
            raise ProtocolError(
                f"protocol {protocol} is not spoken here, only {PROTOCOL}",
                hint="install the same version of usrstore at both ends",
                code="protocol-version",
            )

    def _probe(self, fields: Fields) -> None:
        fields.done()
        self._wire.send(messages.probe_message(self._peer.probe()))

    def _weigh(self, fields: Fields) -> None:
        size = self._gauge(fields, ways=1)
        weight = self._peer.weigh(size, may_write=self._limits.takes(size))
        self._wire.send(messages.weighed_message(weight))

    def _carry(self, fields: Fields) -> None:
        size = self._gauge(fields, ways=2)
        messages.gauge_received(self._wire.receive_objects(), size)
        self._wire.send({"op": "carried"})
        self._wire.send_objects(messages.gauge_records(size))

    def _gauge(self, fields: Fields, *, ways: int) -> int:
        """How much is to be measured, taken from what this session may. Raises: ProtocolError."""
        size = fields.integer("size", most=messages.MAX_GAUGE_BYTES)
        fields.done()
        self._gauged += size * ways
        if self._gauged > messages.MAX_GAUGED_BYTES:
            raise ProtocolError(
                f"more than {messages.MAX_GAUGED_BYTES} bytes of measurements in one session"
            )
        return size

    def _list(self, fields: Fields) -> None:
        fields.done()
        only = self._limits.datasets
        held = [row for row in self._peer.datasets() if only is None or row.dataset in only]
        self._wire.send(messages.listed_message(held))

    def _compare(self, fields: Fields) -> None:
        ask = messages.parse_ask(fields)
        fields.done()
        self._limits.check(ask.dataset, writing=ask.intent == "push")
        answer = self._peer.compare(ask)
        self._wire.send(messages.compared_message(answer))
        self._wire.send_objects(messages.compared_records(answer))

    def _want(self, fields: Fields) -> None:
        contents = messages.unpack_ids(fields.data("contents", most=MAX_MESSAGE_BYTES))
        have = messages.unpack_ids(fields.data("have", most=MAX_MESSAGE_BYTES))
        fields.done()
        nodes = self._peer.want(contents, frozenset(have))
        self._wire.send({"op": "recipes"})
        self._wire.send_objects((Kind.RECIPE, oid, 0, len(data), data) for oid, data in nodes)

    def _send(self, fields: Fields) -> None:
        fields.done()
        names = self._wire.receive_ids(
            Kind.CHUNK, most=self._limits.max_metadata // messages.NAME_BYTES
        )
        oids = [ChunkId(oid) for oid in names]
        self._wire.send({"op": "chunks"})
        self._wire.send_objects(
            (Kind.CHUNK, piece.oid, piece.encoding, piece.size, piece.stored)
            for piece in self._peer.send(oids)
        )

    def _offer(self, fields: Fields) -> None:
        recipes = messages.unpack_ids(fields.data("recipes", most=MAX_MESSAGE_BYTES))
        fields.done()
        lacking = self._peer.offer(recipes)
        self._wire.send({"op": "lacking", "recipes": messages.pack_ids(lacking)})

    def _plan(self, fields: Fields) -> None:
        self._limits.check(fields.peek("dataset"), writing=True)
        nodes, manifests = messages.split_records(
            self._wire.receive_objects(),
            kinds=(Kind.TREE, Kind.RECIPE, Kind.MANIFEST, Kind.TAG),
            most=self._limits.max_metadata,
        )
        proposal = messages.parse_proposal(fields, nodes, manifests)
        fields.done()
        planned = self._peer.plan(proposal)
        if self._limits.patience is not None:
            self._limits.patience.tighten(BUSY_S)  # others wait for the lock that we hold now
        self._wire.send({"op": "planned", "resumed": planned.resumed})
        self._wire.send_ids(Kind.CHUNK, planned.wanted)

    def _publish(self, fields: Fields) -> None:
        fields.done()
        self._published(self._peer.publish(self._pieces()))

    def _hold(self, fields: Fields) -> None:
        fields.done()
        self._peer.hold(self._pieces())
        self._wire.send({"op": "held"})

    def _promote(self, fields: Fields) -> None:
        fields.done()
        self._published(self._peer.promote())

    def _tag(self, fields: Fields) -> None:
        dataset = fields.text("dataset", most=1024)
        fields.done()
        self._limits.check(dataset, writing=True)
        nodes, _ = messages.split_records(
            self._wire.receive_objects(), kinds=(Kind.TAG,), most=self._limits.max_metadata
        )
        self._wire.send(messages.tagged_message(self._peer.tag(dataset, nodes)))

    def _published(self, outcome: Outcome) -> None:
        self._wire.send(
            {"op": "published", "number": outcome.state.number, "state": outcome.state.oid}
        )

    def _pieces(self) -> Iterator[Piece]:
        for kind, oid, encoding, size, stored in self._wire.receive_objects():
            if kind is not Kind.CHUNK:
                raise ProtocolError(f"a {kind.word} among chunks")
            yield Piece(ChunkId(oid), encoding, size, stored)
