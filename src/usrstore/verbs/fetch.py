"""fetch: bring a remote's state into the store, kept in packs; the folder is not touched.

compare → trust → take what is in scope → one state for all tracking refs

What is out of scope comes as a light state's files do: named, with trees and recipes, without
its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usrstore.errors import DatasetNotFoundError
from usrstore.objects.compare import same
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import remote_ref
from usrstore.objects.progress import Emit, silent
from usrstore.odb.states import Change
from usrstore.remote.peer import Peer
from usrstore.trust.policy import Mode, Verified
from usrstore.verbs import believing, storing
from usrstore.verbs.history import Keeping
from usrstore.verbs.many import counted, naming
from usrstore.verbs.meeting import Meeting, meet, remember_theirs, take_tags
from usrstore.verbs.scope import WHOLE, LeftOut, Scope
from usrstore.verbs.site import Site


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What arrived of one dataset.

    Attributes:
        manifest: the remote's state.
        fresh: whether it is new here.
        payload: bytes that travelled.
        left_out: what of the state was not asked for, and is not in the store; None if it is
            there in whole.
    """

    manifest: ManifestId
    fresh: bool
    payload: int
    left_out: LeftOut | None = None


def fetch(
    site: Site,
    peer: Peer,
    remote: str,
    *,
    mode: Mode = "tofu",
    tags: bool = True,
    scope: Scope = WHOLE,
    emit: Emit = silent,
) -> FetchResult:
    """Raises: as `pull`; a remote without a signed state of its folder cannot be fetched."""
    return fetch_all([site], peer, remote, mode=mode, tags=tags, scope=scope, emit=emit)[0]


def fetch_all(
    sites: Sequence[Site],
    peer: Peer,
    remote: str,
    *,
    mode: Mode = "tofu",
    tags: bool = True,
    scope: Scope = WHOLE,
    emit: Emit = silent,
) -> list[FetchResult]:
    """Fetch several datasets of one root; one state says where the remote is with all of them.

    Raises:
        UsrError: as `fetch`, naming the dataset; no ref was changed.
    """
    root, who = sites[0].root, sites[0].who
    root.create_store()
    brought: list[tuple[Meeting, Verified, FetchResult]] = []
    for number, site in enumerate(sites, 1):
        with naming(site.dataset, len(sites)):
            told = counted(emit, site.dataset, number, len(sites))
            brought.append(_bring(site, peer, remote, mode, scope, told))
    refs = root.states.refs()
    changes = {}
    for met, verified, _ in brought:
        tracking = remote_ref(remote, met.site.dataset)
        changes[tracking] = Change(refs.get(tracking), verified.oid)
    root.states.advance(changes, who.act(" ".join(("fetch", *scope.policy))))
    for met, verified, _ in brought:
        remember_theirs(met, verified)
        if tags:
            take_tags(met, mode, emit)
    return [result for _, _, result in brought]


def _bring(
    site: Site, peer: Peer, remote: str, mode: Mode, scope: Scope, emit: Emit
) -> tuple[Meeting, Verified, FetchResult]:
    """One dataset's state into packs; no ref names it yet."""
    met = meet(site, peer, remote, "pull", emit=emit)
    head, root = met.answer.head, met.answer.root
    if root is None or head is None:
        raise DatasetNotFoundError(
            f"the remote {remote} has no signed state of {site.dataset} to fetch",
            hint=f"usr pull {site.dataset} {remote} takes its folder as it is",
        )
    verified = believing.check_incoming(
        site, met.answer.manifests, head, None, place=remote, mode=mode
    )
    if verified.manifest.tree != root.tree:
        raise DatasetNotFoundError(
            f"the folder at {remote} has changed since its last signed state, and may not be "
            "snapshotted there",
            hint=f"usr pull {site.dataset} {remote} takes its folder as it is",
        )
    scope.check(met.there, where=f"{site.dataset} at {remote}")
    keeping = Keeping(site.root.database)
    new = {
        path: entry
        for path, entry in met.there.items()
        if entry.size and not (same(met.local.get(path), entry) and keeping.has(entry))
    }
    wanted = {path: entry for path, entry in new.items() if scope.takes(path)}
    payload = storing.store(met, peer, wanted, emit, named=new)
    before = site.root.states.refs().get(remote_ref(remote, site.dataset))
    kept = Keeping(site.root.database)
    lacking = {path: entry for path, entry in new.items() if not kept.has(entry)}
    left = scope.left_out({}, lacking) if lacking else None
    return met, verified, FetchResult(head, before != head, payload, left)
