"""The joined view as a new base table: overlays become columns of their rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pyarrow as pa

from usrstore.dataset import overlay, parquetfile
from usrstore.dataset.query import View


def chosen(view: View, namespaces: Sequence[str], *, drop_deleted: bool) -> View:
    """The view with some of its overlays only.

    Args:
        view: of the whole dataset.
        namespaces: the overlays that become columns.
        drop_deleted: whether tombstones hide rows.
    """
    kept = {ns: found for ns, found in view.overlays.items() if ns in namespaces}
    columns = [name for found in kept.values() for name in found.schema.names]
    fields = [
        view.schema.field(field.name) if field.name in columns else field for field in view.base
    ]
    fields += [
        view.schema.field(name) for name in dict.fromkeys(columns) if name not in view.base.names
    ]
    if drop_deleted and overlay.TOMBSTONES in view.overlays:
        hiding = view.overlays[overlay.TOMBSTONES]
        kept[overlay.TOMBSTONES] = hiding
        names = [field.name for field in fields]
        fields += [view.schema.field(name) for name in hiding.schema.names if name not in names]
    return dataclasses.replace(view, overlays=kept, schema=pa.schema(fields))


def write(
    view: View,
    columns: Sequence[str],
    path: str,
    *,
    metadata: Mapping[str, str],
    scratch: str,
    drop_deleted: bool,
) -> int:
    """Write the rows of a view as a base table.

    Args:
        view: as `chosen` gave it.
        columns: in order.
        path: must be free.
        metadata: of the base table.
        scratch: an empty folder.
        drop_deleted: whether deleted rows are left out.

    Returns:
        How many rows were written.
    """
    schema = pa.schema([view.schema.field(name) for name in columns])
    with parquetfile.writing(path, schema, metadata) as writer:
        for batch in view.batches(columns, scratch=scratch, deleted=not drop_deleted):
            writer.write(pa.Table.from_batches([batch]))
    return writer.rows
