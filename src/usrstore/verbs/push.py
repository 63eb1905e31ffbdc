"""push: the same road mirrored. The remote receives, verifies, promotes, advances, answers.

compare → offer → plan → send → the remote verifies the whole tree → promote → audit
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from usrstore.errors import ConflictError, RefConflictError, RegistryError, TrustError
from usrstore.objects import tree
from usrstore.objects.compare import compare, same
from usrstore.objects.ids import ChunkId, Kind, ManifestId, ObjectId, RecipeId
from usrstore.objects.names import head_ref, remote_ref
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.sections import EVENTS_FILE, PRIMARY_FILE
from usrstore.objects.tree import Listing
from usrstore.odb.states import Change
from usrstore.remote.peer import Nodes, Peer, Piece, Proposal
from usrstore.verbs import answering, believing, memory, tagging, vetting
from usrstore.verbs.audit import Moved, SyncResult
from usrstore.verbs.meeting import Meeting, mark_progress, meet, note_agreement
from usrstore.verbs.options import Agree, OnMeeting, Options, diverged
from usrstore.verbs.problems import inventory_check
from usrstore.verbs.relation import Relation
from usrstore.verbs.sending import Sending
from usrstore.verbs.site import Site
from usrstore.verbs.together import Together, ending
from usrstore.worktree.statcache import Facts

_TELL_BYTES = 1 << 20  # of one file: how often it is told how much of it has gone


def push(
    site: Site,
    peer: Peer,
    remote: str,
    options: Options,
    *,
    agree: Agree = lambda _met: True,
    on_meeting: OnMeeting = lambda _met: None,
    together: Together | None = None,
    emit: Emit = silent,
) -> SyncResult | None:
    """Make the remote's dataset what ours is; None if `agree` said no.

    With `together`, the remote holds all of it, and promotes when that does.

    Raises:
        ConflictError: the remote moved on.
        VerificationError: the remote found that what arrived is not what we promised.
        TrustError, RemoteError, StorageError: nothing was changed.
    """
    began, before = time.monotonic(), peer.traffic()
    site.root.check_dataset(site.dataset)
    if site.root.lone is None and site.root.registry() is None:
        raise RegistryError(
            f"registry: {site.root.path} has no registry.yaml, which must travel with "
            f"{site.dataset}; nothing was changed",
            hint="usr init makes one; or restore it from a copy",
        )
    met = meet(site, peer, remote, "push", accept_rollback=options.accept_rollback, emit=emit)
    on_meeting(met)
    options.scope.check((*met.local, *met.there), where=f"{site.dataset}, here or at {remote},")
    wanted = options.mix(met.there, met.local)
    if not compare(wanted, met.there).changed:
        if not options.dry_run:
            _note_agreement(met, options, together)
            _send_tags(met, peer, options, emit)
        moved = Moved.since(before, peer, seconds=time.monotonic() - began)
        return SyncResult(
            "push", "NO-OP", met, options.checks, met.head, moved=moved, scope=options.scope
        )
    if met.relation is Relation.REMOTE_AHEAD and not options.force:
        raise ConflictError(
            f"{site.dataset} moved on at {remote} while it stayed the same here; "
            "nothing was changed",
            hint=f"usr pull {site.dataset} {remote}",
            code="remote-ahead",
        )
    if met.relation is Relation.DIVERGED and not options.force:
        raise diverged(met, "push")
    if options.checks.registry:
        _vet(met, wanted)
    if options.dry_run:
        return SyncResult("push", "DRY-RUN", met, options.checks, None, scope=options.scope)
    if not agree(met):
        return None
    site.root.create_store()
    reason = " ".join(("push", *options.policy))
    with ending(together, site.root, site.who, reason) as joint:
        joint.hold(site.transfer_lock())
        _check_head(met)
        _remember(met)
        with inventory_check("post-push"):
            manifest, payload, resumed = _send(
                met, peer, wanted, options, joint, hold=together is not None, emit=emit
            )
        _note(met, manifest, options, joint)
    seconds = time.monotonic() - began
    moved = Moved.since(before, peer, payload=payload, resumed=resumed, seconds=seconds)
    return SyncResult(
        "push", "TRANSFERRED", met, options.checks, manifest, None, moved, scope=options.scope
    )


def _check_head(met: Meeting) -> None:
    """What was kept here while the ends were compared belongs into what is sent."""
    if met.site.head() != met.head:
        raise RefConflictError(
            f"{met.site.dataset} was kept by another command while it was compared; "
            "nothing was changed, here or there",
            hint="run the same command again",
        )


def _remember(met: Meeting) -> None:
    """A first push that is cut short need not read everything again to go on."""
    found, answer = met.found, met.answer
    if found and found.read and met.head is None and not (answer.nodes or answer.manifests):
        met.site.overlay.flush()  # only our own are in it (I5)
        met.site.save_cache(found)


def _vet(met: Meeting, wanted: Listing) -> None:
    """What would travel must keep our own registry."""
    travels = [path for path, entry in wanted.items() if not same(met.there.get(path), entry)]
    vetting.vet_folder(met.site, travels, what=f"what {met.site.dataset} would send")


def _send(
    met: Meeting,
    peer: Peer,
    wanted: Listing,
    options: Options,
    together: Together,
    *,
    hold: bool,
    emit: Emit,
) -> tuple[ManifestId, int, int]:
    site = met.site
    assert met.found is not None
    manifest = _manifest(met, wanted, options)
    sending = Sending(
        site.folder,
        met.found.listing,
        site.overlay.get,
        hashed=met.found.hashed,
        lone=site.root.lone,
    )
    try:
        changed = [e for path, e in wanted.items() if not same(met.there.get(path), e)]
        recipes = dict(sending.nodes({entry.content: None for entry in changed}))
        lacking = peer.offer(list(recipes)) if recipes and met.there else list(recipes)
        planned = peer.plan(
            Proposal(
                dataset=site.dataset,
                manifest=manifest,
                manifests=_chain(met, manifest),
                nodes=_nodes(met, manifest, recipes, lacking)
                | (tagging.offered(site, manifest) if options.tags else {}),
                registry=site.root.registry(),
                expected_root=met.answer.root.tree if met.answer.root else None,
                expected_head=met.answer.head,
                checks=options.checks,
                keep_replaced=met.judged.guessed
                or (options.force and met.relation is not Relation.LOCAL_AHEAD),
                lock_timeout_s=site.lock_timeout_s,
            )
        )
        _offer(met, manifest, options)
        counted = _Counted(sending, planned.wanted, emit)
        if hold:
            peer.hold(counted)
            together.deliver(peer)
        else:
            together.outcome = peer.publish(counted)
        return manifest, counted.size, planned.resumed
    finally:
        sending.close()


def _offer(met: Meeting, manifest: ManifestId, options: Options) -> None:
    """Note what may be there soon, even if we never hear of it: `meeting` looks for it again."""
    site = met.site
    ours = site.ancestry(met.head)
    if options.whole and manifest not in ours:
        site.overlay.flush()  # I3, and a base that can be compared with later
        memory.offer(site.root, site.dataset, manifest, met.head, ours)


class _Counted:
    """Pieces on their way, counted."""

    def __init__(self, sending: Sending, wanted: Sequence[ChunkId], emit: Emit) -> None:
        self._sending = sending
        self._wanted = wanted
        self._emit = emit
        self.size = 0

    def __iter__(self) -> Iterator[Piece]:
        places = [self._sending.place(oid) for oid in self._wanted]
        total = sum(place.size for place in places)
        files_total = len({place.path for place in places})
        begun: set[str] = set()  # a chunk of several files lies in any of them
        told, path = 0, None
        pieces = self._sending.pieces(self._wanted)
        for piece, place in zip(pieces, places, strict=True):
            self.size += piece.size
            if place.path != path or self.size - told >= _TELL_BYTES or self.size == total:
                told, path = self.size, place.path
                begun.add(path)
                self._emit(Event("move", told, total, path, len(begun), files_total))
            yield piece
        self._emit(Event("verify", text="at the remote"))


def _manifest(met: Meeting, wanted: Listing, options: Options) -> ManifestId:
    """The state that the remote is to take: our folder as it is, on top of what it had."""
    site = met.site
    assert met.found is not None
    parents = [oid for oid in (met.head,) if oid is not None]
    theirs = met.answer.head
    if theirs is not None and (met.head is None or theirs not in site.ancestry(met.head)):
        parents.append(theirs)
    if not options.whole:
        root = tree.build(wanted, lambda oid, data: site.overlay.put(Kind.TREE, oid, data))
        return site.make_manifest(
            root.tree,
            parents,
            facts=_facts(met, met.found.facts, options),
            message=f"push to {met.remote}",
            policy=options.policy,
            registry=site.root.registry(),
        )
    return site.snapshot(
        met.found, message=f"push to {met.remote}", policy=options.policy, parents=parents
    )


def _facts(met: Meeting, ours: Facts, options: Options) -> Facts:
    theirs = met.answer
    table = ours if options.scope.takes(PRIMARY_FILE) else theirs
    log = ours if options.scope.takes(EVENTS_FILE) else theirs
    return Facts(table.rows, table.columns, table.schema, log.events)


def _chain(met: Meeting, manifest: ManifestId) -> dict[ManifestId, bytes]:
    """Our manifest and those of its ancestors that the remote's head does not descend from."""
    site = met.site
    known = site.ancestry(met.answer.head)
    return {
        oid: site.overlay.get(Kind.MANIFEST, oid)
        for oid in site.ancestry(manifest)
        if oid not in known
    }


