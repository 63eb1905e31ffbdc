"""Care for overlays: compact, remove or archive, stamp anew. Each is one act with one event."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from usrstore.dataset import compacting, contract, namespaces, overlay, parquetfile
from usrstore.dataset.overlay import META_CONTRACT, META_REGISTRY, Overlay
from usrstore.errors import NotFoundError, OverlayError, RegistryError
from usrstore.objects.sections import DERIVED_FOLDER
from usrstore.odb import durable
from usrstore.root import Root
from usrstore.verbs.attach import load_namespaces, move
from usrstore.verbs.mutating import Mutation, mutating
from usrstore.verbs.site import Site

LEDGER = "digest_ledger.json"
"""A list of part digests that other tools keep beside the parts; gone when the parts are."""

_ARCHIVE = f"{DERIVED_FOLDER}/{overlay.ARCHIVED}"
Removal = Literal["error", "delete", "archive"]


@dataclass(frozen=True, slots=True)
class CompactResult:
    """What compaction did.

    Attributes:
        path: of the compact file.
        created: whether it is new; False where the overlay was compact already.
        parts: that it was made of.
        rows_before, rows: of the parts together, and of the compact file.
    """

    path: str
    created: bool
    parts: int
    rows_before: int
    rows: int


def compact(site: Site, namespace: str) -> CompactResult:
    """Make one file of the parts of an overlay: each key once, the newest value of each column.

    Raises:
        NotFoundError: there is no such overlay.
        RegistryError: it does not keep to its namespace.
        OverlayError: something else lies among the parts.
    """
    with mutating(site) as act, scratch_folder(site.root) as scratch:
        found = find_overlay(site, namespace)
        path = overlay.compact_path(namespace)
        if found.compact:
            return CompactResult(path, False, 1, found.rows, found.rows)
        known = load_namespaces(site)
        contract.check(found, known)
        _check_no_strays(site, found)
        mine = known.get(namespace)
        order = [column.name for column in mine.columns] if mine else None
        plan = compacting.plan(site.folder, found, order)
        meta = overlay.metadata(
            namespace,
            found.key,
            # As old as its newest part, so that the same parts always make the same bytes.
            found.files[-1].created_us,
            registry_hash=act.registry_hash,
            contract_hash=namespaces.contract_hash(mine) if mine else None,
        )
        with parquetfile.writing(act.create(path), plan.schema, meta) as writer:
            for table in plan.tables(scratch):
                writer.write(table)
                writer.end_part()
        remove_files(act, found)
        act.event(
            "compact_overlay",
            args={
                "namespace": namespace,
                "archived": None,
                "maintenance_reason": "overlay_compact",
                "parts": len(found.files),
            },
            metrics={"rows_read": found.rows, "rows_written": plan.rows},
            maintenance={"reason": "overlay_compact"},
            table=path,
        )
        return CompactResult(path, True, len(found.files), found.rows, plan.rows)


@dataclass(frozen=True, slots=True)
class RemoveResult:
    """What was removed.

    Attributes:
        removed: the files, as paths in the dataset; empty if there was no such overlay.
        archived: where they went, if they were archived.
        dropped: older archives that went for it.
    """

    removed: tuple[str, ...]
    archived: str | None
    dropped: tuple[str, ...]


def remove(site: Site, namespace: str, *, mode: Removal = "error") -> RemoveResult:
    """Remove an overlay, or archive it; of a namespace, the newest archive stays.

    Args:
        site: the dataset.
        namespace: whose overlay.
        mode: `error` and `delete` remove it, and differ where there is none.

    Raises:
        NotFoundError: there is no such overlay, and the mode is `error`.
        RegistryError: the namespace is written by its own commands only.
    """
    check_not_reserved(namespace)
    with mutating(site) as act:
        if namespace not in overlay.find(site.folder) and mode != "error":
            return RemoveResult((), None, ())
        found = find_overlay(site, namespace)
        paths = tuple(file.path for file in found.files)
        metrics = {"files": len(paths), "rows": found.rows}
        if mode != "archive":
            remove_files(act, found)
            act.event("remove_overlay", args={"namespace": namespace}, metrics=metrics)
            return RemoveResult(paths, None, ())
        older = _archives(site, namespace)
        archived = archive_files(act, found)
        for path in older:
            act.remove(path)
        args = {"namespace": namespace, "archived": act.folder_path(archived)}
        act.event("archive_overlay", args=args, metrics=metrics)
        return RemoveResult(paths, archived, older)


def refresh_metadata(site: Site, namespace: str) -> tuple[str, ...]:
    """Stamp an overlay's files with the registry in force; the rows keep their bytes.

    Returns:
        The files that had another stamp, as paths in the dataset.

    Raises:
        NotFoundError: there is no such overlay.
        RegistryError: it does not keep to its namespace as it is registered now.
    """
    with mutating(site) as act:
        found = find_overlay(site, namespace)
        known = load_namespaces(site)
        contract.check(found, known)
        mine = known.get(namespace)
        wanted = {META_REGISTRY: act.registry_hash}
        if mine:
            wanted[META_CONTRACT] = namespaces.contract_hash(mine)
        stamp = {name: value for name, value in wanted.items() if value is not None}
        changed = []
        for file in found.files:
            path = act.folder_path(file.path)
            meta = parquetfile.facts(path).metadata
            if stamp.items() <= meta.items():
                continue
            target = act.replace(file.path)
            with parquetfile.appending(path, target, {**meta, **stamp}):
                pass  # no row is added: only the footer is new
            changed.append(file.path)
        if changed:
            act.event(
                "refresh_overlay_metadata",
                args={"namespace": namespace, **stamp},
                metrics={"files": len(changed)},
                maintenance={"reason": "refresh_overlay_metadata"},
            )
        return tuple(changed)


# ── what these and others share ─────────────────────────────────────────────────────────
def find_overlay(site: Site, namespace: str) -> Overlay:
    """Raises: NotFoundError: there is no such overlay; it says which there are."""
    found = overlay.load(site.folder, [namespace]).get(namespace)
    if found is None:
        known = ", ".join(overlay.find(site.folder))
        raise NotFoundError(
            f"{site.dataset} has no overlay {namespace}; nothing was changed",
            hint=f"it has: {known}" if known else "it has no overlays",
            code="overlay-not-found",
        )
    return found


def check_not_reserved(namespace: str) -> None:
    """Raises: RegistryError: only other commands write this namespace."""
    commands = {
        overlay.TOMBSTONES: "usr delete` and `usr restore",
        overlay.STATE: "usr state set` and `usr state clear",
    }
    if namespace in commands:
        raise RegistryError(
            f"the namespace {namespace} is reserved; nothing was changed",
            hint=f"`{commands[namespace]}` write it",
            code="namespace-reserved",
        )


def remove_files(act: Mutation, found: Overlay) -> None:
    """Remove an overlay from the dataset."""
    for file in found.files:
        act.remove(file.path)
    act.remove(f"{DERIVED_FOLDER}/{found.namespace}/{LEDGER}")


def archive_files(act: Mutation, found: Overlay) -> str:
    """Move an overlay to the archive; gives where to, as a path in the dataset."""
    place = _free_archive(act, found.namespace)
    for file in found.files:
        name = os.path.basename(file.path)
        move(act, file.path, f"{place}.parquet" if found.compact else f"{place}/{name}")
    remove_files(act, found)
    return f"{place}.parquet" if found.compact else place


def _free_archive(act: Mutation, namespace: str) -> str:
    """Where an archive of this moment goes; clocks may go back, or stand still."""
    moment_us = act.site.who.now_us()
    while True:
        stamp = overlay.format_moment(moment_us).translate(str.maketrans("", "", "-:."))
        place = f"{_ARCHIVE}/{namespace}-{stamp}"
        taken = (place, f"{place}.parquet")
        if not any(os.path.lexists(act.folder_path(path)) for path in taken):
            return place
        moment_us += 1


def _archives(site: Site, namespace: str) -> tuple[str, ...]:
    """The files of all archives of a namespace."""
    home = os.path.join(site.folder, _ARCHIVE)
    found = []
    for at, _, names in os.walk(home):
        for name in names:
            path = os.path.relpath(os.path.join(at, name), site.folder)
            archive = path.removeprefix(f"{_ARCHIVE}/").partition("/")[0]
            stamp = archive.removesuffix(".parquet").removeprefix(f"{namespace}-")
            if stamp != archive.removesuffix(".parquet") and stamp[:8].isdigit():
                found.append(path)
    return tuple(sorted(found))


def _check_no_strays(site: Site, found: Overlay) -> None:
    """A folder that stayed behind would stand beside the compact file, which is an error."""
    folder = os.path.join(site.folder, DERIVED_FOLDER, found.namespace)
    known = {os.path.basename(file.path) for file in found.files} | {LEDGER}
    strays = sorted(set(os.listdir(folder)) - known)
    if strays:
        raise OverlayError(
            f"{folder} holds what is no part: {', '.join(strays[:5])}; nothing was changed",
            hint="see whether a program is still writing there, or move these away",
            code="overlay-strays",
        )


@contextlib.contextmanager
def scratch_folder(root: Root) -> Iterator[str]:
    """A folder of ours for what one command sorts on the disk; gone when the block ends."""
    path = durable.temporary(root.store)
    try:
        yield path
    finally:
        durable.remove_tree(path)


def fingerprint(found: Overlay) -> dict[str, Any]:
    """How events describe an overlay."""
    return {
        "namespace": found.namespace,
        "key": found.key,
        "fingerprint": {
            "rows": found.rows,
            "cols": len(found.schema.names) + 1,
            "size_bytes": sum(file.size for file in found.files),
        },
    }
