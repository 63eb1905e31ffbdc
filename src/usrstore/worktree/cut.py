"""Chunk rule `parquet-pages-1`: where a file is cut, and the hashes of what falls out.

1. A file of at most 64 KiB is one chunk; an empty file is one chunk of length 0.
2. A Parquet file whose column chunks follow one another without overlap is divided into spans:
   one ends with each column chunk; in one of more than 64 KiB also with each page, unless the
   span had less than 4 KiB of that column chunk; the last ends with the file.
3. Such a span is one chunk up to 128 KiB; a longer one is cut by FastCDC, on its own.
4. Any other file is one span that FastCDC cuts: the 2020 variant, 16 KiB at least, 64 KiB
   on average, 256 KiB at most, normalization level 2, the gear table of its authors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from usrstore.objects.chunklist import ChunkList
from usrstore.objects.ids import ChunkId, ContentHash, Kind, hash_object
from usrstore.worktree.crew import AHEAD, in_order
from usrstore.worktree.parquet import Footer, Read, pages, read_footer
from usrstore.worktree.windows import Windows, WindowsAhead, fill

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

WHOLE_FILE_BYTES = 64 << 10
WHOLE_COLUMN_BYTES = 64 << 10
SMALL_SPAN_BYTES = 4 << 10
WHOLE_SPAN_BYTES = 128 << 10
MIN_CUT_BYTES, AVERAGE_CUT_BYTES, MAX_CUT_BYTES = 16 << 10, 64 << 10, 256 << 10

_CARRY_BYTES = MAX_CUT_BYTES  # the most that one window can leave for the next to finish
_AHEAD_BYTES = 8 << 20  # below, threads cost what they gain

Sink: TypeAlias = Callable[[ChunkId, memoryview], None]
"""Takes each chunk; the bytes are valid only during the call."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A file, cut: its content hash, its chunks in order with their lengths, its facts."""

    content: ContentHash
    chunks: ChunkList
    facts: Footer | None


class Span(NamedTuple):
    """A part of a file: one chunk, or what FastCDC cuts on its own."""

    start: int
    end: int
    whole: bool


class Batch(NamedTuple):
    """What one window of a file settles: pieces of it, each a chunk without its name."""

    window: memoryview
    pieces: list[memoryview]


Named: TypeAlias = tuple[memoryview, list[tuple[ChunkId, memoryview]]]


def cut_file(fd: int, size: int, sink: Sink | None = None, prepare: Sink | None = None) -> Cut:
    """Cut the first `size` bytes of an open file, in one pass and bounded memory.

    A large file is read, cut and hashed on several threads; one after another they do the same.
    The hashes agree with one another even if another process writes to the file meanwhile;
    whether one did is the caller's to find out.

    Args:
        fd: the file.
        size: how much of it.
        sink: takes each chunk, in the file's order, in the caller's own thread.
        prepare: is shown each chunk before, in any order and on any thread.

    Raises:
        ChangedWhileReadError: if the file turns out to be shorter.
    """
    if size <= WHOLE_FILE_BYTES:
        return _cut_small(fd, size, sink)

    def read(offset: int, length: int) -> bytes:
        return os.pread(fd, min(length, size - offset), offset)

    def name(batch: Batch) -> Named:
        named = [(ChunkId(hash_object(Kind.CHUNK, piece)), piece) for piece in batch.pieces]
        if prepare:
            for oid, piece in named:
                prepare(oid, piece)
        return batch.window, named

    facts = read_footer(read, size)
    chunks = ChunkList()
    with ExitStack() as threads:  # that end, come what may
        windows = Windows(fd, size, _CARRY_BYTES)
        # Pages are compressed already, so what is left to do for them is not worth the handing on.
        crew = size >= _AHEAD_BYTES and prepare is not None and facts is None
        if size >= _AHEAD_BYTES:
            held = AHEAD + 2 if crew else 2
            windows = threads.enter_context(WindowsAhead(fd, size, _CARRY_BYTES, held))
        batches = _batches(iter(windows), spans(read, size, facts))
        if crew:
            all_named: Iterator[Named] = threads.enter_context(closing(in_order(name, batches)))
        else:
            all_named = map(name, batches)
        for window, named in all_named:
            for oid, piece in named:
                if sink:
                    sink(oid, piece)
                chunks.add(oid, len(piece))
            windows.release(window)
    return Cut(windows.hasher.digest(), chunks, facts)


