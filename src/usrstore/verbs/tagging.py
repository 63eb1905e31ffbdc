"""Tags that travel: those of the state that travels follow it; none is ever moved.

A tag is an object that says itself of which dataset, under which name and of which state it
is, so it travels beside the trees and needs no word of its own. A countersignature is a tag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from usrstore.errors import UsrError
from usrstore.objects.ids import Kind, ManifestId, ObjectId, TagId
from usrstore.objects.manifest import Signed, Tag
from usrstore.objects.names import DatasetId, RefName, check_ref, check_tag, tag_ref
from usrstore.odb.database import Database
from usrstore.odb.states import Change
from usrstore.remote.peer import Nodes, Tagged
from usrstore.trust.policy import Mode, Policy, judge
from usrstore.verbs import believing
from usrstore.verbs.site import Site

MAX_TAGS = 1024  # of one state


def of_state(
    database: Database, refs: Mapping[RefName, ObjectId], dataset: DatasetId, head: ManifestId
) -> Nodes:
    """The tags of one state in a store; plain names are none, for nobody vouches for them."""
    stem = f"tags/{dataset}/"
    nodes: Nodes = {}
    for ref, oid in sorted(refs.items()):
        if not ref.startswith(stem) or len(nodes) >= MAX_TAGS:
            continue
        found = database.find(oid)
        if found is None or found.row.kind != Kind.TAG:
            continue
        data = database.get(Kind.TAG, oid)
        if Tag.parse(Signed.decode(data).payload).manifest == head:
            nodes[oid] = (Kind.TAG, data)
    return nodes


def offered(site: Site, head: ManifestId | None) -> Nodes:
    """The tags of one state here."""
    if head is None or not site.root.has_store:
        return {}
    return of_state(site.root.database, site.root.states.refs(), site.dataset, head)


def _arrived(
    dataset: DatasetId, nodes: Nodes, head: ManifestId | None
) -> Iterator[tuple[RefName, TagId]]:
    """Tags of this dataset's `head` among what came; what is malformed or of another is none."""
    count = 0
    for oid, (kind, data) in nodes.items():
        if kind is not Kind.TAG or count >= MAX_TAGS:
            continue
        count += 1
        try:
            tag = Tag.parse(Signed.decode(data).payload)
            ref = check_ref(tag_ref(dataset, check_tag(tag.name)))
        except UsrError:
            continue
        if tag.dataset == dataset and tag.manifest == head:
            yield ref, TagId(oid)


def judged(
    dataset: DatasetId,
    refs: Mapping[RefName, ObjectId],
    nodes: Nodes,
    head: ManifestId | None,
    policy: Policy,
) -> tuple[dict[RefName, Change], list[str]]:
    """How refs move for the tags that came with a state, and what to say of those not taken.

    Args:
        dataset: whose state it is.
        refs: of the store where they arrive.
        nodes: what came; tags among it.
        head: the state that came.
        policy: whom to believe; a bad signature is believed in no mode, one of a stranger not
            by `strict`.
    """
    changes: dict[RefName, Change] = {}
    notes: list[str] = []
    for ref, oid in _arrived(dataset, nodes, head):
        name = ref.rpartition("/")[2]
        signed = Signed.decode(nodes[oid][1])
        time_us = Tag.parse(signed.payload).time_us
        status = judge(signed, policy, at_s=time_us // 1_000_000).status
        if status == "bad" or (policy.mode == "strict" and status != "good"):
            notes.append(f"tag {name} was not taken: its signature is {status}")
        elif refs.get(ref, oid) != oid:
            notes.append(
                f"tag {name} was not taken: there is another of that name, which stays "
                f"(`usr tag -d {dataset}@{name}` would make room)"
            )
        elif ref not in refs and ref not in changes:
            changes[ref] = Change(None, oid)
    return changes, notes


def refs_of(dataset: DatasetId, nodes: Nodes, head: ManifestId) -> dict[RefName, Change]:
    """New names for tags of one state, where no name is taken yet."""
    return {ref: Change(None, oid) for ref, oid in _arrived(dataset, nodes, head)}


def names(changes: Mapping[RefName, Change]) -> tuple[str, ...]:
    return tuple(sorted(ref.rpartition("/")[2] for ref in changes))


def take(site: Site, nodes: Nodes, head: ManifestId | None, *, place: str, mode: Mode) -> Tagged:
    """Name what has arrived; the state must be here already."""
    if head is None or not site.root.has_store:
        return Tagged()
    policy = believing.policy_for(site.root, site.who, place, site.dataset, mode)
    changes, notes = judged(site.dataset, site.root.states.refs(), nodes, head, policy)
    taken = names(changes)
    if changes:
        for change in changes.values():
            assert change.new is not None
            site.overlay.put(Kind.TAG, change.new, nodes[change.new][1])
        site.overlay.flush()
        site.root.states.advance(changes, site.who.act(f"tags that came: {' '.join(taken)}"))
    return Tagged(taken, tuple(notes))
