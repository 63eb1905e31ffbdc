"""The front door for tools: a dataset as a table that many processes write to and read.

    table = usrstore.dataset.open(root, "densegen/x", {"tool": "infer", "run_id": "7"})
    for batch in table.scan(["id", "sequence"]): …
    table.write_overlay_part(scores, "infer")

Each call that writes is one act: its files and its event happen together, or not at all, whoever
else writes at the time. Nothing here reads the environment: who acts is handed in.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from usrstore.dataset import events as log
from usrstore.dataset import intake, locks, namespaces, schema
from usrstore.errors import (
    ChangedWhileReadError,
    ConflictError,
    InvalidInputError,
    UnsupportedError,
    UsrError,
)
from usrstore.objects.names import check_dataset
from usrstore.odb import durable
from usrstore.root import Root, Who
from usrstore.verbs import creating, importing, mutating, reading, registering
from usrstore.verbs.importing import ImportResult
from usrstore.verbs.site import Site

if TYPE_CHECKING:
    from usrstore.dataset.query import View
    from usrstore.verbs.attach import AttachResult

LOCK_TIMEOUT_S = 300.0
"""Batch arrays queue: with hundreds of writers, a short patience would turn some away."""
_ATTEMPTS = 5

Actor = Who | Mapping[str, Any]
"""Who acts: {"tool": …, "run_id": …, …}, written into the event log as it is given; or a `who`."""


def open(  # noqa: A001  the word for it
    root: str | os.PathLike[str],
    dataset: str,
    actor: Actor,
    *,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Dataset:
    """A dataset that is there.

    Args:
        root: the folder that holds datasets.
        dataset: its id, or a last name that only one has.
        actor: who acts.
        lock_timeout_s: how long to wait for other writers.

    Raises:
        NotFoundError: there is no such root or dataset.
    """
    place = Root(os.fspath(root))
    name = place.find_dataset(dataset)
    place.check_dataset(name)
    return Dataset(Site.open(place, name, _who(actor), lock_timeout_s=lock_timeout_s))


def create(
    root: str | os.PathLike[str],
    dataset: str,
    actor: Actor,
    *,
    source: str = "",
    notes: str = "",
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Dataset:
    """Make an empty dataset; a root without a registry gets the initial one.

    Args:
        root, dataset, actor, lock_timeout_s: as `open` takes them.
        source, notes: for `meta.md`.

    Raises:
        ConflictError: there is a dataset of this name.
    """
    place = Root(os.fspath(root))
    site = Site.open(place, check_dataset(dataset), _who(actor), lock_timeout_s=lock_timeout_s)
    creating.create(site, source=source, notes=notes)
    return Dataset(site)


def row_id(sequence: str, *, bio_type: str = "dna") -> str:
    """The id of a record: 40 hex digits that its bio_type and trimmed sequence determine."""
    return schema.record_id(bio_type, schema.normalize(sequence))


def _who(actor: Actor) -> Who:
    if isinstance(actor, Who):
        return actor
    if not actor.get("tool"):
        raise InvalidInputError(
            "an actor needs at least a tool", hint='pass {"tool": "densegen", "run_id": "42"}'
        )
    tool, run = str(actor["tool"]), str(actor.get("run_id", ""))
    return Who(
        author=str(actor.get("user", tool)),
        host=str(actor.get("host", "")),
        command=f"{tool} {run}".strip(),
        now_us=lambda: time.time_ns() // 1000,
        signer=lambda: None,
        own_keys=frozenset,
        actor=dict(actor),
    )


class Dataset:
    """One dataset: its rows, its overlays, its events. Not for several threads at once."""

    def __init__(self, site: Site) -> None:
        self._site = site

    @property
    def name(self) -> str:
        """Its id."""
        return self._site.dataset

    @property
    def folder(self) -> str:
        """Where it is: an absolute path."""
        return self._site.folder

    @property
    def schema(self) -> Any:
        """All columns that a read may name, overlays included, as a `pyarrow.Schema`."""
        return self._view().schema

    # ── writing ─────────────────────────────────────────────────────────────────────────
    def add_sequences(
        self,
        rows: Any,
        *,
        bio_type: str = "dna",
        alphabet: str = "dna_4",
        source: str = "rows",
        skip_known: bool = False,
    ) -> ImportResult:
        """Append records to the base table: all of them, or none.

        Args:
            rows: sequences, or mappings with a `sequence` and any other base columns; or an Arrow
                table or data frame of such columns. Ids, lengths and moments are filled in.
            bio_type, alphabet, source: of rows that do not say.
            skip_known: pass over records that are there already, instead of refusing all.

        Raises:
            InvalidInputError: all that is wrong with the rows, each by its number from 1.
            LockedError, StorageError: nothing was changed.
        """
        held = rows if hasattr(rows, "__arrow_c_stream__") else list(rows)
        return importing.append_rows(
            self._site,
            lambda _problems: intake.given(held),
            name=source,
            bio_type=bio_type,
            alphabet=alphabet,
            skip=skip_known,
        )

    def write_overlay_part(
        self,
        table: Any,
        namespace: str,
        key: str = "id",
        *,
        key_column: str | None = None,
        allow_missing: bool = False,
    ) -> AttachResult:
        """Write columns for some rows as one more part of an overlay. Newer parts win.

        Any number of processes may do so at once.

        Args:
            table: rows as mappings, an Arrow table, a data frame, or a reader of record batches:
                the key, and columns of the namespace, whose prefix may be left out.
            namespace: a registered one.
            key: what identifies rows: `id`, `sequence`, `sequence_norm` or `sequence_ci`.
            key_column: the column that holds the keys, if it is called otherwise.
            allow_missing: pass over rows whose key the dataset lacks, instead of refusing all.

        Raises:
            RegistryError: the namespace or columns of the table are not registered.
            InvalidInputError: all else that is wrong with the table; nothing was written.
            LockedError, StorageError: nothing was changed.
        """
        from usrstore.dataset import incoming
        from usrstore.verbs import attach  # Arrow and all: only who writes parts needs it

        return attach.write_overlay_part(
            self._site,
            namespace,
            incoming.as_arrow(table),
            key=key,
            key_column=key_column,
            allow_missing=allow_missing,
        )

    def register(self, namespace: str, columns: str, *, owner: str = "", why: str = "") -> bool:
        """Agree on the columns of a namespace for the whole root; False if that was so already.

        A namespace that has these columns, and others beside them, is left as it is.

        Args:
            namespace: its name, without `__`.
            columns: as `usr namespace register --columns` takes them: "score:float64,on:bool".
            owner, why: whom to ask about it, and what it is for.

        Raises:
            ConflictError: it is registered without one of these, or with other types.
            RegistryError: not a name, not a type.
        """
        root, patience = self._site.root, self._site.lock_timeout_s
        made = namespaces.make(namespace, columns, owner=owner, description=why)
        try:
            return registering.register(root, made, overwrite=False, timeout_s=patience)
        except ConflictError:
            if set(made.columns) <= set(registering.find(root, made.name).columns):
                return False
            raise

    def log_event(
        self,
        action: str,
        *,
        args: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        artifacts: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an event of a tool's own to the log; values that sound like secrets are hidden.

        Raises:
            InvalidInputError: over 1 MiB, or a value that JSON has not.
        """
        with mutating.mutating(self._site) as act:
            act.event(action, args=args, metrics=metrics, artifacts=artifacts)

    @contextlib.contextmanager
    def lock(self) -> Iterator[Dataset]:
        """Keep every other writer out while the block runs: read, decide, write.

        Also for files that a tool writes into the folder by itself. It is the lock that all
        tools of the family take, so they wait; readers do not. May be nested.

        Raises:
            LockedError: somebody held it for longer than `lock_timeout_s`.
        """
        if self._site.held:
            yield self
            return
        before = self._site
        with mutating.holding(before) as held:
            self._site = held
            try:
                yield self
            finally:
                self._site = before

    # ── reading ─────────────────────────────────────────────────────────────────────────
    def scan(
        self,
        columns: Sequence[str] = (),
        *,
        batch_rows: int | None = None,
        deleted: bool = False,
    ) -> Iterator[Any]:
        """All rows as `pyarrow.RecordBatch`es in the order of the base; memory is bounded.

        They are of the moment at which the first is asked for: parts that others write
        meanwhile are not seen.

        Args:
            columns: which; none stands for all.
            batch_rows: at most so many rows a batch.
            deleted: whether deleted rows are shown.

        Raises:
            InvalidInputError: columns that do not exist.
            ChangedWhileReadError: a file of that moment was replaced or removed before its rows
                were read; what was given so far may be of two states.
        """
        yield from self._batches(self._view(), columns, batch_rows, deleted=deleted)

    def to_arrow(self, columns: Sequence[str] = (), *, deleted: bool = False) -> Any:
        """All rows as a `pyarrow.Table`, of one moment.

        Raises:
            InvalidInputError: columns that do not exist.
            ChangedWhileReadError: files were replaced again and again.
        """
        import pyarrow as pa

        for attempt in range(_ATTEMPTS):
            view = self._view()
            try:
                batches = list(self._batches(view, columns, None, deleted=deleted))
            except ChangedWhileReadError:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            kinds = view.project(view.choose(columns, deleted=deleted))
            return pa.Table.from_batches(batches, schema=kinds)
        raise AssertionError  # the last attempt returned or raised

    def to_pandas(self, columns: Sequence[str] = (), *, deleted: bool = False) -> Any:
        """As `to_arrow`, as a `pandas.DataFrame`.

        Raises:
            UnsupportedError: pandas is not installed.
        """
        _need("pandas")
        return self.to_arrow(columns, deleted=deleted).to_pandas()

    def to_polars(self, columns: Sequence[str] = (), *, deleted: bool = False) -> Any:
        """As `to_arrow`, as a `polars.DataFrame`.

        Raises:
            UnsupportedError: Polars is not installed.
        """
        return _need("polars").from_arrow(self.to_arrow(columns, deleted=deleted))

    def events(self, last: int | None = None) -> Iterator[dict[str, Any]]:
        """The events of the log, oldest first; only the `last` ones if that is given."""
        folder = self.folder
        rows = log.lines(folder) if last is None else iter(log.tail(folder, last)[0])
        for row in rows:
            with contextlib.suppress(ValueError, RecursionError):  # `usr validate` names them
                event = json.loads(row)
                if isinstance(event, dict):
                    yield event

    def _view(self) -> View:
        """The files of this moment, not of the middle of an act.

        No lock is taken unless writers are so busy that no moment without them is met.
        """
        site = self._site
        try:
            return _look(site)
        except (ChangedWhileReadError, ConflictError) as exc:
            if site.held or exc.code not in ("changed-while-read", "journal-pending"):
                raise
        with locks.reading(self.folder, timeout_s=site.lock_timeout_s):
            return _look(site)  # a journal that is there now was left by somebody who died

    def _batches(
        self, view: View, columns: Sequence[str], batch_rows: int | None, *, deleted: bool
    ) -> Iterator[Any]:
        root = self._site.root
        names = view.choose(columns, deleted=deleted)
        spill = root.store if root.has_store and root.writable else None
        with tempfile.TemporaryDirectory(prefix=durable.TEMPORARY_PREFIX, dir=spill) as scratch:
            try:
                for batch in view.batches(names, scratch=scratch, deleted=deleted):
                    step = batch_rows or max(1, len(batch))
                    for start in range(0, len(batch), step):
                        yield batch.slice(start, step)
            except (UsrError, OSError):
                view.check_kept()  # a file that went away is no damage
                raise
            view.check_kept()


def _look(site: Site) -> View:
    return reading.read(site.root, site.dataset, lambda view: view)


def _need(package: str) -> Any:
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as exc:
        raise UnsupportedError(
            f"{package} is not installed", hint=f"pip install {package}; or use to_arrow()"
        ) from exc
