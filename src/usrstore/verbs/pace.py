"""pace: what a transfer to a remote would wait for, part by part, and which of them is slowest."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from usrstore.remote.client import WirePeer
from usrstore.remote.peer import Carried, Peer, Weight
from usrstore.root import Root
from usrstore.verbs.gauging import weigh

PUSH_QUESTIONS = 4  # compare, offer, plan, publish
_ROUND_TRIPS = 5
_MOST_OF_THE_TIME = 0.5


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
class Limit:
    """What a transfer waits for most.

    Attributes:
        place: `here`, `link` or `there`.
        what: `hash`, `disk`, `cipher` or `network`; `link` where the last two cannot be told
            from each other.
    """

    place: str
    what: str


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured.

    Attributes:
        size: bytes that each part was measured with; less where a disk has little room left.
        parts: in the order of a push and back; a part that could not be measured is missing.
        round_trip_us: the median of a few; None where there is no link.
        ssh_busy: which share of the link's time ssh on this side was at work, 0 to 1; None where
            there is no link, or that cannot be known.
    """

    size: int
    parts: tuple[Part, ...]
    round_trip_us: int | None
    ssh_busy: float | None = None

    @property
    def slowest(self) -> Part:
        return min(self.parts, key=lambda part: part.bytes_per_s)

    @property
    def limit(self) -> Limit:
        """The cause behind the slowest part.

        Reading is measured together with hashing, so it is the disk only if the disk took the
        greater share of it. ssh that is at work most of the time is what the link waits for.
        """
        slow = self.slowest
        if slow.place == "link":
            return Limit("link", self.link_limit)
        hashing = next(p for p in self.parts if (p.place, p.name) == (slow.place, "hash"))
        is_hash = slow is hashing or (
            slow.name == "read and hash" and hashing.bytes_per_s <= 2 * slow.bytes_per_s
        )
        return Limit(slow.place, "hash" if is_hash else "disk")

    @property
    def link_limit(self) -> str:
        """What limits the link itself: `cipher`, `network`, or `link` if that is not known."""
        if self.ssh_busy is None:
            return "link"
        return "cipher" if self.ssh_busy >= _MOST_OF_THE_TIME else "network"


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
    round_trip_us = ssh_busy = None
    if isinstance(peer, WirePeer):
        peer.carry(0)  # the first answer also brings the hello
        trips = [peer.carry(0) for _ in range(_ROUND_TRIPS)]
        round_trip_us = round(statistics.median(t.there_us + t.back_us for t in trips))
        carried = peer.carry(size)
        parts.append(Part("link", "send", _speed(size, carried.there_us)))
        parts.append(Part("link", "receive", _speed(size, carried.back_us)))
        ssh_busy = _share(carried)
    parts += _parts("there", peer.weigh(size))
    return Pace(size, tuple(parts), round_trip_us, ssh_busy)


def _share(carried: Carried) -> float | None:
    if carried.there_busy_us is None or carried.back_busy_us is None:
        return None
    busy_us = carried.there_busy_us + carried.back_busy_us
    return min(1.0, busy_us / (carried.there_us + carried.back_us))


def _parts(place: str, weight: Weight) -> list[Part]:
    parts = [Part(place, "hash", _speed(weight.size, weight.hash_us))]
    if weight.read_us is not None:
        parts.append(Part(place, "read and hash", _speed(weight.size, weight.read_us)))
    if weight.write_us is not None:
        parts.append(Part(place, "write and sync", _speed(weight.size, weight.write_us)))
    return parts


def _speed(size: int, time_us: int) -> int:
    return size * 1_000_000 // max(1, time_us)
