"""merge: two states that both went on, as one that descends from both.

capture → split by path → merge what clashes by what is inside → conflicts? nothing happens
→ sign with two parents → stage → verify → keep what is replaced → promote → advance
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from usrstore.dataset import registry as registries
from usrstore.errors import (
    DatasetNotFoundError,
    IncompleteError,
    InvalidInputError,
    MergeConflictError,
    ObjectNotFoundError,
)
from usrstore.objects import threeway, tree
from usrstore.objects.compare import same
from usrstore.objects.ids import ChunkId, Kind, ManifestId, TreeId
from usrstore.objects.names import RefName, folder_ref, head_ref
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.recipe import RULE
from usrstore.objects.sections import EVENTS_FILE, PRIMARY_FILE
from usrstore.objects.tree import Listing
from usrstore.odb import durable, reach
from usrstore.odb.states import Change
from usrstore.remote.peer import Checks
from usrstore.verbs import mergeplan, mergestate
from usrstore.verbs.mergeplan import Choices, Conflict, Report, merge_bases, settle
from usrstore.verbs.merging import Merging, paths
from usrstore.verbs.receiving import Receiving
from usrstore.verbs.recover import recover
from usrstore.verbs.sending import Sending
from usrstore.verbs.site import Site
from usrstore.verbs.together import Together, ending
from usrstore.worktree import capture as capturing
from usrstore.worktree.capture import Capture
from usrstore.worktree.statcache import Facts, StatCache

State = Literal["MERGED", "FAST-FORWARD", "NO-OP", "DRY-RUN"]


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge did.

    Attributes:
        state: NO-OP if theirs was in our history already, FAST-FORWARD if ours was in theirs.
        manifest: the state of the folder now.
        ours, theirs: its parents.
        report: what came from where.
    """

    state: State
    manifest: ManifestId
    ours: ManifestId
    theirs: ManifestId
    report: Report


def nothing_more(_oids: list[ChunkId]) -> None:
    """Nobody to ask for bytes of a base."""


def merge(
    site: Site,
    theirs: ManifestId,
    *,
    name: str,
    choices: Choices | None = None,
    remote: str | None = None,
    dry_run: bool = False,
    emit: Emit = silent,
) -> MergeResult:
    """Merge a state of the store into the folder, with no other transfer beside it.

    Args and errors: as `unite`.
    """
    site.root.create_store()
    recover(site.root, site.who, only=site.dataset, lock_timeout_s=site.lock_timeout_s)
    site.root.check_dataset(site.dataset)
    with site.transfer_lock():
        head = site.head()
        found = site.capture(record=True, wait=True, emit=emit)
        try:
            return unite(
                site,
                theirs,
                found,
                head,
                name=name,
                choices=choices,
                remote=remote,
                dry_run=dry_run,
                emit=emit,
            )
        except ObjectNotFoundError as exc:
            raise IncompleteError(
                f"{name} is not here in whole: {exc.message}; nothing was changed",
                hint="a remote that has it can send the rest with `usr fetch`",
                code="not-kept",
            ) from exc


