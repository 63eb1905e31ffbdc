"""What this root remembers of others, in `.usr/seen.json`: pins, and how far each remote had come.

A pin is the fingerprint of a key that `tofu` believed at first sight, or that a person pinned,
for one dataset at one place. A high-water mark is the newest state of a remote, and the newest
manifest of each dataset there: whoever goes back behind it is refused (`believing`). An offer is
a state that a push was about to publish: the answer may get lost, and the state be there.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from usrstore.errors import NotFoundError
from usrstore.objects.ids import ManifestId, ObjectId, StateId
from usrstore.odb import durable, flock
from usrstore.remote.peer import Seen
from usrstore.root import Root
from usrstore.trust.policy import Verified


class Pin(NamedTuple):
    """A key that is believed for one dataset at one place.

    Attributes:
        since_us: when it was pinned; None for one of before that was written down.
    """

    key: str
    since_us: int | None


class Mark(NamedTuple):
    """How far a remote had come: its newest state, and the newest manifest of one dataset there."""

    state: Seen | None = None
    head: ManifestId | None = None


_PATIENCE_S = 30.0
MAX_OFFERS = 16  # of one dataset: pushes in a row that never heard whether they had arrived


@dataclass(frozen=True, slots=True)
class Memory:
    """All that is known of one dataset at one place.

    Attributes:
        place: a remote's name; `push` stands for whoever pushes here.
        pins: keys believed there.
        signed: a signed state was seen there: an unsigned one is not taken after it.
        state: the newest state of that remote, of whatever dataset.
        head: the newest manifest of this dataset there, and when it was first seen.
    """

    place: str
    dataset: str
    pins: tuple[Pin, ...]
    signed: bool
    state: Seen | None
    head: ManifestId | None
    head_us: int | None


def memories(root: Root) -> list[Memory]:
    """Everything that is remembered, by place and dataset."""
    notes = root.notes()
    keys = {tuple(key.split(" ", 1)) for part in ("pins", "signed") for key in notes.get(part, {})}
    for place, noted in notes.get("remotes", {}).items():
        keys |= {(place, dataset) for dataset in noted.get("heads", {})}
    return [_memory(notes, place, dataset) for place, dataset in sorted(keys)]


def _memory(notes: dict[str, Any], place: str, dataset: str) -> Memory:
    key = f"{place} {dataset}"
    since = notes.get("pinned_us", {}).get(key, {})
    noted = _noted(notes, place)
    head = noted.get("heads", {}).get(dataset)
    return Memory(
        place=place,
        dataset=dataset,
        pins=tuple(Pin(pin, since.get(pin)) for pin in notes.get("pins", {}).get(key, ())),
        signed=key in notes.get("signed", {}),
        state=_state(noted),
        head=_manifest(head) if head else None,
        head_us=noted.get("heads_us", {}).get(dataset),
    )


@contextlib.contextmanager
def _changing(root: Root) -> Iterator[dict[str, Any]]:
    """What is remembered, to be changed: what others remember meanwhile is not forgotten.

    Raises:
        LockedError: somebody else was at it for longer than that ever takes.
    """
    lock = os.path.join(root.store, "locks", "@seen")  # no dataset's name begins with @
    durable.make_folder(os.path.dirname(lock))
    with flock.hold(lock, timeout_s=_PATIENCE_S, what="what is remembered of remotes"):
        notes = root.notes()
        before = copy.deepcopy(notes)
        yield notes
        if notes != before:
            root.write_notes(notes)


# ── pins ────────────────────────────────────────────────────────────────────────────────
def pinned(root: Root, place: str, dataset: str) -> frozenset[str]:
    """Keys pinned for a dataset at a place; '' stands for anywhere."""
    return frozenset(
        key
        for at, keys in root.notes().get("pins", {}).items()
        if at == f"{place} {dataset}" or (not place and at.endswith(f" {dataset}"))
        for key in keys
    )


def signed(root: Root, place: str, dataset: str) -> bool:
    """Whether a signed state of a dataset was ever taken from a place."""
    return f"{place} {dataset}" in root.notes().get("signed", {})


def remember_signer(
    root: Root, place: str, dataset: str, verified: Verified, *, at_us: int
) -> None:
    """Pin the signer that `tofu` believed for the first time; note that there was a signature."""
    if verified.verdict.key is None:
        return
    key = f"{place} {dataset}"
    if verified.pin is None and (verified.verdict.status != "good" or signed(root, place, dataset)):
        return
    with _changing(root) as notes:
        if verified.pin is not None:
            _pin(notes, key, verified.pin, at_us)
        notes.setdefault("signed", {})[key] = at_us


def pin(root: Root, place: str, dataset: str, fingerprint: str, *, at_us: int) -> None:
    """Believe a key for one dataset at one place from now on."""
    root.create_store()
    with _changing(root) as notes:
        _pin(notes, f"{place} {dataset}", fingerprint, at_us)


def _pin(notes: dict[str, Any], key: str, fingerprint: str, at_us: int) -> None:
    pins = notes.setdefault("pins", {})
    pins[key] = sorted({*pins.get(key, ()), fingerprint})
    notes.setdefault("pinned_us", {}).setdefault(key, {}).setdefault(fingerprint, at_us)


def unpin(root: Root, place: str, dataset: str, fingerprint: str | None = None) -> list[str]:
    """Forget one pin of a dataset at a place, or all of them; the next signer is then the first.

    Raises:
        NotFoundError: there is no such pin.
    """
    key = f"{place} {dataset}"
    with _changing(root) as notes:
        pins: list[str] = notes.get("pins", {}).get(key, [])
        gone = [pin for pin in pins if fingerprint in (None, pin)]
        if not gone:
            raise NotFoundError(
                f"nothing of that kind is pinned for {dataset} at {place}; nothing was changed",
                hint="usr trust show lists all pins",
                code="pin-not-found",
            )
        left = [pin for pin in pins if pin not in gone]
        since = notes.get("pinned_us", {}).get(key, {})
        for pin in gone:
            since.pop(pin, None)
        if left:
            notes["pins"][key] = left
        else:
            del notes["pins"][key]
            notes.get("pinned_us", {}).pop(key, None)
    return gone


# ── high-water marks ────────────────────────────────────────────────────────────────────
def _noted(notes: dict[str, Any], remote: str) -> dict[str, Any]:
    marks = notes.get("remotes", {})
    noted = marks.get(remote, {}) if isinstance(marks, dict) else {}
    return noted if isinstance(noted, dict) else {}


def _state(noted: dict[str, Any]) -> Seen | None:
    state = noted.get("state")
    return Seen(int(state[0]), StateId(ObjectId.parse(state[1]))) if state else None


def mark(root: Root, remote: str, dataset: str) -> Mark:
    """How far a remote had come, as this root knows it.

    It is read before the remote is asked: another command of this root may deal with a newer
    state meanwhile, and an answer that is older than that accuses nobody.
    """
    noted = _noted(root.notes(), remote)
    head = noted.get("heads", {}).get(dataset)
    return Mark(_state(noted), _manifest(head) if head else None)


def remember(
    root: Root,
    remote: str,
    dataset: str,
    state: Seen | None,
    head: ManifestId | None,
    *,
    since: Mark,
    at_us: int,
) -> None:
    """Note how far a remote has come; it will not be believed if it goes back.

    Args:
        since: the mark against which that was judged. Where another command has moved it since,
            the newer state stays: a slow answer takes no mark back.
    """
    if state is None and head is None:
        return
    with _changing(root) as notes:
        before = _noted(notes, remote)
        noted = copy.deepcopy(before)
        now = _state(before)
        newer = now in (None, since.state) or (state is not None and state.number > now.number)
        if state is not None and newer:
            noted["state"] = [state.number, state.oid.hex()]
        heads = noted.setdefault("heads", {})
        known = heads.get(dataset)
        if head is not None and known != head.hex() and (newer or known == _hex(since.head)):
            heads[dataset] = head.hex()
            noted.setdefault("heads_us", {})[dataset] = at_us
        if noted != before:
            notes.setdefault("remotes", {})[remote] = noted


def _hex(oid: ObjectId | None) -> str | None:
    return None if oid is None else oid.hex()


def accept(
    root: Root,
    remote: str,
    dataset: str,
    state: Seen | None,
    head: ManifestId | None,
    *,
    at_us: int,
) -> None:
    """Take a remote as it is now for the newest that was seen, though it went back or forked.

    What was seen of its other datasets stays: each of them is accepted by itself.
    """
    with _changing(root) as notes:
        noted = dict(_noted(notes, remote))
        for part in ("heads", "heads_us"):
            noted[part] = {
                name: value for name, value in noted.get(part, {}).items() if name != dataset
            }
        noted.pop("state", None)
        if state is not None:
            noted["state"] = [state.number, state.oid.hex()]
        if head is not None:
            noted["heads"][dataset], noted["heads_us"][dataset] = head.hex(), at_us
        notes.setdefault("remotes", {})[remote] = noted


def remembered(root: Root, place: str | None, dataset: str | None) -> Iterator[Memory]:
    """What is remembered of one place, one dataset, or both."""
    for memory in memories(root):
        if place in (None, memory.place) and dataset in (None, memory.dataset):
            yield memory


# ── offers ──────────────────────────────────────────────────────────────────────────────
class Offer(NamedTuple):
    """A state of ours that a remote was about to publish, and the head that it was to follow."""

    manifest: ManifestId
    head: ManifestId | None


def offers(root: Root, dataset: str) -> list[Offer]:
    """What was offered and may be at some remote by now, oldest first."""
    return _offers(root.notes(), dataset)


def _offers(notes: dict[str, Any], dataset: str) -> list[Offer]:
    rows = notes.get("offers", {}).get(dataset, ())
    return [Offer(_manifest(oid), None if head is None else _manifest(head)) for oid, head in rows]


def offer(
    root: Root,
    dataset: str,
    manifest: ManifestId,
    head: ManifestId | None,
    settled: Container[ManifestId],
) -> None:
    """Note, durably, what is about to be published.

    Args:
        manifest: the state; its metadata must be in the store.
        head: ours, which it follows.
        settled: the history of that head: what it holds is in no doubt any more.
    """
    with _changing(root) as notes:
        left = [
            row
            for row in _offers(notes, dataset)
            if row.manifest != manifest and row.manifest not in settled
        ]
        rows = [*left, Offer(manifest, head)][-MAX_OFFERS:]
        notes.setdefault("offers", {})[dataset] = [
            [row.manifest.hex(), _hex(row.head)] for row in rows
        ]


def offered(root: Root) -> Iterator[ManifestId]:
    """What was ever offered of any dataset, for whoever keeps what may be asked for."""
    notes = root.notes()
    for dataset in notes.get("offers", {}):
        yield from (row.manifest for row in _offers(notes, dataset))


def _manifest(text: str) -> ManifestId:
    return ManifestId(ObjectId.parse(text))
