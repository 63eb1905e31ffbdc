"""Chunks as they arrive: some at a time, expanded and hashed on a thread, given on in their order.

While one run of chunks is hashed, the next is received and the one before is written. One thread
hashes more than any link brings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from usrstore.errors import DecodeError, ProtocolError
from usrstore.objects.ids import ChunkId, Kind, hash_object
from usrstore.odb import compress
from usrstore.remote.peer import Piece
from usrstore.worktree.crew import in_order

_RUN_BYTES = 1 << 20


class Run(NamedTuple):
    """Chunks that hash to their names; and the first that does not, and why, if one did not."""

    chunks: list[tuple[ChunkId, bytes | memoryview]]
    damage: tuple[ChunkId, str] | None = None


def checked(pieces: Iterable[Piece], due: dict[ChunkId, int]) -> Iterator[Run]:
    """Runs of pieces, checked. If they end too soon, those that came before still count.

    Args:
        pieces: what comes.
        due: the chunks that may come, each once; it is used up.

    Raises:
        ProtocolError: a chunk that nobody asked for.
        Exception: what `pieces` raised; first all is given that came before.
    """
    failures: list[Exception] = []
    with contextlib.closing(
        in_order(_check, _runs(pieces, due, failures), hands=1, ahead=2)
    ) as runs:
        yield from runs
    for failure in failures:
        raise failure


def _runs(
    pieces: Iterable[Piece], due: dict[ChunkId, int], failures: list[Exception]
) -> Iterator[list[Piece]]:
    run: list[Piece] = []
    size = 0
    try:
        for piece in pieces:
            if due.pop(piece.oid, None) is None:
                raise ProtocolError(f"chunk {piece.oid.short} was not asked for")
            run.append(piece)
            size += piece.size
            if size >= _RUN_BYTES:
                yield run
                run, size = [], 0
    except Exception as failure:  # raised again once what came before it is placed
        failures.append(failure)
    if run:
        yield run


def _check(run: list[Piece]) -> Run:
    found: list[tuple[ChunkId, bytes | memoryview]] = []
    for piece in run:
        try:
            data = compress.expand(piece.encoding, piece.stored, piece.size)
        except DecodeError as exc:
            return Run(found, (piece.oid, exc.message))
        actual = hash_object(Kind.CHUNK, data)
        if actual != piece.oid:
            return Run(found, (piece.oid, f"a chunk hashes to {actual.short}"))
        found.append((piece.oid, data))
    return Run(found)
