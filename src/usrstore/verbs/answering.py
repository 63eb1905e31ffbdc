"""What every peer answers from: trees that the asker lacks, its memory of us, a head's history.

One piece of code for a root that is served, a bucket that is asked, and a push that offers.
"""

from __future__ import annotations

from collections.abc import Container

from usrstore.errors import ObjectNotFoundError
from usrstore.objects.ids import Kind, ManifestId, ObjectId, TreeId
from usrstore.objects.tree import FolderEntry, Tree
from usrstore.odb import reach
from usrstore.odb.reach import Get
from usrstore.odb.states import States
from usrstore.remote.peer import Nodes, Seen

_MAX_CHAIN = 4096


def tree_nodes(get: Get, root: TreeId, have: Container[ObjectId]) -> Nodes:
    """The nodes of a tree, without those that the other side has, and all that lies below them."""
    nodes: Nodes = {}
    stack = [root]
    while stack:
        oid = stack.pop()
        if oid in have or oid in nodes:
            continue
        data = get(Kind.TREE, oid)
        nodes[oid] = (Kind.TREE, data)
        stack += [e.tree for e in Tree.decode(data).entries if isinstance(e, FolderEntry)]
    return nodes


def remembers(states: States, seen: Seen | None) -> bool | None:
    """Whether our chain holds the state that the asker remembers; None: that cannot be said."""
    if seen is None:
        return None
    try:
        return states.read(seen.number).oid == seen.oid
    except ObjectNotFoundError:
        # What retention has forgotten can be neither confirmed nor denied.
        oldest = min(states.times(), default=0)
        return None if seen.number < oldest else False


def chain(
    get: Get, head: ManifestId | None, known: Container[ManifestId]
) -> dict[ManifestId, bytes]:
    """A head and what it descends from, as far as the asker lacks it, within a fixed bound."""
    found: dict[ManifestId, bytes] = {}
    front = [head] if head else []
    while front and len(found) < _MAX_CHAIN:
        oid = front.pop()
        if oid in known or oid in found:
            continue
        found[oid] = get(Kind.MANIFEST, oid)
        front += reach.manifest(get, oid).parents
    return found
