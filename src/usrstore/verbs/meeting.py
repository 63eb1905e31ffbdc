"""Where diff, pull and push begin: both sides captured, compared, and their relation judged."""

from __future__ import annotations

from dataclasses import dataclass

from usrstore.errors import DatasetNotFoundError, DecodeError, InvalidNameError, ObjectNotFoundError
from usrstore.objects.compare import Comparison, compare
from usrstore.objects.ids import Kind, ManifestId, TreeId
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import head_ref, remote_ref
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.tree import Listing
from usrstore.odb import reach
from usrstore.odb.states import Change
from usrstore.remote.peer import Ask, Compared, Intent, Peer, Seen
from usrstore.trust.policy import Mode, Verified
from usrstore.verbs import believing, memory, tagging
from usrstore.verbs.recover import recover
from usrstore.verbs.relation import Judged, Relation, find_base, judge, local_log_is_prefix
from usrstore.verbs.site import Site
from usrstore.verbs.together import Together, ending
from usrstore.worktree.capture import Capture

_KNOWN = 1024


@dataclass(frozen=True, slots=True)
class Meeting:
    """Both sides of one dataset at one moment.

    Attributes:
        site: ours.
        remote: the remote's name.
        found: our folder; None if we have none.
        answer: what the remote said.
        local, there: the two listings.
        comparison: how they differ.
        judged: who changed.
        since: how far the remote had come before it was asked.
        head: our head; synced: the manifest of the last sync.
        arrived: that manifest, if it came there by a push of ours that was never answered.
    """

    site: Site
    remote: str
    found: Capture | None
    answer: Compared
    local: Listing
    there: Listing
    comparison: Comparison
    judged: Judged
    since: memory.Mark
    head: ManifestId | None
    synced: ManifestId | None
    arrived: ManifestId | None = None

    @property
    def relation(self) -> Relation:
        return self.judged.relation


def meet(
    site: Site,
    peer: Peer,
    remote: str,
    intent: Intent,
    *,
    strict_bootstrap_id: bool = False,
    accept_rollback: bool = False,
    verify_registry: bool = False,
    emit: Emit = silent,
) -> Meeting:
    """Compare a dataset with the same one at a remote; one question, one answer.

    Raises:
        DatasetNotFoundError: neither side has it.
        InvalidNameError: a first pull by a bare name under `strict_bootstrap_id`.
        TrustError: the remote went back, or has another history.
    """
    found = None
    if intent != "diff" and site.root.has_store and site.root.writable:
        recover(site.root, site.who, only=site.dataset, lock_timeout_s=site.lock_timeout_s)
    head, synced = _marks(site, remote)  # a head that moves while the folder is read is noticed
    if site.exists:
        found = site.capture(
            record=site.root.has_store, wait=intent != "diff", emit=_minding(peer, emit)
        )
        found = found if found.listing else None
    if found is None and strict_bootstrap_id and "/" not in site.dataset:
        raise InvalidNameError(
            f"{site.dataset!r} is not here yet, and a first pull asks for the whole id "
            "(namespace/name); nothing was changed"
        )
    if found:
        found.store(site.overlay.put)
    emit(Event("plan", text=remote))
    since = memory.mark(site.root, remote, site.dataset)
    answer = peer.compare(
        Ask(
            dataset=site.dataset,
            intent=intent,
            root=found.tree if found else None,
            have=frozenset(found.nodes) if found else frozenset(),
            known=frozenset(list(site.ancestry(head))[:_KNOWN]),
            seen=None if accept_rollback else since.state,
            lock_timeout_s=site.lock_timeout_s,
            verify_registry=verify_registry,
        )
    )
    for note in answer.notes:
        emit(Event("note", text=note))
    if answer.head is not None and answer.state is None:
        synced = None  # a file is no place that one is in step with: only histories count
    for oid, (kind, data) in answer.nodes.items():
        site.overlay.put(kind, oid, data)
    for manifest, data in answer.manifests.items():
        site.overlay.put(Kind.MANIFEST, manifest, data)
    if not accept_rollback:
        believing.check_progress(site, remote, answer, since)
    if stale := believing.check_age(site, remote, answer):
        emit(Event("note", text=stale))
    if found is None and not answer.exists:
        raise DatasetNotFoundError(
            f"there is no dataset {site.dataset}, neither here nor at {remote}",
            hint="check the id; `usr status` and `usr remotes show` tell where is looked",
        )
    synced = _integrated(site, synced, head)
    arrived = _arrived(site, found, answer, head, synced)
    if arrived is not None:
        emit(Event("note", text=f"{remote} has {arrived.short}, whose push was never answered"))
        synced = arrived
    local = found.listing if found else {}
    there = _there(site, found, answer)
    return Meeting(
        site=site,
        remote=remote,
        found=found,
        answer=answer,
        local=local,
        there=there,
        comparison=compare(local, there),
        judged=_judge(site, found, answer, local, there, head, synced),
        since=since,
        head=head,
        synced=synced,
        arrived=arrived,
    )


