"""Newest wins: overlay rows that belong to a run of base rows become columns of that run.

The rows come oldest first. For each row and column the last value that is not null stays; a
null hides nothing, and where no overlay has a value the base column shows through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

PLACE = "usr:place"
"""The extra column of overlay rows: the row of the run that each belongs to."""


def settle(rows: Any, count: int, column: str) -> Any:
    """One column of a run.

    Args:
        rows: a `pyarrow.Table` with PLACE and `column`, oldest rows first.
        count: how many rows the run has.
        column: which.

    Returns:
        An array of `count` values, null where no row has one.
    """
    values = whole(rows.column(column))
    places = whole(rows.column(PLACE))
    if values.null_count:
        present = values.is_valid()
        values, places = values.filter(present), places.filter(present)
    if not len(values):
        return pa.nulls(count, values.type)
    # Of several rows with one place the last is named: that is the newest.
    newest = pc.inverse_permutation(places, max_index=count - 1)
    return values.take(newest)


def settle_all(rows: Any, count: int) -> dict[str, Any]:
    """Every column of the rows, settled."""
    names = [name for name in rows.schema.names if name != PLACE]
    return {name: settle(rows, count, name) for name in names}


def show_through(values: Any, base: Any, kind: Any) -> Any:
    """Overlay values before base values; both become `kind`, the type of the joined column."""
    values = values.cast(kind)
    if base is None or not values.null_count:
        return values
    return pc.coalesce(values, whole(base).cast(kind))


def pile(pieces: Sequence[Any], schema: Any) -> Any:
    """Rows of several files, oldest first, as one table; a column that a file lacks is null."""
    whole = []
    for piece in pieces:
        columns = [
            piece.column(field.name).cast(field.type)
            if field.name in piece.schema.names
            else pa.nulls(len(piece), field.type)
            for field in schema
        ]
        whole.append(pa.table(columns, schema=schema))
    return pa.concat_tables(whole) if whole else schema.empty_table()


def whole(column: Any) -> Any:
    """An array, whether it came in chunks or not."""
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks()
    return column
