"""State: the numbered record of all refs ([F-30], [F-31]). The chain of states is the operation log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from usrstore.errors import DecodeError, UsrError
from usrstore.objects import codec, names
from usrstore.objects.ids import Kind, ObjectId, StateId, hash_object
from usrstore.objects.names import RefName

MAX_REFS = 1 << 17


@dataclass(frozen=True, slots=True)
class State:
    """All refs at one moment.

    Attributes:
        number: 1 for the first state, then without gaps.
        previous: the id of state `number - 1`; None for the first.
        refs: ref name → manifest or tag id.
        time_us: UTC, microseconds since 1970.
        actor, command, reason: who did what, and why (opt-outs are named here).
    """

    number: int
    previous: StateId | None
    refs: Mapping[RefName, ObjectId] = field(default_factory=dict)
    time_us: int = 0
    actor: str = ""
    command: str = ""
    reason: str = ""

    def encode(self) -> bytes:
        """The bytes of the stored object.

        Raises:
            InvalidInputError: a field that no reader would accept.
        """
        return codec.readable(self._encode, self.decode, "state")

    def _encode(self) -> bytes:
        payload = codec.encode(
            {
                "format": codec.FORMAT,
                "kind": Kind.STATE.word,
                "number": self.number,
                "previous": self.previous,
                "refs": dict(self.refs),
                "time_us": self.time_us,
                "actor": self.actor,
                "command": self.command,
                "reason": self.reason,
            }
        )
        return codec.encode([payload, None])

    @property
    def oid(self) -> StateId:
        return state_id(self._encode())

    @classmethod
    def decode(cls, data: bytes | memoryview) -> State:
        """Raises: DecodeError."""
        match codec.decode(data, longest=2, maps=0):
            case [bytes(payload), None]:
                pass
            case _:
                raise DecodeError("not a state: [payload, nil]")
        value = codec.decode(payload, longest=0, maps=MAX_REFS)
        fields = codec.Fields(value, "state")
        if fields.integer("format") != codec.FORMAT or fields.text("kind", most=32) != "state":
            raise codec.refused(value, "state")
        number = fields.integer("number")
        previous = None
        if not fields.is_nil("previous"):
            previous = StateId(_oid(fields.data("previous", most=32)))
        state = cls(
            number=number,
            previous=previous,
            refs={_ref(k): _oid(v) for k, v in fields.mapping("refs", most=MAX_REFS).items()},
            time_us=fields.integer("time_us", most=1 << 60),
            actor=fields.text("actor", most=4096),
            command=fields.text("command", most=1 << 16),
            reason=fields.text("reason", most=1 << 16),
        )
        fields.done()
        if number == 0 or (number == 1) != (previous is None):
            raise DecodeError(f"state {number} and its previous do not agree")
        return codec.same(state, state._encode(), data, "state")


def state_id(data: bytes) -> StateId:
    return StateId(hash_object(Kind.STATE, data))


def state_key(number: int) -> str:
    """The backend key of a state: twenty digits, so that names sort as numbers."""
    return f"states/{number:020d}"


def _ref(name: object) -> RefName:
    try:
        return names.check_ref(name if isinstance(name, str) else "")
    except UsrError as exc:
        raise DecodeError(str(exc)) from exc


def _oid(data: object) -> ObjectId:
    if not isinstance(data, bytes) or len(data) != 32:
        raise DecodeError("a ref that is not an id of 32 bytes")
    return ObjectId(data)
