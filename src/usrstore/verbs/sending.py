"""The sending half of a transfer: read what was captured, from the folder or from packs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from usrstore.errors import ChangedWhileReadError, ObjectNotFoundError
from usrstore.objects.ids import ChunkId, ContentHash, Kind, ObjectId, RecipeId
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import compress, reach
from usrstore.odb.reach import Get
from usrstore.remote.peer import Piece
from usrstore.worktree.crew import in_order
from usrstore.worktree.scan import Stamp
from usrstore.worktree.source import FolderSource, Place

_RUN_BYTES = 1 << 20
_LIKELY_BYTES = 64 << 10  # of a chunk that lies in a pack


class Sending:
    """Files of one captured folder, as recipes and chunks.

    Args:
        folder: the dataset.
        listing: what it held when it was captured.
        get: metadata and kept chunks.
        hashed: files that the capture itself hashed, with their stamps; they are hashed again only
            if somebody has touched them since. Whoever receives a chunk hashes it anyway.
        lone: the name of the one file of the folder that counts.
    """

    def __init__(
        self,
        folder: str,
        listing: Listing,
        get: Get,
        *,
        hashed: Mapping[str, Stamp] | None = None,
        lone: str | None = None,
    ) -> None:
        self._get = get
        self._source = FolderSource(folder, hashed, lone)
        self._by_content: dict[ContentHash, tuple[str, FileEntry]] = {}
        for path, entry in listing.items():
            self._by_content.setdefault(entry.content, (path, entry))
        self._kept: dict[ChunkId, int] = {}

    def add(self, entry: FileEntry) -> None:
        """A file that lies in packs rather than in the folder."""
        self._by_content.setdefault(entry.content, ("", entry))

    def nodes(
        self, contents: Iterable[ContentHash], have: frozenset[RecipeId] = frozenset()
    ) -> Iterator[tuple[RecipeId, bytes]]:
        """Recipe nodes of the files with these contents; their chunks can then be sent.

        Raises:
            ObjectNotFoundError: no captured file has such a content.
        """
        return reach.recipes(self._get, map(self._announced, contents), have)

    def _announced(self, content: ContentHash) -> FileEntry:
        """A file whose chunks can be sent from now on."""
        if content not in self._by_content:
            raise ObjectNotFoundError(f"no file with content {content.short} was captured")
        path, entry = self._by_content[content]
        chunks = reach.chunks(self._get, entry)
        if path:
            self._source.add(path, chunks)
        else:
            self._kept.update(chunks)
        return entry

    def pieces(self, oids: Sequence[ChunkId], *, announced: bool = True) -> Iterator[Piece]:
        """Chunks in the order asked for, each verified as it is read or just before (`hashed`).

        Read, hashed and compressed on threads, some at a time, while others are on their way.

        Args:
            oids: which.
            announced: send only what belongs to files whose `nodes` were asked for: a stranger
                who knows an id learns nothing of other datasets.

        Raises:
            ChangedWhileReadError: the folder no longer holds what was captured.
            ObjectNotFoundError: a chunk that is not to be sent.
        """
        with contextlib.closing(
            in_order(self._read_run, self._runs(oids, announced), ahead=2)
        ) as runs:
            for run in runs:
                for oid, piece in run:
                    yield piece or self._piece(oid, self.read(oid))

    def _runs(self, oids: Iterable[ChunkId], announced: bool) -> Iterator[list[ChunkId]]:
        run: list[ChunkId] = []
        size = 0
        for oid in oids:
            place = self._source.find(oid)
            if announced and place is None and oid not in self._kept:
                raise ObjectNotFoundError(f"chunk {oid.short} belongs to no file that moves")
            run.append(oid)
            size += place.size if place else _LIKELY_BYTES
            if size >= _RUN_BYTES:
                yield run
                run, size = [], 0
        if run:
            yield run

    def _read_run(self, oids: list[ChunkId]) -> list[tuple[ChunkId, Piece | None]]:
        """Those of a run that lie in the folder as they should; on any thread."""
        found = self._source.read_all(oids)
        return [
            (oid, None if data is None else self._piece(oid, data))
            for oid, data in zip(oids, found, strict=True)
        ]

    @staticmethod
    def _piece(oid: ChunkId, data: bytes | memoryview) -> Piece:
        encoding, stored = compress.shrink(data)
        return Piece(oid, encoding, len(data), stored)

    def place(self, oid: ChunkId) -> Place:
        """Where a chunk of these files lies; without a path if it lies in a pack."""
        return self._source.find(oid) or Place("", 0, self._kept.get(oid, 0))

    def read(self, oid: ChunkId) -> bytes:
        """One chunk, verified. Raises: ChangedWhileReadError, ObjectNotFoundError."""
        if self._source.find(oid) is None:
            return self._get(Kind.CHUNK, oid)
        try:
            return self._source.read(oid)
        except ChangedWhileReadError:
            try:
                return self._get(Kind.CHUNK, ObjectId(oid))  # a kept state has it still
            except ObjectNotFoundError:
                pass
            raise

    def close(self) -> None:
        self._source.close()
