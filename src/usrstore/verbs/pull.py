"""pull: take the remote's state, whole and verified, or leave everything as it was.

compare → plan → receive into the stage (hash each) → verify all → trust → promote → audit
"""

from __future__ import annotations

import time
from collections.abc import Callable

from usrstore.errors import (
    DatasetNotFoundError,
    IncompleteError,
    UsrError,
)
from usrstore.objects import recipe, tree
from usrstore.objects.compare import same
from usrstore.objects.ids import ChunkId, ContentHash, Kind, ManifestId, RecipeId
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import head_ref, remote_ref
from usrstore.objects.progress import Emit, silent
from usrstore.objects.sections import EVENTS_FILE, PRIMARY_FILE
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import reach
from usrstore.odb.states import Change
from usrstore.remote.peer import Peer
from usrstore.trust import policy as trust
from usrstore.trust.policy import Verified
from usrstore.verbs import believing, commit, storing, vetting
from usrstore.verbs import merge as merging
from usrstore.verbs.audit import Moved, SyncResult
from usrstore.verbs.meeting import (
    Meeting,
    go_on,
    meet,
    note_agreement,
    remember_theirs,
    take_tags,
    their_manifest,
)
from usrstore.verbs.options import Agree, OnMeeting, Options, diverged
from usrstore.verbs.problems import inventory_check
from usrstore.verbs.receiving import Receiving
from usrstore.verbs.relation import Relation, prefix_hash
from usrstore.verbs.site import Site
from usrstore.verbs.together import Together, ending
from usrstore.worktree.stage import Stage
from usrstore.worktree.statcache import Facts


