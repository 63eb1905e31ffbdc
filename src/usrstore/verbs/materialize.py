"""materialize: what overlays say becomes columns of the base table.

lock → view → new base → (drop or archive the overlays) → snapshot, event → promote
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usrstore.dataset import contract, flattening, overlay, parquetfile, query, schema
from usrstore.dataset.metafile import counted
from usrstore.errors import InvalidInputError, NotFoundError
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.verbs.attach import load_namespaces
from usrstore.verbs.mutating import mutating
from usrstore.verbs.overlays import archive_files, fingerprint, remove_files, scratch_folder
from usrstore.verbs.site import Site


@dataclass(frozen=True, slots=True)
class MaterializeResult:
    """What was done.

    Attributes:
        namespaces: whose overlays became columns; empty together with `rows_dropped` = 0 if
            there was nothing to do, and so nothing was done.
        rows, rows_dropped: of the base now, and deleted ones that it lost.
        columns_added: that the base did not have.
        overlays: what became of the overlay files: `kept`, `dropped` or `archived`.
        snapshots: the copies of the base, before and after, as paths in the dataset.
    """

    namespaces: tuple[str, ...]
    rows: int
    rows_dropped: int
    columns_added: tuple[str, ...]
    overlays: str
    snapshots: tuple[str, ...]


def materialize(
    site: Site,
    *,
    namespaces: Sequence[str] | None = None,
    snapshot_before: bool = False,
    drop_overlays: bool = False,
    archive_overlays: bool = False,
    drop_deleted: bool = False,
) -> MaterializeResult:
    """Make columns of overlays: where they have a value it is the base's from now on.

    Args:
        site: the dataset.
        namespaces: whose; by default all but tombstones and record state.
        snapshot_before: whether the base is kept as it was, too; as it becomes it always is.
        drop_overlays, archive_overlays: what happens to the overlays; by default they stay.
        drop_deleted: whether rows with a tombstone are left out for good.

    Raises:
        NotFoundError: a namespace without an overlay.
        RegistryError: an overlay that does not keep to its namespace.
        InvalidInputError: both dropped and archived; tombstones that are not keyed by id.
    """
    if drop_overlays and archive_overlays:
        raise InvalidInputError(
            "overlays are dropped or archived, not both; nothing was changed",
            hint="leave out --drop-overlays or --archive-overlays",
        )
    with mutating(site) as act, scratch_folder(site.root) as scratch:
        view = query.open_view(site.folder)
        chosen = _choose(site, view, namespaces)
        tombs = view.overlays.get(overlay.TOMBSTONES) if drop_deleted else None
        if not chosen and (tombs is None or not tombs.rows):
            return MaterializeResult((), view.rows, 0, (), "kept", ())
        if any(namespace != overlay.TOMBSTONES for namespace in chosen):
            known = load_namespaces(site)
            for namespace in chosen:
                contract.check(view.overlays[namespace], known)
        flat = flattening.chosen(view, chosen, drop_deleted=drop_deleted)
        hidden = set() if tombs is None or overlay.TOMBSTONES in chosen else set(tombs.schema.names)
        columns = [
            name for name in flat.schema.names if name in view.base.names or name not in hidden
        ]
        old = parquetfile.facts(act.folder_path(PRIMARY_FILE)).metadata
        created_at = old.get(schema.META_CREATED_AT) or overlay.format_moment(site.who.now_us())
        meta = schema.base_metadata(created_at=created_at, registry_hash=act.registry_hash)
        before = [act.snapshot()] if snapshot_before else []
        rows = flattening.write(
            flat,
            columns,
            act.replace(PRIMARY_FILE),
            metadata={**old, **meta},
            scratch=scratch,
            drop_deleted=drop_deleted,
        )
        view.check()
        fate = "kept"
        for namespace in chosen if drop_overlays or archive_overlays else ():
            found = view.overlays[namespace]
            archive_files(act, found) if archive_overlays else remove_files(act, found)
            fate = "archived" if archive_overlays else "dropped"
        snapshots = (*before, act.snapshot())
        added = tuple(name for name in columns if name not in view.base.names)
        listed = [fingerprint(view.overlays[namespace]) for namespace in chosen]
        tomb = None if tombs is None else fingerprint(tombs)["fingerprint"]
        act.event(
            "materialize",
            args={
                "namespaces": None if namespaces is None else list(namespaces),
                "drop_overlays": drop_overlays or archive_overlays,
                "archive_overlays": archive_overlays,
                "drop_deleted": drop_deleted,
                "overlays": listed,
                "tombstone": tomb,
                "maintenance_reason": "materialize",
            },
            metrics={
                "rows_written": rows,
                "rows_dropped": view.rows - rows,
                "columns_added": len(added),
            },
            artifacts={"overlays": listed, "tombstone": tomb},
            maintenance={"reason": "materialize"},
            table=PRIMARY_FILE,
        )
        word = ", ".join(chosen) or "deleted rows only"
        new = counted(len(added), "new column")
        act.note(f"Materialized {word}: {counted(rows, 'row')}, {new}")
        return MaterializeResult(tuple(chosen), rows, view.rows - rows, added, fate, snapshots)


def _choose(site: Site, view: query.View, namespaces: Sequence[str] | None) -> list[str]:
    if namespaces is None:
        own = (overlay.TOMBSTONES, overlay.STATE)
        return [namespace for namespace in view.overlays if namespace not in own]
    unknown = [namespace for namespace in namespaces if namespace not in view.overlays]
    if unknown:
        known = ", ".join(view.overlays)
        raise NotFoundError(
            f"{site.dataset} has no overlay {', '.join(unknown)}; nothing was changed",
            hint=f"it has: {known}" if known else "it has no overlays",
            code="overlay-not-found",
        )
    return list(dict.fromkeys(namespaces))
