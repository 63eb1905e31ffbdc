"""What a writer makes sure of before a ref moves: that no collection takes what it will reach.

Between looking whether an object is there and moving a ref to it, a collection may have found
that nothing reached it, and have condemned its pack. So the docket is read once more, after the
newest state and before the next one is made; what lies only in condemned packs is stored anew.
A collection deletes behind a fence in the chain of states, which makes this writer look again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from usrstore.errors import ConflictError, ObjectNotFoundError
from usrstore.objects import tree
from usrstore.objects.ids import Kind, ManifestId, ObjectId, TreeId
from usrstore.objects.manifest import Manifest, Signed, Tag
from usrstore.objects.names import RefName
from usrstore.objects.tree import Listing
from usrstore.odb import reach
from usrstore.odb.database import Database
from usrstore.odb.docket import Docket
from usrstore.odb.states import Change


def assure(database: Database, changes: Mapping[RefName, Change]) -> None:
    """See that whatever the changed refs come to reach lies in packs that stay.

    Raises:
        ConflictError: some of it was collected meanwhile; no ref has moved.
    """
    newest = Docket(database.backend).newest()
    if not newest.condemned and newest.number == database.docket.number:
        return
    database.refresh()
    if not database.docket.condemned and not database.lost:
        return
    with database.batch() as batch:
        for change in changes.values():
            if change.new is None or change.new == change.expected:
                continue
            for kind, oid in _new(database, change.new, change.expected):
                found = database.find(oid)
                if found is not None and found.pack.pack in database.docket.condemned:
                    batch.put(kind, oid, database.get(kind, oid))
                elif found is None and (kind != Kind.CHUNK or database.lost):
                    raise _collected()  # a chunk may be of a light state; this one may be lost


def _new(
    database: Database, new: ObjectId, old: ObjectId | None
) -> Iterator[tuple[Kind, ObjectId]]:
    """What the new value of a ref reaches and the old one, which stays reached, does not."""
    target = _manifest_of(database, new)
    if target != new:
        yield Kind.TAG, new
    if not database.has(target):
        yield Kind.MANIFEST, target
        return
    base = None if old is None else _manifest_of(database, old)
    known = _ancestry(database, base) if base else {}
    before = _listing(database, known[base].tree) if base in known else {}
    for oid, manifest in _ancestry(database, target).items():
        if oid in known:
            continue
        yield Kind.MANIFEST, oid
        if manifest.registry is not None:
            yield Kind.CHUNK, ObjectId(manifest.registry.content)
        if oid == target:
            yield from _files(database, manifest.tree, before)
        else:
            with contextlib.suppress(ConflictError):  # an ancestor may have lost its files
                yield from list(_files(database, manifest.tree, before))


def _files(database: Database, root: TreeId, before: Listing) -> Iterator[tuple[Kind, ObjectId]]:
    """The trees, recipes and chunks of a state, but for files that were there before."""
    if not database.has(root):
        return  # known by name only
    try:
        for node in tree.node_ids(root, lambda oid: database.get(Kind.TREE, oid)):
            yield Kind.TREE, node
        for path, entry in reach.listing(database.get, root).items():
            last = before.get(path)
            if last is None or (last.content, last.recipe) != (entry.content, entry.recipe):
                yield from reach.file_objects(database.get, entry)
    except ObjectNotFoundError as exc:
        raise _collected() from exc


def _manifest_of(database: Database, oid: ObjectId) -> ManifestId:
    found = database.find(oid)
    if found is not None and found.row.kind == Kind.TAG:
        return Tag.parse(Signed.decode(database.get(Kind.TAG, oid)).payload).manifest
    return ManifestId(oid)


def _ancestry(database: Database, oid: ManifestId) -> dict[ManifestId, Manifest]:
    """A manifest and its ancestors as far as they are here."""
    found: dict[ManifestId, Manifest] = {}
    front = [oid]
    while front:
        oid = front.pop()
        if oid not in found and database.has(oid):
            found[oid] = reach.manifest(database.get, oid)
            front += found[oid].parents
    return found


def _listing(database: Database, root: TreeId) -> Listing:
    try:
        return reach.listing(database.get, root)
    except ObjectNotFoundError:
        return {}


def _collected() -> ConflictError:
    return ConflictError(
        "a collection removed objects that this command had counted on; nothing was changed",
        hint="run the same command again; `usr gc --grace` gives commands more time",
        code="collected",
    )
