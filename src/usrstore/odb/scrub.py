"""Scrubbing: every stored byte of a pack read and hashed, a run of neighbours at a time (I1).

Two threads read runs of at most a mebibyte, as they lie, and hash each object in them, so a
scrub goes about as fast as the hash does and holds a few mebibytes, however large the pack.
A run that cannot be read is tried again object by object: only what lies on the bad sector
is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from usrstore.errors import IntegrityError, StorageError
from usrstore.objects.ids import Kind, ObjectId, wrong_chunks
from usrstore.odb.compress import RAW
from usrstore.odb.pack import Pack, checked
from usrstore.odb.packindex import Row

RUN_BYTES = 1 << 20
THREADS = 2

Read = Callable[[int, int], memoryview]
Run = list[tuple[ObjectId, Row]]


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
                    self.bytes_unsaid += sum(row.stored for _, row in run)
                    if progress is not None:
                        done, self.bytes_unsaid = self.bytes_unsaid, 0
                if progress is not None:
                    progress(done)
        except Exception as exc:
            self.error = exc
            self.stop()

    def _hash(self, run: Run, read: Read) -> None:
        first, last = run[0][1], run[-1][1]
        try:
            data = read(first.offset, last.offset + last.stored - first.offset)
        except StorageError:
            for oid, row in run:
                self._hash_alone(oid, row)
            return
        plain, spans = [], []
        for oid, row in run:
            begin = row.offset - first.offset
            if row.kind == Kind.CHUNK and row.encoding == RAW and row.stored == row.size:
                plain.append((oid, row))
                spans.append((oid, begin, begin + row.stored))
            else:
                self._check(oid, row, data[begin : begin + row.stored])
        for number in wrong_chunks(data, spans):
            oid, row = plain[number]
            self._check(oid, row, data[spans[number][1] : spans[number][2]])

    def _check(self, oid: ObjectId, row: Row, stored: memoryview) -> None:
        try:
            checked(oid, row, stored, self._where)
        except IntegrityError as exc:
            self.faults.append(Fault(oid, row, exc.message))

    def _hash_alone(self, oid: ObjectId, row: Row) -> None:
        try:
            self._pack.read(oid, row)
        except (IntegrityError, StorageError) as exc:
            self.faults.append(Fault(oid, row, exc.message))


def runs(pack: Pack) -> Iterator[Run]:
    """The objects of a pack in the order they lie in, as runs that one read can take."""
    run: Run = []
    end = 0
    for row, oid in pack.index.as_they_lie():
        if row.offset + row.stored > end:
            if run:
                yield run
            run, end = [], row.offset + RUN_BYTES
        run.append((oid, row))
    if run:
        yield run
