"""Row differences as JSON values; docs/schemas/diff-rows.json describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usrstore.dataset.rowsummary import Summary
    from usrstore.verbs.rowdiff import TableDiff


def table(differs: TableDiff, found: Summary) -> dict[str, Any]:
    """One table: how many rows and values, and the first of them."""
    return {
        "name": differs.name,
        "status": differs.status,
        "key": differs.key,
        "problem": differs.problem,
        "rows": {"before": differs.before, "after": differs.after},
        "columns": _columns(differs),
        "counts": {
            "added": found.added,
            "removed": found.removed,
            "changed": found.changed,
            "cells": dict(sorted(found.cells.items())),
        },
        "added": found.added_rows,
        "removed": found.removed_rows,
        "changed": [
            {
                "key": change.key,
                "cells": {
                    name: {"old": old, "new": new} for name, (old, new) in change.cells.items()
                },
            }
            for change in found.changed_rows
        ],
    }


def _columns(differs: TableDiff) -> dict[str, Any]:
    schemas = differs.schemas
    if schemas is None:
        return {"added": [], "removed": [], "retyped": []}

    def field(found: Any) -> dict[str, Any]:
        return {
            "name": found.name,
            "type": str(found.type),
            "source": differs.sources.get(found.name, "base"),
            "values": differs.values.get(found.name),
        }

    return {
        "added": [field(found) for found in schemas.added],
        "removed": [field(found) for found in schemas.removed],
        "retyped": [
            {"name": name, "before": str(old), "after": str(new)}
            for name, (old, new) in schemas.retyped.items()
        ],
    }
