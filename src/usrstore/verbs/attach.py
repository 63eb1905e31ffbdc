"""attach: columns from a file, as one more part of an overlay, or nothing at all.

read and convert → check everything, report everything → lock → part, event → promote

`write_overlay_part` is the same for programs, which bring an Arrow table. Any number of
processes may write parts at once: each part is a file of its own, and the lock is held only
while it is written and named.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from usrstore.dataset import (
    fitting,
    incoming,
    keys,
    locks,
    namespaces,
    offer,
    overlay,
    parquetfile,
)
from usrstore.dataset.incoming import ArrowTable, Table
from usrstore.dataset.metafile import counted
from usrstore.dataset.namespaces import Namespace
from usrstore.dataset.offer import Offer, Wish
from usrstore.errors import InvalidInputError, OverlayError, RegistryError, StorageError
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.odb import durable
from usrstore.verbs.mutating import Mutation, mutating
from usrstore.verbs.site import Site

_OWN_COMMANDS = {overlay.TOMBSTONES: "usr delete", overlay.STATE: "usr state set"}


@dataclass(frozen=True, slots=True)
class AttachResult:
    """What was written.

    Attributes:
        path: of the part in the dataset; None if no row of the file belongs to the dataset,
            and so nothing was written.
        columns: of the overlay that the part holds, in order.
        rows_incoming, rows_matched, rows_missing: of the file; with a row of the dataset;
            without one.
        moved: where the compact file went, if there was one: it is the first part now.
    """

    path: str | None
    columns: tuple[str, ...]
    rows_incoming: int
    rows_matched: int
    rows_missing: int
    moved: str | None


def attach(
    site: Site,
    path: str,
    wish: Wish,
    *,
    allow_overwrite: bool = False,
    allow_missing: bool = False,
    note: str = "",
) -> AttachResult:
    """Attach columns of a file to a dataset.

    Args:
        site: the dataset.
        path: the file: CSV, JSON lines, JSON or Parquet.
        wish: what of it goes where.
        allow_overwrite: whether columns that hold values already may get newer ones.
        allow_missing: whether rows whose key the dataset lacks are passed over.
        note: why, for the event.

    Raises:
        RegistryError: no registry; a namespace or columns that it lacks. Names all of them,
            and everything else that is wrong with the file; the hint is the command that
            registers them.
        InvalidInputError: the file cannot be read; or everything that is wrong with it.
        LockedError, StorageError: nothing was changed.
    """
    return write_part(
        site,
        incoming.open_table(path),
        wish,
        "attach",
        name=path,
        allow_overwrite=allow_overwrite,
        allow_missing=allow_missing,
        note=note,
    )


def write_overlay_part(
    site: Site,
    namespace: str,
    table: Any,
    *,
    key: str = "id",
    key_column: str | None = None,
    allow_missing: bool = False,
) -> AttachResult:
    """Write an Arrow table as one more part of an overlay.

    Args:
        site: the dataset.
        namespace: a registered one; its prefix may be left out of the column names.
        table: a `pyarrow.Table`, or anything that is a stream of Arrow batches.
        key: one of `keys.KEYS`.
        key_column: the column that holds the keys, if it is called otherwise.
        allow_missing: whether rows whose key the dataset lacks are passed over.

    Raises:
        As `attach`.
    """
    source = incoming.ArrowTable.of(table)
    wish = Wish(namespace, key, key_column or key)
    return write_part(
        site,
        source,
        wish,
        "write_overlay_part",
        name=source.path,
        allow_overwrite=True,
        allow_missing=allow_missing,
    )


def write_part(
    site: Site,
    source: Table | ArrowTable,
    wish: Wish,
    action: str,
    *,
    name: str,
    allow_overwrite: bool,
    allow_missing: bool = False,
    note: str = "",
) -> AttachResult:
    """Write one part; `attach` and others of its kind come here.

    Args:
        site, wish, allow_overwrite, allow_missing, note: as `attach` takes them.
        source: a file, or a table in memory.
        action: for the event.
        name: what errors call the source.
    """
    act = _Act(site, action, wish, name, allow_overwrite, allow_missing, note)
    return act.run(source)


@dataclass(frozen=True)
class _Act:
    """One part being written."""

    site: Site
    action: str
    wish: Wish
    path: str
    allow_overwrite: bool
    allow_missing: bool
    note: str

    def run(self, source: Table | ArrowTable) -> AttachResult:
        site = self.site
        site.root.check_dataset(site.dataset)
        known = load_namespaces(site)
        self._check_wish()
        scratch = durable.temporary(site.root.store)
        with fitting.reading(source, self.wish, known, scratch=scratch) as offered:
            stamp = _stamp(site)
            present = self._check(offered)
            matched = present.true_count
            if not matched:  # an empty part would say nothing, and stand in the way for ever
                return AttachResult(None, (), offered.rows, 0, offered.rows, None)
            with mutating(site) as act:
                if _stamp(site) != stamp:  # the base was written since
                    present = self._check(offered, alone=True)
                    matched = present.true_count
                path, moved = self._write(act, offered, present, known[self.wish.namespace])
                self._say(act, offered, matched, path, moved)
        return AttachResult(
            path, offered.columns, offered.rows, matched, offered.rows - matched, moved
        )

    def _check_wish(self) -> None:
        if self.wish.key not in keys.KEYS:
            raise InvalidInputError(
                f"{self.wish.key!r} is no key of overlays: {', '.join(keys.KEYS)}; "
                "nothing was written"
            )
        if command := _OWN_COMMANDS.get(self.wish.namespace):
            raise RegistryError(
                f"the namespace {self.wish.namespace} is reserved; nothing was written",
                hint=f"`{command}` writes it",
                code="namespace-reserved",
            )

    def _check(self, offered: Offer, *, alone: bool = False) -> Any:
        """Which rows belong to the dataset; `alone`: its lock is held already.

        Raises:
            RegistryError, InvalidInputError: everything that is wrong.
        """
        problems, base = offered.problems, None
        try:
            base = keys.of_base(self.site.folder, self.wish.key)
        except OverlayError as exc:
            problems.columns.append(exc.message)
        present = offer.check_keys(
            offered, base, allow_missing=self.allow_missing, key_column=self.wish.key_column
        )
        held = locks.reading(self.site.folder, timeout_s=self.site.lock_timeout_s)
        with contextlib.nullcontext() if alone or self.site.held else held:
            # Another act may be making a part of a compact file: for a moment both are there.
            self._check_existing(offered)
        problems.check(self.path, self.site.dataset)
        return present

    def _check_existing(self, offered: Offer) -> None:
        """What the overlay that is there says against one more part."""
        namespace, problems = self.wish.namespace, offered.problems
        if self.allow_overwrite:
            paths = overlay.find(self.site.folder).get(namespace, ())
            files = [overlay.inspect(self.site.folder, path) for path in paths[:1]]
        else:
            found = overlay.load(self.site.folder, [namespace]).get(namespace)
            files = list(found.files) if found else []
        if files and files[0].key != self.wish.key:
            problems.columns.append(
                f"the overlay {namespace} is keyed by {files[0].key}, not by {self.wish.key}"
            )
        if self.allow_overwrite:
            return
        filled = {name for file in files for name in file.filled}
        clashes = [name for name in offered.columns if name in filled]
        if clashes:
            problems.columns.append(
                f"columns already exist: {', '.join(clashes)} "
                "(--allow-overwrite lets newer values win)"
            )

    def _write(
        self, act: Mutation, offered: Offer, present: Any, namespace: Namespace
    ) -> tuple[str, str | None]:
        """Stage the part; gives its path, and that of a compact file that becomes a part."""
        files = overlay.find(self.site.folder).get(namespace.name, ())
        moved = move_compact(act, namespace.name, files)
        created_us = overlay.next_moment([moved] if moved else files, self.site.who.now_us())
        path = overlay.part_path(namespace.name, created_us, os.urandom(16).hex())
        meta = overlay.metadata(
            namespace.name,
            self.wish.key,
            created_us,
            registry_hash=act.registry_hash,
            contract_hash=namespaces.contract_hash(namespace),
        )
        schema = offered.part_schema(self.wish.key)
        with parquetfile.writing(act.create(path), schema, meta) as writer:
            offered.write(writer, self.wish.key, present)
        return path, moved

    def _say(
        self, act: Mutation, offered: Offer, matched: int, path: str, moved: str | None
    ) -> None:
        namespace = self.wish.namespace
        missing = offered.rows - matched
        args = {
            "namespace": namespace,
            "key": self.wish.key,
            "columns": list(offered.columns),
            "rows_incoming": offered.rows,
            "rows_matched": matched,
            "rows_missing": missing,
            **({"allow_overwrite": self.allow_overwrite, "note": self.note}
               if self.action == "attach" else {"allow_missing": self.allow_missing}),
        }  # fmt: skip
        metrics = {"rows_written": matched, "rows_skipped": missing}
        artifacts: dict[str, Any] = {"overlay": {"namespace": namespace, "path": path}}
        if moved:
            artifacts["overlay"]["moved_to"] = moved
        act.event(self.action, args=args, metrics=metrics, artifacts=artifacts, table=path)
        if self.action == "attach":
            word = f"; {self.note}" if self.note else ""
            rows = counted(matched, "row")
            act.note(f"Attached {rows} to {namespace} by {self.wish.key}{word}")


def load_namespaces(site: Site) -> Mapping[str, Namespace]:
    """The namespaces of the root's registry.

    Raises:
        RegistryError: there is no registry, or it is not in order.
    """
    data = site.root.registry()
    if data is None:
        raise RegistryError(
            f"registry: there is no {site.root.registry_path}; nothing was changed",
            hint="make one with `usr init`, or bring it from a root that has it",
        )
    return namespaces.load(data, site.root.registry_path)


def move_compact(act: Mutation, namespace: str, files: tuple[str, ...]) -> str | None:
    """Make a compact file the first part of its namespace; its bytes stay what they are.

    Gives the path it will have; None if there is no compact file.
    """
    compact = overlay.compact_path(namespace)
    if files != (compact,):
        return None
    created_us = overlay.inspect(act.site.folder, compact).created_us
    path = overlay.part_path(namespace, created_us, os.urandom(16).hex())
    move(act, compact, path)
    return path


def move(act: Mutation, path: str, to: str) -> None:
    """Give a file of the dataset another place; its bytes are not copied where links exist."""
    source, target = act.folder_path(path), act.create(to)
    try:
        durable.link(source, target)
    except StorageError:  # a file system without hard links
        with open(source, "rb", buffering=0) as file, durable.Spool.create(target) as spool:
            spool.copy_from(file.fileno(), 0, 0, os.fstat(file.fileno()).st_size)
            spool.sync()
    act.remove(path)  # only now is its stamp taken: a link changes it


def _stamp(site: Site) -> tuple[int, int, int]:
    found = os.stat(os.path.join(site.folder, PRIMARY_FILE))
    return found.st_ino, found.st_size, found.st_mtime_ns
