"""The operation log: the chain of states, and what each of them moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from usrstore.errors import NotFoundError, ObjectNotFoundError
from usrstore.objects.ids import ManifestId, ObjectId
from usrstore.objects.names import DatasetId, RefName, dataset_of, folder_ref, head_ref
from usrstore.objects.state import State
from usrstore.root import Root

Refs = Mapping[RefName, ObjectId]


class Move(NamedTuple):
    """A ref that moved; None stands for *absent*."""

    name: RefName
    before: ObjectId | None
    after: ObjectId | None


class Operation(NamedTuple):
    """One state, and how it differs from the one before.

    Attributes:
        state: who did what, when, and all refs afterwards.
        moves: what it moved; None if the state before is not kept any more.
    """

    state: State
    moves: tuple[Move, ...] | None

    def touches(self, dataset: DatasetId) -> bool:
        """Whether it moved a ref of a dataset."""
        return any(dataset_of(move.name) == dataset for move in self.moves or ())


def difference(before: Refs, after: Refs) -> tuple[Move, ...]:
    """The moves that lead from some refs to others, sorted by name."""
    return tuple(
        Move(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def operations(root: Root, dataset: DatasetId | None = None) -> Iterator[Operation]:
    """Every operation, newest first; only those that touch a dataset, if one is named."""
    states = root.states.history() if root.has_store else iter(())
    newer: State | None = None
    for state in states:
        if newer is not None:
            yield from _of(Operation(newer, difference(state.refs, newer.refs)), dataset)
        newer = state
    if newer is not None:
        first = difference({}, newer.refs) if newer.previous is None else None
        yield from _of(Operation(newer, first), dataset)


def _of(operation: Operation, dataset: DatasetId | None) -> Iterator[Operation]:
    if dataset is None or operation.touches(dataset):
        yield operation


def operation(root: Root, number: int | None = None) -> Operation:
    """One operation by the number of its state; the newest without one.

    Raises:
        NotFoundError: there is none of that number, or none any more.
    """
    newest = root.states.newest() if root.has_store else None
    if newest is None:
        raise NotFoundError(
            "nothing was done here yet: the operation log is empty", code="no-operation"
        )
    state = newest if number in (None, newest.number) else state_of(root, number or 0, newest)
    if state.previous is None:
        return Operation(state, difference({}, state.refs))
    try:
        return Operation(state, difference(root.states.read(state.number - 1).refs, state.refs))
    except ObjectNotFoundError:
        return Operation(state, None)


def state_of(root: Root, number: int, newest: State) -> State:
    """A state by its number.

    Raises:
        NotFoundError: it never was, or retention has dropped it.
    """
    if not 1 <= number <= newest.number:
        raise NotFoundError(
            f"there is no operation {number}: the newest is {newest.number}",
            hint="`usr op log` lists them",
            code="no-operation",
        )
    try:
        return root.states.read(number)
    except ObjectNotFoundError:
        raise NotFoundError(
            f"operation {number} is not kept any more; nothing was changed",
            hint="`usr op log` lists those that are",
            code="no-operation",
        ) from None


def position(refs: Refs, dataset: DatasetId) -> ManifestId | None:
    """Where a dataset's folder was, as some refs tell it."""
    oid = refs.get(folder_ref(dataset), refs.get(head_ref(dataset)))
    return None if oid is None else ManifestId(oid)
