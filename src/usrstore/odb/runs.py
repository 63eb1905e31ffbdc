"""Many chunks with few questions: neighbours in a pack are read as one run, several at once.

For packs that are far away. Where packs are files, reading chunk by chunk costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from usrstore.errors import DecodeError, ObjectNotFoundError
from usrstore.objects.ids import ChunkId, Kind
from usrstore.odb.backend.backend import Backend
from usrstore.odb.catalogue import Found
from usrstore.odb.database import Database
from usrstore.odb.pack import pack_key
from usrstore.odb.packindex import Row
from usrstore.odb.workers import Answer, Workers

_WINDOW_BYTES = 16 << 20  # two of them are in memory: one being used, one on its way
_RUN_BYTES = 4 << 20
_GAP_BYTES = 64 << 10  # to read on over this costs less than to ask again
_AT_ONCE = 8


class Stored(NamedTuple):
    """A chunk as it lies, unchecked."""

    oid: ChunkId
    row: Row
    data: memoryview


class _Run(NamedTuple):
    key: str
    start: int
    end: int


Window = list[tuple[ChunkId, Found]]


def read_runs(database: Database, backend: Backend, oids: Iterable[ChunkId]) -> Iterator[Stored]:
    """These chunks, in this order.

    Args:
        database: knows where they lie.
        backend: where packs are read, past whatever the database's own keeps of them.
        oids: which.

    Raises:
        ObjectNotFoundError: one of them is not here.
    """
    ahead: deque[tuple[Window, dict[ChunkId, _Run], dict[_Run, Answer[bytes]]]] = deque()
    with Workers(_AT_ONCE) as workers:
        for window in _windows(database, oids):
            places = _plan(window)
            answers = {
                run: workers.start(
                    lambda run=run: backend.read(run.key, run.start, run.end - run.start)  # type: ignore[misc]
                )
                for run in dict.fromkeys(places.values())
            }
            ahead.append((window, places, answers))
            if len(ahead) > 1:
                yield from _take(*ahead.popleft())
        while ahead:
            yield from _take(*ahead.popleft())


def _windows(database: Database, oids: Iterable[ChunkId]) -> Iterator[Window]:
    window: Window = []
    size = 0
    for oid in oids:
        found = database.find(oid)
        if found is None or found.row.kind != Kind.CHUNK:
            raise ObjectNotFoundError(f"chunk {oid.short} is not in this store")
        window.append((oid, found))
        size += found.row.stored
        if size >= _WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def _plan(window: Window) -> dict[ChunkId, _Run]:
    """The run that brings each chunk of a window."""
    ordered = sorted((pack_key(f.pack.pack), f.row.offset, f.row.stored, oid) for oid, f in window)
    runs: list[_Run] = []
    members: list[list[ChunkId]] = []
    for key, offset, stored, oid in ordered:
        last = runs[-1] if runs else None
        end = offset + stored
        if (
            last is not None
            and last.key == key
            and offset <= last.end + _GAP_BYTES
            and end - last.start <= _RUN_BYTES
        ):
            runs[-1] = last._replace(end=max(last.end, end))
            members[-1].append(oid)
        else:
            runs.append(_Run(key, offset, end))
            members.append([oid])
    return {oid: run for run, oids in zip(runs, members, strict=True) for oid in oids}


def _take(
    window: Window, places: dict[ChunkId, _Run], answers: dict[_Run, Answer[bytes]]
) -> Iterator[Stored]:
    data: dict[_Run, memoryview] = {}
    for oid, found in window:
        run = places[oid]
        if run not in data:
            data[run] = memoryview(answers[run].get())
        at = found.row.offset - run.start
        piece = data[run][at : at + found.row.stored]
        if len(piece) != found.row.stored:
            raise DecodeError(f"pack {found.pack.pack.short} is cut off")
        yield Stored(oid, found.row, piece)
