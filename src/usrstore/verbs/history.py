"""status, log and show: what the folder and the states say, read only."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usrstore.objects.compare import Comparison, compare
from usrstore.objects.ids import Kind, ManifestId, RecipeId, TreeId
from usrstore.objects.manifest import Manifest, Signed
from usrstore.objects.progress import Emit, silent
from usrstore.objects.tree import FileEntry, Listing, Tree
from usrstore.odb import reach
from usrstore.odb.database import Database
from usrstore.root import Root
from usrstore.verbs.site import Site
from usrstore.worktree.capture import Capture

if TYPE_CHECKING:
    from usrstore.trust.policy import Policy, Verdict


@dataclass(frozen=True, slots=True)
class Status:
    """A folder against its head.

    Attributes:
        found: the folder.
        head: the manifest it is compared with; None if there is none yet.
        comparison: `local` is the folder, `remote` the manifest; None without a head.
    """

    found: Capture
    head: ManifestId | None
    manifest: Manifest | None
    comparison: Comparison | None

    @property
    def clean(self) -> bool:
        return self.comparison is not None and not self.comparison.changed


def status(site: Site, *, emit: Emit = silent) -> Status:
    """Raises: DatasetNotFoundError, UnsafeFileError, ChangedWhileReadError."""
    site.root.check_dataset(site.dataset)
    found = site.capture(record=site.root.has_store, emit=emit)
    head = site.head() if site.root.has_store else None
    if head is None:
        return Status(found, None, None, None)
    manifest = site.manifest(head)
    if manifest.tree == found.tree:
        return Status(found, head, manifest, compare({}, {}))
    before = reach.listing(site.overlay.get, manifest.tree)
    return Status(found, head, manifest, compare(found.listing, before))


@dataclass(frozen=True, slots=True)
class LogEntry:
    oid: ManifestId
    manifest: Manifest
    files: int
    size: int
    kept: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which states a log is asked for.

    Attributes:
        limit: at most so many.
        since_us, until_us: made in this time, ends included; None for no end.
        hidden: neither these states nor their ancestors.
        paths: only states that changed one of these files or folders.
    """

    limit: int = 1 << 62
    since_us: int | None = None
    until_us: int | None = None
    hidden: tuple[ManifestId, ...] = ()
    paths: tuple[str, ...] = ()

    def in_time(self, time_us: int) -> bool:
        """Whether a moment is in the time that was asked for."""
        return (self.since_us is None or time_us >= self.since_us) and (
            self.until_us is None or time_us <= self.until_us
        )


def log(
    root: Root, starts: Iterable[ManifestId], policy: Policy, wanted: Wanted
) -> Iterator[LogEntry]:
    """States and their ancestors, newest first and children before parents, each once."""
    keeping = Keeping(root.database)
    get = root.database.get
    hidden = {oid for tip in wanted.hidden for oid, _ in reach.ancestry(get, tip)}
    given = 0
    for oid, manifest in walk(root, starts):
        if given >= wanted.limit:
            return
        if oid in hidden or not wanted.in_time(manifest.time_us):
            continue
        if wanted.paths and not _touches(root, manifest, wanted.paths):
            continue
        given += 1
        yield entry(root, oid, manifest, policy, keeping)


def walk(root: Root, starts: Iterable[ManifestId]) -> Iterator[tuple[ManifestId, Manifest]]:
    """States and all they descend from: greatest sequence first, then the latest."""
    get = root.database.get
    front: list[tuple[int, int, ManifestId, Manifest]] = []
    seen: set[ManifestId] = set()

    def add(oid: ManifestId) -> None:
        if oid not in seen:
            seen.add(oid)
            found = reach.manifest(get, oid)
            heapq.heappush(front, (-found.sequence, -found.time_us, oid, found))

    for oid in starts:
        add(oid)
    while front:
        *_, oid, found = heapq.heappop(front)
        yield oid, found
        for parent in found.parents:
            add(parent)


def _touches(root: Root, manifest: Manifest, paths: Sequence[str]) -> bool:
    found = changes(root, manifest)
    return found is not None and found.limited(paths).comparison.changed


@dataclass(frozen=True, slots=True)
class Changes:
    """What a state changed: `local` of the comparison is the newer side."""

    new: Listing
    old: Listing
    comparison: Comparison

    def limited(self, paths: Sequence[str]) -> Changes:
        """Only what concerns some files or folders; all of it if none are named."""
        if not paths:
            return self
        return between(_inside(self.new, paths), _inside(self.old, paths))


def between(new: Listing, old: Listing) -> Changes:
    return Changes(new, old, compare(new, old))


def _inside(listing: Listing, paths: Sequence[str]) -> Listing:
    stems = [path.rstrip("/") for path in paths]
    return {
        path: entry
        for path, entry in listing.items()
        if any(stem in ("", ".", path) or path.startswith(f"{stem}/") for stem in stems)
    }


def changes(root: Root, manifest: Manifest) -> Changes | None:
    """A state against its first parent; None if the trees of either were never here."""
    new = find_listing(root, manifest)
    old: Listing | None = {}
    if manifest.parents:
        old = find_listing(root, reach.manifest(root.database.get, manifest.parents[0]))
    return None if new is None or old is None else between(new, old)


def entry(
    root: Root, oid: ManifestId, manifest: Manifest, policy: Policy, keeping: Keeping
) -> LogEntry:
    from usrstore.trust.policy import judge

    signed = Signed.decode(root.database.get(Kind.MANIFEST, oid))
    verdict = judge(signed, policy, at_s=manifest.time_us // 1_000_000)
    files = size = 0
    if root.database.has(manifest.tree):
        node = Tree.decode(root.database.get(Kind.TREE, manifest.tree))
        files, size = node.files, node.size
    return LogEntry(oid, manifest, files, size, keeping.has_tree(manifest.tree), verdict)


def find_listing(root: Root, manifest: Manifest) -> Listing | None:
    """The listing of a state; None for one whose trees never came here."""
    if not root.database.has(manifest.tree):
        return None
    return reach.listing(root.database.get, manifest.tree)


class Keeping:
    """Which states are kept: every chunk in packs. Remembers trees and recipes it has looked at."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recipes: dict[RecipeId, bool] = {}
        self._trees: dict[TreeId, bool] = {}

    def has_tree(self, oid: TreeId) -> bool:
        """Whether every chunk below a tree is in packs; an equal tree is looked at once."""
        if oid not in self._trees:
            self._trees[oid] = self._database.has(oid) and all(
                self.has(entry) if isinstance(entry, FileEntry) else self.has_tree(entry.tree)
                for entry in Tree.decode(self._database.get(Kind.TREE, oid)).entries
            )
        return self._trees[oid]

    def has_all(self, listing: Listing) -> bool:
        return all(self.has(entry) for entry in listing.values())

    def has(self, entry: FileEntry) -> bool:
        if entry.recipe is None:
            return entry.size == 0 or self._database.has(entry.content)
        if entry.recipe not in self._recipes:
            self._recipes[entry.recipe] = self._database.has(entry.recipe) and all(
                self._database.has(oid) for oid, _ in reach.chunks(self._database.get, entry)
            )
        return self._recipes[entry.recipe]