def unite(
    site: Site,
    theirs: ManifestId,
    found: Capture,
    head: ManifestId | None,
    *,
    name: str,
    choices: Choices | None = None,
    remote: str | None = None,
    base: TreeId | None = None,
    moves: Mapping[RefName, Change] | None = None,
    policy: Sequence[str] = (),
    checks: Checks | None = None,
    lost: Callable[[list[ChunkId]], None] = nothing_more,
    dry_run: bool = False,
    together: Together | None = None,
    emit: Emit = silent,
) -> MergeResult:
    """Merge a state into the folder, all of it or nothing; the transfer lock is held.

    Args:
        site: the dataset; its folder is our side, committed or not.
        theirs: the other side, whole in the store or among what the folder holds.
        found: the folder as captured a moment ago.
        head: ours, as it was before that: what others keep meanwhile must not be forgotten.
        name: what people call it.
        choices: what a person decided.
        remote: where it came from, to be remembered if there are conflicts.
        base: what both had last, where no history says it.
        moves: other refs that move with the head.
        policy: opt-outs in force.
        checks: what to verify beyond what always is.
        lost: asked for bytes of a base that are nowhere here.
        dry_run: say what would happen, and what would conflict.
        together: what it ends with; by itself without.
        emit: progress.

    Raises:
        MergeConflictError: both changed the same things; all of them are named, nothing was
            changed, and `usr merge --continue` goes on from here.
    """
    choices = choices or Choices()
    if site.manifest(theirs).dataset != site.dataset:
        raise InvalidInputError(
            f"{theirs.short} is a state of {site.manifest(theirs).dataset}, not of "
            f"{site.dataset}; nothing was changed"
        )
    ours = site.snapshot(found, message=f"before merging {name}", parents=[head])
    ancestry = site.ancestry(ours)
    if theirs in ancestry:
        return MergeResult("NO-OP", ours, ours, theirs, Report())
    bases = _bases(site, ours, theirs, base)
    split = threeway.split(bases, found.listing, _listing(site, theirs))
    listing, chosen, clashes = settle(split, choices)
    scratch = durable.temporary(site.root.store)
    durable.make_folder(scratch)
    try:
        with Merging(site, found.listing, scratch, choices, lost) as merging:
            for clash in clashes:
                emit(Event("plan", text=clash.path))
                merging.merge(clash)
            report = replace(merging.report, ours=split.ours, theirs=split.theirs, chosen=chosen)
            inside = capturing.capture(merging.folder, StatCache(RULE), site.overlay.put)
            merged = {**listing, **inside.listing}
            conflicts = [*merging.conflicts, *mergeplan.both_forms(merged)]
            if conflicts:
                raise _refuse(site, theirs, name, remote, choices, conflicts, dry_run=dry_run)
            if dry_run:
                return MergeResult("DRY-RUN", ours, ours, theirs, report)
            facts = _facts(site, found, inside, merged, theirs)
            _record(site, head, ours)
            forwards = ours in site.ancestry(theirs)  # nothing of ours that theirs has not
            manifest = (
                theirs if forwards else _manifest(site, merged, (ours, theirs), facts, name, policy)
            )
            reason = f"merge {manifest.short}"
            with ending(together, site.root, site.who, reason, emit=emit) as joint:
                joint.reason = reason
                refs = {head_ref(site.dataset): Change(ours, manifest), **(moves or {})}
                _take(site, found, inside, merging.folder, manifest, refs, checks, joint, emit)
                joint.then(lambda: mergestate.forget(site.root, site.dataset))
    finally:
        durable.remove_tree(scratch)
    state: State = "FAST-FORWARD" if forwards else "MERGED"
    return MergeResult(state, manifest, ours, theirs, report)


def _record(site: Site, head: ManifestId | None, ours: ManifestId) -> None:
    """Give what the folder holds a name of its own, so that an undo of the merge goes back to it."""
    if ours != head:
        site.overlay.flush()
        change = {head_ref(site.dataset): Change(head, ours)}
        site.root.states.advance(change, site.who.act("light snapshot before a merge"))


def _bases(site: Site, ours: ManifestId, theirs: ManifestId, base: TreeId | None) -> list[Listing]:
    """What both had when they last agreed, as far as its trees are here."""
    oids = merge_bases(site.ancestry(ours), site.ancestry(theirs))
    trees = [site.manifest(oid).tree for oid in oids] or ([base] if base else [])
    found = []
    for tree_id in dict.fromkeys(trees):
        try:
            found.append(reach.listing(site.overlay.get, tree_id))
        except ObjectNotFoundError:
            continue  # a base that retention took is no base
    return found