def spans(read: Read, size: int, facts: Footer | None) -> Iterator[Span]:
    """Clauses 2 to 4: the spans that tile a file of more than 64 KiB."""
    if facts is None or not _in_order(facts):
        yield Span(0, size, whole=False)
        return
    start = 0
    for end in chain(_span_ends(read, facts), (size,)):
        # What lies before a column chunk (the magic, a bloom filter) falls to its first span.
        yield Span(start, end, whole=end - start <= WHOLE_SPAN_BYTES)
        start = end


def _in_order(facts: Footer) -> bool:
    at = 0
    for chunk in facts.column_chunks:
        if chunk.start < at:
            return False
        at = chunk.end
    return True


def _span_ends(read: Read, facts: Footer) -> Iterator[int]:
    for chunk in facts.column_chunks:
        if chunk.end - chunk.start > WHOLE_COLUMN_BYTES:
            start = chunk.start
            for _, end in pages(read, chunk):
                if end - start >= SMALL_SPAN_BYTES and end < chunk.end:
                    yield end
                    start = end
        yield chunk.end


def _cut_small(fd: int, size: int, sink: Sink | None) -> Cut:
    data = memoryview(os.pread(fd, size, 0))
    if len(data) < size:  # a call may read less than it was asked for, or the file has shrunk
        data = memoryview(bytearray(size))
        fill(fd, data, 0)
    oid = hash_object(Kind.CHUNK, data)
    if sink:
        sink(ChunkId(oid), data.toreadonly())
    facts = read_footer(lambda offset, length: bytes(data[offset : offset + length]), size)
    # A file of one chunk has that chunk's hash: both are the plain hash of the bytes.
    return Cut(ContentHash(oid), ChunkList([(ChunkId(oid), size)]), facts)


def _batches(windows: Iterator[memoryview], plan: Iterator[Span]) -> Iterator[Batch]:
    """Cut what the windows bring as the plan says; a chunk may begin in one and end in another."""
    from pyfastcdc import FastCDC  # 30 ms that a command without a large file does not pay

    fastcdc = FastCDC(
        AVERAGE_CUT_BYTES,
        min_size=MIN_CUT_BYTES,
        max_size=MAX_CUT_BYTES,
        normalized_chunking=2,
        seed=0,
    )
    at = 0
    span = next(plan)
    carry = b""
    for window in windows:
        window[_CARRY_BYTES - len(carry) : _CARRY_BYTES] = carry
        data = window[_CARRY_BYTES - len(carry) :].toreadonly()
        origin = at
        pieces: list[memoryview] = []
        while at < origin + len(data):
            for piece in _pieces(fastcdc, data[at - origin :], at, span):
                pieces.append(piece)
                at += len(piece)
            if at < span.end:
                break
            span = next(plan, span)
        carry = bytes(data[at - origin :])
        yield Batch(window, pieces)


def _pieces(fastcdc: FastCDC, data: memoryview, at: int, span: Span) -> Iterator[memoryview]:
    """The chunks of the span from offset `at` on, as far as `data` settle where they end."""
    data = data[: span.end - at]
    complete = at + len(data) == span.end
    if span.whole:
        if complete:
            yield data
        return
    left = len(data)
    for chunk in fastcdc.cut_buf(data):
        left -= chunk.length
        # The last one may have ended for want of bytes; with more it is cut again.
        if left or complete or chunk.length == MAX_CUT_BYTES:
            yield chunk.data
