"""What is inside a dataset; and, for programs, a dataset as a table that grows.

    import usrstore.dataset

    table = usrstore.dataset.open(root, "densegen/x", {"tool": "infer", "run_id": "7"})
    table.add_sequences(["ACGT", "GGCC"])
    table.write_overlay_part(scores, "infer")

The names below are what tools use; docs/api.md shows each of them. They are imported when they
are used, so that `import usrstore.dataset` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["Dataset", "create", "open", "row_id"]  # their types are in __init__.pyi


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'usrstore.dataset' has no attribute {name!r}")
    return getattr(import_module("usrstore.tables"), name)  # the front door, far above this room
