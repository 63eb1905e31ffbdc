"""How overlay columns come to base rows: looked up, or located once and sorted into runs.

A few rows: the keys of every overlay file are compared with theirs. All rows of a large base:
`locate` finds every overlay row's place, and `buckets` sorts the rows by place on the disk.
Both give, for each column, an array as long as the run of base rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import keys, rowgroups, winners
from usrstore.dataset.buckets import Buckets
from usrstore.dataset.overlay import Overlay, OverlayFile
from usrstore.dataset.tablefile import Folder
from usrstore.dataset.winners import PLACE
from usrstore.objects.sections import PRIMARY_FILE

_HOLD_BYTES = 96 << 20
_JOIN_BYTES = 512 << 20


def look_up(folder: Folder, found: Overlay, names: Sequence[str], base: Any) -> dict[str, Any]:
    """What one overlay has for some base rows.

    Args:
        folder: the dataset.
        found: the overlay.
        names: its columns that are wanted.
        base: a table of base rows that holds the overlay's key column.
    """
    ours = keys.normalize(base.column(keys.source(found.key)), found.key)
    coded = winners.whole(ours).dictionary_encode()
    pieces = []
    for item, have in _files(found, names):
        nth, place = _hits(folder, item, coded.dictionary)
        if len(nth):
            rows = rowgroups.pick(folder, item.path, nth, have)
            pieces.append(rows.append_column(PLACE, place))
    rows = winners.pile(pieces, row_schema(found, names))
    count = len(coded.dictionary)
    return {name: winners.settle(rows, count, name).take(coded.indices) for name in names}


def _hits(folder: Folder, item: OverlayFile, wanted: Any) -> tuple[Any, Any]:
    """Which rows of an overlay file have one of the wanted keys, and which key."""
    nths, places = [], []
    start = 0
    for batch in rowgroups.batches(folder, item.path, [item.key_column]):
        theirs = keys.normalize(batch.column(0), item.key)
        codes = pc.index_in(theirs, wanted, skip_nulls=True)
        hits = pc.indices_nonzero(codes.is_valid())
        nths.append(pc.add(hits.cast(pa.int64()), start))
        places.append(codes.take(hits).cast(pa.int64()))
        start += len(batch)
    return (
        winners.whole(pa.chunked_array(nths, pa.int64())),
        winners.whole(pa.chunked_array(places, pa.int64())),
    )


def row_schema(found: Overlay, names: Sequence[str]) -> Any:
    """Overlay rows with the place that each belongs to."""
    return pa.schema([*(found.schema.field(name) for name in names), pa.field(PLACE, pa.int64())])


def _files(found: Overlay, names: Sequence[str]) -> list[tuple[OverlayFile, list[str]]]:
    """The files that have a value in one of these columns, and in which."""
    rows = [(item, [name for name in names if name in item.filled]) for item in found.files]
    return [(item, have) for item, have in rows if have]


def spill(
    folder: Folder, found: Overlay, names: Sequence[str], *, scratch: str, run: int
) -> Buckets:
    """All rows of one overlay, sorted into runs of `run` base rows.

    Args:
        folder: the dataset.
        found: the overlay.
        names: its columns that are wanted.
        scratch: an empty folder.
        run: base rows in a run.
    """
    from usrstore.dataset import locate  # loads DuckDB, which a small read does without

    files = _files(found, names)
    schema = row_schema(found, names)
    buckets = Buckets(scratch, schema, run, _HOLD_BYTES)
    located = _Cursor(
        locate.join(
            _all_keys(folder, [(PRIMARY_FILE, keys.source(found.key))], found.key),
            _all_keys(folder, [(item.path, item.key_column) for item, _ in files], found.key),
            scratch=scratch,
            memory_bytes=_JOIN_BYTES,
        )
    )
    start = 0
    for item, have in files:
        for batch in rowgroups.batches(folder, item.path, have):
            nth, place = located.between(start, start + len(batch))
            if len(nth):
                rows = pa.Table.from_batches([batch]).take(nth)
                buckets.add(winners.pile([rows.append_column(PLACE, place)], schema))
            start += len(batch)
    buckets.flush()
    return buckets


def _all_keys(folder: Folder, files: Iterable[tuple[str, str]], key: str) -> Iterator[Any]:
    for path, column in files:
        for batch in rowgroups.batches(folder, path, [column]):
            yield keys.normalize(batch.column(0), key)


class _Cursor:
    """Located rows, handed out range by range as the files are read."""

    def __init__(self, located: Iterator[tuple[Any, Any]]) -> None:
        self._located = located
        self._nth = self._place = pa.array([], pa.int64())

    def between(self, start: int, end: int) -> tuple[Any, Any]:
        """The located rows from `start` to `end`, counted from `start`, and their places."""
        nths, places = [], []
        while True:
            if not len(self._nth):
                pair = next(self._located, None)
                if pair is None:
                    break
                self._nth, self._place = pair
            inside = pc.sum(pc.less(self._nth, end)).as_py() or 0
            nths.append(self._nth.slice(0, inside))
            places.append(self._place.slice(0, inside))
            self._nth, self._place = self._nth.slice(inside), self._place.slice(inside)
            if len(self._nth):
                break
        return (
            pc.subtract(pa.chunked_array(nths, pa.int64()), start),
            pa.chunked_array(places, pa.int64()),
        )
