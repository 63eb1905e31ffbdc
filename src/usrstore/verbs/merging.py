"""Files that both sides changed, merged by what is inside them, in a scratch folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self

from usrstore.dataset import mergelog, mergetext
from usrstore.errors import IncompleteError, ObjectNotFoundError, UsrError
from usrstore.objects.ids import ChunkId
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.objects.threeway import Clash
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import durable, reach
from usrstore.verbs.mergeplan import Choices, Conflict, Report, file_conflict, kind_of
from usrstore.verbs.relation import prefix_hash
from usrstore.verbs.sending import Sending
from usrstore.verbs.site import Site

if TYPE_CHECKING:
    from usrstore.dataset.mergetable import MergedTable

Lost = Callable[[list[ChunkId]], None]
"""Told which chunks of a base are nowhere here; it may bring them into the store."""


class Merging:
    """One merge's files.

    Args:
        site: the dataset; its folder is our side, as captured.
        ours: our listing.
        scratch: an empty folder of this merge.
        choices: what a person decided.
        lost: asked for bytes of a base that are nowhere here.

    Attributes:
        folder: the merged files, under the paths that they will have.
    """

    def __init__(
        self, site: Site, ours: Listing, scratch: str, choices: Choices, lost: Lost
    ) -> None:
        self._site = site
        self._scratch = scratch
        self._choices = choices
        self._lost = lost
        self._ours = ours
        self._sending = Sending(site.folder, ours, site.overlay.get)
        self.folder = os.path.join(scratch, "merged")
        self.report = Report()
        self.conflicts: list[Conflict] = []
        self.merged: list[str] = []
        durable.make_folder(self.folder)

    def __enter__(self) -> Self:
        contents = {e.content: None for e in self._ours.values() if e.size}
        for _ in self._sending.nodes(contents):
            pass  # tells it where our chunks lie
        return self

    def __exit__(self, *_exc: object) -> None:
        self._sending.close()

    def merge(self, clash: Clash) -> None:
        """Merge one file, or note why it cannot be."""
        kind = kind_of(clash)
        if kind == "file":
            self.conflicts.append(file_conflict(clash))
            return
        assert clash.ours is not None
        assert clash.theirs is not None
        out = os.path.join(self.folder, clash.path)
        durable.make_folder(os.path.dirname(out))
        ours = os.path.join(self._site.folder, clash.path)
        theirs = self._version(clash.path, clash.theirs, "theirs")
        if kind == "log":
            done = self._log(clash, ours, theirs, out)
        elif kind == "text":
            done = self._text(clash, ours, theirs, out)
        else:
            done = self._table(clash, ours, theirs, out)
        if done:
            self.merged.append(clash.path)

    # ── versions ────────────────────────────────────────────────────────────────────────
    def _version(self, path: str, entry: FileEntry, side: str) -> str:
        """A side's version of a file, put together from its chunks."""
        target = os.path.join(self._scratch, side, path)
        durable.make_folder(os.path.dirname(target))
        with durable.Spool.create(target) as spool:
            for oid, _ in reach.chunks(self._site.overlay.get, entry) if entry.size else ():
                spool.write(self._sending.read(oid))
        return target

    def _base(self, path: str, entry: FileEntry | None, otherwise: str) -> str | None:
        """The base's version, if its bytes are to be had; else a note says what holds instead."""
        if entry is None:
            return None
        try:
            chunks = [oid for oid, _ in reach.chunks(self._site.overlay.get, entry)]
            lacking = [oid for oid in chunks if not self._has(oid)]
            if lacking:
                self._lost(lacking)
            return self._version(path, entry, "base")
        except (ObjectNotFoundError, IncompleteError):
            self.report.notes.append(
                f"what {path} was before both sides changed it is kept nowhere (a light state): "
                f"{otherwise}"
            )
            return None

    def _has(self, oid: ChunkId) -> bool:
        if self._site.overlay.database.has(oid):
            return True
        try:
            self._sending.read(oid)
        except UsrError:
            return False
        return True

    # ── kinds ───────────────────────────────────────────────────────────────────────────
    def _log(self, clash: Clash, ours: str, theirs: str, out: str) -> bool:
        """Theirs, then our lines; but a log whose front is in an archive goes first."""
        base = clash.base
        if base is None:
            self.report.log = mergelog.MergedLog(*mergelog.merge(theirs, ours, out))
            return True
        mine = prefix_hash(ours, size=base.size) == base.content
        yours = prefix_hash(theirs, size=base.size) == base.content
        if mine:
            counted, added = mergelog.merge(theirs, ours, out, start=base.size)
        elif yours:
            added, counted = mergelog.merge(ours, theirs, out, start=base.size)
        else:  # both cut it
            self.conflicts.append(file_conflict(clash))
            return False
        self.report.log = mergelog.MergedLog(counted, added)
        return True

    def _text(self, clash: Clash, ours: str, theirs: str, out: str) -> bool:
        mine, yours = _lines(ours), _lines(theirs)
        base = self._base(clash.path, clash.base, "every line of both sides is kept")
        known = _lines(base) if base else None
        if mine is None or yours is None or (base and known is None):
            self.conflicts.append(file_conflict(clash))
            return False
        if known is None:
            known = mergetext.shared(mine, yours)
            if known[:1] != mine[:1]:  # two texts, not two versions of one
                self.conflicts.append(file_conflict(clash))
                return False
        found = mergetext.merge(known, mine, yours)
        for line, before, a, b in found.conflicts:
            self.conflicts.append(Conflict(clash.path, f"line {line}", "", before, a, b))
        if found.conflicts:
            return False
        with durable.Spool.create(out) as spool:
            spool.write("".join(found.lines).encode("utf-8", "surrogateescape"))
        self.report.texts = (*self.report.texts, clash.path)
        return True

    def _table(self, clash: Clash, ours: str, theirs: str, out: str) -> bool:
        from usrstore.dataset import mergetable

        keys = {_key(path) for path in (ours, theirs)}
        if len(keys) > 1:
            self.conflicts.append(
                Conflict(clash.path, "", "key", None, *sorted(str(key) for key in keys))
            )
            return False
        done = mergetable.merge(
            self._base(
                clash.path,
                clash.base,
                "a row that one side lacks counts as added by the other",
            ),
            ours,
            theirs,
            out,
            key=keys.pop(),
            scratch=os.path.join(self._scratch, "diff", clash.path),
            prefer=self._choices.rows,
        )
        if done.total:
            self.conflicts += [
                Conflict(clash.path, c.key, c.column, c.base, c.ours, c.theirs)
                for c in done.conflicts
            ]
            return False
        self.report.rows[clash.path] = _numbers(done)
        return True


def _key(path: str) -> str:
    """What tells the rows of a table apart: `id` in the primary, the first column in overlays."""
    from usrstore.dataset import parquetfile

    names: list[str] = parquetfile.facts(path).schema.names
    return "id" if path.endswith(f"/{PRIMARY_FILE}") or "id" in names[:1] else names[0]


def _numbers(done: MergedTable) -> dict[str, object]:
    return {
        "rows": done.rows,
        "ours": done.ours_added,
        "theirs": done.theirs_added,
        "removed": done.removed,
        "cells": done.cells,
        "columns": list(done.columns),
        "resolved": done.resolved,
    }


def _lines(path: str) -> list[str] | None:
    """The lines of a text; None if it is too long to be compared."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = []
        for line in file:
            lines.append(line)
            if len(lines) > mergetext.MAX_LINES:
                return None
        return lines


def paths(conflicts: Iterable[Conflict]) -> list[str]:
    return list(dict.fromkeys(conflict.path for conflict in conflicts))
