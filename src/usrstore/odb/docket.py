"""The docket: which packs are condemned, and since when (I7, [F-53]).

A collection writes down what it is going to delete before it does, as the next number of a
chain that only one writer can take. Whoever writes objects relies on no pack that is on the
docket, but stores what it needs anew; whoever reads takes from them as long as they are there.
Ages are differences of the store's own times: no clock of a writer has a say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from usrstore.errors import DecodeError, ObjectNotFoundError
from usrstore.objects import codec
from usrstore.objects.ids import ObjectId, PackId
from usrstore.odb.backend.backend import Backend

_PREFIX = "gc/"
_CLOCK = "gc/clock"
_STALE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Entry:
    """What a collection decided.

    Attributes:
        number: 0 where nothing was ever condemned.
        condemned: each pack that is to go, on which no writer may rely, and the number of the
            entry that said so first.
        swept: those of them that this very entry deletes.
    """

    number: int = 0
    condemned: Mapping[PackId, int] = field(default_factory=dict)
    swept: frozenset[PackId] = frozenset()

    def encode(self) -> bytes:
        condemned = [[pack, since] for pack, since in sorted(self.condemned.items())]
        return codec.encode([codec.FORMAT, self.number, condemned, sorted(self.swept)])

    @classmethod
    def decode(cls, data: bytes) -> Entry:
        """Raises: DecodeError."""
        try:
            version, number, condemned, swept = codec.decode(data)
            if version != codec.FORMAT:
                raise DecodeError(f"format {version}")
            found = cls(
                int(number),
                {PackId(ObjectId(pack)): int(since) for pack, since in condemned},
                frozenset(PackId(ObjectId(pack)) for pack in swept),
            )
            return codec.same(found, found.encode(), data, "record of collections")
        except Exception as exc:
            raise DecodeError(
                f"the newest record of collections is damaged: {exc}",
                hint="nothing is deleted and no ref is moved until it is gone; remove the newest "
                "file below .usr/gc if no `usr gc` is running",
            ) from exc


NOTHING = Entry()


class Docket:
    """The chain of entries in one store."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def newest(self) -> Entry:
        """Raises: DecodeError."""
        for _ in range(8):
            number = max(self.times(), default=0)
            if not number:
                return NOTHING
            try:
                return Entry.decode(self._backend.read(_key(number)))
            except ObjectNotFoundError:
                continue  # a later one came, and this one went
        raise DecodeError("the record of collections changes faster than it can be read")

    def times(self) -> dict[int, float]:
        """The number of each entry that is kept, and the store's time of it, in seconds."""
        return {
            int(stat.key.removeprefix(_PREFIX)): stat.mtime_s
            for stat in self._backend.list(_PREFIX)
            if re.fullmatch(rf"{_PREFIX}[0-9]{{20}}", stat.key)
        }

    def add(self, entry: Entry) -> bool:
        """Make an entry the newest; False if another collection took the number."""
        return self._backend.create(_key(entry.number), entry.encode())

    def forget(self, entry: Entry) -> None:
        """Delete the entries before one, except those whose time still counts."""
        needed = {entry.number, *entry.condemned.values()}
        times = self.times()
        for number in times:
            if number < entry.number and number not in needed:
                self._backend.delete(_key(number))
        for stat in self._backend.list(_PREFIX):
            dead = times.get(entry.number, 0.0) - stat.mtime_s > _STALE_S
            if stat.key.startswith(_CLOCK) and dead:
                self._backend.delete(stat.key)

    def now_s(self) -> float:
        """The store's own time: that of a value which is made for it."""
        key = f"{_CLOCK}-{os.urandom(8).hex()}"
        self._backend.create(key, b"")
        try:
            found = self._backend.stat(key)
        finally:
            self._backend.delete(key)
        if found is None:
            raise DecodeError("a file that was just made in the record of collections is gone")
        return found.mtime_s


def _key(number: int) -> str:
    return f"{_PREFIX}{number:020d}"
