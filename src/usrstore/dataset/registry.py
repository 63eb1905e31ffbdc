"""The registry of a root: which namespaces exist and what their columns mean.

It travels with every dataset. Where both sides have one, they merge by namespace; one name
with two meanings is a conflict that is named, never overwritten.
"""

from __future__ import annotations

from typing import Any

from usrstore.dataset import reserved
from usrstore.errors import UNREADABLE, RegistryError

MAX_VALUES = 1 << 18  # of 64,000 columns, and as many more

EMPTY = {
    "namespaces": {
        "usr_state": {
            "owner": "usr",
            "description": "Reserved record-state namespace",
            "columns": [
                {"name": name, "type": kind} for name, kind in reserved.STATE_COLUMNS.items()
            ],
        }
    }
}
"""What a new root starts with: the namespace that every reader expects."""


def parse(data: bytes, where: str) -> dict[str, Any]:
    """The namespaces of a registry.yaml.

    Raises:
        RegistryError: not a registry, naming the file.
    """
    import yaml

    try:
        value = yaml.safe_load(data)
    except (yaml.YAMLError, *UNREADABLE) as exc:
        raise RegistryError(f"{where} is not YAML: {exc}; nothing was changed") from exc
    if _values(value, {}) > MAX_VALUES:
        raise RegistryError(
            f"{where} stands for more than {MAX_VALUES} values; nothing was changed",
            hint="write out what its aliases (`*name`) stand for, and it shows where",
        )
    namespaces = value.get("namespaces") if isinstance(value, dict) else None
    if not isinstance(namespaces, dict) or not all(
        isinstance(name, str) and isinstance(body, dict) for name, body in namespaces.items()
    ):
        raise RegistryError(
            f"{where} is no registry: it needs a map `namespaces`; nothing was changed",
            hint="restore it from a copy, or from `_registry/` inside a dataset",
        )
    return namespaces


def _values(value: Any, known: dict[int, int]) -> int:
    """How many values a text stands for, every alias written out; one inside itself is endless.

    A few lines of aliases to aliases can stand for more than any comparison would ever end with.
    """
    if not isinstance(value, dict | list):
        return 1
    at = id(value)
    if at not in known:
        known[at] = MAX_VALUES + 1  # as long as it is not counted, it is inside itself
        items = value.values() if isinstance(value, dict) else value
        known[at] = 1 + sum(_values(item, known) for item in items)
    return known[at]


def text(namespaces: dict[str, Any]) -> bytes:
    """The canonical bytes of a registry."""
    return dump({"namespaces": namespaces})


def dump(value: dict[str, Any]) -> bytes:
    """Canonical YAML: keys sorted, lists in their order."""
    import yaml

    written: str = yaml.safe_dump(value, sort_keys=True)
    return written.encode()


def initial() -> bytes:
    return text(EMPTY["namespaces"])


def merge(ours: bytes, theirs: bytes, *, ours_name: str, theirs_name: str) -> bytes:
    """The registry that holds both; `ours` unchanged if it lacks nothing.

    Raises:
        RegistryError: namespaces that the two define differently, all of them named.
    """
    if ours == theirs:
        return ours
    mine, yours = parse(ours, ours_name), parse(theirs, theirs_name)
    clashes = sorted(
        name for name in mine.keys() & yours.keys() if _meaning(mine[name]) != _meaning(yours[name])
    )
    if clashes:
        listed = ", ".join(clashes)
        raise RegistryError(
            f"registry: {ours_name} and {theirs_name} define these namespaces differently: "
            f"{listed}; nothing was changed",
            hint="make the two definitions agree on one side, then run the command again",
        )
    if yours.keys() <= mine.keys():
        return ours
    return text({**yours, **mine})


def _meaning(namespace: dict[str, Any]) -> object:
    """What counts of a namespace: its columns in order. Owner and description are prose."""
    columns = namespace.get("columns")
    if not isinstance(columns, list):
        return columns
    return [
        (column.get("name"), str(column.get("type")).replace(" ", ""))
        if isinstance(column, dict)
        else column
        for column in columns
    ]