def _listing(site: Site, oid: ManifestId) -> Listing:
    try:
        return reach.listing(site.overlay.get, site.manifest(oid).tree)
    except ObjectNotFoundError as exc:
        raise DatasetNotFoundError(
            f"the files of {oid.short} were never here: {exc.message}; nothing was changed",
            hint="usr fetch brings a remote's state into the store",
        ) from exc


def _refuse(
    site: Site,
    theirs: ManifestId,
    name: str,
    remote: str | None,
    choices: Choices,
    conflicts: Sequence[Conflict],
    *,
    dry_run: bool,
) -> MergeConflictError:
    if not dry_run:
        site.overlay.flush()
        mergestate.remember(
            site.root, site.dataset, mergestate.Pending(theirs, name, remote, choices)
        )
    named = paths(conflicts)
    hint = f"usr merge --continue --ours PATH --theirs PATH {site.dataset}"
    if any(conflict.key for conflict in conflicts):
        hint = f"usr merge --continue --ours-rows {site.dataset} (or --theirs-rows)"
    return MergeConflictError(
        f"{site.dataset} and {name} changed the same things, in {', '.join(named[:5])}"
        f"{' …' if len(named) > 5 else ''}; nothing was changed\n" + mergeplan.table_of(conflicts),
        hint=f"{hint}; `usr merge --abort {site.dataset}` forgets it",
        conflicts=[conflict.data() for conflict in conflicts],
    )


def _facts(
    site: Site, found: Capture, inside: Capture, merged: Listing, theirs: ManifestId
) -> Facts:
    """Rows, columns and lines of the result, from whichever side each file is."""
    other = site.manifest(theirs)
    table, log = inside.facts, inside.facts
    if PRIMARY_FILE not in inside.listing:
        mine = same(merged.get(PRIMARY_FILE), found.listing.get(PRIMARY_FILE))
        table = found.facts if mine else Facts(other.rows, other.columns, other.schema, None)
    if EVENTS_FILE not in inside.listing:
        mine = same(merged.get(EVENTS_FILE), found.listing.get(EVENTS_FILE))
        log = found.facts if mine else Facts(None, None, None, other.events)
    return Facts(table.rows, table.columns, table.schema, log.events)


def _manifest(
    site: Site,
    merged: Listing,
    parents: Sequence[ManifestId],
    facts: Facts,
    name: str,
    policy: Sequence[str],
) -> ManifestId:
    root = tree.build(merged, lambda oid, data: site.overlay.put(Kind.TREE, oid, data))
    registry, other = site.root.registry(), site.manifest(parents[1]).registry
    if other is not None:
        theirs = site.overlay.get(Kind.CHUNK, other.content)
        registry = (
            theirs
            if registry is None
            else registries.merge(
                registry,
                theirs,
                ours_name=site.root.registry_path,
                theirs_name=f"the registry of {name}",
            )
        )
    return site.make_manifest(
        root.tree,
        parents,
        facts=facts,
        message=f"merge of {name}",
        policy=policy,
        registry=registry,
    )


def _take(
    site: Site,
    found: Capture,
    inside: Capture,
    folder: str,
    manifest: ManifestId,
    moves: Mapping[RefName, Change],
    checks: Checks | None,
    together: Together,
    emit: Emit,
) -> None:
    """Stage the merged state from the folder, the packs and the merged files."""
    refs = site.root.states.refs()
    aside = folder_ref(site.dataset)
    changes = dict(moves)
    if aside in refs:
        changes[aside] = Change(refs[aside], None)
    receiving = Receiving(site, site.manifest(manifest), found, checks or Checks(), "post-merge")
    made = Sending(folder, inside.listing, site.overlay.get)
    try:
        for _ in made.nodes({e.content: None for e in inside.listing.values() if e.size}):
            pass
        wanted = receiving.plan(emit)
        receiving.take(made.pieces(wanted), emit)
        together.add(receiving.settle(emit=emit), changes)
    finally:
        made.close()
        receiving.close()
