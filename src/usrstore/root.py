"""A root: the folder that holds datasets, their registry, and our store below `.usr/`.

Everything the verbs share about where things lie is here, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from usrstore import notes, settings
from usrstore.errors import DatasetNotFoundError, NotFoundError
from usrstore.objects import names
from usrstore.objects.names import DatasetId, RefName
from usrstore.objects.sections import PRIMARY_FILE, REGISTRY_FILE
from usrstore.odb import durable, flock
from usrstore.odb.backend.folder import FolderBackend
from usrstore.odb.database import Database
from usrstore.odb.states import Act, Change, States

if TYPE_CHECKING:
    from usrstore.trust.keys import Signer

STORE_FOLDER = ".usr"
TOOL = "usrstore 0.1.0"


@dataclass(frozen=True, slots=True)
class Who:
    """Who acts, as the caller knows it: the library asks no environment.

    Attributes:
        author, host: for manifests and the operation log.
        command: what was asked, in the words of the asker.
        now_us: the clock, UTC microseconds since 1970.
        signer: gives the key to sign with, or None; called once a signature is needed.
        own_keys: fingerprints that are ours.
        actor: for event logs: {tool, run_id, …}, written as it is.
        hash_tables: whether events fingerprint tables with SHA-256, too, which reads them whole.
    """

    author: str
    host: str
    command: str
    now_us: Callable[[], int]
    signer: Callable[[], Signer | None]
    own_keys: Callable[[], frozenset[str]]
    actor: Mapping[str, Any] | None = None
    hash_tables: bool = False

    def act(self, reason: str = "") -> Act:
        return Act(f"{self.author}@{self.host}", self.command, self.now_us(), reason)

    def event_actor(self) -> Mapping[str, Any]:
        """Who is written into event logs: the actor that was given, or this process."""
        if self.actor is not None:
            return self.actor
        pid = os.getpid()
        return {"tool": "usr", "run_id": f"usr-pid-{pid}", "host": self.host, "pid": pid}


class Root:
    """One root. Opening it reads nothing; `create_store` is the only way a store appears.

    Attributes:
        path: the folder of the datasets.
        store: ours.
        settings_folder: where `config` and `allowed_signers` are.
        lone: the name of the one file that counts, if this is no more than that (lone.py).
    """

    lone: str | None = None

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.store = self.settings_folder = os.path.join(self.path, STORE_FOLDER)
        if not os.path.isdir(self.path):
            found = f"{self.path} is no folder" if os.path.exists(self.path) else ""
            raise NotFoundError(
                found or f"there is no root folder {self.path}", hint="check --root, or USR_ROOT"
            )

    @property
    def has_store(self) -> bool:
        return os.path.isdir(os.path.join(self.store, "states"))

    @property
    def writable(self) -> bool:
        where = self.store if os.path.isdir(self.store) else self.path
        return os.access(where, os.W_OK | os.X_OK)

    @property
    def makes_locks(self) -> bool:
        """Whether the lock files of a dataset are made where they lack, to keep others out."""
        return True

    def create_store(self) -> bool:
        """Make the store unless it is there; True if it was made."""
        if self.has_store:
            return False
        durable.make_folder(self.store, lasting=True)
        durable.replace(os.path.join(self.store, ".gitignore"), b"*\n")
        for name in ("packs", "states"):
            durable.make_folder(os.path.join(self.store, name))
        durable.sync_folder(self.store)
        durable.sync_folder(self.path)
        return True

    @cached_property
    def database(self) -> Database:
        scratch = os.path.join(self.store, "packs") if self.writable else None
        return Database(FolderBackend(self.store), scratch)

    @cached_property
    def states(self) -> States:
        return States(FolderBackend(self.store), self._assure)

    def _assure(self, changes: Mapping[RefName, Change]) -> None:
        """I7: nothing that a ref comes to reach is on its way out."""
        from usrstore.odb import guard  # needed where something was ever collected

        guard.assure(self.database, changes)

    def folder(self, dataset: DatasetId) -> str:
        return os.path.join(self.path, dataset)

    def find_dataset(self, text: str) -> DatasetId:
        """The dataset that a person means: an id, a path into this root, or a unique last name.

        Raises:
            InvalidNameError, DatasetNotFoundError.
        """
        if os.path.isabs(text) or text.startswith(("./", "../")) or text == ".":
            text = os.path.relpath(os.path.realpath(text), os.path.realpath(self.path))
        text = text.rstrip("/")
        dataset = names.check_dataset(text)
        if "/" in dataset or os.path.isdir(self.folder(dataset)):
            return dataset
        found = [known for known in self.datasets() if known.endswith(f"/{dataset}")]
        if len(found) > 1:
            raise DatasetNotFoundError(
                f"{text!r} could be any of {', '.join(found)}", hint="give the whole id"
            )
        return found[0] if found else dataset

    def check_dataset(self, dataset: DatasetId) -> str:
        """The folder of a dataset that must be there.

        Raises:
            DatasetNotFoundError: no such folder, or one without records.parquet.
        """
        folder = self.folder(dataset)
        if not os.path.isdir(folder):
            known = self.datasets()
            listed = ", ".join(known[:8]) + (" …" if len(known) > 8 else "")
            raise DatasetNotFoundError(
                f"there is no dataset {dataset} under {self.path}",
                hint=f"this root has: {listed}" if known else "this root has no datasets",
            )
        if not os.path.isfile(os.path.join(folder, PRIMARY_FILE)):
            raise DatasetNotFoundError(
                f"{folder} is not a dataset: it has no {PRIMARY_FILE}; nothing was changed",
                hint="name the folder that holds records.parquet",
            )
        return folder

    def datasets(self) -> list[DatasetId]:
        """Every dataset one or two levels deep, sorted."""
        found = []
        for name in _folders(self.path):
            inside = os.path.join(self.path, name)
            if name != "archived" and os.path.isfile(os.path.join(inside, PRIMARY_FILE)):
                found.append(name)
            elif name != "archived":
                found += [
                    f"{name}/{below}"
                    for below in _folders(inside)
                    if os.path.isfile(os.path.join(inside, below, PRIMARY_FILE))
                ]
        return [DatasetId(name) for name in sorted(found)]

    # Where things of one dataset rest in the store. '@' cannot stand in a dataset id.
    def _place(self, kind: str, dataset: DatasetId) -> str:
        return os.path.join(self.store, kind, dataset.replace("/", "@"))

    def cache_path(self, dataset: DatasetId) -> str:
        return self._place("index", dataset)

    def journal_path(self, dataset: DatasetId) -> str:
        return self._place("journal", dataset)

    def quarantine_path(self, dataset: DatasetId) -> str:
        return self._place("quarantine", dataset)

    def stage_path(self, dataset: DatasetId) -> str:
        """Where commands put the new files of a dataset before they are promoted."""
        return self._place("stage", dataset)

    def transfer_lock(self, dataset: DatasetId) -> str:
        return self._place("locks", dataset)

    def gc_lock(self) -> str:
        return self._place("locks", DatasetId("@gc"))

    def captured(self) -> list[DatasetId]:
        """Datasets with a stat cache."""
        return self._placed("index")

    def journaled(self) -> list[DatasetId]:
        """Datasets with a promotion that was interrupted."""
        return self._placed("journal")

    def staged(self) -> list[DatasetId]:
        """Datasets with something in quarantine."""
        return self._placed("quarantine")

    def cached(self) -> list[DatasetId]:
        """Datasets with a stat cache."""
        return self._placed("index")

    def acted(self) -> list[DatasetId]:
        """Datasets that commands have changed; their stages may hold what a crash left."""
        return self._placed("stage")

    def _placed(self, kind: str) -> list[DatasetId]:
        try:
            rows = os.listdir(os.path.join(self.store, kind))
        except FileNotFoundError:
            return []
        return [
            DatasetId(name.replace("@", "/"))
            for name in sorted(rows)
            if not name.startswith(durable.TEMPORARY_PREFIX)
        ]

    @property
    def registry_path(self) -> str:
        return os.path.join(self.path, REGISTRY_FILE)

    def registry(self) -> bytes | None:
        """The bytes of registry.yaml, or None."""
        try:
            with open(self.registry_path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    @cached_property
    def config(self) -> dict[str, Any]:
        """`.usr/config`, as TOML.

        Raises:
            ConfigError: naming the file, and the line or the setting.
        """
        return settings.load(os.path.join(self.settings_folder, "config"))

    @contextlib.contextmanager
    def changing_registry(self, *, timeout_s: float) -> Iterator[None]:
        """Keep others from changing registry.yaml while it is read, edited and written.

        Raises:
            LockedError: another change took longer than `timeout_s`.
        """
        self.create_store()
        lock = os.path.join(self.store, "locks", "@registry")  # no dataset's name begins with @
        durable.make_folder(os.path.dirname(lock))
        with flock.hold(lock, timeout_s=timeout_s, what="the registry"):
            yield

    def write_registry(self, data: bytes | None) -> None:
        """Replace registry.yaml from inside the store, or remove it.

        A crash leaves nothing among the datasets.
        """
        if data is None:
            durable.remove(self.registry_path)
            return
        scratch = durable.temporary(self.store)
        try:
            with durable.Spool.create(scratch) as spool:
                spool.write(data)
                spool.sync()
            durable.rename(scratch, self.registry_path)
        except BaseException:
            durable.remove(scratch)
            raise
        durable.sync_folder(self.path)

    def notes(self) -> dict[str, Any]:
        """What this root remembers of others: pinned signers, newest states seen.

        Raises:
            ConfigError: the file is damaged.
        """
        return notes.read(self._notes_path)

    def write_notes(self, value: dict[str, Any]) -> None:
        notes.write(self._notes_path, value)

    @property
    def _notes_path(self) -> str:
        return os.path.join(self.store, "seen.json")


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    except OSError:
        return []
