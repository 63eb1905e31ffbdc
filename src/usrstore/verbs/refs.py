"""Move a ref by hand: from the value that is expected, to something that is here in whole (I2, I4)."""

from __future__ import annotations

from usrstore.errors import IncompleteError, InvalidInputError, ObjectNotFoundError
from usrstore.objects.ids import Kind, ManifestId, ObjectId
from usrstore.objects.manifest import Signed, Tag
from usrstore.objects.names import RefName, dataset_of
from usrstore.odb import reach
from usrstore.odb.states import Change
from usrstore.root import Root, Who


def move(
    root: Root,
    who: Who,
    name: RefName,
    expected: ObjectId | None,
    new: ObjectId | None,
    *,
    reason: str,
) -> int:
    """Give a ref another value; None stands for *absent* on either side. No folder is touched.

    Returns:
        The number of the operation.

    Raises:
        RefConflictError: the ref has another value than the expected one.
        InvalidInputError: `new` is none of the things this ref may name.
        IncompleteError: what `new` reaches is not all here.
    """
    if new is not None:
        _check(root, name, new)
    return root.states.advance({name: Change(expected, new)}, who.act(reason)).number


def _check(root: Root, name: RefName, oid: ObjectId) -> None:
    found = root.database.find(oid)
    if found is None:
        raise ObjectNotFoundError(f"{oid.short} is not in this store; nothing was changed")
    kind, get = Kind(found.row.kind), root.database.get
    manifest = ManifestId(oid)
    if kind is Kind.TAG and name.startswith("tags/"):
        manifest = Tag.parse(Signed.decode(get(Kind.TAG, oid)).payload).manifest
    elif kind is not Kind.MANIFEST:
        raise InvalidInputError(f"{name} cannot name a {kind.word}; nothing was changed")
    try:
        dataset = reach.manifest(get, manifest).dataset
        for _ in reach.ancestry(get, manifest):
            pass
        for what, node in reach.metadata(get, manifest):
            get(what, node)
    except ObjectNotFoundError as exc:
        raise IncompleteError(f"{oid.short} is not whole: {exc.message}", hint=exc.hint) from exc
    if dataset != dataset_of(name):
        raise InvalidInputError(
            f"{name} cannot name {oid.short}, a state of {dataset}; nothing was changed"
        )
