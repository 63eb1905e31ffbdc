"""The deep half of fsck: every stored byte and every folder hashed, oldest first.

What was looked at, and when, is remembered in the store (`checked.json`), so that a run with
a limit begins where the last ones had least time for: nightly runs of ten minutes cover any
store in turn. The memory is only a saving; a damaged one is begun anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from usrstore.errors import ObjectNotFoundError, StorageError, UsrError
from usrstore.objects.ids import ContentHash, ContentHasher, PackId
from usrstore.objects.names import DatasetId
from usrstore.objects.progress import Emit, Event
from usrstore.objects.recipe import RULE
from usrstore.odb import durable
from usrstore.odb.pack import Pack
from usrstore.odb.scrub import Fault, scrub
from usrstore.root import Root
from usrstore.verbs.findings import BACKUP, Checked, Finding
from usrstore.worktree import statcache
from usrstore.worktree.scan import Stamp, scan

_READ_BYTES = 1 << 20


class Scrubbing:
    """One deep check of a root.

    Args:
        root: what to check.
        now_us: when this is.
        max_duration_s: how long it may take; None for as long as it takes. At least the part
            that was looked at longest ago is always done.
        emit: progress.
    """

    def __init__(self, root: Root, now_us: int, max_duration_s: float | None, emit: Emit) -> None:
        self._root = root
        self._now_us = now_us
        self._end_s = None if max_duration_s is None else time.monotonic() + max_duration_s
        self._emit = emit
        self._total: int | None = None
        self._done = 0
        self._memory = _Memory(os.path.join(root.store, "checked.json"))
        self._stopped = False
        self.faults: dict[PackId, list[Fault]] = {}
        self.checked = Checked(0, 0, 0, 0, 0, complete=True, oldest_us=None)

    def run(self) -> Iterator[Finding]:
        """Look at packs and folders in the order of how long ago that was done."""
        packs = {f"pack {pack.pack}": pack for pack in self._root.database.packs()}
        folders = {f"folder {dataset}": dataset for dataset in self._root.datasets()}
        self._memory.forget_all_but({*packs, *folders})
        if self._end_s is None:
            self._total = sum(pack.size for pack in packs.values())
        done = {"pack": 0, "folder": 0}
        try:
            for name in sorted(
                [*packs, *folders], key=lambda key: (self._memory.time_us(key), key)
            ):
                if any(done.values()) and self._is_over():
                    break
                if name in packs:
                    self._pack(packs[name])
                else:
                    yield from self._folder(name, folders[name])
                    if self._stopped:
                        break
                self._memory.note(name, self._now_us)
                done[name.split(" ")[0]] += 1
        finally:
            self._memory.save()
        times = [self._memory.time_us(name) for name in (*packs, *folders)]
        self.checked = Checked(
            packs=done["pack"],
            of_packs=len(packs),
            folders=done["folder"],
            of_folders=len(folders),
            size=self._done,
            complete=sum(done.values()) == len(packs) + len(folders),
            oldest_us=min(times, default=0) or None,
        )

    def _is_over(self) -> bool:
        return self._end_s is not None and time.monotonic() >= self._end_s

    def _step(self, count: int) -> None:
        self._done += count
        total = None if self._total is None or self._done > self._total else self._total
        self._emit(Event("verify", self._done, total))

    def _pack(self, pack: Pack) -> None:
        with contextlib.suppress(ObjectNotFoundError):  # collected since it was listed
            faults = scrub(pack, progress=self._step)
            if faults:
                self.faults[pack.pack] = faults

    def _folder(self, name: str, dataset: DatasetId) -> Iterator[Finding]:
        """A file whose stamp is unchanged must hold the bytes it held."""
        folder = self._root.folder(dataset)
        known = statcache.load(self._root.cache_path(dataset), RULE).files
        try:
            files = scan(folder)
        except UsrError as exc:
            yield Finding(exc.code, dataset, exc.message, exc.hint or BACKUP)
            return
        begin = done = self._memory.place(name)
        for path in sorted(path for path in files if path > begin):
            if self._is_over() and done != begin:
                self._memory.pause(name, done)
                self._stopped = True
                return
            done = path
            before = known.get(path)
            if before is None or before.stamp != files[path]:
                continue
            try:
                found, stamp = self._hash(os.path.join(folder, path))
            except FileNotFoundError:
                continue
            except OSError as exc:
                yield Finding(
                    "file-damaged",
                    f"{dataset}:{path}",
                    f"it cannot be read: {exc.strerror}",
                    f"look at the disk; usr checkout {dataset} {path} takes a kept copy",
                )
                continue
            if stamp == before.stamp and found != before.content:
                yield Finding(
                    "file-damaged",
                    f"{dataset}:{path}",
                    f"expected hash {before.content.short}, found {found.short}, though "
                    "nobody wrote to it: the disk or a raw write changed its bytes",
                    f"usr checkout {dataset} {path}, or pull it from a remote",
                )

    def _hash(self, path: str) -> tuple[ContentHash, Stamp]:
        hasher = ContentHasher(threads=2)
        with open(path, "rb", buffering=0) as file:
            buffer = bytearray(min(_READ_BYTES, os.fstat(file.fileno()).st_size + 1))
            view = memoryview(buffer)
            while count := file.readinto(buffer):
                hasher.update(view[:count])
                self._step(count)
            return hasher.digest(), Stamp.of(os.fstat(file.fileno()))


class _Memory:
    """When each part was looked at to its end, and where a part was left in its middle."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):
            with open(path, encoding="utf-8") as file:
                value = json.load(file)
            if isinstance(value, dict) and all(_is_row(row) for row in value.values()):
                self._rows = value

    def time_us(self, name: str) -> int:
        return int(self._rows[name][0]) if name in self._rows else 0

    def place(self, name: str) -> str:
        """The last path that an interrupted look at a folder came to."""
        return str(self._rows[name][1]) if name in self._rows else ""

    def note(self, name: str, time_us: int) -> None:
        self._rows[name] = [time_us, ""]

    def pause(self, name: str, place: str) -> None:
        self._rows[name] = [self.time_us(name), place]

    def forget_all_but(self, names: set[str]) -> None:
        self._rows = {name: row for name, row in self._rows.items() if name in names}

    def save(self) -> None:
        data = json.dumps(self._rows, indent=0, sort_keys=True).encode() + b"\n"
        with contextlib.suppress(StorageError):  # a store that may only be read, a full disk
            durable.replace(self._path, data, sync=False)


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 2
        and isinstance(row[0], int)
        and row[0] >= 0
        and isinstance(row[1], str)
    )
