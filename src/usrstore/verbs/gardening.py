"""The upkeep of a dataset's log and registry: garden, repair, freeze.

None of it loses a line: what a garden takes off the log is archived beside it, and what a
repair takes off as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from usrstore.dataset import archive, events, namespaces, parquetfile, schema
from usrstore.errors import NotFoundError
from usrstore.objects.sections import EVENTS_FILE, PRIMARY_FILE
from usrstore.odb import durable
from usrstore.verbs.importing import restamped
from usrstore.verbs.mutating import Mutation, mutating
from usrstore.verbs.site import Site


@dataclass(frozen=True, slots=True)
class GardenResult:
    """What a garden did, or would do.

    Attributes:
        lines, retained: of the log before, and of those that stay.
        archive: where the others are, in the dataset; None if none had to go.
        written: whether it was done.
    """

    lines: int
    retained: int
    archive: str | None
    written: bool


def garden(site: Site, *, retain: int, reason: str = "", write: bool = True) -> GardenResult:
    """Move all but the last `retain` lines of the log into an archive beside it.

    The archives and the log together are the log that was, so a sync still sees that this
    side continues what the other has.

    Raises:
        IntegrityError: the log's last line is torn.
    """
    if not write:
        site.root.check_dataset(site.dataset)
        _, removed = archive.cut(site.folder, retain)
        total = sum(1 for _ in events.lines(site.folder))
        return GardenResult(total, total - removed, None, False)
    with mutating(site, whole_log=True) as act:
        size = events.check_whole(site.folder)
        place, removed = archive.cut(site.folder, retain)
        total = sum(1 for _ in events.lines(site.folder))
        if not removed:
            return GardenResult(total, total, None, False)
        log = act.folder_path(EVENTS_FILE)
        digest = archive.sha256(log, place)
        path = archive.new_path(site.who.now_us(), digest, act.names(archive.FOLDER))
        _copy(log, 0, place, act.create(path))
        _copy(log, place, size, act.replace(EVENTS_FILE))
        args = {"retain_last": retain, "reason": reason}
        removal = {
            "archive": path,
            "removed_lines": removed,
            "removed_bytes": place,
            "removed_sha256": digest,
        }
        act.event("event_log_garden", args=args, maintenance=removal)
    return GardenResult(total, total - removed, path, True)


def _copy(source: str, start: int, end: int, path: str) -> None:
    with open(source, "rb", buffering=0) as file, durable.Spool.create(path) as spool:
        if end > start:
            spool.copy_from(file.fileno(), start, 0, end - start)


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What a repair found.

    Attributes:
        torn: bytes of the last line that were without its newline.
        completed: they were a whole event; only the newline was missing, and was added.
        kept: where they are now, in the dataset; None if they stayed.
    """

    torn: int
    completed: bool
    kept: str | None


def repair(site: Site) -> RepairResult:
    """Make a log whole whose last line is torn. A log that is whole stays as it is."""
    with mutating(site, whole_log=True) as act:
        place, held = events.torn(site.folder)
        if not held:
            return RepairResult(0, False, None)
        completed = _is_event(held)
        kept = None
        _copy(act.folder_path(EVENTS_FILE), 0, place, act.replace(EVENTS_FILE))
        if completed:
            with durable.Spool.reopen(act.current(EVENTS_FILE)) as spool:
                spool.write(held + b"\n")
        else:
            kept = archive.torn_path(site.who.now_us())
            act.put(kept, held)
        act.event(
            "event_log_repair",
            maintenance={"torn_bytes": len(held), "completed": completed, "kept": kept},
        )
        return RepairResult(len(held), completed, kept)


def _is_event(held: bytes) -> bool:
    try:
        return isinstance(json.loads(held), dict)
    except (ValueError, RecursionError):
        return False


@dataclass(frozen=True, slots=True)
class FreezeResult:
    """What a freeze did.

    Attributes:
        registry_hash: of the registry in force.
        frozen: whether the dataset did not have it yet.
        restamped: whether the base table named another one.
    """

    registry_hash: str
    frozen: bool
    restamped: bool


def freeze(site: Site) -> FreezeResult:
    """Keep the registry in force beside the data, and let the base table name it.

    Raises:
        NotFoundError: the root has no registry.
    """
    with mutating(site) as act:
        digest = act.registry_hash
        if digest is None:
            raise NotFoundError(
                f"{site.root.registry_path} does not exist; nothing was changed",
                hint="`usr init` makes one; a pull brings the registry of the other side",
            )
        frozen = act.freeze_registry(auto=False)
        stamped = _restamp(act)
        if stamped and not frozen:
            args = {
                "registry_hash": digest,
                "snapshot": act.folder_path(namespaces.frozen_path(digest)),
                "auto": False,
                "updated": True,
            }
            act.event("registry_freeze", args=args, table=PRIMARY_FILE)
        if frozen or stamped:
            act.note(f"froze the registry {digest[:12]}")
    return FreezeResult(digest, frozen, stamped)


def _restamp(act: Mutation) -> bool:
    """Let the base table name the registry in force; its row groups are copied as bytes."""
    source = act.folder_path(PRIMARY_FILE)
    base = parquetfile.facts(source)
    if base.metadata.get(schema.META_REGISTRY_HASH) == act.registry_hash:
        return False
    with parquetfile.appending(source, act.replace(PRIMARY_FILE), restamped(base, act)):
        return True
