"""blame: which state brought a row, and which state brought each of its values.

From a state backwards: a value goes on to a parent that says the same, whichever parent of a
merge that is; where none does, the state that has it brought it. States whose bytes are gone
are stepped over: what an older state says, too, was there all the time; of the rest only the
latest state that can have brought it is known, and that is said.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usrstore.errors import IncompleteError, NotFoundError, ObjectNotFoundError
from usrstore.objects.ids import ManifestId
from usrstore.objects.manifest import Manifest
from usrstore.objects.sections import DERIVED_FOLDER, PRIMARY_FILE
from usrstore.objects.tree import Listing
from usrstore.verbs.history import find_listing
from usrstore.verbs.site import Site
from usrstore.verbs.statefiles import Files, Here

if TYPE_CHECKING:
    from usrstore.dataset.rowlook import Looker, Row

THE_ROW = ""
"""Stands for the row itself beside the names of its columns."""


@dataclass(frozen=True)
class Origin:
    """Where the row, or one value of it, comes from.

    Attributes:
        column: THE_ROW for the row.
        value: as JSON has it; of the row, its key.
        source: `base`, or the overlay file that says it.
        state: the state that brought it; with `unread`, the latest that can have.
        unread: states before it whose bytes are gone: one of them may have brought it.
    """

    column: str
    value: Any
    source: str
    state: ManifestId
    manifest: Manifest
    unread: tuple[ManifestId, ...] = ()


@dataclass(frozen=True)
class _Item:
    """Something on its way to older states."""

    column: str
    value: Any
    source: str
    holder: ManifestId
    unread: tuple[ManifestId, ...] = ()


def blame(site: Site, start: ManifestId, row_id: str, *, key: str = "id") -> list[Origin]:
    """The origin of a row, then of each of its columns in their order.

    Args:
        site: the dataset.
        start: the state to begin with.
        row_id: the row's key.
        key: the column that it is in.

    Raises:
        NotFoundError: the state has no such row.
        IncompleteError: the bytes of that state are gone.
    """
    from usrstore.dataset.rowlook import Looker

    here = Here(site, None, look=True)
    try:
        return _Walk(site, here, Looker(key, row_id)).run(start)
    finally:
        here.close()


class _Walk:
    def __init__(self, site: Site, here: Here, looker: Looker) -> None:
        self._site = site
        self._here = here
        self._looker = looker
        self._rows: dict[Any, Row | None] = {}
        self._manifests: dict[ManifestId, Manifest] = {}

    def run(self, start: ManifestId) -> list[Origin]:
        row = self._look(start)
        if row is None:
            raise NotFoundError(
                f"state {start.short} of {self._site.dataset} has no row {self._looker.value!r}",
                hint="name another state: usr blame REV --id ID",
                code="row-not-found",
            )
        items = [_Item(THE_ROW, self._looker.value, "", start)]
        items += [_Item(name, said.value, said.source, start) for name, said in row.items()]
        order = [item.column for item in items]
        found = {origin.column: origin for origin in self._origins(start, items)}
        return [found[column] for column in order]

    def _origins(self, start: ManifestId, items: list[_Item]) -> Iterator[Origin]:
        """Every item handed to the oldest state that has it; children before parents."""
        held = {start: items}
        front = [(-self._manifest(start).sequence, start)]
        while front:
            oid = heapq.heappop(front)[1]
            parents = self._manifest(oid).parents
            seen = [(parent, *self._try(parent)) for parent in parents]
            for item in held.pop(oid):
                moved = _hand_on(item, seen)
                if moved is None:
                    manifest = self._manifest(item.holder)
                    yield Origin(
                        item.column, item.value, item.source, item.holder, manifest, item.unread
                    )
                    continue
                parent, handed = moved
                if parent not in held:
                    held[parent] = []
                    heapq.heappush(front, (-self._manifest(parent).sequence, parent))
                held[parent].append(handed)

    def _manifest(self, oid: ManifestId) -> Manifest:
        if oid not in self._manifests:
            self._manifests[oid] = self._site.manifest(oid)
        return self._manifests[oid]

    def _try(self, oid: ManifestId) -> tuple[bool, Row | None]:
        """Whether a state can be read, and the row in it."""
        try:
            return True, self._look(oid)
        except (IncompleteError, ObjectNotFoundError):
            return False, None

    def _look(self, oid: ManifestId) -> Row | None:
        listing = find_listing(self._site.root, self._manifest(oid))
        if listing is None:
            raise IncompleteError(
                f"state {oid.short} is known by name only: its files were never here",
                hint="fetch it from a remote that has it",
                code="not-kept",
            )
        tables = _tables(listing)
        if PRIMARY_FILE not in tables:
            return None
        known = tuple(sorted((path, entry.content) for path, entry in tables.items()))
        if known not in self._rows:
            files = Files(self._site, tables, self._here, self._here, f"state {oid.short}")
            contents = {path: bytes(entry.content) for path, entry in tables.items()}
            self._rows[known] = self._looker.look(files, contents)
        return self._rows[known]


def _hand_on(
    item: _Item, parents: list[tuple[ManifestId, bool, Row | None]]
) -> tuple[ManifestId, _Item] | None:
    """The parent that has the item, too; else one that cannot be read; None if none may."""
    for oid, readable, row in parents:
        if readable and row is not None and _says(row, item):
            source = row[item.column].source if item.column in row else item.source
            return oid, _Item(item.column, item.value, source, oid)
    for oid, readable, _ in parents:
        if not readable:
            unread = (*item.unread, oid)
            return oid, _Item(item.column, item.value, item.source, item.holder, unread)
    return None


def _says(row: Row, item: _Item) -> bool:
    if item.column == THE_ROW:
        return True
    said = row.get(item.column)
    return said is not None and said.value == item.value and type(said.value) is type(item.value)


def _tables(listing: Listing) -> Listing:
    return {
        path: entry
        for path, entry in listing.items()
        if path == PRIMARY_FILE
        or (path.startswith(f"{DERIVED_FOLDER}/") and path.endswith(".parquet"))
    }