def _nodes(
    met: Meeting,
    manifest: ManifestId,
    recipes: dict[RecipeId, bytes],
    lacking: Sequence[RecipeId],
) -> Nodes:
    """Tree nodes that the remote's folder does not have, and the recipes it asked for."""
    site = met.site

    def get(oid: ObjectId) -> bytes:
        return site.overlay.get(Kind.TREE, oid)

    theirs = set(tree.node_ids(met.answer.root.tree, get)) if met.answer.root else set()
    root = site.manifest(manifest).tree
    if met.found is not None and met.found.tree == root:
        nodes: Nodes = {o: (Kind.TREE, d) for o, d in met.found.nodes.items() if o not in theirs}
    else:
        nodes = answering.tree_nodes(site.overlay.get, root, theirs)
    for oid in lacking:
        nodes[oid] = (Kind.RECIPE, recipes[oid])
    return nodes


def _note_agreement(met: Meeting, options: Options, together: Together | None) -> None:
    """The remote has our files: what it knows them as is where both sides last agreed."""
    site, answer = met.site, met.answer
    verified = None
    if answer.head is not None:
        try:
            verified = believing.check_incoming(
                site, answer.manifests, answer.head, None, place=met.remote, mode=options.trust
            )
        except TrustError:
            return  # nothing of theirs was taken, so there is nothing to refuse
    note_agreement(met, verified, together)


