"""What travels keeps the registry: overlays and primaries, judged by their footers alone.

A bad overlay that another tool wrote must not spread. Before it is sent, and again before it
is promoted, each file that travels is held against the registry: its columns are registered
and of the registered types, as far as Parquet tells types apart; an overlay says which key it
is laid by. Nothing is decoded, and files that do not travel are not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from usrstore.errors import RegistryError
from usrstore.objects.manifest import Manifest
from usrstore.objects.sections import PRIMARY_FILE, Section, section_of
from usrstore.verbs import finishing
from usrstore.verbs.site import Site
from usrstore.worktree.stage import Stage

if TYPE_CHECKING:
    from usrstore.dataset.types import Type
    from usrstore.worktree.columns import Columns

_SHOWN = 10
_WRITTEN = re.compile(
    r"_derived/[a-z][a-z0-9_]*(\.parquet|/part-[0-9]{8}T[0-9]{12}Z-[0-9a-f]{32}\.parquet)"
)
_TOMBSTONES = {
    "usr__deleted": "bool",
    "usr__deleted_at": "timestamp[us, UTC]",
    "usr__deleted_reason": "string",
}


Known = dict[str, dict[str, str]]
"""Namespace → column → type, as the registry spells it."""


class File(NamedTuple):
    """A file to look at: its path in the dataset, and where its bytes are."""

    path: str
    place: str


def is_vetted(path: str) -> bool:
    """Whether a file is one that the registry speaks of."""
    return path == PRIMARY_FILE or _namespace_of(path) is not None


def vet(files: Iterable[File], registry: bytes | None, *, what: str, untouched: str) -> None:
    """Hold files against a registry.

    Args:
        files: those that travel; others than overlays and the primary are passed over.
        registry: the bytes of the registry.yaml that will be in force; without one there is
            nothing to break.
        what: for the message: what is refused.
        untouched: for the message: what was left as it was.

    Raises:
        RegistryError: all that breaks it, by file and column.
    """
    chosen = [file for file in files if is_vetted(file.path)]
    if not chosen or registry is None:
        return
    known = _registered(registry)
    problems = [f"{file.path}: {line}" for file in chosen for line in _problems(file, known)]
    if not problems:
        return
    listed = "".join(f"\n  {line}" for line in problems[:_SHOWN])
    more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    raise RegistryError(
        f"registry: {what} breaks the registry; {untouched}{listed}{more}",
        hint="register the columns (`usr namespace register`) or take the files out; "
        "`usr validate` says more; --no-verify-registry lets them through, which is recorded",
    )


def _registered(data: bytes) -> Known:
    """Namespace → column → type. What else may be wrong with a registry is not asked here."""
    from usrstore.dataset import registry

    found: Known = {}
    for name, body in registry.parse(data, "the registry").items():
        rows = body.get("columns")
        found[name] = {
            row["name"]: str(row.get("type"))
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, dict) and isinstance(row.get("name"), str)
        }
    return found


def _namespace_of(path: str) -> str | None:
    """The namespace of an overlay file; None for anything else below `_derived`."""
    if section_of(path) is not Section.DERIVED:
        return None
    parts = path.split("/")
    if len(parts) == 2 and parts[1].endswith(".parquet"):
        return parts[1].removesuffix(".parquet")
    if len(parts) == 3 and parts[2].startswith("part-") and parts[2].endswith(".parquet"):
        return None if parts[1].startswith("_") else parts[1]
    return None


def _problems(file: File, known: Known) -> Iterator[str]:
    from usrstore.worktree import columns

    fd = os.open(file.place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        found = columns.read_columns(lambda at, count: os.pread(fd, count, at), size)
    finally:
        os.close(fd)
    namespace = _namespace_of(file.path)
    if found is None:
        # Tools name their overlays so; anything else that is no table has no column to judge.
        if _WRITTEN.fullmatch(file.path):
            yield "it is an overlay by its name, but not a Parquet file"
        return
    if namespace is None:
        yield from _primary_problems(found, known)
    else:
        yield from _overlay_problems(found, namespace, known)


def _primary_problems(found: Columns, known: Known) -> Iterator[str]:
    from usrstore.dataset import schema

    for name, wanted in schema.REQUIRED.items():
        if name in found.types and not _fits(found.types[name], str(wanted)):
            yield f"the column {name} is {found.types[name]}, and must be {wanted}"
    for name, kind in found.types.items():
        namespace, underscores, _ = name.partition("__")
        if underscores and name not in schema.REQUIRED:
            yield from _column_problems(name, kind, namespace, known)


def _overlay_problems(found: Columns, namespace: str, known: Known) -> Iterator[str]:
    from usrstore.dataset import keys, overlay

    said = found.metadata.get(overlay.META_NAMESPACE, namespace)
    if said != namespace:
        yield f"it says that it belongs to {said!r}"
    key = found.metadata.get(overlay.META_KEY)
    if key is not None and key not in keys.KEYS:
        yield f"it is laid by {key!r}, which is no key"
    names = list(found.types)
    column = key if key in names else names[0] if names else ""
    if namespace != overlay.TOMBSTONES and namespace not in known:
        yield f"the namespace {namespace} is not registered"
        return
    for name, kind in found.types.items():
        if name == column and not name.startswith(f"{namespace}__"):
            if not _fits(kind, "string"):
                yield f"its key {name} is {kind}, and must be string"
        elif not name.startswith(f"{namespace}__"):
            yield f"the column {name} does not begin with {namespace}__"
        else:
            yield from _column_problems(name, kind, namespace, known)


def _column_problems(name: str, kind: str, namespace: str, known: Known) -> Iterator[str]:
    if namespace == "usr":
        wanted = _TOMBSTONES.get(name)
        if wanted is None:
            yield f"the column {name} is none of the tombstones'"
            return
    elif namespace not in known:
        yield f"the column {name} belongs to the namespace {namespace}, which is not registered"
        return
    else:
        wanted = known[namespace].get(name)
        if wanted is None:
            yield f"the column {name} is not in the namespace {namespace}"
            return
    if not _fits(kind, wanted):
        yield f"the column {name} is {kind}, and is registered as {wanted}"


def _fits(found: str, wanted: str) -> bool:
    """Whether a column of a Parquet file can be of a registered type."""
    from usrstore.dataset import types

    try:
        return _same(types.parse(found), types.parse(wanted))
    except RegistryError:
        return False  # a type that registries have no word for


def _same(found: Type, wanted: Type) -> bool:
    match wanted.kind:
        case "timestamp":
            # Parquet has no seconds, and its older versions no nanoseconds and no uint32.
            units = {"s": ("ms",), "ns": ("ns", "us")}.get(wanted.unit, (wanted.unit,))
            return found.kind == "timestamp" and (
                found.unit in units and bool(found.zone) == bool(wanted.zone)
            )
        case "list" | "fixed_size_list":
            return found.kind == "list" and _same(found.inner[0], wanted.inner[0])
        case "struct":
            return (
                found.kind == "struct"
                and found.names == wanted.names
                and all(map(_same, found.inner, wanted.inner))
            )
        case "uint32":
            return found.kind in ("uint32", "int64")
    return found.kind == wanted.kind


def vet_folder(site: Site, paths: Iterable[str], *, what: str) -> None:
    """Hold files of a dataset against the registry of its root, before they are sent.

    A file that stands alone has no registry to be held against.

    Raises:
        RegistryError: as `vet`.
    """
    if site.root.lone is not None:
        return
    files = [File(path, os.path.join(site.folder, path)) for path in paths]
    vet(files, site.root.registry(), what=what, untouched="nothing was sent")


def vet_stage(site: Site, manifest: Manifest, stage: Stage, *, what: str) -> None:
    """Hold what arrived against the registry that the root will have, before it is promoted.

    Raises:
        RegistryError: as `vet`.
    """
    if site.root.lone is not None:
        return
    registry = finishing.check_registry(site.root, [(manifest, site.overlay.get)])
    files = [File(target.path, stage.path(n)) for n, target in enumerate(stage.targets)]
    vet(files, registry or site.root.registry(), what=what, untouched="nothing was changed")