def pull(
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
    """Make the local dataset what the remote's is; None if `agree` said no.

    With `together`, all is made ready, and happens when that does.

    Raises:
        DivergedError: both sides changed.
        VerificationError: what arrived is not what the remote's manifest says.
        TrustError, ConflictError, RemoteError, StorageError: nothing was changed.
    """
    began, before = time.monotonic(), peer.traffic()
    with inventory_check("post-pull"):
        met = meet(
            site,
            peer,
            remote,
            "diff" if options.dry_run else "pull",  # a look leaves no snapshot behind
            strict_bootstrap_id=options.strict_bootstrap_id,
            accept_rollback=options.accept_rollback,
            verify_registry=options.checks.registry,
            emit=emit,
        )
    on_meeting(met)
    if met.answer.root is None:
        raise DatasetNotFoundError(
            f"the remote {remote} has no dataset {site.dataset}; nothing was changed",
            hint=f"to send yours: usr push {site.dataset} {remote}",
        )
    options.scope.check((*met.local, *met.there), where=f"{site.dataset}, here or at {remote},")
    wanted = options.mix(met.local, met.there)
    verified = None if options.dry_run else _believe(met, options)
    verdict = verified.verdict if verified else None
    if met.relation is Relation.LOCAL_AHEAD and not options.force:
        wanted = met.local
    if not _differ(met.local, wanted):
        if not options.dry_run:
            note_agreement(met, verified, together)
            if met.relation is Relation.SAME:
                with ending(together, site.root, site.who, "pull") as joint:
                    joint.then(lambda: bring_tags(met, options, emit))
        moved = Moved.since(before, peer, seconds=time.monotonic() - began)
        return SyncResult(
            "pull", "NO-OP", met, options.checks, met.head, verdict, moved, scope=options.scope
        )
    if met.relation is Relation.DIVERGED and not options.force and not options.dry_run:
        mergeable = met.found is not None and met.judged.based and site.root.lone is None
        if not options.whole or not mergeable:
            raise diverged(met, "pull")
        return _merge(met, peer, verified, options, agree, together, began, before, emit)
    if options.dry_run:
        _fetch_recipes(met, peer, wanted)  # the remote vets what it would send
        return SyncResult(
            "pull", "DRY-RUN", met, options.checks, None, verdict, scope=options.scope
        )
    if not agree(met):
        return None
    site.root.create_store()
    reason = " ".join(("pull", *options.policy))
    with ending(together, site.root, site.who, reason, emit=emit) as joint:
        joint.hold(site.transfer_lock())
        if met.found and (met.relation is Relation.DIVERGED or met.judged.guessed):
            own = Site.open(site.root, site.dataset, site.who)  # I5: nothing foreign in it
            commit.commit(own, message="kept before a pull replaced it", emit=emit)
        manifest, taken, resumed = _receive(met, peer, wanted, verified, options, joint, emit)
        joint.then(lambda: remember_theirs(met, verified))
        joint.then(lambda: bring_tags(met, options, emit))
    seconds = time.monotonic() - began
    moved = Moved.since(before, peer, payload=taken, resumed=resumed, seconds=seconds)
    return SyncResult(
        "pull", "TRANSFERRED", met, options.checks, manifest, verdict, moved, scope=options.scope
    )


def _merge(
    met: Meeting,
    peer: Peer,
    verified: Verified | None,
    options: Options,
    agree: Agree,
    together: Together | None,
    began: float,
    before: tuple[int, int, int],
    emit: Emit,
) -> SyncResult | None:
    """Both sides went on: bring theirs into the store, and merge it with the folder."""
    if not agree(met):
        return None
    site, found = met.site, met.found
    assert found is not None
    site.root.create_store()
    with (
        ending(together, site.root, site.who, "merge", emit=emit) as joint,
        site.source() as here,
    ):
        joint.hold(site.transfer_lock())
        for path, entry in met.local.items():
            if entry.size:
                here.add(path, reach.chunks(site.overlay.get, entry))
        new = {
            path: entry
            for path, entry in met.there.items()
            if entry.size and not same(met.local.get(path), entry)
        }
        payload = storing.store(met, peer, new, emit, here=here.try_read)
        theirs = their_manifest(met, verified) or _as_found(met)
        site.overlay.flush()
        head = go_on(met)
        refs = site.root.states.refs()
        tracking = remote_ref(met.remote, site.dataset)
        moves = {tracking: Change(refs.get(tracking), theirs)}

        def lost(oids: list[ChunkId]) -> None:
            """The remote may still have what a base was made of."""
            try:
                with site.root.database.batch() as batch:
                    storing.take(batch, oids, peer.send(oids), dict.fromkeys(oids, 0), silent)
            except UsrError as exc:
                raise IncompleteError(f"the remote has not kept it, either: {exc.message}") from exc

        result = merging.unite(
            site,
            theirs,
            found,
            head,
            name=met.remote,
            choices=options.choices,
            remote=met.remote,
            base=site.manifest(met.synced).tree if met.synced else None,
            moves=moves,
            policy=options.policy,
            checks=options.checks,
            lost=lost,
            together=joint,
            emit=emit,
        )
        joint.then(lambda: remember_theirs(met, verified))
        joint.then(lambda: bring_tags(met, options, emit))
    seconds = time.monotonic() - began
    moved = Moved.since(before, peer, payload=payload, resumed=0, seconds=seconds)
    verdict = verified.verdict if verified else None
    return SyncResult(
        "pull", "MERGED", met, options.checks, result.manifest, verdict, moved, result.report
    )


def _as_found(met: Meeting) -> ManifestId:
    """The remote's folder has no signed state of its own: it is recorded under our name."""
    site, answer = met.site, met.answer
    assert answer.root is not None
    return site.make_manifest(
        answer.root.tree,
        [met.synced] if met.synced else [],
        facts=Facts(answer.rows, answer.columns, answer.schema, answer.events),
        message=f"as found at {met.remote}",
        registry=answer.registry,
    )


def bring_tags(met: Meeting, options: Options, emit: Emit) -> None:
    """The tags of what came, unless they were not asked for."""
    if options.tags and options.whole:
        take_tags(met, options.trust, emit)


def _differ(local: Listing, wanted: Listing) -> bool:
    return local.keys() != wanted.keys() or any(
        not same(local[path], entry) for path, entry in wanted.items()
    )


def _believe(met: Meeting, options: Options) -> Verified | None:
    """Check the remote's manifest; None if its folder has no signed state of its own."""
    site, answer = met.site, met.answer
    verified = None
    if answer.head is not None:
        verified = believing.check_incoming(
            site, answer.manifests, answer.head, None, place=met.remote, mode=options.trust
        )
    covered = verified is not None and answer.root and verified.manifest.tree == answer.root.tree
    if not covered:
        policy = believing.policy_for(site.root, site.who, met.remote, site.dataset, options.trust)
        trust.check_unsigned(site.dataset, met.remote, policy)
    return verified


def _receive(
    met: Meeting,
    peer: Peer,
    wanted: Listing,
    verified: Verified | None,
    options: Options,
    together: Together,
    emit: Emit,
) -> tuple[ManifestId, int, int]:
    site = met.site
    with inventory_check("post-pull"):
        _fetch_recipes(met, peer, wanted)
    theirs = their_manifest(met, verified)
    refs = site.root.states.refs()  # what the new head is made to follow
    head, tracking = head_ref(site.dataset), remote_ref(met.remote, site.dataset)
    new_head = _new_head(met, wanted, theirs, options)
    state = site.manifest(new_head)
    receiving = Receiving(site, state, met.found, options.checks, "post-pull")
    try:
        chunks = receiving.plan(emit)
        assert receiving.stage is not None
        resumed = receiving.stage.bytes_resumed
        if chunks:
            receiving.take(peer.send(chunks), emit)
        changes = {head: Change(refs.get(head), new_head)}
        if options.whole:  # ours stands for theirs where the remote has no state of its own
            changes[tracking] = Change(refs.get(tracking), theirs or new_head)
        settled = receiving.settle(guard=_guard(met, state, options), emit=emit)
        together.add(settled, changes)
    finally:
        receiving.close()
    return new_head, receiving.bytes_taken, resumed


def _fetch_recipes(met: Meeting, peer: Peer, wanted: Listing) -> None:
    """Ask for the recipes of the files that differ, except the nodes we have."""
    contents: dict[ContentHash, FileEntry] = {}
    have: set[RecipeId] = set()
    for path, entry in wanted.items():
        if not same(met.local.get(path), entry):
            contents.setdefault(entry.content, entry)
            have |= _nodes_here(met.site, met.local.get(path))
    if not contents:
        return
    for oid, data in peer.want(list(contents), frozenset(have)):
        met.site.overlay.put(Kind.RECIPE, oid, data)


def _nodes_here(site: Site, entry: FileEntry | None) -> set[RecipeId]:
    if entry is None or entry.recipe is None:
        return set()
    nodes = recipe.walk(entry.recipe, entry.size, lambda oid: site.overlay.get(Kind.RECIPE, oid))
    return {oid for oid, _ in nodes}


def _new_head(
    met: Meeting, wanted: Listing, theirs: ManifestId | None, options: Options
) -> ManifestId:
    """The manifest that our folder will be: theirs, or one of our own that says what we did."""
    site = met.site
    head = site.head()
    descends = theirs is not None and (head is None or head in site.ancestry(theirs))
    if theirs is not None and options.whole and descends and not options.policy:
        return theirs
    root = tree.build(wanted, lambda oid, data: site.overlay.put(Kind.TREE, oid, data))
    parents = [oid for oid in (head, theirs if options.whole else None) if oid is not None]
    return site.make_manifest(
        root.tree,
        parents,
        facts=_facts(met, options),
        message=f"pull from {met.remote}",
        policy=options.policy,
        registry=met.answer.registry or site.root.registry(),
    )


def _facts(met: Meeting, options: Options) -> Facts:
    here = met.found.facts if met.found else Facts()
    there = met.answer
    primary, events = options.scope.takes(PRIMARY_FILE), options.scope.takes(EVENTS_FILE)
    return Facts(
        rows=there.rows if primary else here.rows,
        columns=there.columns if primary else here.columns,
        schema=there.schema if primary else here.schema,
        events=there.events if events else here.events,
    )


def _guard(met: Meeting, state: Manifest, options: Options) -> Callable[[Stage], None]:
    """The last looks at a complete stage."""
    guard_log = met.judged.guard_log and not options.force

    def guard(stage: Stage) -> None:
        if guard_log:
            _log_guard(met)(stage)
        if options.checks.registry:
            what = f"what came from {met.remote}"
            vetting.vet_stage(met.site, state, stage, what=what)

    return guard


def _log_guard(met: Meeting) -> Callable[[Stage], None]:
    """Without a common base, our event log must be how theirs begins."""
    ours = met.local[EVENTS_FILE]

    def guard(stage: Stage) -> None:
        for number, target in enumerate(stage.targets):
            if target.path == EVENTS_FILE:
                if prefix_hash(stage.path(number), size=ours.size) != ours.content:
                    raise diverged(met, "pull")
                return

    return guard
