"""`usr://DATASET@REVISION/PATH`: any state of a root as a read-only file system for fsspec.

    pandas.read_parquet("usr://densegen/x@v1/records.parquet", storage_options={"root": "/data/usr"})

Nothing is checked out and nothing is written. A range of a file fetches the chunks that it
touches and no others, and every chunk must hash to its name. A dataset's name alone stands for
its newest state; its folder may have gone on since.
"""

from __future__ import annotations

import atexit
import functools
import sys
import time
from bisect import bisect_right
from itertools import accumulate
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from usrstore.errors import IncompleteError, RevisionNotFoundError, UsrError
from usrstore.objects.ids import ChunkId, Kind, ManifestId
from usrstore.objects.names import check_dataset
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs.revisions import resolve
from usrstore.worktree.source import FolderSource

_GOODBYE_S = 0.05


@functools.cache
def _part_with_arrow() -> None:
    """See to it that Arrow's threads have let go of our files before the interpreter ends.

    They do so a moment after a read has returned. One that comes when Python is gone already
    aborts the process, whose work is done (apache/arrow issue 34314).
    """
    atexit.register(time.sleep, _GOODBYE_S)


class UsrFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The states of one root.

    Args:
        root: the folder that holds datasets; in `storage_options`.

    Raises:
        NotFoundError: there is no such root.
        FileNotFoundError: no such revision, or no such file in it.
    """

    protocol = "usr"
    root_marker = ""

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(**options)
        self.root = Root(root)
        self._listings: dict[ManifestId, Listing] = {}

    def ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:
        """What is in a folder of a state."""
        revision, oid, inside = self._split(path)
        listing = self._listing(oid)
        if inside in listing:
            rows = [_file(f"{revision}/{inside}", listing[inside])]
        else:
            rows = self._below(revision, listing, inside)
        return rows if detail else [row["name"] for row in rows]

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        """Name, size in bytes and type; `ETag` is the BLAKE3 of a file."""
        revision, oid, inside = self._split(path)
        listing = self._listing(oid)
        if inside in listing:
            return _file(f"{revision}/{inside}", listing[inside])
        self._below(revision, listing, inside)
        return _folder(f"{revision}/{inside}".rstrip("/"))

    def _below(self, revision: str, listing: Listing, folder: str) -> list[dict[str, Any]]:
        prefix = f"{folder}/" if folder else ""
        rows: dict[str, dict[str, Any]] = {}
        for path, entry in sorted(listing.items()):
            if path.startswith(prefix):
                name, deeper, _ = path[len(prefix) :].partition("/")
                full = f"{revision}/{prefix}{name}"
                rows.setdefault(name, _folder(full) if deeper else _file(full, entry))
        if not rows:
            raise FileNotFoundError(f"{revision} holds no {folder!r}")
        return list(rows.values())

    def _open(self, path: str, mode: str = "rb", **options: Any) -> _File:
        if mode != "rb":
            raise OSError("states are read-only: usr:// opens files with mode 'rb' alone")
        _, oid, inside = self._split(path)
        entry = self._listing(oid).get(inside)
        if entry is None:
            raise FileNotFoundError(path)
        dataset = check_dataset(reach.manifest(self.root.database.get, oid).dataset)
        return _File(self, path, entry, inside, self.root.folder(dataset), **options)

    def _listing(self, oid: ManifestId) -> Listing:
        if oid not in self._listings:
            tree = reach.manifest(self.root.database.get, oid).tree
            self._listings[oid] = reach.listing(self.root.database.get, tree)
        return self._listings[oid]

    def _split(self, path: str) -> tuple[str, ManifestId, str]:
        """The revision as it was written, its manifest, and the path inside.

        A revision is one part of the path, or two where the dataset's name has two.
        """
        parts = self._strip_protocol(path).strip("/").split("/")
        problem: UsrError = RevisionNotFoundError(f"{path} names no revision")
        for count in (2, 1):
            revision = "/".join(parts[:count])
            if len(parts) < count or not revision:
                continue
            try:
                oid, _ = resolve(self.root, revision, now_us=time.time_ns() // 1000)
            except UsrError as exc:
                problem = exc
            else:
                return revision, oid, "/".join(parts[count:])
        raise FileNotFoundError(f"{path}: {problem.message}") from problem


def _file(name: str, entry: FileEntry) -> dict[str, Any]:
    return {"name": name, "size": entry.size, "type": "file", "ETag": entry.content.hex()}


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}


class _File(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """One file of a state."""

    def __init__(
        self,
        fs: UsrFileSystem,
        path: str,
        entry: FileEntry,
        inside: str,
        folder: str,
        **options: Any,
    ) -> None:
        options = {"cache_type": "readahead", **options, "size": entry.size}
        super().__init__(fs, path, "rb", **options)
        self._database = fs.root.database
        self._chunks = list(reach.chunks(self._database.get, entry)) if entry.size else []
        self._starts = list(accumulate((size for _, size in self._chunks), initial=0))
        self._folder = FolderSource(folder)  # of a light state, bytes may rest only there
        self._folder.add(inside, self._chunks)
        if "pyarrow" in sys.modules:
            _part_with_arrow()

    def _fetch_range(self, start: int, end: int) -> bytes:
        pieces = []
        first = bisect_right(self._starts, start) - 1
        for number in range(max(0, first), len(self._chunks)):
            at = self._starts[number]
            if at >= end:
                break
            data = self._read(ChunkId(self._chunks[number][0]))
            pieces.append(data[max(0, start - at) : end - at])
        return b"".join(pieces)

    def _read(self, oid: ChunkId) -> bytes:
        if self._database.has(oid):
            return self._database.get(Kind.CHUNK, oid)
        data = self._folder.try_read(oid)
        if data is None:
            raise IncompleteError(
                f"{self.path} was never kept, and a chunk of it is nowhere",
                hint="only states made by `usr commit` are kept for ever; `usr fetch` may bring it",
                code="not-kept",
            )
        return data

    def close(self) -> None:
        self._folder.close()
        super().close()
