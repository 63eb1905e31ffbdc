"""fetch: bring a remote's state into the store, kept in packs; the folder is not touched."""

from __future__ import annotations

from dataclasses import dataclass

from usrstore.errors import DatasetNotFoundError
from usrstore.objects.compare import same
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import remote_ref
from usrstore.objects.progress import Emit, silent
from usrstore.odb.states import Change
from usrstore.remote.peer import Peer
from usrstore.trust.policy import Mode
from usrstore.verbs import believing, memory, storing
from usrstore.verbs.history import Keeping
from usrstore.verbs.meeting import meet, take_tags
from usrstore.verbs.site import Site


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What arrived: the remote's manifest, whether it is new here, payload bytes."""

    manifest: ManifestId
    fresh: bool
    payload: int


def fetch(
    site: Site,
    peer: Peer,
    remote: str,
    *,
    mode: Mode = "tofu",
    tags: bool = True,
    emit: Emit = silent,
) -> FetchResult:
    """Raises: as `pull`; a remote without a signed state of its folder cannot be fetched."""
    site.root.create_store()
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
    keeping = Keeping(site.root)
    new = {
        path: entry
        for path, entry in met.there.items()
        if entry.size and not (same(met.local.get(path), entry) and keeping.has(entry))
    }
    payload = storing.store(met, peer, new, emit)
    tracking = remote_ref(remote, site.dataset)
    before = site.root.states.refs().get(tracking)
    site.root.states.advance({tracking: Change(before, head)}, site.who.act("fetch"))
    memory.remember_signer(site.root, remote, site.dataset, verified, at_us=site.who.now_us())
    memory.remember(
        site.root, remote, site.dataset, met.answer.state, head, at_us=site.who.now_us()
    )
    if tags:
        take_tags(met, mode, emit)
    return FetchResult(head, before != head, payload)
