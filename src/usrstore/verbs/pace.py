"""pace: what a transfer to a remote would wait for, part by part, and which of them is slowest."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from usrstore.remote.client import WirePeer
from usrstore.remote.peer import Peer, Weight
from usrstore.root import Root
from usrstore.verbs.gauging import weigh

PUSH_QUESTIONS = 4  # compare, offer, plan, publish
_ROUND_TRIPS = 5


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that every byte of a transfer goes through.

    Attributes:
        place: `here`, `link` or `there`.
        name: what is done.
        bytes_per_s: how much of it a second.
    """

    place: str
    name: str
    bytes_per_s: int


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured.

    Attributes:
        size: bytes that each part was measured with; less where a disk has little room left.
        parts: in the order of a push and back; a part that could not be measured is missing.
        round_trip_us: the median of a few; None where there is no link.
    """

    size: int
    parts: tuple[Part, ...]
    round_trip_us: int | None

    @property
    def slowest(self) -> Part:
        return min(self.parts, key=lambda part: part.bytes_per_s)


def pace(root: Root, peer: Peer, size: int) -> Pace:
    """Measure both disks, both processors and the link between them; leaves nothing behind.

    Args:
        root: ours.
        peer: the remote.
        size: bytes for each part.

    Raises:
        UnsupportedError: the remote is a bucket.
        StorageError, RemoteError: a part failed.
    """
    parts = _parts("here", weigh(root, size, may_write=True))
    round_trip_us = None
    if isinstance(peer, WirePeer):
        peer.carry(0)  # the first answer also brings the hello
        trips = [peer.carry(0) for _ in range(_ROUND_TRIPS)]
        round_trip_us = round(statistics.median(t.there_us + t.back_us for t in trips))
        carried = peer.carry(size)
        parts.append(Part("link", "send", _speed(size, carried.there_us)))
        parts.append(Part("link", "receive", _speed(size, carried.back_us)))
    parts += _parts("there", peer.weigh(size))
    return Pace(size, tuple(parts), round_trip_us)


def _parts(place: str, weight: Weight) -> list[Part]:
    parts = [Part(place, "hash", _speed(weight.size, weight.hash_us))]
    if weight.read_us is not None:
        parts.append(Part(place, "read and hash", _speed(weight.size, weight.read_us)))
    if weight.write_us is not None:
        parts.append(Part(place, "write and sync", _speed(weight.size, weight.write_us)))
    return parts


def _speed(size: int, time_us: int) -> int:
    return size * 1_000_000 // max(1, time_us)
