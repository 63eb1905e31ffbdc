"""status, log and show: what the folder and the states say, read only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usrstore.objects.compare import Comparison, compare
from usrstore.objects.ids import Kind, ManifestId, RecipeId
from usrstore.objects.manifest import Manifest, Signed
from usrstore.objects.progress import Emit, silent
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import reach
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


def log(root: Root, start: ManifestId, policy: Policy, *, limit: int) -> Iterator[LogEntry]:
    """A state and its ancestors, newest first."""
    keeping = Keeping(root)
    for number, (oid, manifest) in enumerate(reach.ancestry(root.database.get, start)):
        if number >= limit:
            return
        yield entry(root, oid, manifest, policy, keeping)


def entry(
    root: Root, oid: ManifestId, manifest: Manifest, policy: Policy, keeping: Keeping
) -> LogEntry:
    from usrstore.trust.policy import judge

    signed = Signed.decode(root.database.get(Kind.MANIFEST, oid))
    verdict = judge(signed, policy, at_s=manifest.time_us // 1_000_000)
    listing = find_listing(root, manifest)
    size = sum(e.size for e in listing.values()) if listing is not None else 0
    files = len(listing) if listing is not None else 0
    kept = listing is not None and keeping.has_all(listing)
    return LogEntry(oid, manifest, files, size, kept, verdict)


def find_listing(root: Root, manifest: Manifest) -> Listing | None:
    """The listing of a state; None for one whose trees never came here."""
    if not root.database.has(manifest.tree):
        return None
    return reach.listing(root.database.get, manifest.tree)


class Keeping:
    """Which states are kept: every chunk in packs. Remembers recipes it has looked at."""

    def __init__(self, root: Root) -> None:
        self._database = root.database
        self._recipes: dict[RecipeId, bool] = {}

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
