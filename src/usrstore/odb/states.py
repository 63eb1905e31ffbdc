"""The chain of states: the only mutable thing, and nothing in it is ever overwritten (I4, [F-32]).

State n + 1 can be created exactly once, by whoever comes first; that is the whole consensus.
It needs no lock, survives dead holders and lost replies, and its history is the operation
log. Only this room moves a ref.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from usrstore.errors import (
    DecodeError,
    ObjectNotFoundError,
    OutcomeUnknownError,
    RefConflictError,
    StorageError,
)
from usrstore.objects.ids import ObjectId
from usrstore.objects.names import RefName
from usrstore.objects.state import State, state_key
from usrstore.odb.backend.backend import Backend

_MAX_ATTEMPTS = 1000
_HINT = (
    "nothing was changed; `usr fsck` says what is wrong, `usr fsck --repair` mends what can be "
    "mended; else restore that file from a copy of the store"
)


class Change(NamedTuple):
    """Move a ref from one value to another; None stands for *absent* on either side."""

    expected: ObjectId | None
    new: ObjectId | None


@dataclass(frozen=True, slots=True)
class Act:
    """Who does what, for the operation log."""

    actor: str
    command: str
    time_us: int
    reason: str = ""


Assure = Callable[[Mapping[RefName, Change]], None]
"""Asked, for every attempt, after the newest state was read and before the next is made."""


class States:
    """The chain of one store.

    Args:
        backend: where it rests.
        assure: sees to it that no collection deletes what the changed refs reach, or raises.
    """

    def __init__(self, backend: Backend, assure: Assure = lambda _changes: None) -> None:
        self._backend = backend
        self._assure = assure

    def newest(self) -> State | None:
        """The state that counts now; None in a store without one.

        Raises:
            DecodeError: the newest state is damaged; nothing older is passed off as newest.
        """
        number = 0
        for stat in self._backend.list("states/"):
            number = max(number, number_of(stat.key))
        return self.read(number) if number else None

    def read(self, number: int) -> State:
        """Raises: ObjectNotFoundError, DecodeError."""
        data = self._backend.read(state_key(number))
        try:
            state = State.decode(data)
        except DecodeError as exc:
            raise DecodeError(
                f"state {number} is damaged: {exc.message}",
                hint=_HINT,
            ) from exc
        if state.number != number:
            raise DecodeError(f"state {number} calls itself {state.number}", hint=_HINT)
        return state

    def history(self) -> Iterator[State]:
        """The chain, newest first, each state checked to be the one its successor names."""
        state = self.newest()
        while state is not None:
            yield state
            if state.previous is None:
                return
            try:
                older = self.read(state.number - 1)
            except ObjectNotFoundError:
                return  # retention may have dropped it
            if older.oid != state.previous:
                raise DecodeError(
                    f"state {older.number} is not the one that state {state.number} follows",
                    hint=_HINT,
                )
            state = older

    def refs(self) -> Mapping[RefName, ObjectId]:
        state = self.newest()
        return state.refs if state else {}

    def advance(self, changes: Mapping[RefName, Change], act: Act) -> State:
        """Make the next state, in which every ref of `changes` has its new value.

        Other refs keep whatever value they have by then; a change that asks for what is
        already so makes no state.

        Raises:
            RefConflictError: a ref no longer has the value the caller expected.
            OutcomeUnknownError: it may have been made or not; any other error: it was not.
        """
        for _ in range(_MAX_ATTEMPTS):
            newest = self.newest()
            state = _successor(newest, changes, act)
            if state is newest and newest is not None:
                return newest
            self._assure(changes)
            data = state.encode()
            if self._create(state.number, data):
                return state
        raise RefConflictError("too many writers at once; nothing was changed", hint="try again")

    def fence(self, newest: State | None, act: Act) -> bool:
        """Make a state that moves nothing, right after `newest`; False if another came first.

        Whoever moves a ref from here on has read it, and so whatever was written down before
        it: a collection deletes only behind a fence.
        """
        state = State(
            number=newest.number + 1 if newest else 1,
            previous=newest.oid if newest else None,
            refs=newest.refs if newest else {},
            time_us=act.time_us,
            actor=act.actor,
            command=act.command,
            reason=act.reason,
        )
        return self._create(state.number, state.encode())

    def times(self) -> dict[int, float]:
        """The number of each state that is there, and the store's time of it, in seconds."""
        return {
            number_of(stat.key): stat.mtime_s
            for stat in self._backend.list("states/")
            if number_of(stat.key)
        }

    def forget(self, before: int) -> int:
        """Delete the states before a number, oldest first, never the newest; gives how many."""
        numbers = sorted(self.times())
        gone = [number for number in numbers[:-1] if number < before]
        for number in gone:
            self._backend.delete(state_key(number))
        return len(gone)

    def _create(self, number: int, data: bytes) -> bool:
        """Create a state; a lost reply counts as what the store holds afterwards.

        Raises:
            OutcomeUnknownError: the store does not answer any more.
        """
        key = state_key(number)
        try:
            created = self._backend.create(key, data)
        except StorageError as exc:
            if not self._is_ours(key, data, exc.message):
                raise
            return True
        # It may be somebody's, or ours, if the reply was lost.
        return created or self._is_ours(key, data, "it was there already")

    def _is_ours(self, key: str, data: bytes, met: str) -> bool:
        try:
            return self._backend.read(key) == data
        except ObjectNotFoundError:
            return False
        except StorageError as exc:
            raise OutcomeUnknownError(
                f"whether {key} was made cannot be told: {met}; then {exc.message}",
                hint="see to the disk or the link, then run the same command again: it first "
                "finishes what was begun",
            ) from exc


def _successor(newest: State | None, changes: Mapping[RefName, Change], act: Act) -> State:
    refs = dict(newest.refs) if newest else {}
    changed = False
    for name, change in changes.items():
        actual = refs.get(name)
        if actual != change.expected:
            raise RefConflictError(
                f"{name} moved: expected {_show(change.expected)}, found {_show(actual)}; "
                "nothing was changed",
                hint="look again with `usr log`, then run the command again",
            )
        if actual == change.new:
            continue
        changed = True
        if change.new is None:
            del refs[name]
        else:
            refs[name] = change.new
        if name.startswith("heads/"):  # the folder is at the head again
            folder = RefName(name.replace("heads/", "folders/", 1))
            if folder not in changes:
                refs.pop(folder, None)
    if newest is not None and not changed:
        return newest
    return State(
        number=newest.number + 1 if newest else 1,
        previous=newest.oid if newest else None,
        refs=refs,
        time_us=act.time_us,
        actor=act.actor,
        command=act.command,
        reason=act.reason,
    )


def _show(oid: ObjectId | None) -> str:
    return oid.short if oid else "nothing"


def number_of(key: str) -> int:
    """The number of the state that a key names; 0 for a key that names none."""
    name = key.removeprefix("states/")
    return int(name) if re.fullmatch("[0-9]{20}", name) else 0
