"""checkout: take the folder to a state, or some of its files. The head stays where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from usrstore.errors import IncompleteError, RevisionNotFoundError
from usrstore.objects import tree
from usrstore.objects.compare import compare
from usrstore.objects.ids import Kind, ManifestId
from usrstore.objects.progress import Emit, silent
from usrstore.objects.tree import Listing
from usrstore.odb import reach
from usrstore.remote.peer import Checks
from usrstore.verbs import commit
from usrstore.verbs.history import Keeping
from usrstore.verbs.receiving import Receiving
from usrstore.verbs.site import Site
from usrstore.worktree.capture import Capture


@dataclass(frozen=True, slots=True)
class CheckoutResult:
    """What a checkout did.

    Attributes:
        manifest: the state that was asked for.
        changed: how many files differ now from before.
        saved: the manifest that keeps what the folder held, if no other did.
    """

    manifest: ManifestId
    changed: int
    saved: ManifestId | None


def checkout(
    site: Site, oid: ManifestId, *, paths: Sequence[str] = (), emit: Emit = silent
) -> CheckoutResult:
    """Make the folder what a state says; local changes that no state holds are kept first.

    Args:
        site: the dataset.
        oid: the state.
        paths: only these files or folders; the rest stays.
        emit: progress.

    Raises:
        IncompleteError: the state was never kept, and its bytes are nowhere.
        RevisionNotFoundError: the state holds none of `paths`.
    """
    manifest = site.manifest(oid)
    found = None
    if site.exists:
        found = site.capture(record=True, emit=emit)
        found = found if found.listing else None
    before = found.listing if found else {}
    after = reach.listing(site.overlay.get, manifest.tree)
    if paths:
        after = _only(before, after, paths)
        root = tree.build(after, lambda o, data: site.overlay.put(Kind.TREE, o, data))
        manifest = replace(
            manifest, tree=root.tree, rows=None, columns=None, schema=None, events=None
        )
    changed = sum(1 for _ in compare(before, after).paths())
    if not changed:
        return CheckoutResult(oid, 0, None)
    saved = _save(site, found, emit)
    with site.transfer_lock():
        receiving = Receiving(site, manifest, found, Checks(), "post-checkout")
        try:
            lacking = receiving.plan(emit)
            if lacking:
                receiving.discard()
                raise IncompleteError(
                    f"state {oid.short} of {site.dataset} was never kept, and {len(lacking)} "
                    "chunks of it are nowhere; nothing was changed",
                    hint="only states made by `usr commit` are kept for ever; `usr log` marks "
                    "them. A remote that has it can send it with `usr fetch`",
                    code="not-kept",
                )
            receiving.promote({}, reason=f"checkout {oid.short}", emit=emit)
        finally:
            receiving.close()
    return CheckoutResult(oid, changed, saved)


def _only(before: Listing, after: Listing, paths: Sequence[str]) -> Listing:
    chosen = dict(before)
    for path in paths:
        stem = path.rstrip("/")
        inside = [p for p in after.keys() | before.keys() if p == stem or p.startswith(f"{stem}/")]
        if not any(p in after for p in inside):
            raise RevisionNotFoundError(f"that state holds no {path!r}; nothing was changed")
        for name in inside:
            if name in after:
                chosen[name] = after[name]
            else:
                del chosen[name]
    return chosen


def _save(site: Site, found: Capture | None, emit: Emit) -> ManifestId | None:
    """Keep what the folder holds, unless packs have it: its bytes may be nowhere else."""
    if found is None:
        return None
    head = site.head()
    known = {manifest.tree for manifest in site.ancestry(head).values()}
    if found.tree in known and Keeping(site.root).has_all(found.listing):
        return None
    own = Site.open(site.root, site.dataset, site.who, lock_timeout_s=site.lock_timeout_s)
    result = commit.commit(own, message="kept before a checkout", emit=emit)
    return result.manifest if result.created else None
