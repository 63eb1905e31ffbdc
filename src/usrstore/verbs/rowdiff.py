"""Row and column diff: two states of a dataset, or a state and a folder, or the folder and a remote.

sides → which tables differ → what changed in each, a part at a time

Nothing is written but scratch files; of a remote only what differs is fetched.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from usrstore.errors import InvalidInputError
from usrstore.objects.compare import same
from usrstore.objects.ids import Kind
from usrstore.objects.sections import DERIVED_FOLDER, PRIMARY_FILE, SNAPSHOTS_FOLDER
from usrstore.objects.tree import FileEntry, Listing
from usrstore.remote.peer import Peer
from usrstore.verbs.meeting import Meeting
from usrstore.verbs.site import Site
from usrstore.verbs.statefiles import Files, Here, There
from usrstore.worktree.capture import Capture

if TYPE_CHECKING:
    from usrstore.dataset.changes import Delta
    from usrstore.dataset.tablediff import Schemas

Mode = Literal["resolved", "raw"]
JOINED = "rows"
"""The name of the joined view as a table."""


@dataclass(frozen=True)
class Question:
    """What is asked for.

    Attributes:
        mode: `resolved`: rows as a reader sees them, overlays joined; `raw`: file by file.
        key: the column that tells rows apart; None: `id`, or the key of an overlay.
        columns: only these; none stands for all.
        paths: only these files or folders (raw).
    """

    mode: Mode = "resolved"
    key: str | None = None
    columns: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableDiff:
    """How one table differs.

    Attributes:
        name: `rows` for the joined view, else the file's path.
        status: M, A (only the newer side has it) or D.
        key: the column that tells rows apart; "" if it has none.
        before, after: how many rows; None for a side that does not have it.
        schemas: how the columns differ; None for a file that is on one side only.
        sources: where columns come from: `base`, or the namespace of an overlay.
        values: of columns that were added or removed, how many values overlays hold.
        parts: what changed, to be read once.
        problem: why rows could not be compared.
    """

    name: str
    status: Literal["A", "D", "M"]
    key: str
    before: int | None
    after: int | None
    schemas: Schemas | None
    sources: dict[str, str]
    values: dict[str, int]
    parts: Iterable[Delta]
    problem: str | None = None


class RowDiff:
    """Two sides of one dataset.

    Args:
        before, after: their files.
        here: the folder; checked at the end.
    """

    def __init__(self, before: Files, after: Files, here: Here) -> None:
        self._before = before
        self._after = after
        self._here = here

    def tables(self, question: Question, scratch: str) -> Iterator[TableDiff]:
        """The tables that differ; each is to be read before the next is taken.

        Args:
            question: what to look at.
            scratch: an empty folder.

        Raises:
            ChangedWhileReadError: the folder was written to meanwhile.
            IncompleteError: a state whose bytes are not here.
        """
        if question.mode == "resolved":
            yield from self._resolved(question, scratch)
        else:
            yield from self._raw(question, scratch)
        self._here.check()

    def _same(self, path: str, other: str) -> bool:
        return same(self._before.listing.get(path), self._after.listing.get(other))

    # ── as a reader sees it ─────────────────────────────────────────────────────────────
    def _resolved(self, question: Question, scratch: str) -> Iterator[TableDiff]:
        if question.paths:
            raise InvalidInputError("paths name files, and --resolved looks at rows: add --raw")
        tables = [path for path in self._changed() if _is_read(path)]
        if not tables:
            return
        from usrstore.dataset import resolved

        key = question.key or "id"
        found = resolved.compare(
            self._before, self._after, self._same, key=key, columns=question.columns
        )
        yield TableDiff(
            JOINED,
            "M",
            key,
            found.before.rows,
            found.after.rows,
            found.schemas,
            found.sources(),
            found.values(),
            found.deltas(os.path.join(scratch, JOINED)),
        )

    # ── file by file ────────────────────────────────────────────────────────────────────
    def _raw(self, question: Question, scratch: str) -> Iterator[TableDiff]:
        for number, path in enumerate(self._changed()):
            if _is_table(path) and _inside(path, question.paths):
                yield self._file(path, question, os.path.join(scratch, str(number)))

    def _file(self, path: str, question: Question, scratch: str) -> TableDiff:
        from usrstore.dataset import filediff
        from usrstore.errors import IntegrityError, OverlayError

        before, after = (
            side if path in side.listing else None for side in (self._before, self._after)
        )
        status: Literal["A", "D", "M"] = "A" if before is None else "D" if after is None else "M"
        try:
            found = filediff.compare(
                before, after, path, key=question.key, columns=question.columns
            )
        except (IntegrityError, OverlayError, InvalidInputError) as exc:
            if exc.code not in ("parquet-unreadable", "column-unknown"):
                raise
            return TableDiff(path, status, "", None, None, None, {}, {}, (), exc.message)
        return TableDiff(
            path,
            status,
            found.key,
            found.before,
            found.after,
            found.schemas,
            {},
            {},
            found.deltas(scratch),
        )

    def _changed(self) -> list[str]:
        paths = {*self._before.listing, *self._after.listing}
        return sorted(path for path in paths if not self._same(path, path))


def _is_table(path: str) -> bool:
    """Tables that are compared: not copies of the base, nor what was put away."""
    top, _, rest = path.partition("/")
    away = top == DERIVED_FOLDER and rest.startswith("_")
    return path.endswith(".parquet") and top != SNAPSHOTS_FOLDER and not away


def _is_read(path: str) -> bool:
    """What the joined view is made of."""
    return path == PRIMARY_FILE or (path.startswith(f"{DERIVED_FOLDER}/") and _is_table(path))


def _inside(path: str, paths: Sequence[str]) -> bool:
    stems = [stem.rstrip("/") for stem in paths]
    return not stems or any(
        stem in ("", ".", path) or path.startswith(f"{stem}/") for stem in stems
    )


# ── sides ───────────────────────────────────────────────────────────────────────────────
@contextlib.contextmanager
def between(
    site: Site,
    found: Capture | None,
    before: Listing | None,
    after: Listing | None,
    names: tuple[str, str],
) -> Iterator[RowDiff]:
    """Two states that are here.

    Args:
        site: the dataset.
        found: its folder as it is; None to look at it only if bytes of a state are needed.
        before, after: the listings of the states; None stands for the folder.
        names: of both, for messages.
    """
    here = Here(site, found, look=found is None)
    folder = found.listing if found else {}
    sides = [
        Files(site, folder if listing is None else listing, here, here, name)
        for listing, name in zip((before, after), names, strict=True)
    ]
    try:
        yield RowDiff(sides[0], sides[1], here)
    finally:
        here.close()


@contextlib.contextmanager
def with_remote(met: Meeting, peer: Peer) -> Iterator[RowDiff]:
    """A remote's folder (the older side) and ours."""
    site = met.site
    here = Here(site, met.found)
    unlike: dict[Any, FileEntry] = {
        entry.content: entry
        for path, entry in met.there.items()
        if _is_table(path) and entry.size and entry.content not in here.by_content
    }
    if unlike:
        have = frozenset(
            entry.recipe
            for entry in unlike.values()
            if entry.recipe is not None and site.overlay.has(entry.recipe)
        )
        for oid, data in peer.want(list(unlike), have):
            site.overlay.put(Kind.RECIPE, oid, data)
    there = Files(site, met.there, There(peer, here), here, met.remote)
    try:
        yield RowDiff(there, Files(site, met.local, here, here, "the folder"), here)
    finally:
        here.close()
