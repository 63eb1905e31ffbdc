"""A dataset in a root, as the verbs work on it: capture it, know its head, make a manifest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from usrstore.dataset import locks
from usrstore.errors import RegistryError
from usrstore.objects.ids import ContentHash as Content
from usrstore.objects.ids import Kind, ManifestId, TreeId, hash_object
from usrstore.objects.manifest import MAX_REGISTRY_BYTES, Manifest, manifest_id
from usrstore.objects.names import DatasetId, folder_ref, head_ref
from usrstore.objects.progress import Emit, silent
from usrstore.objects.recipe import RULE
from usrstore.objects.tree import FileEntry
from usrstore.odb import durable, flock, reach
from usrstore.odb.database import Overlay
from usrstore.root import TOOL, Root, Who
from usrstore.worktree import capture as capturing
from usrstore.worktree import statcache
from usrstore.worktree.capture import Capture, Sink
from usrstore.worktree.scan import Stamp, scan
from usrstore.worktree.source import FolderSource
from usrstore.worktree.statcache import Facts


@dataclass(frozen=True, slots=True)
class Site:
    """One dataset in one root.

    Attributes:
        overlay: metadata objects that are new; `overlay.get` reads old and new alike.
        lock_timeout_s: how long to wait for other programs.
        held: whether whoever made this holds the dataset's lock already (`mutating.holding`).
    """

    root: Root
    dataset: DatasetId
    who: Who
    overlay: Overlay
    lock_timeout_s: float = 30.0
    held: bool = False

    @classmethod
    def open(
        cls, root: Root, dataset: DatasetId, who: Who, *, lock_timeout_s: float = 30.0
    ) -> Site:
        return cls(root, dataset, who, Overlay(root.database), lock_timeout_s)

    @property
    def folder(self) -> str:
        return self.root.folder(self.dataset)

    @property
    def exists(self) -> bool:
        return os.path.isdir(self.folder)

    def scan(self) -> dict[str, Stamp]:
        """The files of the folder, as stat(2) sees them. Raises: as `scan.scan`."""
        return scan(self.folder, self.root.lone)

    def source(self) -> FolderSource:
        """The folder as a pack."""
        return FolderSource(self.folder, lone=self.root.lone)

    def on_disk(self, path: str) -> str:
        """What a path of the dataset is called in its folder."""
        return self.root.lone or path

    def head(self) -> ManifestId | None:
        """The manifest that the dataset's head names."""
        oid = self.root.states.refs().get(head_ref(self.dataset))
        return None if oid is None else ManifestId(oid)

    def position(self) -> ManifestId | None:
        """The manifest that the folder was last taken to: a checkout's, else the head."""
        refs = self.root.states.refs()
        oid = refs.get(folder_ref(self.dataset), refs.get(head_ref(self.dataset)))
        return None if oid is None else ManifestId(oid)

    def manifest(self, oid: ManifestId) -> Manifest:
        return reach.manifest(self.overlay.get, oid)

    def ancestry(self, oid: ManifestId | None) -> dict[ManifestId, Manifest]:
        """A manifest and its ancestors, newest first."""
        return dict(reach.ancestry(self.overlay.get, oid)) if oid else {}

    def capture(
        self,
        *,
        record: bool,
        trusting: bool = True,
        wait: bool | None = None,
        sink: Sink | None = None,
        prepare: Sink | None = None,
        emit: Emit = silent,
    ) -> Capture:
        """Capture the folder.

        Args:
            record: whether the store may take the new stat cache (and the recipes that it
                names); without it nothing at all is written.
            trusting: whether an unchanged stamp is proof enough; otherwise all is read.
            wait: whether to keep writers out meanwhile; a look, which does not, notices what
                changes under it. By default, whoever records waits.
            sink: takes the chunks of the files that had to be read.
            prepare: may be shown a chunk before `sink` takes it, on any thread.
            emit: progress.

        Raises:
            DatasetNotFoundError, UnsafeFileError, LockedError, ChangedWhileReadError.
        """
        path = self.root.cache_path(self.dataset) if self.root.has_store else None
        cache = statcache.load(path if trusting else None, RULE)
        with contextlib.ExitStack() as held:
            if record if wait is None else wait:
                held.enter_context(locks.reading(self.folder, timeout_s=self.lock_timeout_s))
            found = capturing.capture(
                self.folder,
                cache,
                self.overlay.put,
                sink=sink,
                prepare=prepare,
                lone=self.root.lone,
                emit=emit,
            )
        if record and path is not None and self.root.writable and found.read:
            self.overlay.flush()  # the cache names recipes; they must be there
            self.save_cache(found)
        return found

    def save_cache(self, found: Capture) -> None:
        """Keep what a capture learnt; the recipes that it names must be in the store."""
        path = self.root.cache_path(self.dataset)
        durable.make_folder(os.path.dirname(path))
        statcache.save(path, found.cache)

    @contextlib.contextmanager
    def transfer_lock(self) -> Iterator[None]:
        """One transfer into a dataset at a time; captures and reads go on beside it."""
        path = self.root.transfer_lock(self.dataset)
        durable.make_folder(os.path.dirname(path))
        what = f"a transfer of {self.dataset}"
        with flock.hold(path, timeout_s=self.lock_timeout_s, what=what):
            yield

    def registry_entry(self, data: bytes | None) -> FileEntry | None:
        """The root's registry as an entry of a manifest; its bytes go into the overlay."""
        if data is None:
            return None
        if len(data) > MAX_REGISTRY_BYTES:
            raise RegistryError(
                f"{self.root.registry_path} has {len(data)} bytes; at most "
                f"{MAX_REGISTRY_BYTES} can travel"
            )
        oid = hash_object(Kind.CHUNK, data)
        self.overlay.put(Kind.CHUNK, oid, data)
        return FileEntry("registry.yaml", len(data), Content(oid), None)

    def make_manifest(
        self,
        tree: TreeId,
        parents: Sequence[ManifestId],
        *,
        facts: Facts,
        message: str,
        policy: Sequence[str] = (),
        registry: bytes | None = None,
    ) -> ManifestId:
        """Sign a manifest and put it into the overlay."""
        from usrstore.trust import policy as trust

        manifest = Manifest(
            dataset=self.dataset,
            sequence=max((self.manifest(p).sequence for p in parents), default=0) + 1,
            tree=tree,
            parents=tuple(dict.fromkeys(parents)),
            author=self.who.author,
            host=self.who.host,
            tool=TOOL,
            time_us=self.who.now_us(),
            message=message,
            registry=self.registry_entry(registry),
            rows=facts.rows,
            columns=facts.columns,
            schema=facts.schema,
            events=facts.events,
            policy=tuple(sorted(set(policy))),
        )
        data = trust.sign(manifest.payload(), self.who.signer()).encode()
        oid = manifest_id(data)
        self.overlay.put(Kind.MANIFEST, oid, data)
        return oid

    def snapshot(
        self,
        found: Capture,
        *,
        message: str,
        policy: Sequence[str] = (),
        parents: Sequence[ManifestId | None],
    ) -> ManifestId:
        """The manifest of a captured folder: its only parent if nothing changed, else a new one.

        Args:
            found: the folder.
            message: why.
            policy: opt-outs in force.
            parents: what it follows, as known before the folder was read; None stands for no
                state yet.
        """
        above = [oid for oid in parents if oid is not None]
        registry = self.root.registry()
        if len(above) == 1:
            last = self.manifest(above[0])
            entry = self.registry_entry(registry)
            if last.tree == found.tree and last.registry == entry and not policy:
                return above[0]
        found.store(self.overlay.put)
        return self.make_manifest(
            found.tree,
            above,
            facts=found.facts,
            message=message,
            policy=policy,
            registry=registry,
        )
