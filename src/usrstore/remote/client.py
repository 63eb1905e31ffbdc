"""A peer at the other end of a wire. Everything it says is checked by whoever asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from usrstore.errors import (
    ConnectionLostError,
    DecodeError,
    ProtocolError,
    UnsupportedError,
    UsrError,
)
from usrstore.objects.codec import Fields
from usrstore.objects.ids import ChunkId, ContentHash, Kind, ObjectId, RecipeId, StateId
from usrstore.remote import messages
from usrstore.remote.effort import busy_us
from usrstore.remote.peer import (
    Ask,
    Carried,
    Compared,
    Held,
    Nodes,
    Outcome,
    Piece,
    Planned,
    Probe,
    Proposal,
    Seen,
    Tagged,
    Weight,
)
from usrstore.remote.wire import PROTOCOL, Record, Wire

T = TypeVar("T")
_MAX_NAMES = messages.MAX_METADATA_BYTES // messages.NAME_BYTES


class WirePeer:
    """Speaks the protocol; one per command.

    Args:
        wire: frames to the serving end.
        where: the remote's name, for errors.
        close: ends the connection.
        ready: raises if it is known by now that there is none; never waits.

    Attributes:
        carriers: the processes of this machine that encipher what passes.
    """

    carriers: tuple[int, ...] = ()

    def __init__(
        self,
        wire: Wire,
        where: str,
        close: Callable[[], None],
        *,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.wire = wire
        self._ready = ready
        self.hello: dict[str, Any] = {}
        self.questions = 0
        self._where = where
        self._close = close

    def ready(self) -> None:
        self._ready()

    def greet(self) -> None:
        """Say who we are, without waiting: the answer is read with the first reply."""
        self.wire.send({"op": "hello", "protocol": PROTOCOL})

    def _answer(self, expected: str) -> Fields:
        self.questions += 1
        message = self.wire.receive()
        if message.get("op") == "hello":
            self._welcome(message)
            message = self.wire.receive()
        self._raise_error(message)
        fields = Fields(message, expected)
        if fields.text("op", most=32) != expected:
            raise ProtocolError(f"{self._where} answered something else than {expected}")
        return fields

    def _welcome(self, message: dict[str, Any]) -> None:
        self.hello = message
        if message.get("protocol") != PROTOCOL:
            raise UnsupportedError(
                f"{self._where} speaks protocol {message.get('protocol')!r}, this end speaks "
                f"{PROTOCOL}; nothing was changed",
                hint="install the same version of usrstore at both ends",
                code="protocol-version",
            )

    def _raise_error(self, message: dict[str, Any]) -> None:
        if message.get("op") == "error":
            fields = Fields(message, "error")
            fields.text("op", most=32)
            try:
                error = messages.parse_error(fields, self._where)
            except DecodeError as exc:
                raise ProtocolError(f"{self._where} sent nonsense: {exc.message}") from exc
            raise error

    def _checked(self, act: Callable[[], T]) -> T:
        """Whatever a bad answer makes of our parsing is a ProtocolError to the caller."""
        try:
            return act()
        except UsrError:
            raise
        except (ValueError, TypeError, KeyError) as exc:
            raise ProtocolError(f"{self._where} sent nonsense: {exc}") from exc

    def probe(self) -> Probe:
        self.wire.send({"op": "probe"})
        return self._checked(lambda: messages.parse_probe(self._answer("probed")))

    def weigh(self, size: int, *, may_write: bool = True) -> Weight:
        del may_write  # the serving end knows what it allows
        self.wire.send({"op": "weigh", "size": size})
        weight = self._checked(lambda: messages.parse_weighed(self._answer("weighed")))
        if weight.size > size:
            raise ProtocolError(f"{self._where} weighed more than it was asked to")
        return weight

    def carry(self, size: int) -> Carried:
        """Bytes of no meaning there, and as many back; with 0, one round trip."""
        began = self._watch()
        self.wire.send({"op": "carry", "size": size})
        self._upload(messages.gauge_records(size))
        self._answer("carried").done()
        turned = self._watch()
        self._checked(lambda: messages.gauge_received(self._objects(), size))
        there_us, there_busy_us = _between(began, turned)
        back_us, back_busy_us = _between(turned, self._watch())
        return Carried(size, there_us, back_us, there_busy_us, back_busy_us)

    def _watch(self) -> tuple[int, int | None]:
        return time.perf_counter_ns() // 1000, busy_us(self.carriers)

    def datasets(self) -> list[Held]:
        self.wire.send({"op": "list"})
        return self._checked(lambda: messages.parse_listed(self._answer("listed")))

    def compare(self, ask: Ask) -> Compared:
        self.wire.send(messages.ask_message(ask))

        def read() -> Compared:
            fields = self._answer("compared")
            nodes, manifests = messages.split_records(
                self._objects(), kinds=(Kind.TREE, Kind.MANIFEST, Kind.TAG)
            )
            answer = messages.parse_compared(fields, nodes, manifests)
            fields.done()
            return answer

        return self._checked(read)

    def _objects(self) -> Iterator[Record]:
        return self.wire.receive_objects(on_message=self._raise_error)

    def want(
        self, contents: Sequence[ContentHash], have: frozenset[RecipeId]
    ) -> Iterator[tuple[RecipeId, bytes]]:
        self.wire.send(
            {
                "op": "want",
                "contents": messages.pack_ids(contents),
                "have": messages.pack_ids(sorted(have)),
            }
        )
        self._answer("recipes").done()
        nodes, _ = messages.split_records(self._objects(), kinds=(Kind.RECIPE,))
        for oid, (_, data) in nodes.items():
            yield RecipeId(oid), data

    def send(self, oids: Sequence[ChunkId]) -> Iterator[Piece]:
        self.wire.send({"op": "send"})
        self.wire.send_ids(Kind.CHUNK, oids)
        self._answer("chunks").done()
        for kind, oid, encoding, size, stored in self._objects():
            if kind is not Kind.CHUNK:
                raise ProtocolError(f"{self._where} sent a {kind.word} among chunks")
            yield Piece(ChunkId(oid), encoding, size, stored)

    def offer(self, recipes: Sequence[RecipeId]) -> list[RecipeId]:
        self.wire.send({"op": "offer", "recipes": messages.pack_ids(recipes)})
        return self._checked(lambda: self._id_list("lacking", "recipes"))

    def _id_list(self, op: str, name: str) -> list[Any]:
        fields = self._answer(op)
        oids = messages.unpack_ids(fields.data(name, most=64 << 20))
        fields.done()
        return oids

    def plan(self, proposal: Proposal) -> Planned:
        self.wire.send(messages.proposal_message(proposal))
        self._upload(messages.proposal_records(proposal))

        def read() -> Planned:
            fields = self._answer("planned")
            resumed = fields.integer("resumed")
            fields.done()
            names = self.wire.receive_ids(Kind.CHUNK, most=_MAX_NAMES, on_message=self._raise_error)
            return Planned([ChunkId(oid) for oid in names], resumed)

        return self._checked(read)

    def publish(self, pieces: Iterable[Piece]) -> Outcome:
        self.wire.send({"op": "publish"})
        self._upload(_records(pieces))
        return self._published()

    def hold(self, pieces: Iterable[Piece]) -> None:
        self.wire.send({"op": "hold"})
        self._upload(_records(pieces))
        self._checked(lambda: self._answer("held").done())

    def promote(self) -> Outcome:
        self.wire.send({"op": "promote"})
        return self._published()

    def _published(self) -> Outcome:
        def read() -> Outcome:
            fields = self._answer("published")
            state = Seen(fields.integer("number"), StateId(ObjectId(fields.data("state", most=32))))
            fields.done()
            return Outcome(state)

        return self._checked(read)

    def tag(self, dataset: str, nodes: Nodes) -> Tagged:
        self.wire.send({"op": "tag", "dataset": dataset})
        self._upload((kind, oid, 0, len(data), data) for oid, (kind, data) in nodes.items())
        return self._checked(lambda: messages.parse_tagged(self._answer("tagged")))

    def _upload(self, records: Iterable[Record]) -> None:
        """Send a run; if the other end hangs up meanwhile, it has usually said why."""
        try:
            self.wire.send_objects(records)
        except ConnectionLostError:
            self._raise_error(self.wire.receive())
            raise

    def traffic(self) -> tuple[int, int, int]:
        return self.wire.sent, self.wire.received, self.questions

    def close(self) -> None:
        self._close()


def _records(pieces: Iterable[Piece]) -> Iterator[Record]:
    for piece in pieces:
        yield Kind.CHUNK, piece.oid, piece.encoding, piece.size, piece.stored


def _between(
    before: tuple[int, int | None], after: tuple[int, int | None]
) -> tuple[int, int | None]:
    """Microseconds by the clock, and those of them in which the carriers were at work."""
    passed_us = max(1, after[0] - before[0])
    if before[1] is None or after[1] is None:
        return passed_us, None
    return passed_us, max(0, after[1] - before[1])
