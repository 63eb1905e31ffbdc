"""Whether an overlay keeps to its namespace: the columns and types that the registry promises."""

from __future__ import annotations

from collections.abc import Mapping

from usrstore.dataset import overlay, reserved, types
from usrstore.dataset.namespaces import Namespace
from usrstore.dataset.overlay import Overlay, OverlayFile
from usrstore.errors import RegistryError


def problems(found: Overlay, known: Mapping[str, Namespace]) -> list[str]:
    """What an overlay holds against its namespace's contract, file by file; empty if nothing.

    Args:
        found: the overlay.
        known: the namespaces of the registry.
    """
    if found.namespace == overlay.TOMBSTONES:
        promised = dict(reserved.TOMBSTONE_COLUMNS)
    elif found.namespace in known:
        promised = {column.name: column.type for column in known[found.namespace].columns}
    else:
        return [f"{found.namespace}: the namespace is not registered"]
    return [line for file in found.files for line in _file_problems(file, promised)]


def _file_problems(file: OverlayFile, promised: Mapping[str, str]) -> list[str]:
    lines = []
    for name in file.columns:
        if name not in promised:
            lines.append(f"{file.path}: the column {name} is not registered")
            continue
        kind = file.schema.field(name).type
        try:
            held = str(types.of_arrow(kind))
        except RegistryError:
            held = str(kind)
        if held != str(types.parse(promised[name])):
            lines.append(f"{file.path}: {name} is {held}, registered as {promised[name]}")
    return lines


def check(found: Overlay, known: Mapping[str, Namespace]) -> None:
    """Raises: RegistryError: the overlay breaks its contract; everything is named."""
    lines = problems(found, known)
    if lines:
        shown = [*lines[:20], *([f"… and {len(lines) - 20} more"] if len(lines) > 20 else [])]
        raise RegistryError(
            f"registry: the overlay {found.namespace} breaks its namespace; nothing was changed:"
            + "".join(f"\n  {line}" for line in shown),
            hint=f"`usr namespace show {found.namespace}` says what is registered",
        )
