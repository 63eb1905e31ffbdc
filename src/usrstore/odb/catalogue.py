"""The catalogue: which packs there are, and in which of them an object lies.

Small packs share one table, large ones are searched; nothing is loaded for an object. Packs
come and go while it is open: a collection may take one at any moment, once what was live in it
lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from usrstore.errors import DecodeError, ObjectNotFoundError
from usrstore.objects.ids import ObjectId, PackId
from usrstore.odb import docket
from usrstore.odb.backend.backend import Backend, Stat
from usrstore.odb.docket import Docket
from usrstore.odb.ends import Ends
from usrstore.odb.pack import SMALL, Pack, pack_key, pack_of_key
from usrstore.odb.packindex import Row, prefix
from usrstore.odb.prefixtable import PrefixTable

# Small packs share one table of how their ids begin: a store that syncs daily has hundreds of
# them, and one look answers faster than a search in each.
_MERGE_OBJECTS = SMALL
FEW = 256  # ids; fewer are looked up one by one
_SEARCH = 64  # a search costs as much as reading so many ids
_AHEAD_OBJECTS = 1 << 20  # in indexes that are not hashed yet; for fewer, a thread costs more


class Found(NamedTuple):
    """Where an object lies: its pack, its row there, and the row's number."""

    pack: Pack
    row: Row
    at: int


