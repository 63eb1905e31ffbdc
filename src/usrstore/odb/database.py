"""The object database: all packs of one store as one set of objects. Only it knows where.

Reading checks every object against its name (I1). Writing goes through a `Batch`: data
packs are published before the metadata pack that needs them (I3), and all of them before
the state that reaches them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple, Self

from usrstore.errors import DecodeError, IntegrityError, ObjectNotFoundError
from usrstore.objects.ids import Kind, ObjectId, PackId
from usrstore.odb import compress
from usrstore.odb.backend.backend import Backend, Stat
from usrstore.odb.pack import SMALL, Pack, PackWriter, pack_key, pack_of_key
from usrstore.odb.packindex import MAX_OBJECTS, Row, prefix

ROLL_BYTES = 256 << 20
ROLL_OBJECTS = MAX_OBJECTS
# Small packs share one table of how their ids begin: a store that syncs daily has hundreds of
# them, and one look answers faster than a search in each.
_MERGE_OBJECTS = SMALL
_FEW = 256  # ids; fewer are looked up one by one
_SEARCH = 64  # a search costs as much as reading so many ids


class Found(NamedTuple):
    pack: Pack
    row: Row


class Database:
    """Objects by id.

    Args:
        backend: where packs rest.
        scratch: a folder for packs that are being written; None for a store that is only read.
        roll_bytes: how large a pack may grow before the next one is begun.
        at_once: how many packs are opened at a time, where that means waiting for another machine.
    """

    def __init__(
        self,
        backend: Backend,
        scratch: str | None,
        *,
        roll_bytes: int = ROLL_BYTES,
        at_once: int = 1,
    ) -> None:
        self.backend = backend
        self.scratch = scratch
        self.roll_bytes = roll_bytes
        self._at_once = at_once
        self._packs: dict[PackId, Pack] = {}
        self._large: list[Pack] = []
        self._small: dict[int, Pack] = {}  # by the first bytes of an id
        self._loaded = False
        self.damaged: dict[str, str] = {}

    def refresh(self) -> bool:
        """Look for packs that appeared since; True if there were any."""
        self._loaded = True
        fresh = []
        for stat in self.backend.list("packs/"):
            pack = pack_of_key(stat.key)
            if pack is not None and pack not in self._packs and stat.key not in self.damaged:
                fresh.append((pack, stat))
        before = len(self._packs)
        for stat, opened in self._opened(fresh):
            if isinstance(opened, Pack):
                self._add(opened)
            elif isinstance(opened, DecodeError):
                self.damaged[stat.key] = opened.message  # fsck reports it; others may do without
            # else a gc took it between listing and reading
        return len(self._packs) > before

    def _opened(
        self, fresh: list[tuple[PackId, Stat]]
    ) -> Iterator[tuple[Stat, Pack | DecodeError | ObjectNotFoundError]]:
        def open_one(row: tuple[PackId, Stat]) -> Pack | DecodeError | ObjectNotFoundError:
            try:
                return Pack(self.backend, row[0], row[1].size)
            except (DecodeError, ObjectNotFoundError) as exc:
                return exc

        stats = [stat for _, stat in fresh]
        if self._at_once == 1 or len(fresh) < 2:
            yield from zip(stats, map(open_one, fresh), strict=True)
            return
        from usrstore.odb.workers import Workers

        with Workers(self._at_once) as workers:
            yield from zip(stats, workers.each(open_one, fresh), strict=True)

    def _add(self, opened: Pack) -> None:
        self._packs[opened.pack] = opened
        if opened.index.count > _MERGE_OBJECTS:
            self._large.append(opened)
        else:
            self._small.update(dict.fromkeys(opened.index.prefixes(), opened))

    def _forget(self, pack: Pack, damage: str | None = None) -> None:
        """Do without a pack: a gc took it, or its index is damaged."""
        self._packs.pop(pack.pack, None)
        self._large = [large for large in self._large if large is not pack]
        self._small = {}
        for small in self._packs.values():
            if small.index.count <= _MERGE_OBJECTS:
                self._small.update(dict.fromkeys(small.index.prefixes(), small))
        if damage is not None:
            self.damaged[pack_key(pack.pack)] = damage

    def packs(self) -> Iterator[Pack]:
        """Every pack, its index hashed."""
        if not self._loaded:
            self.refresh()
        for pack in list(self._packs.values()):
            try:
                pack.index.verify()
            except DecodeError as exc:
                self._forget(pack, exc.message)
            else:
                yield pack

    def has_pack(self, pack: PackId) -> bool:
        """Whether a pack is here and could be opened."""
        if not self._loaded:
            self.refresh()
        return pack in self._packs

    def find(self, oid: ObjectId) -> Found | None:
        """Where an object lies, or None."""
        if not self._loaded:
            self.refresh()
        pack = self._small.get(prefix(oid))
        if pack is not None:
            if row := pack.index.find(oid):
                return Found(pack, row)
            # Two ids that begin alike: the table knows one of them.
            for pack in self._packs.values():
                if pack.index.count <= _MERGE_OBJECTS and (row := pack.index.find(oid)):
                    return Found(pack, row)
        for pack in self._large:
            try:
                if row := pack.index.find(oid):
                    return Found(pack, row)
            except DecodeError as exc:
                self._forget(pack, exc.message)
                return self.find(oid)
        return None

    def has(self, oid: ObjectId) -> bool:
        return self.find(oid) is not None

    def get(self, kind: Kind, oid: ObjectId) -> bytes:
        """The bytes of an object.

        Raises:
            ObjectNotFoundError: it is not here.
            IntegrityError: it is damaged, or of another kind.
        """
        found = self.find(oid)
        if found is None and self.refresh():
            found = self.find(oid)
        if found is None:
            for _ in self.packs():  # what an index denies is believed once it is hashed, too
                pass
            damage = f" ({len(self.damaged)} damaged packs were not read)" if self.damaged else ""
            raise ObjectNotFoundError(
                f"{kind.word} {oid.short} is not in this store{damage}",
                hint="run `usr fsck` to see what is missing, or pull it from a remote",
            )
        if found.row.kind != kind:
            raise IntegrityError(f"object {oid.short} is not a {kind.word}")
        try:
            return bytes(found.pack.read(oid, found.row))
        except ObjectNotFoundError:  # a gc took the pack; what was live in it lies elsewhere
            self._forget(found.pack)
            return self.get(kind, oid)
        except IntegrityError:
            data = self._elsewhere(kind, oid, found.pack)
            if data is None:
                raise
            return data

    def _elsewhere(self, kind: Kind, oid: ObjectId, damaged: Pack) -> bytes | None:
        """A whole copy of an object in another pack, if there is one."""
        for pack in self._packs.values():
            if pack is damaged:
                continue
            with contextlib.suppress(IntegrityError, ObjectNotFoundError):
                row = pack.index.find(oid)
                if row is not None and row.kind == kind:
                    return bytes(pack.read(oid, row))
        return None

    def locate(self, oids: Collection[ObjectId]) -> Iterator[tuple[ObjectId, Pack, int]]:
        """Where many objects lie: each that is here, its pack, and its number in the index.

        Sets are compared pack by pack instead of searching every pack for every id: a hundred
        thousand ids among ten million take as long as reading the ids.
        """
        left = {prefix(oid): oid for oid in oids}
        alike = [oid for oid in oids if left[prefix(oid)] != oid]  # begin as another one does
        for pack in self.packs():
            index = pack.index
            if len(left) * _SEARCH < index.count:
                begins: Collection[int] = list(left)
            else:
                begins = left.keys() & index.prefixes()
            for begin in begins:
                at = index.position(left[begin])
                if at is not None:
                    yield left.pop(begin), pack, at
            for oid in alike.copy():
                at = index.position(oid)
                if at is not None:
                    alike.remove(oid)
                    yield oid, pack, at

    def missing(self, oids: Iterable[ObjectId]) -> list[ObjectId]:
        """Those that are not here, in their order."""
        asked = list(oids)
        if len(asked) < _FEW:
            return [oid for oid in asked if not self.has(oid)]
        here = {oid for oid, _, _ in self.locate(frozenset(asked))}
        return [oid for oid in asked if oid not in here]

    def matching(self, begin: str) -> list[tuple[ObjectId, int]]:
        """Objects whose hex id starts with `begin`, with their kinds, sorted."""
        if set(begin) - set("0123456789abcdef"):
            return []
        return sorted({found for pack in self.packs() for found in pack.index.beginning(begin)})

    def batch(self) -> Batch:
        return Batch(self)


class Overlay:
    """New metadata objects over a store, in memory until `flush`: a diff never flushes."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._new: dict[ObjectId, tuple[Kind, bytes]] = {}

    def put(self, kind: Kind, oid: ObjectId, data: bytes) -> None:
        self._new.setdefault(oid, (kind, data))

    def get(self, kind: Kind, oid: ObjectId) -> bytes:
        """Raises: ObjectNotFoundError, IntegrityError."""
        found = self._new.get(oid)
        if found is None:
            return self.database.get(kind, oid)
        if found[0] is not kind:
            raise IntegrityError(f"object {oid.short} is not a {kind.word}")
        return found[1]

    def find_new(self, oid: ObjectId) -> bytes | None:
        """An object that is not the store's yet; None for any other."""
        found = self._new.get(oid)
        return found[1] if found is not None else None

    def has(self, oid: ObjectId) -> bool:
        return oid in self._new or self.database.has(oid)

    def flush(self) -> None:
        """Make them the store's, all at once."""
        if self._new:
            with self.database.batch() as batch:
                self.pour(batch)
            self._new.clear()

    def pour(self, batch: Batch) -> None:
        """Add them to a batch, and keep them until it is the store's."""
        for oid, (kind, data) in self._new.items():
            batch.put(kind, oid, data)


