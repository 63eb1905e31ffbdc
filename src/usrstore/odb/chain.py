"""The chain of states, looked at state by state: gaps, damage, strangers ([F-31]).

`States` refuses a damaged chain where it meets it; this room goes on, says all that is wrong
with it, and gives what can still be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from usrstore.errors import DecodeError, ObjectNotFoundError, StorageError
from usrstore.objects.ids import StateId
from usrstore.objects.state import State, state_key
from usrstore.odb.backend.backend import Backend
from usrstore.odb.states import number_of


class Link(NamedTuple):
    """One number of the chain.

    Attributes:
        number: of the state.
        state: what it says; None if it cannot be read.
        wanted: its id, as its successor names it; None for the newest and behind damage.
        reason: what is wrong with it; empty if nothing is.
    """

    number: int
    state: State | None
    wanted: StateId | None
    reason: str


def links(backend: Backend) -> Iterator[Link]:
    """Every number from the newest state down to the oldest that is kept."""
    numbers = [number_of(stat.key) for stat in backend.list("states/")]
    numbers = sorted(number for number in numbers if number)
    if not numbers:
        return
    present, wanted = set(numbers), None
    oldest = numbers[0]
    for number in range(numbers[-1], oldest - 1, -1):
        state, reason = None, ""
        if number not in present:
            reason = f"state {number} is missing, though older ones are there"
        else:
            state, reason = _look(backend, number, wanted)
        yield Link(number, state, wanted, reason)
        wanted = state.previous if state is not None else None


def _look(backend: Backend, number: int, wanted: StateId | None) -> tuple[State | None, str]:
    try:
        state = State.decode(backend.read(state_key(number)))
    except (DecodeError, StorageError, ObjectNotFoundError) as exc:
        return None, f"state {number} is damaged: {exc.message}"
    if state.number != number:
        return None, f"state {number} calls itself {state.number}"
    if wanted is not None and state.oid != wanted:
        return None, f"state {number} is not the one that state {number + 1} follows"
    return state, ""