class Catalogue:
    """The packs of one store.

    Args:
        backend: where they rest.
        at_once: how many are opened at a time, where that means waiting for another machine.
        ends: what is remembered of packs that are far away.

    Attributes:
        damaged: packs that cannot be opened, by key, and why.
        docket: what is condemned, as of the last refresh.
        lost: packs that were here and went.
    """

    def __init__(self, backend: Backend, at_once: int = 1, ends: Ends | None = None) -> None:
        self.backend = backend
        self._ends = ends
        self._at_once = at_once
        self._packs: dict[PackId, Pack] = {}
        self._large: list[Pack] = []
        self._small: PrefixTable[Pack] = PrefixTable()
        self._loaded = False
        self.damaged: dict[str, str] = {}
        self.docket = docket.NOTHING
        self.lost: set[PackId] = set()

    @property
    def far(self) -> bool:
        """Whether to ask the backend means to wait for another machine."""
        return self._at_once > 1

    def refresh(self) -> bool:
        """Look for packs that appeared, went or were condemned since; True if any appeared."""
        self._loaded = True
        condemned = Docket(self.backend).newest()
        listed = list(self.backend.list("packs/"))
        for gone in self._packs.keys() - {pack_of_key(stat.key) for stat in listed}:
            self._forget(self._packs[gone])
        self.docket = condemned
        fresh = []
        for stat in listed:
            pack = pack_of_key(stat.key)
            if pack is not None and pack not in self._packs and stat.key not in self.damaged:
                fresh.append((pack, stat))
        added = []
        for stat, opened in self._opened(fresh):
            if isinstance(opened, Pack):
                added.append(opened)
            elif isinstance(opened, DecodeError):
                self.damaged[stat.key] = opened.message  # fsck reports it; others may do without
            # else a gc took it between listing and reading
        self._add(added)
        return bool(added)

    def _opened(
        self, fresh: list[tuple[PackId, Stat]]
    ) -> Iterator[tuple[Stat, Pack | DecodeError | ObjectNotFoundError]]:
        known = {pack: self._ends.find(pack) for pack, _ in fresh} if self._ends else {}

        def open_one(row: tuple[PackId, Stat]) -> Pack | DecodeError | ObjectNotFoundError:
            try:
                return Pack(self.backend, row[0], row[1].size, known.get(row[0]))
            except (DecodeError, ObjectNotFoundError) as exc:
                return exc

        stats = [stat for _, stat in fresh]
        if not self.far or len(fresh) < 2:
            yield from zip(stats, map(open_one, fresh), strict=True)
            return
        from usrstore.odb.workers import Workers

        with Workers(self._at_once) as workers:
            yield from zip(stats, workers.each(open_one, fresh), strict=True)

    def remember(self) -> None:
        """Keep here what was learnt of packs that are far away."""
        if self._ends is not None:
            self._ends.save(self._packs)

    def _add(self, opened: list[Pack]) -> None:
        if self._ends is not None:
            for pack in opened:
                self._ends.note(pack.pack, pack.index.data())
        self._packs.update((pack.pack, pack) for pack in opened)
        self._large += [pack for pack in opened if pack.index.count > _MERGE_OBJECTS]
        small = [pack for pack in opened if pack.index.count <= _MERGE_OBJECTS]
        self._small.add((pack, pack.index.prefixes()) for pack in small)

    def _shunned(self, pack: Pack) -> bool:
        return pack.pack in self.docket.condemned

    def _forget(self, pack: Pack, damage: str | None = None) -> None:
        """Do without a pack: a gc took it, or its index is damaged."""
        self._packs.pop(pack.pack, None)
        self._large = [large for large in self._large if large is not pack]
        self._small.drop(pack)
        if damage is not None:
            self.damaged[pack_key(pack.pack)] = damage
        else:
            self.lost.add(pack.pack)

    def expect(self, pack: PackId) -> None:
        """Note a pack as lost if it is not here: a gc may take what has a name of long ago."""
        if pack not in self._packs and pack_key(pack) not in self.damaged:
            self.lost.add(pack)

    def packs(self) -> Iterator[Pack]:
        """Every pack, its index hashed; those that are condemned come last."""
        if not self._loaded:
            self.refresh()
        for pack, verify in _hashed_ahead(sorted(self._packs.values(), key=self._shunned)):
            try:
                verify()
            except DecodeError as exc:
                self._forget(pack, exc.message)
            else:
                yield pack

    def has_pack(self, pack: PackId) -> bool:
        """Whether a pack is here and could be opened."""
        if not self._loaded:
            self.refresh()
        return pack in self._packs

    def index_of(self, pack: PackId) -> bytes | None:
        """The bytes of a pack's index; None if it is not here."""
        found = self._packs.get(pack)
        return None if found is None else found.index.data()

    def find(self, oid: ObjectId) -> Found | None:
        """Where an object lies, or None; in a pack that is condemned only if in no other."""
        if not self._loaded:
            self.refresh()
        condemned = None
        for pack, at in self._places(oid):
            if pack.pack not in self.docket.condemned:
                return Found(pack, pack.index.row(at), at)
            condemned = condemned or Found(pack, pack.index.row(at), at)
        return condemned

    def _places(self, oid: ObjectId) -> Iterator[tuple[Pack, int]]:
        for pack in self._small.find(prefix(oid)):
            at = pack.index.position(oid)
            if at is not None:
                yield pack, at
        for pack in self._large:
            try:
                at = pack.index.position(oid)
            except DecodeError as exc:
                self._forget(pack, exc.message)
                continue
            if at is not None:
                yield pack, at

    def locate(self, oids: Collection[ObjectId]) -> Iterator[tuple[ObjectId, Pack, int]]:
        """Where many objects lie: each that is here, its pack, and its number in the index.

        Sets are compared pack by pack instead of searching every pack for every id: a hundred
        thousand ids among ten million take as long as reading the ids.
        """
        if len(oids) < FEW:
            for oid in oids:
                if found := self.find(oid):
                    yield oid, found.pack, found.at
            return
        begun = {prefix(oid): oid for oid in oids}
        left = set(begun)
        alike = [oid for oid in oids if begun[prefix(oid)] != oid]  # begin as another one does
        for pack in self.packs():
            index = pack.index
            few = len(left) * _SEARCH < index.count
            for begin in list(left) if few else left.intersection(index.prefixes()):
                at = index.position(begun[begin])
                if at is not None:
                    left.remove(begin)
                    yield begun[begin], pack, at
            for oid in alike.copy():
                at = index.position(oid)
                if at is not None:
                    alike.remove(oid)
                    yield oid, pack, at


def _hashed_ahead(packs: list[Pack]) -> Iterator[tuple[Pack, Callable[[], None]]]:
    """Packs, each with what raises if its index is damaged.

    Many large indexes are hashed by a second thread while the caller looks through those before.
    """
    if sum(pack.index.count for pack in packs if not pack.index.verified) < _AHEAD_OBJECTS:
        yield from ((pack, pack.index.verify) for pack in packs)
        return
    from usrstore.odb.workers import Workers

    with Workers(1) as worker:
        hashed = [worker.start(pack.index.verify) for pack in packs]
        yield from zip(packs, (answer.get for answer in hashed), strict=True)
