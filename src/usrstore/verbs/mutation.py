"""What one act is going to do to a dataset, gathered; and its end, where all of it happens.

`verbs/mutating.py` makes a Mutation and holds the locks; nothing else may finish one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from usrstore.dataset import archive, events, locks, metafile, namespaces, snapshots
from usrstore.errors import ChangedWhileReadError, ConflictError, IntegrityError
from usrstore.objects.names import check_path
from usrstore.objects.sections import EVENTS_FILE, META_FILE, PRIMARY_FILE
from usrstore.odb import durable, flock
from usrstore.verbs import finishing, interruption, preserving
from usrstore.verbs.recover import clear_stage
from usrstore.verbs.site import Site
from usrstore.worktree import parquet, promote
from usrstore.worktree.journal import Journal, Lines
from usrstore.worktree.scan import Stamp


class Mutation:
    """What one act is going to do. Paths are '/'-separated, below the dataset folder.

    Attributes:
        site: the dataset.
        stage: the folder in the store where its files wait.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.stage = site.root.stage_path(site.dataset)
        durable.make_folder(self.stage, lasting=True)
        clear_stage(self.stage)
        self._staged: dict[str, int] = {}
        # A journal that a power cut brings back must not take this act's files for its own.
        self._first = self._next = int.from_bytes(os.urandom(6))
        self._gone: dict[str, None] = {}
        self._stamps: dict[str, Stamp] = {}
        self._lines: list[bytes] = []
        self._registry: tuple[str, bytes] | None = None
        self._began_us = site.who.now_us()
        self._holds_log = False

    # ── files ───────────────────────────────────────────────────────────────────────────
    def create(self, path: str) -> str:
        """Where to write a file that does not exist yet; gives an absolute path.

        The caller makes that file, complete; `put` does both.

        Raises:
            ConflictError: there is such a file.
        """
        if os.path.lexists(self.folder_path(path)) and path not in self._gone:
            raise ConflictError(f"{self.folder_path(path)} exists already; nothing was changed")
        return self._number(path)

    def replace(self, path: str) -> str:
        """Where to write the new content of a file, which may exist or not.

        From now until the end nobody else may write to it: say `replace` before reading it.
        """
        self._remember(path)
        return self._number(path)

    def remove(self, path: str) -> None:
        """Remove a file; folders that are empty then go, too."""
        self._remember(path)
        if path in self._stamps:
            self._gone[path] = None
        if path in self._staged:
            durable.remove(self._file(self._staged.pop(path)))

    def forget(self) -> None:
        """Let nothing happen after all."""
        self._staged.clear()
        self._gone.clear()
        self._lines.clear()

    def put(self, path: str, data: bytes) -> None:
        """Create or replace a small file."""
        with durable.Spool.create(self.replace(path)) as spool:
            spool.write(data)

    def folder_path(self, path: str) -> str:
        """Where a file of the dataset lies now."""
        return os.path.join(self.site.folder, check_path(path))

    def current(self, path: str) -> str:
        """Where to read a file as the act will leave it: staged, or in the folder."""
        if path in self._staged:
            return self._file(self._staged[path])
        return self.folder_path(path)

    def _remember(self, path: str) -> None:
        if path not in self._stamps:
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(self.folder_path(path), follow_symlinks=False)
                self._stamps[path] = Stamp.of(found)

    def _number(self, path: str) -> str:
        check_path(path)
        if path in self._staged:  # written anew within the same act
            durable.remove(self._file(self._staged[path]))
        self._gone.pop(path, None)
        self._staged[path] = self._next
        self._next += 1
        return self._file(self._staged[path])

    def _file(self, number: int) -> str:
        return os.path.join(self.stage, str(number))

    # ── words ───────────────────────────────────────────────────────────────────────────
    @property
    def registry_hash(self) -> str | None:
        """The hash of the root's registry; None where the root has none."""
        found = self._read_registry()
        return found[0] if found else None

    def event(
        self,
        action: str,
        *,
        args: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        artifacts: Mapping[str, Any] | None = None,
        maintenance: Mapping[str, Any] | None = None,
        table: str | None = None,
    ) -> None:
        """Say what is being done; at least one event belongs to every act that changes files.

        Args:
            action, args, metrics, artifacts, maintenance: as `events.compose` takes them.
            table: the Parquet file whose rows, columns and size are the fingerprint; it must
                be complete by now.
        """
        self._lines.append(
            self._compose(
                action,
                args=args,
                metrics=metrics,
                artifacts=artifacts,
                maintenance=maintenance,
                fingerprint=self._fingerprint(table) if table else None,
            )
        )

    def _fingerprint(self, table: str) -> dict[str, Any]:
        path = self.current(table)
        size = os.path.getsize(path)
        with open(path, "rb", buffering=0) as file:
            fd = file.fileno()
            footer = parquet.read_footer(lambda at, count: os.pread(fd, count, at), size)
        if footer is None:
            raise IntegrityError(f"{path} does not open as Parquet; nothing was changed")
        found: dict[str, Any] = {"rows": footer.rows, "cols": footer.columns, "size_bytes": size}
        if self.site.who.hash_tables:
            found["sha256"] = archive.sha256(path, size)
        return found

    def note(self, text: str) -> None:
        """Add a line for people to `meta.md`, with the command that was run."""
        old = _read(self.current(META_FILE))
        moment_us = self.site.who.now_us()
        if old is None:
            old = metafile.begin(self.site.dataset, created_us=moment_us)
        command = self.site.who.command
        self.put(META_FILE, metafile.with_note(old, text, command=command, time_us=moment_us))

    def snapshot(self) -> str:
        """Keep a copy of the base table as the act leaves it; the newest five stay.

        Gives the path of the copy in the dataset.
        """
        names = self.names(snapshots.FOLDER)
        path = snapshots.new_path(self.site.who.now_us(), names)
        snapshots.copy(self.current(PRIMARY_FILE), self.create(path))
        for old in snapshots.surplus([*names, path.rpartition("/")[2]]):
            self.remove(f"{snapshots.FOLDER}/{old}")
        return path

    def names(self, folder: str) -> list[str]:
        """The names in a folder of the dataset as the act will leave it."""
        at = self.folder_path(folder)
        names = set(os.listdir(at)) if os.path.isdir(at) else set()
        prefix = f"{folder}/"
        names |= {path.removeprefix(prefix) for path in self._staged if path.startswith(prefix)}
        return sorted(names - {path.removeprefix(prefix) for path in self._gone})

    def freeze_registry(self, *, auto: bool) -> bool:
        """Keep the registry in force beside the data, unless it is there; True if it was not."""
        found = self._read_registry()
        if found is None:
            return False
        digest, data = found
        path = namespaces.frozen_path(digest)
        if path in self._staged or os.path.exists(self.folder_path(path)):
            return False
        self.put(path, data)
        args = {"registry_hash": digest, "snapshot": self.folder_path(path), "auto": auto}
        # It comes before what the act does, and so does its time.
        line = self._compose("registry_freeze", time_us=self._began_us, args=args)
        self._lines.insert(0, line)
        return True

    def _read_registry(self) -> tuple[str, bytes] | None:
        """The hash and the canonical bytes of the root's registry."""
        if self._registry is None:
            data = self.site.root.registry()
            if data is None:
                return None
            digest = hashlib.sha256(data).hexdigest()
            # What was frozen under this hash was canonical; else it has to be parsed.
            if not os.path.exists(self.folder_path(namespaces.frozen_path(digest))):
                data = namespaces.canonical(data, self.site.root.registry_path)
                digest = hashlib.sha256(data).hexdigest()
            self._registry = digest, data
        return self._registry

    def _compose(self, action: str, *, time_us: int | None = None, **words: Any) -> bytes:
        site = self.site
        return events.compose(
            action,
            dataset=site.dataset,
            root=site.root.path,
            time_us=site.who.now_us() if time_us is None else time_us,
            actor=site.who.event_actor(),
            registry_hash=self.registry_hash,
            **words,
        )

    # ── the end ─────────────────────────────────────────────────────────────────────────
    def finish(self) -> None:
        """Make it happen; the dataset's lock is held."""
        if not (self._staged or self._gone or self._lines):
            return
        self.freeze_registry(auto=True)
        with self.hold_log():
            self._promote()

    @contextlib.contextmanager
    def hold_log(self) -> Iterator[None]:
        """Keep other writers of events out; nothing to keep out where no dataset is yet."""
        if self._holds_log or not os.path.isdir(self.site.folder):
            yield
            return
        path = os.path.join(self.site.folder, locks.EVENTS_LOCK)
        what = f"the event log of {self.site.dataset}"
        with flock.hold(path, timeout_s=self.site.lock_timeout_s, what=what):
            self._holds_log = True
            try:
                yield
            finally:
                self._holds_log = False

    def _promote(self) -> None:
        site, root = self.site, self.site.root
        lines = self._event_lines()
        self._check_staged()
        self._check_unchanged()
        preserving.preserve_before_act(
            site, {*self._stamps} & {*self._staged, *self._gone}, appends=lines is not None
        )
        new = sorted(self._staged.items())
        ops, made = promote.plan_ops(site.folder, self.stage, new, self._gone, self._stamps)
        act = site.who.act()
        journal = Journal(
            site.dataset, False, None, os.path.relpath(self.stage, root.store), ops, made, (),
            act.actor, act.command, act.reason, lines,
        )  # fmt: skip
        part = promote.Part(
            site.folder,
            root.journal_path(site.dataset),
            journal,
            append=lambda: finishing.append(root, journal),
            take_back=lambda: finishing.take_back(root, journal),
        )
        promote.promote(root.store, [part], along=self._along())

    def _event_lines(self) -> Lines | None:
        """The lines, and how long the log is; it may be replaced itself by this act."""
        if not self._lines:
            return None
        data = b"".join(self._lines)
        if EVENTS_FILE in self._staged:
            with durable.Spool.reopen(self.current(EVENTS_FILE)) as spool:
                spool.write(data)
            return None
        return Lines(events.check_whole(self.site.folder), data)

    def _check_unchanged(self) -> None:
        for path in (*self._staged, *self._gone):
            try:
                now = Stamp.of(os.stat(self.folder_path(path), follow_symlinks=False))
            except FileNotFoundError:
                now = None
            if now != self._stamps.get(path):
                raise ChangedWhileReadError(
                    f"{self.folder_path(path)} was written by another program just now; "
                    "nothing was changed",
                    hint="run the same command again once that program is done",
                )

    def _check_staged(self) -> None:
        for path, number in self._staged.items():
            if not os.path.isfile(self._file(number)):
                raise IntegrityError(f"{path} was announced but not written; nothing was changed")

    def _along(self) -> list[str]:
        """What has to be on disk before the journal is: the staged files, then their folder."""
        files = [self._file(number) for number in self._staged.values()]
        return [*files, self.stage] if files else []

    def discard(self) -> None:
        """Remove what was staged and not promoted; an unfinished journal needs it still."""
        if not interruption.is_interrupted(self.site.root, self.site.dataset):
            for number in range(self._first, self._next):
                if os.path.exists(self._file(number)):
                    durable.remove(self._file(number))


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