def tags_to_send(met: Meeting, options: Options) -> Nodes:
    """Our tags of the state that the remote has, and that it lacks; none for a folder that went on."""
    site, answer = met.site, met.answer
    if not (options.tags and options.whole) or answer.head is None or answer.root is None:
        return {}
    if site.manifest(answer.head).tree != answer.root.tree:
        return {}
    ours = tagging.offered(site, answer.head)
    return {oid: node for oid, node in ours.items() if oid not in answer.nodes}


def _send_tags(met: Meeting, peer: Peer, options: Options, emit: Emit) -> None:
    """Nothing else is new there."""
    nodes = tags_to_send(met, options)
    if not nodes:
        return
    sent = peer.tag(met.site.dataset, nodes)
    if sent.taken:
        emit(Event("note", text=f"tags that went to {met.remote}: {', '.join(sent.taken)}"))
    for note in sent.notes:
        emit(Event("note", text=f"{met.remote}: {note}"))


def _note(met: Meeting, manifest: ManifestId, options: Options, together: Together) -> None:
    """Our head and the tracking ref, once the remote has the state."""
    site = met.site
    site.overlay.flush()
    refs = site.root.states.refs()
    tracking = remote_ref(met.remote, site.dataset)
    changes = {tracking: Change(refs.get(tracking), manifest)}
    if options.whole:
        changes[head_ref(site.dataset)] = Change(met.head, manifest)
    together.move(changes)

    def remember() -> None:
        assert together.outcome is not None
        mark_progress(met, together.outcome.state, manifest)

    together.then(remember)