def _minding(peer: Peer, emit: Emit) -> Emit:
    """Our own folder is read while the other end starts; that it does not is noticed meanwhile."""

    def tell(event: Event) -> None:
        peer.ready()
        emit(event)

    return tell


def _marks(site: Site, remote: str) -> tuple[ManifestId | None, ManifestId | None]:
    if not site.root.has_store:
        return None, None
    synced = site.root.states.refs().get(remote_ref(remote, site.dataset))
    return site.head(), None if synced is None else ManifestId(synced)


def _integrated(
    site: Site, synced: ManifestId | None, head: ManifestId | None
) -> ManifestId | None:
    """The last sync, if our history holds it: what was only fetched was never agreed on."""
    if synced is None or head is None:
        return None
    ours = site.ancestry(head)
    if synced in ours:
        return synced
    tree_id = site.manifest(synced).tree
    return synced if any(manifest.tree == tree_id for manifest in ours.values()) else None


def _arrived(
    site: Site,
    found: Capture | None,
    answer: Compared,
    head: ManifestId | None,
    synced: ManifestId | None,
) -> ManifestId | None:
    """The newest state that a push of ours brought there, whose answer never came.

    It counts as if the answer had come: both sides had it. But only where our history still
    holds what it was made to follow (an undo may have gone back behind that), and where the last
    sync that we know of is not a later one. Folders that are equal need no such witness.
    """
    if found is None or answer.root is None or found.tree == answer.root.tree:
        return None
    if answer.head is None or answer.state is None or not site.root.has_store:
        return None
    offers = {offer.manifest: offer.head for offer in memory.offers(site.root, site.dataset)}
    if not offers:
        return None
    ours = site.ancestry(head)
    for oid in _ancestry(site, answer.head):
        if oid in offers and oid not in ours and offers[oid] in (None, *ours):
            return oid if synced is None or synced in site.ancestry(oid) else None
    return None


def _there(site: Site, found: Capture | None, answer: Compared) -> Listing:
    """The remote's listing, built from the nodes it sent and those we have."""
    if answer.root is None:
        return {}
    if found is not None and answer.root.tree == found.tree:
        return found.listing
    try:
        return reach.listing(site.overlay.get, answer.root.tree)
    except ObjectNotFoundError as exc:
        raise DecodeError(
            f"the inventory that came from the remote is incomplete: {exc.message}; "
            "nothing was changed",
            hint="run the same command again",
        ) from exc


def _judge(
    site: Site,
    found: Capture | None,
    answer: Compared,
    local: Listing,
    there: Listing,
    head: ManifestId | None,
    synced: ManifestId | None,
) -> Judged:
    if found is None or answer.root is None:
        base: Listing | None = None
    else:
        tree_id = find_base(
            found.tree,
            answer.root.tree,
            synced=site.manifest(synced).tree if synced else None,
            ours=site.ancestry(head),
            theirs=_ancestry(site, answer.head),
        )
        base = None if tree_id is None else _listing(site, tree_id)
    return judge(local, there, base=base, log_is_prefix=local_log_is_prefix(site.folder))


