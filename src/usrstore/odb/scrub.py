"""Scrubbing: every stored byte of a pack read and hashed, a run of neighbours at a time (I1).

Two threads read runs of at most a mebibyte, as they lie, and hash each object in them, so a
scrub goes about as fast as the hash does and holds a few mebibytes, however large the pack.
A run that cannot be read is tried again object by object: only what lies on the bad sector
is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from usrstore.errors import IntegrityError, StorageError
from usrstore.objects.ids import Kind, ObjectId, wrong_chunks
from usrstore.odb.compress import RAW
from usrstore.odb.pack import Pack, checked
from usrstore.odb.packindex import Row

RUN_BYTES = 1 << 20
THREADS = 2

Read = Callable[[int, int], memoryview]
Span = tuple[bytes, int, int]
"""An object's id, and where it begins and ends in its run."""


@dataclass(slots=True)
class Run:
    """Neighbours in a pack: no value is made for each but what hashing it takes.

    Attributes:
        offset, end: of the run in the pack.
        plain: chunks that lie as they are.
        others: what takes more than a hash to check.
    """

    offset: int
    end: int
    plain: list[Span]
    others: list[Span]

    def oids(self) -> Iterator[ObjectId]:
        for oid, _, _ in chain(self.plain, self.others):
            yield ObjectId(oid)


class Fault(NamedTuple):
    """An object of a pack whose bytes are not what its name says, and how that showed."""

    oid: ObjectId
    row: Row
    reason: str


def scrub(pack: Pack, *, progress: Callable[[int], None] = lambda _bytes: None) -> list[Fault]:
    """Hash every object of a pack; gives those that are damaged, as they lie.

    Args:
        pack: an opened pack; its index has been checked already.
        progress: takes the bytes that were read since the last call.
    """
    work = _Work(pack)
    others = [threading.Thread(target=work.go, daemon=True) for _ in range(THREADS - 1)]
    for thread in others:
        thread.start()
    try:
        work.go(progress)
    finally:
        work.stop()
        for thread in others:
            thread.join()
    if work.error is not None:
        raise work.error
    progress(work.bytes_unsaid)
    return sorted(work.faults, key=lambda fault: fault.row.offset)


class _Work:
    """The runs of one pack, shared by the threads that take them."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._where = f"pack {pack.pack.short}"
        self._runs = runs(pack)
        self._lock = threading.Lock()
        self.bytes_unsaid = 0
        self.faults: list[Fault] = []
        self.error: Exception | None = None

    def _next(self) -> Run | None:
        with self._lock:
            return next(self._runs, None)

    def stop(self) -> None:
        with self._lock:
            self._runs = iter(())

    def go(self, progress: Callable[[int], None] | None = None) -> None:
        try:
            read = self._pack.reader(RUN_BYTES)
            while (run := self._next()) is not None:
                self._hash(run, read)
                with self._lock:
                    self.bytes_unsaid += run.end - run.offset
                    if progress is not None:
                        done, self.bytes_unsaid = self.bytes_unsaid, 0
                if progress is not None:
                    progress(done)
        except Exception as exc:
            self.error = exc
            self.stop()

    def _hash(self, run: Run, read: Read) -> None:
        try:
            data = read(run.offset, run.end - run.offset)
        except StorageError:
            for oid in run.oids():
                self._hash_alone(oid)
            return
        for number in wrong_chunks(data, run.plain):
            self._check(run.plain[number], data)
        for span in run.others:
            self._check(span, data)

    def _check(self, span: Span, data: memoryview) -> None:
        oid = ObjectId(span[0])
        row = self._row(oid)
        try:
            checked(oid, row, data[span[1] : span[2]], self._where)
        except IntegrityError as exc:
            self.faults.append(Fault(oid, row, exc.message))

    def _hash_alone(self, oid: ObjectId) -> None:
        row = self._row(oid)
        try:
            self._pack.read(oid, row)
        except (IntegrityError, StorageError) as exc:
            self.faults.append(Fault(oid, row, exc.message))

    def _row(self, oid: ObjectId) -> Row:
        row = self._pack.index.find(oid)
        if row is None:  # an index out of order: what a search misses is there all the same
            row = next(row for other, row in self._pack.index.items() if other == oid)
        return row


def runs(pack: Pack) -> Iterator[Run]:
    """The objects of a pack in the order they lie in, as runs that one read can take."""
    chunk, run, limit = int(Kind.CHUNK), Run(0, 0, [], []), 0
    for (offset, stored, size, kind, encoding), oid in pack.index.as_it_lies():
        end = offset + stored
        if end > limit:
            if run.end:
                yield run
            run, limit = Run(offset, offset, [], []), offset + RUN_BYTES
        plain = kind == chunk and encoding == RAW and stored == size
        span = oid, offset - run.offset, end - run.offset
        (run.plain if plain else run.others).append(span)
        run.end = end
    if run.end:
        yield run
