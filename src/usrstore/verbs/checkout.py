"""checkout: take the folder to a state, or some of its files. The head stays where it is.

What the folder held is kept first, and `folders/<dataset>` says where it is now; so the operation
log knows of every checkout, and each can be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from usrstore.errors import IncompleteError, RevisionNotFoundError
from usrstore.objects import tree
from usrstore.objects.compare import compare
from usrstore.objects.ids import Kind, ManifestId
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import RefName, folder_ref, head_ref
from usrstore.objects.progress import Emit, silent
from usrstore.objects.tree import Listing
from usrstore.odb import reach
from usrstore.odb.states import Change
from usrstore.remote.peer import Checks
from usrstore.verbs import commit
from usrstore.verbs.history import Keeping
from usrstore.verbs.receiving import Receiving
from usrstore.verbs.site import Site
from usrstore.verbs.together import Together, ending
from usrstore.worktree.capture import Capture
from usrstore.worktree.statcache import Facts


@dataclass(frozen=True, slots=True)
class CheckoutResult:
    """What a checkout did.

    Attributes:
        manifest: the state that was asked for.
        changed: how many files differ now from before.
        saved: the manifest that keeps what the folder held, if it was made for that.
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
    found = capture(site, emit)
    before = found.listing if found else {}
    target = oid
    if paths:
        after = _only(before, reach.listing(site.overlay.get, manifest.tree), paths)
        if not compare(before, after).changed:
            return CheckoutResult(oid, 0, None)
        target = _mixture(site, after, [oid], f"checkout of {' '.join(paths)} from {oid.short}")

    def moves() -> dict[RefName, Change]:
        return _moves(site, target, whole=not paths)

    what = f"checkout {oid.short}" + (f" -- {' '.join(paths)}" if paths else "")
    changed, saved = take(site, found, target, moves, reason=what, emit=emit)
    return CheckoutResult(oid, changed, saved)


def take(
    site: Site,
    found: Capture | None,
    target: ManifestId,
    moves: Callable[[], dict[RefName, Change]],
    *,
    reason: str,
    together: Together | None = None,
    emit: Emit = silent,
) -> tuple[int, ManifestId | None]:
    """Take the folder to a state and move refs with it, in one step (I6).

    Args:
        site: the dataset.
        found: its folder as captured; None if there is none.
        target: the state.
        moves: how refs move; asked once what the folder held has been kept.
        reason: for the operation log.
        together: what it ends with; by itself without.
        emit: progress.

    Returns:
        How many files changed, and the manifest that keeps what the folder held, if it was made
        for that.

    Raises:
        IncompleteError: bytes of the state are nowhere; nothing was changed.
    """
    manifest = site.manifest(target)
    before = found.listing if found else {}
    changed = sum(1 for _ in compare(before, _listing(site, target, manifest)).paths())
    with ending(together, site.root, site.who, reason, emit=emit) as joint:
        if not changed:
            site.overlay.flush()
            joint.move(moves())
            return 0, None
        joint.hold(site.transfer_lock())
        receiving = Receiving(site, manifest, found, Checks(), "post-checkout")
        try:
            lacking = receiving.plan(emit)
            if lacking:
                receiving.discard()
                raise IncompleteError(
                    f"state {target.short} of {site.dataset} was never kept, and {len(lacking)} "
                    "chunks of it are nowhere; nothing was changed",
                    hint="only states made by `usr commit` are kept for ever; `usr log` marks "
                    "them. A remote that has it can send it with `usr fetch`",
                    code="not-kept",
                )
            saved = _save(site, found, emit)
            joint.add(receiving.settle(emit=emit), moves())
        finally:
            receiving.close()
    return changed, saved


def capture(site: Site, emit: Emit = silent) -> Capture | None:
    """The folder as it is; None if there is none, or an empty one."""
    if not site.exists:
        return None
    found = site.capture(record=True, emit=emit)
    return found if found.listing else None


def _listing(site: Site, oid: ManifestId, manifest: Manifest) -> Listing:
    if not site.overlay.has(manifest.tree):
        raise IncompleteError(
            f"state {oid.short} of {site.dataset} is known by name only: its files were never "
            "here; nothing was changed",
            hint="a remote that has it can send it with `usr fetch`",
            code="not-kept",
        )
    return reach.listing(site.overlay.get, manifest.tree)


def _moves(site: Site, target: ManifestId, *, whole: bool) -> dict[RefName, Change]:
    """`folders/<dataset>` says where the folder is, if that is not the head."""
    refs = site.root.states.refs()
    head, folder = head_ref(site.dataset), folder_ref(site.dataset)
    if head not in refs and whole:  # the first state here: what was fetched becomes ours
        return {head: Change(None, target), folder: Change(refs.get(folder), None)}
    return {folder: Change(refs.get(folder), None if target == refs.get(head) else target)}


def _mixture(
    site: Site, listing: Listing, source: Sequence[ManifestId], message: str
) -> ManifestId:
    """The state of a folder of which some files were taken from elsewhere."""
    root = tree.build(listing, lambda o, data: site.overlay.put(Kind.TREE, o, data))
    at = site.position()
    for known in (site.head(), at, *source):
        if known is not None and site.manifest(known).tree == root.tree:
            return known
    return site.make_manifest(
        root.tree,
        [at] if at else [],
        facts=Facts(),
        message=message,
        registry=site.root.registry(),
    )


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
    """Keep what the folder holds, unless the state it is at does: its bytes may be nowhere else."""
    if found is None:
        return None
    at = site.position()
    if (
        at
        and site.manifest(at).tree == found.tree
        and Keeping(site.root.database).has_all(found.listing)
    ):
        return None
    own = Site.open(site.root, site.dataset, site.who, lock_timeout_s=site.lock_timeout_s)
    result = commit.commit(own, message="kept before a checkout", aside=True, emit=emit)
    return result.manifest if result.created else None
