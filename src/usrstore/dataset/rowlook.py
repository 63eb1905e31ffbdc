"""One row in many states of a dataset: where it stands, and what each column says of it.

What was looked at once is not read again: a key column, a column of a row group, an overlay
file that another state holds, too, is known by its hash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import changes, keys, overlay, rowgroups, rowhashes, rowsummary
from usrstore.dataset.overlay import OverlayFile
from usrstore.dataset.rowhashes import Group
from usrstore.dataset.tablefile import TableFolder
from usrstore.objects.sections import PRIMARY_FILE

BASE = "base"


class Said(NamedTuple):
    """A value, and who says it: `base`, or the path of an overlay file."""

    value: Any
    source: str


Row = dict[str, Said]


class _Spot(NamedTuple):
    group: Group
    offset: int


@dataclass
class Looker:
    """Looks for the row whose `key` is `value`."""

    key: str
    value: str
    _offsets: dict[Any, int | None] = field(default_factory=dict)
    _cells: dict[Any, Any] = field(default_factory=dict)
    _overlays: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def look(self, folder: TableFolder, contents: dict[str, bytes]) -> Row | None:
        """The row in one state; None if it has none.

        Args:
            folder: the files of the state.
            contents: what names the content of each.

        Raises:
            IncompleteError: bytes that it takes are not here.
        """
        row = self._base(folder)
        if row is None:
            return None
        for found in overlay.load(folder).values():
            at = row.get(keys.source(found.key))
            if at is None or at.value is None:
                continue
            for file in found.files:  # oldest first: the newest value that is not null stays
                for name, value in self._overlay(folder, file, at.value, contents).items():
                    if value is not None or name not in row:
                        row[name] = Said(value, file.path)
        return row

    def _base(self, folder: TableFolder) -> Row | None:
        file = folder.file(PRIMARY_FILE)
        with rowgroups.open_table(file) as opened:
            names = opened.schema_arrow.names
            if self.key not in names:
                return None
            groups = rowhashes.groups(file, opened.metadata, by_cut=file.chunks is not None)
            for group in groups:
                offset = self._offset(opened, group)
                if offset is not None:
                    spot = _Spot(group, offset)
                    return {name: Said(self._cell(opened, spot, name), BASE) for name in names}
        return None

    def _offset(self, opened: Any, group: Group) -> int | None:
        """Where in a row group the row stands."""
        known = group.hashes[self.key]
        if known not in self._offsets:
            found, start = None, 0
            wanted = _scalar(self.value, opened.schema_arrow.field(self.key).type)
            for batch in opened.iter_batches(
                rowgroups.BATCH_ROWS, row_groups=[group.number], columns=[self.key]
            ):
                at = -1 if wanted is None else pc.index(batch.column(0), wanted).as_py()
                if at >= 0:
                    found = start + at
                    break
                start += len(batch)
            self._offsets[known] = found
        return self._offsets[known]

    def _cell(self, opened: Any, spot: _Spot, name: str) -> Any:
        known = (spot.group.hashes[name], spot.offset, str(opened.schema_arrow.field(name).type))
        if known not in self._cells:
            start = 0
            for batch in opened.iter_batches(
                rowgroups.BATCH_ROWS, row_groups=[spot.group.number], columns=[name]
            ):
                if spot.offset < start + len(batch):
                    part = batch.column(0).slice(spot.offset - start, 1)
                    self._cells[known] = rowsummary.plain_values(part)[0]
                    break
                start += len(batch)
        return self._cells[known]

    def _overlay(
        self, folder: TableFolder, file: OverlayFile, key: str, contents: dict[str, bytes]
    ) -> dict[str, Any]:
        """What an overlay file says of the row; nothing if it does not name it."""
        known = (contents[file.path], key)
        if known not in self._overlays:
            wanted = keys.normalize(pa.array([key]), file.key)
            start, said = 0, {}
            for batch in rowgroups.batches(folder, file.path, [file.key_column]):
                ours = keys.normalize(batch.column(0), file.key)
                at = pc.index(ours, wanted[0]).as_py()
                if at >= 0:
                    place = pa.array([start + at], pa.int64())
                    rows = rowgroups.pick(folder, file.path, place, file.columns)
                    said = {
                        name: rowsummary.plain_values(changes.array(rows.column(name)))[0]
                        for name in file.columns
                    }
                    break
                start += len(batch)
            self._overlays[known] = said
        return self._overlays[known]


def _scalar(text: str, kind: Any) -> Any:
    """A key that was typed, as its column has it; None if it can be none of that type."""
    try:
        return pa.scalar(text).cast(kind)
    except pa.ArrowException:
        return None
