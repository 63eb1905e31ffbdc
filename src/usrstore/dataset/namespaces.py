"""Namespaces: who owns which columns, and the registry as a value.

A column's name begins with its namespace and two underscores. Two namespaces mean the same if
their columns do, in order; owner and description are prose.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from usrstore.dataset import registry, types
from usrstore.errors import RegistryError

RESERVED = "usr_state"
"""The namespace of record state; its columns never change."""

TOMBSTONES = "usr"
"""The namespace of tombstones; it is in no registry."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a namespace: its whole name, and its type as the registry spells it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace of a registry."""

    name: str
    columns: tuple[Column, ...]
    owner: str = ""
    description: str = ""

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    def to_yaml(self) -> dict[str, Any]:
        """Its body in a registry."""
        return {
            "owner": self.owner,
            "description": self.description,
            "columns": [{"name": column.name, "type": column.type} for column in self.columns],
        }


def check_name(name: str) -> str:
    """Raises: RegistryError: not a name that columns can begin with."""
    if not _NAME.fullmatch(name) or "__" in name or name.endswith("_"):
        raise RegistryError(
            f"{name!r} is no namespace: letters, digits and single underscores, a letter first"
        )
    return name


def make(name: str, columns: str, *, owner: str = "", description: str = "") -> Namespace:
    """A namespace from what a person typed: `--columns 'score:float32,tags:list<string>'`.

    The prefix of the columns may be left out.

    Raises:
        RegistryError: the name is reserved or none, a column is not of this namespace, a type
            is none.
    """
    check_name(name)
    if name in (RESERVED, TOMBSTONES):
        raise RegistryError(f"the namespace {name} is reserved; nothing was changed")
    prefix = f"{name}__"
    made = []
    for column, kind in types.parse_columns(columns):
        if "__" in column and not column.startswith(prefix):
            raise RegistryError(
                f"the column {column} does not belong to {name}: columns of a namespace begin "
                f"with {prefix}; nothing was changed"
            )
        whole = column if column.startswith(prefix) else prefix + column
        if not whole.removeprefix(prefix):
            raise RegistryError(f"the column {column!r} has no name of its own")
        made.append(Column(whole, str(kind)))
    if len({column.name for column in made}) != len(made):
        raise RegistryError(f"a column of {name} is named twice, once with its prefix")
    return Namespace(name, tuple(made), owner, description)


def load(data: bytes, where: str) -> dict[str, Namespace]:
    """The namespaces of a registry, checked.

    Raises:
        RegistryError: not a registry; or all that is wrong with its namespaces, by name.
    """
    found, problems = {}, []
    for name, body in registry.parse(data, where).items():
        try:
            found[name] = _namespace(name, body)
        except RegistryError as exc:
            problems.append(f"{name}: {exc.message}")
    problems += _state_problems(found.get(RESERVED))
    if problems:
        raise RegistryError(
            f"{where} is not in order; nothing was changed:"
            + "".join(f"\n  {problem}" for problem in problems),
            hint="correct it, or restore it from `_registry/` inside a dataset",
        )
    return found


def _namespace(name: str, body: Mapping[str, Any]) -> Namespace:
    columns = body.get("columns")
    if not isinstance(columns, list) or not all(
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and isinstance(row.get("type"), str)
        for row in columns
    ):
        raise RegistryError("it needs a list `columns` of {name, type}")
    made = tuple(Column(row["name"], row["type"]) for row in columns)
    for column in made:
        if not column.name.startswith(f"{name}__") or column.name == f"{name}__":
            raise RegistryError(f"the column {column.name} does not begin with {name}__")
        types.parse(column.type)
    if len({column.name for column in made}) != len(made):
        raise RegistryError("a column comes twice")
    return Namespace(name, made, str(body.get("owner") or ""), str(body.get("description") or ""))


def _state_problems(found: Namespace | None) -> list[str]:
    wanted = registry.EMPTY["namespaces"][RESERVED]["columns"]
    if found is None:
        return [f"{RESERVED}: the reserved namespace is missing"]
    if [{"name": column.name, "type": column.type} for column in found.columns] != wanted:
        return [f"{RESERVED}: its columns are not the reserved ones"]
    return []


def registry_hash(data: bytes, where: str = "the registry") -> str:
    """SHA-256 of the canonical bytes of a registry, lower hexadecimal.

    Raises:
        RegistryError: not a registry.
    """
    return hashlib.sha256(canonical(data, where)).hexdigest()


def canonical(data: bytes, where: str = "the registry") -> bytes:
    """A registry with its keys in order; the columns keep theirs."""
    return registry.text(registry.parse(data, where))


def contract_hash(namespace: Namespace) -> str:
    """SHA-256 of what a namespace promises: its name and its columns, without the prose."""
    columns = [{"name": column.name, "type": column.type} for column in namespace.columns]
    text = registry.dump({"namespace": namespace.name, "columns": columns})
    return hashlib.sha256(text).hexdigest()


def frozen_path(digest: str) -> str:
    """Where a dataset keeps the registry of this hash."""
    return f"_registry/registry.{digest}.yaml"
