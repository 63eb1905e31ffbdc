"""States mended: a flipped bit turned back, a stranger under a number put right, a lost end.

A state behind the newest is named by its successor's hash, so only its very bytes will do. The
newest is named by nothing: where its bytes are gone, a new one takes its number and says so.
Its refs are those of the state before; a head goes further only to a manifest that is stored,
descends from it, and is exactly what the folder holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from usrstore.errors import DecodeError, UsrError
from usrstore.objects import codec
from usrstore.objects.ids import Kind, ManifestId, ObjectId, StateId, TreeId
from usrstore.objects.names import DatasetId, RefName, head_ref
from usrstore.objects.state import State, state_id, state_key
from usrstore.odb import chain, durable, mending, reach, salvage
from usrstore.odb.chain import Link
from usrstore.root import Root, Who

Holds = Callable[[DatasetId], TreeId | None]


def mend(root: Root, who: Who, holds: Holds | None) -> Iterator[str]:
    """Mend what can be mended of the chain, oldest first; says what was done.

    Args:
        root: whose chain.
        who: for the record.
        holds: the tree of a dataset's folder as it is now; None to make no state anew, as long
            as packs are damaged that may hold what its refs name.
    """
    while (done := _mend_one(root, who, holds)) is not None:
        yield done


def _mend_one(root: Root, who: Who, holds: Holds | None) -> str | None:
    """Mend the oldest state that can be; what it says may vouch for the next."""
    links = list(chain.links(root.database.backend))
    data = _newest_unflipped(root, links)
    if data is not None:
        _put(root, links[0].number, data)
        return f"state {links[0].number}: one bit turned back"
    if not any(link.reason for link in links):
        return None
    known = _known(root, links)
    for place in range(len(links) - 1, -1, -1):
        link = links[place]
        if not link.reason:
            continue
        older = links[place + 1] if place + 1 < len(links) else None
        data = _bytes_of(root, link, older, known)
        if data is not None:
            _put(root, link.number, data)
            return f"state {link.number}: its bytes are again what they were"
        if place == 0 and holds is not None:
            state = _replacement(root, who, link.number, links, holds)
            _put(root, link.number, state.encode())
            return (
                f"state {link.number}: its bytes are gone; a new one has its number, with the "
                f"refs of the state before ({state.reason})"
            )
    return None


def _newest_unflipped(root: Root, links: list[Link]) -> bytes | None:
    """The newest state, that nothing vouches for, if one bit keeps it from naming what there is.

    That is the state before it, and stored manifests or tags.
    """
    if not links or links[0].state is None:
        return None
    newest, has = links[0].state, root.database.has
    data = _read(_path(root, newest.number))
    wrong = [ObjectId(oid) for oid in newest.refs.values() if not has(oid)]
    right: list[tuple[bytes, bytes]] = [
        (oid, other) for oid in wrong for other in _one_bit_off(oid) if has(ObjectId(other))
    ]
    if not right and len(links) > 1 and newest.previous is not None and links[1].reason:
        below = state_id(_read(_path(root, newest.number - 1)))
        right = [(newest.previous, below)] if below in _one_bit_off(newest.previous) else []
    if len(right) != 1:
        return None
    return data.replace(*right[0])


def _one_bit_off(oid: bytes) -> set[bytes]:
    number = int.from_bytes(oid, "big")
    return {(number ^ 1 << bit).to_bytes(32, "big") for bit in range(256)}


def _known(root: Root, links: list[Link]) -> dict[ObjectId, bytes]:
    """Every whole state that lies under some number, or was set aside, by its id."""
    known: dict[ObjectId, bytes] = {}
    aside = mending.set_aside_as(root.store, "states@")
    for data in [_read(_path(root, link.number)) for link in links] + [_read(p) for p in aside]:
        for piece in (data, data[: codec.span(data)]):
            try:
                State.decode(piece)
            except DecodeError:
                continue
            known[state_id(piece)] = piece
    return known


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(codec.MAX_OBJECT_BYTES)
    except OSError:
        return b""


def _path(root: Root, number: int) -> str:
    return os.path.join(root.store, state_key(number))


def _bytes_of(
    root: Root, link: Link, older: Link | None, known: dict[ObjectId, bytes]
) -> bytes | None:
    """The bytes that belong under a number, if they can be had."""
    data = _read(_path(root, link.number))
    if link.wanted is not None:
        wanted = link.wanted
        if wanted in known:
            return known[wanted]
        return salvage.unflip(data, lambda trial: state_id(trial) == wanted)
    below = older.state.oid if older is not None and older.state is not None else None
    if older is not None and below is None:
        return None  # nothing vouches for it from either side
    for piece in known.values():
        state = State.decode(piece)
        if state.number == link.number and state.previous == below:
            return piece
    return None


def _put(root: Root, number: int, data: bytes) -> None:
    scratch = durable.temporary(os.path.join(root.store, "states"))
    try:
        with durable.Spool.create(scratch) as spool:
            spool.write(data)
            spool.sync()
        mending.swap(root.store, _path(root, number), scratch)
    finally:
        durable.remove(scratch)


def _replacement(root: Root, who: Who, number: int, links: list[Link], holds: Holds) -> State:
    below = next((link.state for link in links[1:] if link.state is not None), None)
    refs: dict[RefName, ObjectId] = dict(below.refs) if below is not None else {}
    moved = []
    for dataset in root.datasets():
        name = head_ref(dataset)
        further = _further(root, dataset, refs.get(name), holds)
        if further is not None:
            refs[name] = further
            moved.append(f"{name} at {further.short}, which its folder holds")
    told = "; ".join(moved) or "no head moved"
    act = who.act(f"state {number} was damaged; {told}")
    previous: StateId | None = None
    if number > 1:
        previous = state_id(_read(_path(root, number - 1)))
    return State(number, previous, refs, act.time_us, act.actor, act.command, act.reason)


def _further(
    root: Root, dataset: DatasetId, head: ObjectId | None, holds: Holds
) -> ManifestId | None:
    """The newest stored manifest that descends from a head and is what the folder holds."""
    get, best = root.database.get, None
    tree = holds(dataset)
    for pack in list(root.database.packs()):
        for oid, row in pack.index.items():
            if row.kind != Kind.MANIFEST:
                continue
            try:
                manifest = reach.manifest(get, ManifestId(oid))
                if manifest.dataset != dataset or manifest.tree != tree or oid == head:
                    continue
                if best is not None and best[0] >= manifest.sequence:
                    continue
                if head is None or head in dict(reach.ancestry(get, ManifestId(oid))):
                    best = manifest.sequence, ManifestId(oid)
            except UsrError:
                continue
    return best[1] if best is not None else None
