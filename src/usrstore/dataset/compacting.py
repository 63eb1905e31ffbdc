"""Many parts as one file: what a reader sees of them, each key once, newest value first.

A part's rows stay together, in their order, in row groups of their own: where parts do not
overlap, the compact file holds the very pages of the parts, and a store that has the parts
needs next to nothing for it. A key that several parts have stays with the newest of them.
Keys are in memory, a few hundred bytes a row while they are compared; values never are, but a
row group of them.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import keys, rowgroups, winners
from usrstore.dataset.buckets import Buckets
from usrstore.dataset.overlay import Overlay, OverlayFile
from usrstore.dataset.winners import PLACE

_HOLD_BYTES = 96 << 20


@dataclass(frozen=True)
class Compaction:
    """What the compact file of an overlay will hold.

    Attributes:
        folder: the dataset.
        found: the overlay.
        schema: of the file: the key, then the columns.
        rows: how many keys there are.
        groups: the first slot of each row group, and the one behind its last.
        slots: for each row of all files, oldest first, the slot that it belongs to, or null.
    """

    folder: str
    found: Overlay
    schema: Any
    rows: int
    groups: tuple[tuple[int, int], ...]
    slots: Any

    def tables(self, scratch: str) -> Iterator[Any]:
        """The row groups in order.

        Args:
            scratch: an empty folder, which parts that overlap are sorted in.
        """
        if self.rows == len(self.slots):  # every key comes once: the parts are the row groups
            yield from self._whole_parts()
            return
        buckets = self._sorted(scratch)
        for number, (start, end) in enumerate(self.groups):
            columns = winners.settle_all(buckets.read(number), end - start)
            yield pa.table([columns[name] for name in self.schema.names], schema=self.schema)

    def _whole_parts(self) -> Iterator[Any]:
        for file in self.found.files:
            sizes = (end - start for start, end in _pieces(self.folder, file))
            waiting = rowgroups.batches(self.folder, file.path, file.schema.names)
            held: list[Any] = []
            for size in sizes:
                while sum(map(len, held)) < size:
                    held.append(self._fit(file, next(waiting)))
                rows = pa.concat_tables(held)
                yield rows.slice(0, size)
                held = [rows.slice(size)]

    def _sorted(self, scratch: str) -> Buckets:
        """All rows by row group, older before newer ones."""
        run = max((end - start for start, end in self.groups), default=1)
        schema = self.schema.append(pa.field(PLACE, pa.int64()))
        buckets = Buckets(os.path.join(scratch, "rows"), schema, run, _HOLD_BYTES)
        places = _places(self.groups, run)
        start = 0
        for file in self.found.files:
            for batch in rowgroups.batches(self.folder, file.path, file.schema.names):
                slots = self.slots.slice(start, len(batch))
                rows = self._fit(file, batch).append_column(PLACE, places.take(slots))
                buckets.add(rows.filter(slots.is_valid()).cast(schema))
                start += len(batch)
        buckets.flush()
        return buckets

    def _fit(self, file: OverlayFile, batch: Any) -> Any:
        """Rows of a file with the columns of all."""
        columns = [batch.column(file.key_column).cast(pa.string())]
        for field in list(self.schema)[1:]:
            if field.name in file.columns:
                columns.append(batch.column(field.name).cast(field.type))
            else:
                columns.append(pa.nulls(len(batch), field.type))
        return pa.table(columns, schema=self.schema)


def plan(folder: str, found: Overlay, order: list[str] | None = None) -> Compaction:
    """Give every key of an overlay its place in a compact file.

    Args:
        folder: the dataset.
        found: the overlay.
        order: columns in the order that they shall have; others follow.
    """
    names = [name for name in order or () if name in found.schema.names]
    names += [name for name in found.schema.names if name not in names]
    schema = pa.schema([(found.key, pa.string()), *(found.schema.field(name) for name in names)])
    coded = _all_keys(folder, found).dictionary_encode()
    codes = coded.indices
    rows = pc.indices_nonzero(codes.is_valid()).cast(pa.int64())
    count = len(coded.dictionary)
    # Of all rows with one key the last is named, which is in the newest file.
    owners = rows.take(
        pc.inverse_permutation(codes.drop_null().cast(pa.int64()), max_index=count - 1)
    )
    order_of_slots = pc.array_sort_indices(owners).cast(pa.int64())
    slots = pc.inverse_permutation(order_of_slots, max_index=count - 1).take(codes)
    groups = _groups(folder, found, owners.take(order_of_slots))
    return Compaction(folder, found, schema, count, groups, slots)


def _all_keys(folder: str, found: Overlay) -> Any:
    """The keys of all files as they are compared, oldest first."""
    pieces = [
        keys.normalize(batch.column(0), file.key)
        for file in found.files
        for batch in rowgroups.batches(folder, file.path, [file.key_column])
    ]
    return pa.chunked_array(pieces, pa.large_string()).combine_chunks()


def _pieces(folder: str, file: OverlayFile) -> Iterator[tuple[int, int]]:
    """The rows of each row group of a file, large ones in pieces."""
    with rowgroups.open_file(folder, file.path) as opened:
        footer, start = opened.metadata, 0
        for number in range(footer.num_row_groups):
            end = start + footer.row_group(number).num_rows
            while start < end:
                step = min(rowgroups.BATCH_ROWS, end - start)
                yield start, start + step
                start += step


def _groups(folder: str, found: Overlay, owners: Any) -> tuple[tuple[int, int], ...]:
    """The slots of each row group: the rows that one piece of one file owns."""
    groups, first, slot = [], 0, 0
    for file in found.files:
        for _, end in _pieces(folder, file):
            until = bisect.bisect_left(_Numbers(owners), first + end, lo=slot)
            if until > slot:
                groups.append((slot, until))
            slot = until
        first += file.rows
    return tuple(groups)


class _Numbers:
    """An Arrow array as the sequence that `bisect` wants."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, place: int) -> int:
        number: int = self._array[place].as_py()
        return number


def _places(groups: tuple[tuple[int, int], ...], run: int) -> Any:
    """Slot → the number of its row group times `run`, and its place in there."""
    pieces = [
        pa.array(range(number * run, number * run + end - start), pa.int64())
        for number, (start, end) in enumerate(groups)
    ]
    return pa.chunked_array(pieces, pa.int64()).combine_chunks()
