"""The files of a state, read without a checkout: from the folder, from packs, from a remote.

Only the chunks that a reader asks for are read, and each is verified. A file whose content the
folder holds, too, is read there.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Protocol

from usrstore.dataset.tablefile import Range, TableFile
from usrstore.errors import (
    ChangedWhileReadError,
    HashMismatchError,
    IncompleteError,
    NotFoundError,
    ObjectNotFoundError,
    ProtocolError,
)
from usrstore.objects.ids import ChunkId, ContentHash, Kind, hash_object
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import compress, reach
from usrstore.remote.peer import Peer
from usrstore.verbs.site import Site
from usrstore.worktree.capture import Capture
from usrstore.worktree.scan import Stamp
from usrstore.worktree.source import FolderSource

_HOLD_BYTES = 48 << 20
_TABLE = ".parquet"


class Chunks(Protocol):
    """Where chunks come from."""

    far: bool
    """Whether every question takes a while, so that few should be asked."""

    def fetch(self, oids: Sequence[ChunkId]) -> Iterator[tuple[ChunkId, bytes]]:
        """All of these. Raises: IncompleteError for one that is nowhere."""
        ...


class Here:
    """Chunks of one dataset that are in packs or in its folder."""

    far = False

    def __init__(self, site: Site, found: Capture | None, *, look: bool = False) -> None:
        """`found` is the folder as captured; with `look` it is captured once it is needed."""
        self._site = site
        self._found = found
        self._look = look
        self._source: FolderSource | None = None
        self.by_content: dict[ContentHash, str] = {}
        for path, entry in found.listing.items() if found else ():
            self.by_content.setdefault(entry.content, path)

    def find(self, oid: ChunkId) -> bytes | None:
        """One chunk, verified; None if it is not here."""
        if self._site.overlay.has(oid):
            return self._site.overlay.get(Kind.CHUNK, oid)
        if self._source is None:
            self._source = self._open()
        return self._source.try_read(oid)

    def _open(self) -> FolderSource:
        if self._look and self._site.exists:
            self._found = self._site.capture(record=False)
        source = FolderSource(self._site.folder)
        for path, entry in self._found.listing.items() if self._found else ():
            if path.endswith(_TABLE):
                try:
                    source.add(path, reach.chunks(self._site.overlay.get, entry))
                except ObjectNotFoundError:
                    continue
        return source

    def fetch(self, oids: Sequence[ChunkId]) -> Iterator[tuple[ChunkId, bytes]]:
        for oid in oids:
            data = self.find(oid)
            if data is None:
                raise _gone(self._site.dataset)
            yield oid, data

    def check(self) -> None:
        """Raises: ChangedWhileReadError if a table is no longer what was captured."""
        for path, stamp in self._found.stamps.items() if self._found else ():
            if not path.endswith(_TABLE):
                continue
            try:
                now = Stamp.of(os.stat(os.path.join(self._site.folder, path)))
            except FileNotFoundError:
                now = None
            if now != stamp:
                raise ChangedWhileReadError(
                    f"{self._site.folder}/{path} was written by another program while it was "
                    "read; nothing was changed here",
                    hint="run the same command again",
                )

    def close(self) -> None:
        if self._source is not None:
            self._source.close()


class There:
    """Chunks that a remote has; what is here, too, is read here."""

    far = True

    def __init__(self, peer: Peer, here: Here) -> None:
        self._peer = peer
        self._here = here

    def fetch(self, oids: Sequence[ChunkId]) -> Iterator[tuple[ChunkId, bytes]]:
        missing = []
        for oid in oids:
            data = self._here.find(oid)
            if data is None:
                missing.append(oid)
            else:
                yield oid, data
        expected = set(missing)
        for piece in self._peer.send(missing) if missing else ():
            if piece.oid not in expected:
                raise ProtocolError(f"chunk {piece.oid.short} was not asked for")
            data = bytes(compress.expand(piece.encoding, piece.stored, piece.size))
            if hash_object(Kind.CHUNK, data) != piece.oid:
                raise HashMismatchError(f"chunk {piece.oid.short} arrived damaged")
            expected.discard(piece.oid)
            yield piece.oid, data
        if expected:
            raise ProtocolError(f"{len(expected)} chunks that were asked for did not come")


class Files:
    """The files of one state or folder.

    Args:
        site: the dataset here; its overlay knows the recipes.
        listing: the files.
        chunks: where what the folder does not hold comes from.
        here: the folder.
        name: of the state, for messages.
    """

    def __init__(self, site: Site, listing: Listing, chunks: Chunks, here: Here, name: str) -> None:
        self.listing = listing
        self.name = name
        self._site = site
        self._chunks = chunks
        self._here = here
        self._files: dict[str, TableFile] = {}

    def paths(self) -> Iterable[str]:
        return self.listing.keys()

    def size(self, path: str) -> int:
        return self.listing[path].size

    def file(self, path: str) -> TableFile:
        if path not in self._files:
            entry = self.listing.get(path)
            if entry is None:
                raise NotFoundError(f"{self.name} holds no {path}", code="file-not-found")
            self._files[path] = self._make(path, entry)
        return self._files[path]

    def _make(self, path: str, entry: FileEntry) -> TableFile:
        def cut() -> list[tuple[ChunkId, int]]:
            return list(reach.chunks(self._site.overlay.get, entry)) if entry.size else []

        local = self._here.by_content.get(entry.content)
        if local is not None:
            full = os.path.join(self._site.folder, local)
            return TableFile(full, lambda: full, cut)
        store = _Store(self._chunks, cut)
        name = f"{self.name}:{path}"
        return TableFile(name, lambda: ChunkFile(store), cut, store.expect)


class _Store:
    """The chunks of one file, the last few of them in memory."""

    def __init__(self, chunks: Chunks, cut: Any) -> None:
        self._chunks = chunks
        self._make_cut = cut
        self._held: OrderedDict[ChunkId, bytes] = OrderedDict()
        self._bytes = 0
        self._oids: list[ChunkId] = []
        self._starts: list[int] = []

    @property
    def size(self) -> int:
        self._open()
        return self._starts[-1]

    def _open(self) -> None:
        if not self._starts:
            cut = self._make_cut()
            self._oids = [oid for oid, _ in cut]
            self._starts = list(accumulate((size for _, size in cut), initial=0))

    def _between(self, start: int, end: int) -> range:
        """The chunks that cover these bytes."""
        self._open()
        return range(max(bisect_right(self._starts, start) - 1, 0), bisect_left(self._starts, end))

    def expect(self, ranges: Iterable[Range]) -> None:
        """Fetch what lies far away and will be read next, if it is little enough to hold."""
        if not self._chunks.far:
            return
        numbers = {n for start, length in ranges for n in self._between(start, start + length)}
        size = sum(self._starts[n + 1] - self._starts[n] for n in numbers)
        if size <= _HOLD_BYTES:
            self._fetch([self._oids[n] for n in sorted(numbers)])

    def _fetch(self, oids: Sequence[ChunkId]) -> None:
        wanted = [oid for oid in dict.fromkeys(oids) if oid not in self._held]
        for oid in oids:
            if oid in self._held:
                self._held.move_to_end(oid)
        for oid, data in self._chunks.fetch(wanted) if wanted else ():
            self._held[oid] = data
            self._bytes += len(data)

    def read(self, start: int, end: int) -> bytes:
        numbers = self._between(start, end)
        oids = [self._oids[n] for n in numbers]
        self._fetch(oids)
        first = self._starts[numbers.start] if numbers else 0
        data = b"".join(self._held[oid] for oid in oids)[start - first : end - first]
        while self._bytes > _HOLD_BYTES and len(self._held) > 1:
            _, gone = self._held.popitem(last=False)
            self._bytes -= len(gone)
        return data


class ChunkFile(io.RawIOBase):
    """A file put together from its chunks as it is read."""

    def __init__(self, store: _Store) -> None:
        super().__init__()
        self._store = store
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._store.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._store.size if size is None or size < 0 else self._at + size
        end = min(end, self._store.size)
        data = self._store.read(self._at, end) if end > self._at else b""
        self._at += len(data)
        return data


def _gone(dataset: str) -> IncompleteError:
    return IncompleteError(
        f"this state of {dataset} is light, and what it had in its folder is no longer there",
        hint="only states made by `usr commit` are kept for ever; `usr log` marks them. A remote "
        "that has it can send it with `usr fetch`",
        code="not-kept",
    )
