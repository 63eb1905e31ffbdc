"""Extents: chunks that lie one behind the other in a pack, to be copied inside the kernel.

Nothing is checked on the way, so whoever copies hashes what came out of it before it is believed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from usrstore.objects.ids import ChunkId, Kind
from usrstore.odb.compress import RAW
from usrstore.odb.database import Database
from usrstore.odb.pack import Pack


class Extent(NamedTuple):
    """Chunks with their sizes, from `offset` on in an open file."""

    fd: int
    offset: int
    chunks: list[tuple[ChunkId, int]]


def find(database: Database, wanted: Iterable[tuple[ChunkId, int]]) -> Iterator[Extent]:
    """Where chunks lie as they are. What is compressed, not here, or in no file is left out.

    Args:
        database: the store.
        wanted: chunks with their sizes, in the order of the files that they make up.

    Yields:
        Extents; each file is open until the iteration ends.
    """
    with contextlib.ExitStack() as held:
        files: dict[Pack, int | None] = {}
        extent: Extent | None = None
        end: tuple[int, int] | None = None
        for oid, size in wanted:
            found = database.find(oid)
            if found is None:
                continue
            pack, row = found.pack, found.row
            if (row.kind, row.encoding, row.size) != (Kind.CHUNK, RAW, size):
                continue
            if pack not in files:
                files[pack] = fd = pack.open()
                if fd is not None:
                    held.callback(os.close, fd)
            fd = files[pack]
            if fd is None:
                continue
            if extent is not None and end == (fd, row.offset):
                extent.chunks.append((oid, size))
            else:
                if extent is not None:
                    yield extent
                extent = Extent(fd, row.offset, [(oid, size)])
            end = (fd, row.offset + size)
        if extent is not None:
            yield extent