class Batch:
    """New objects on their way into packs. Use as a context; leaving it by an error keeps none."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._data: PackWriter | None = None
        self._meta: PackWriter | None = None
        self._indexes: list[tuple[PackId, bytes]] = []
        self._shrunk: dict[ObjectId, compress.Shrunk | None] = {}
        self.bytes_stored = 0

    def prepare(self, oid: ObjectId, data: memoryview) -> None:
        """Compress a chunk that will be put in a moment. Any thread may, beside the one that puts.

        A chunk takes longer to compress than to cut, hash and write, so this is worth sharing out.
        """
        if not (self.holds(oid) or self._database.has(oid)):
            shrunk = compress.shrink(data)
            self._shrunk[oid] = shrunk if shrunk[1] is not data else None  # it is not ours to keep

    def put(self, kind: Kind, oid: ObjectId, data: bytes | memoryview) -> bool:
        """Add an object unless the store has it; True if it was new."""
        prepared = oid in self._shrunk
        shrunk = self._shrunk.pop(oid, None) or ((compress.RAW, data) if prepared else None)
        if self.holds(oid) or self._database.has(oid):
            return False
        if kind is Kind.CHUNK:
            self._data = self._data or self._writer()
            self._data.add(kind, oid, data, shrunk)
            if self._full(self._data):
                self._roll()
        else:
            self._add_meta(kind, oid, data)
        return True

    def put_stored(self, oid: ObjectId, stored: bytes | memoryview, row: Row) -> bool:
        """Add a chunk that is encoded already, and checked; True if it was new."""
        if self._database.has(oid) or self.holds(oid):
            return False
        self._data = self._data or self._writer()
        self._data.add_stored(oid, stored, row)
        if self._full(self._data):
            self._roll()
        return True

    def _add_meta(self, kind: Kind, oid: ObjectId, data: bytes | memoryview) -> None:
        self._meta = self._meta or self._writer()
        self._meta.add(kind, oid, data)
        if self._full(self._meta):
            self._roll()  # I3: what metadata name is there before they are
            self._roll_meta()

    def holds(self, oid: ObjectId) -> bool:
        return bool((self._meta and oid in self._meta) or (self._data and oid in self._data))

    def get(self, kind: Kind, oid: ObjectId) -> bytes:
        """An object of this batch or of the store."""
        for writer in (self._meta, self._data):
            if writer and oid in writer:
                return bytes(writer.read(oid))
        return self._database.get(kind, oid)

    def _writer(self) -> PackWriter:
        if self._database.scratch is None:
            raise IntegrityError("a store that is only read cannot take objects")
        return PackWriter(self._database.scratch)

    def _full(self, writer: PackWriter) -> bool:
        return writer.size >= self._database.roll_bytes or len(writer) >= ROLL_OBJECTS

    def _roll(self) -> None:
        """Publish the data pack; its objects are then the store's."""
        if self._data:
            self.bytes_stored += self._data.size
            self._indexes.append(self._data.finish(self._database.backend))
            self._data = None
            self._database.refresh()

    def _roll_meta(self) -> None:
        if self._meta:
            self.bytes_stored += self._meta.size
            self._meta.finish(self._database.backend)
            self._meta = None
            self._database.refresh()

    def finish(self) -> None:
        """Publish everything, data before metadata (I3)."""
        self._roll()
        for pack, index in self._indexes:
            # A copy of each data pack's index lets fsck rebuild a damaged tail.
            self._add_meta(Kind.INDEX, pack, index)
        self._indexes.clear()
        self._roll_meta()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        try:
            if kind is None:
                self.finish()
        finally:  # a writer that is left has not been published
            for writer in (self._data, self._meta):
                if writer:
                    writer.abandon()