def _ancestry(site: Site, head: ManifestId | None) -> dict[ManifestId, Manifest]:
    try:
        return site.ancestry(head)
    except ObjectNotFoundError as exc:
        raise DecodeError(f"the remote's history is incomplete: {exc.message}") from exc


def _listing(site: Site, tree_id: TreeId) -> Listing | None:
    try:
        return reach.listing(site.overlay.get, tree_id)
    except ObjectNotFoundError:
        return None  # a base that gc took is no base


def their_manifest(met: Meeting, verified: Verified | None) -> ManifestId | None:
    """The remote's manifest, if it is one of the folder that the remote showed us."""
    if verified is None or met.answer.root is None:
        return None
    met.site.registry_entry(met.answer.registry)
    registry = verified.manifest.registry
    whole = registry is None or met.site.overlay.has(registry.content)
    return verified.oid if whole and verified.manifest.tree == met.answer.root.tree else None


def note_agreement(
    met: Meeting, verified: Verified | None, together: Together | None = None
) -> None:
    """Both sides are equal: remember where the remote is; a new head only if we had none."""
    site = met.site
    if met.relation is not Relation.SAME or met.answer.root is None or not site.root.has_store:
        return
    theirs = their_manifest(met, verified)
    if theirs is None and met.head and site.manifest(met.head).tree == met.answer.root.tree:
        theirs = met.head  # ours stands for theirs where the remote has no state of its own
    if theirs is None:
        return
    refs = site.root.states.refs()
    tracking = remote_ref(met.remote, site.dataset)
    changes = {tracking: Change(refs.get(tracking), theirs)}
    if met.head is None or met.head in site.ancestry(theirs):  # the folder is what theirs says
        changes[head_ref(site.dataset)] = Change(met.head, theirs)
    with ending(together, site.root, site.who, "agrees with the remote") as joint:
        if any(change.expected != change.new for change in changes.values()):
            site.overlay.flush()
            joint.move(changes)
        joint.then(lambda: remember_theirs(met, verified))


def go_on(met: Meeting) -> ManifestId | None:
    """Let our history hold what a push of ours brought there, as if its answer had come.

    Returns:
        Our head.
    """
    site, arrived = met.site, met.arrived
    if arrived is None or met.found is None:
        return met.head
    head = arrived
    if met.head is not None and met.head not in site.ancestry(arrived):  # both came after it
        message = f"goes on from a push to {met.remote}"
        head = site.snapshot(met.found, message=message, parents=[met.head, arrived])
    site.overlay.flush()
    tracking = remote_ref(met.remote, site.dataset)
    changes = {
        head_ref(site.dataset): Change(met.head, head),
        tracking: Change(site.root.states.refs().get(tracking), arrived),
    }
    site.root.states.advance(changes, site.who.act("the push that was never answered"))
    return head


def take_tags(met: Meeting, mode: Mode, emit: Emit) -> None:
    """The tags of the remote's state, if that state is what came."""
    site, answer = met.site, met.answer
    if answer.head is None or answer.root is None:
        return
    if site.manifest(answer.head).tree != answer.root.tree:
        return  # the folder there has gone on: its signed state is not what came
    took = tagging.take(site, answer.nodes, answer.head, place=met.remote, mode=mode)
    for note in took.notes:
        emit(Event("note", text=note))


def remember_theirs(met: Meeting, verified: Verified | None) -> None:
    """Whose word was taken for the remote's state, and how far the remote has come."""
    site, answer = met.site, met.answer
    if verified is not None:
        memory.remember_signer(
            site.root, met.remote, site.dataset, verified, at_us=site.who.now_us()
        )
    mark_progress(met, answer.state, answer.head)


def mark_progress(met: Meeting, state: Seen | None, head: ManifestId | None) -> None:
    """How far the remote has come, judged against what was known when it was asked."""
    site = met.site
    memory.remember(
        site.root,
        met.remote,
        site.dataset,
        state,
        head,
        since=met.since,
        at_us=site.who.now_us(),
    )
