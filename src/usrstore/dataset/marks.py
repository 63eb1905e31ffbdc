"""Marks on rows: tombstones and record state, each one compact overlay keyed by id.

A mark is whole: unlike parts of an overlay, a new one may set a value to null. Both overlays
are as large as what was ever marked, and are held in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import compacting, keys, overlay, rowgroups, types
from usrstore.objects.sections import PRIMARY_FILE


def schema(columns: Mapping[str, str]) -> Any:
    """The marks of these columns: id, then the columns with their registered types."""
    fields = [(name, types.to_arrow(types.parse(kind))) for name, kind in columns.items()]
    return pa.schema([("id", pa.string()), *fields])


def read(folder: str, namespace: str, columns: Mapping[str, str], *, scratch: str) -> Any:
    """All marks of a namespace as one table of `schema(columns)`.

    Raises:
        OverlayError: its files are no overlay.
    """
    wanted = schema(columns)
    found = overlay.load(folder, [namespace]).get(namespace)
    if found is None:
        return wanted.empty_table()
    plan = compacting.plan(folder, found)
    tables = list(plan.tables(scratch))
    held = pa.concat_tables(tables) if tables else plan.schema.empty_table()
    arrays = [
        held.column(field.name).cast(field.type)
        if field.name in held.schema.names
        else pa.nulls(len(held), field.type)
        for field in wanted
    ]
    return pa.table(arrays, schema=wanted)


def of(table: Any, ids: Sequence[str]) -> Any:
    """The marks of these ids, one row each, in their order; null where there is none."""
    wanted = pa.array(ids, pa.string())
    places = pc.index_in(wanted, keys_of(table))
    found = table.take(places)
    return found.set_column(0, table.schema.field(0), wanted)


def keys_of(table: Any) -> Any:
    """The ids that are marked, as they are compared."""
    return keys.normalize(table.column("id"), "id").cast(pa.string()).combine_chunks()


def put(table: Any, new: Any) -> Any:
    """The marks with those of `new` in place of the old ones of the same ids, or behind them."""
    kept = table.filter(pc.invert(pc.is_in(keys_of(table), new.column("id").combine_chunks())))
    return pa.concat_tables([kept, new]).combine_chunks()


def with_values(table: Any, values: Mapping[str, Any]) -> Any:
    """The same rows, each with these values."""
    for name, value in values.items():
        place = table.schema.get_field_index(name)
        kind = table.schema.field(place)
        table = table.set_column(place, kind, pa.array([value] * len(table), kind.type))
    return table


def without_empty(table: Any) -> Any:
    """Without the columns that nothing is said in: a column is there once it was set."""
    names = [name for name in table.schema.names if table.column(name).null_count < len(table)]
    return table.select(["id", *(name for name in names if name != "id")])


def missing(folder: str, ids: Sequence[str]) -> list[str]:
    """Those of the ids that no row of the base has, in order."""
    left = dict.fromkeys(ids)
    wanted = pa.array(ids, pa.large_string())
    for batch in rowgroups.batches(folder, PRIMARY_FILE, ["id"]):
        held = keys.normalize(batch.column(0), "id")
        for key in held.filter(pc.is_in(held, wanted)).to_pylist():
            left.pop(key, None)
        if not left:
            break
    return list(left)


def rows(table: Any) -> list[dict[str, Any]]:
    """As dicts."""
    found: list[dict[str, Any]] = table.to_pylist()
    return found
