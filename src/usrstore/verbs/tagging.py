"""Tags that travel: those of the state that travels follow it; none is ever moved.

A tag is an object that says itself of which dataset, under which name and of which state it
is, so it travels beside the trees and needs no word of its own. A countersignature is a tag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from usrstore.errors import UsrError
from usrstore.objects.ids import Kind, ManifestId, ObjectId, TagId
from usrstore.objects.manifest import Signed, Tag
from usrstore.objects.names import RefName, check_ref, check_tag, tag_ref
from usrstore.odb.states import Change
from usrstore.remote.peer import Nodes
from usrstore.trust.policy import Mode, judge
from usrstore.verbs import believing
from usrstore.verbs.site import Site

MAX_TAGS = 1024  # of one state


def offered(site: Site, head: ManifestId | None) -> Nodes:
    """The tags of one state here."""
    if head is None or not site.root.has_store:
        return {}
    stem = f"tags/{site.dataset}/"
    nodes: Nodes = {}
    for ref, oid in sorted(site.root.states.refs().items()):
        if not ref.startswith(stem) or len(nodes) >= MAX_TAGS:
            continue
        found = site.root.database.find(oid)
        if found is None or found.row.kind != Kind.TAG:
            continue  # a plain name: nobody vouches for it
        data = site.overlay.get(Kind.TAG, oid)
        if Tag.parse(Signed.decode(data).payload).manifest == head:
            nodes[oid] = (Kind.TAG, data)
    return nodes


def _arrived(site: Site, nodes: Nodes, head: ManifestId | None) -> Iterator[tuple[RefName, TagId]]:
    """Tags of this dataset's `head` among what came; what is malformed or of another is none."""
    count = 0
    for oid, (kind, data) in nodes.items():
        if kind is not Kind.TAG or count >= MAX_TAGS:
            continue
        count += 1
        try:
            tag = Tag.parse(Signed.decode(data).payload)
            ref = check_ref(tag_ref(site.dataset, check_tag(tag.name)))
        except UsrError:
            continue
        if tag.dataset == site.dataset and tag.manifest == head:
            yield ref, TagId(oid)


def taken(
    site: Site, nodes: Nodes, head: ManifestId | None, *, place: str, mode: Mode
) -> tuple[dict[RefName, Change], list[str]]:
    """How refs move for the tags that came with a state, and what to say of those not taken.

    Args:
        site: where they arrive.
        nodes: what came; tags among it.
        head: the state that came.
        place: where from, for pins.
        mode: whom to believe; a bad signature is believed in no mode, one of a stranger not
            by `strict`.
    """
    refs: Mapping[RefName, ObjectId] = site.root.states.refs() if site.root.has_store else {}
    changes: dict[RefName, Change] = {}
    notes: list[str] = []
    policy = believing.policy_for(site.root, site.who, place, site.dataset, mode)
    for ref, oid in _arrived(site, nodes, head):
        name = ref.rpartition("/")[2]
        signed = Signed.decode(nodes[oid][1])
        time_us = Tag.parse(signed.payload).time_us
        status = judge(signed, policy, at_s=time_us // 1_000_000).status
        if status == "bad" or (mode == "strict" and status != "good"):
            notes.append(f"tag {name} was not taken: its signature is {status}")
        elif refs.get(ref, oid) != oid:
            notes.append(
                f"tag {name} was not taken: there is another of that name, which stays; "
                f"`usr tag -d {site.dataset}@{name}` first, if theirs is right"
            )
        elif ref not in refs and ref not in changes:
            site.overlay.put(Kind.TAG, oid, nodes[oid][1])
            changes[ref] = Change(None, oid)
    return changes, notes


def take(site: Site, nodes: Nodes, head: ManifestId | None, *, place: str, mode: Mode) -> list[str]:
    """Name what has arrived; the state must be here already. Gives what is to be said."""
    if head is None or not site.root.has_store:
        return []
    changes, notes = taken(site, nodes, head, place=place, mode=mode)
    if changes:
        site.overlay.flush()
        names = " ".join(sorted(ref.rpartition("/")[2] for ref in changes))
        site.root.states.advance(changes, site.who.act(f"tags that came: {names}"))
    return notes
