"""The object database: all packs of one store as one set of objects. Only it knows where.

Reading checks every object against its name (I1). Writing goes through a `Batch`: data
packs are published before the metadata pack that needs them (I3), and all of them before
the state that reaches them.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Self

from usrstore.errors import IntegrityError, ObjectNotFoundError, UsrError
from usrstore.objects.ids import Kind, ObjectId, PackId
from usrstore.odb import compress
from usrstore.odb.backend.backend import Backend
from usrstore.odb.catalogue import FEW, Catalogue
from usrstore.odb.ends import Ends
from usrstore.odb.pack import MOST_SALT, Pack, PackWriter, checked
from usrstore.odb.packindex import MAX_OBJECTS, Row

if TYPE_CHECKING:
    from usrstore.odb.workers import Answer, Workers

ROLL_BYTES = 256 << 20
ROLL_OBJECTS = MAX_OBJECTS - MOST_SALT
_RISING = 2  # packs on their way while the next one is made


class Database(Catalogue):
    """Objects by id.

    Args:
        backend: where packs rest.
        scratch: a folder for packs that are being written; None for a store that is only read.
        roll_bytes: how large a pack may grow before the next one is begun.
        at_once: how many packs are opened at a time, where that means waiting for another machine.
        unique: no two packs have one name, however alike, where collections do not exclude each
            other: a removal that comes late then finds nothing.
        ends: what is remembered of packs that are far away.
    """

    def __init__(
        self,
        backend: Backend,
        scratch: str | None,
        *,
        roll_bytes: int = ROLL_BYTES,
        at_once: int = 1,
        unique: bool = False,
        ends: Ends | None = None,
    ) -> None:
        super().__init__(backend, at_once, ends)
        self.unique = unique
        self.scratch = scratch
        self.roll_bytes = roll_bytes

    def has(self, oid: ObjectId) -> bool:
        return self.find(oid) is not None

    def keeps(self, oid: ObjectId) -> bool:
        """Whether an object lies where it will stay: what is condemned is as good as gone."""
        found = self.find(oid)
        return found is not None and found.pack.pack not in self.docket.condemned

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
                hint="`usr fsck` says what is missing, `usr fsck --repair --from REMOTE` fetches it",
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

    def missing(self, oids: Iterable[ObjectId]) -> list[ObjectId]:
        """Those that are not here, in their order."""
        asked = list(oids)
        if len(asked) < FEW:
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


class _Rising(NamedTuple):
    """A sealed pack on its way to where publishing takes long."""

    writer: PackWriter
    pack: PackId
    listed: bytes
    answer: Answer[None]


class Batch:
    """New objects on their way into packs. Use as a context; leaving it by an error keeps none."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._data: PackWriter | None = None
        self._meta: PackWriter | None = None
        self._listed: list[tuple[PackId, bytes | None]] = []  # None: the pack itself tells
        self._rising: deque[_Rising] = deque()
        self._workers: Workers | None = None
        self._shrunk: dict[ObjectId, compress.Shrunk | None] = {}
        self.bytes_stored = 0
        self.published: set[PackId] = set()

    def prepare(self, oid: ObjectId, data: memoryview) -> None:
        """Compress a chunk that will be put in a moment. Any thread may, beside the one that puts.

        A chunk takes longer to compress than to cut, hash and write, so this is worth sharing out.
        """
        if not (self.holds(oid) or self._database.keeps(oid)):
            shrunk = compress.shrink(data)
            self._shrunk[oid] = shrunk if shrunk[1] is not data else None  # it is not ours to keep

    def put(self, kind: Kind, oid: ObjectId, data: bytes | memoryview) -> bool:
        """Add an object unless the store has it, and will; True if it was new."""
        prepared = oid in self._shrunk
        shrunk = self._shrunk.pop(oid, None) or ((compress.RAW, data) if prepared else None)
        if self.holds(oid) or self._database.keeps(oid):
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
        """Add an object that is encoded already, and checked; True if it was new."""
        if self.holds(oid) or self._database.keeps(oid):
            return False
        self._add_stored(oid, stored, row)
        return True

    def _add_meta(self, kind: Kind, oid: ObjectId, data: bytes | memoryview) -> None:
        self._meta = self._meta or self._writer()
        self._meta.add(kind, oid, data)
        if self._full(self._meta):
            self._roll()
            self._roll_meta()

    def copy(self, pack: Pack, oid: ObjectId, row: Row, stored: bytes | memoryview) -> None:
        """Add an object of another pack as it is stored there, whoever else has it.

        Raises:
            DecodeError, HashMismatchError: it is damaged.
        """
        if self.holds(oid):
            return
        checked(oid, row, stored, f"pack {pack.pack.short}")
        self._add_stored(oid, stored, row)

    def _add_stored(self, oid: ObjectId, stored: bytes | memoryview, row: Row) -> None:
        if row.kind == Kind.CHUNK:
            self._data = self._data or self._writer()
            self._data.add_stored(oid, stored, row)
            if self._full(self._data):
                self._roll()
        else:
            self._meta = self._meta or self._writer()
            self._meta.add_stored(oid, stored, row)
            if self._full(self._meta):
                self._roll()
                self._roll_meta()

    def holds(self, oid: ObjectId) -> bool:
        return bool(
            (self._meta and oid in self._meta)
            or (self._data and oid in self._data)
            or any(oid in rising.writer for rising in self._rising)
        )

    def get(self, kind: Kind, oid: ObjectId) -> bytes:
        """An object of this batch or of the store."""
        for writer in (self._meta, self._data):
            if writer and oid in writer:
                return bytes(writer.read(oid))
        if any(oid in rising.writer for rising in self._rising):
            self._settle()
        return self._database.get(kind, oid)

    def _writer(self) -> PackWriter:
        if self._database.scratch is None:
            raise IntegrityError("a store that is only read cannot take objects")
        return PackWriter(self._database.scratch)

    def _full(self, writer: PackWriter) -> bool:
        return writer.size >= self._database.roll_bytes or len(writer) >= ROLL_OBJECTS

    def _roll(self) -> None:
        """Publish the data pack; where that takes long, go on beside it."""
        if self._data is None:
            return
        self.bytes_stored += self._data.size
        writer, avoid = self._data, self._database.docket.condemned
        if not self._database.far:
            done = writer.finish(self._database.backend, avoid, unique=self._database.unique)
            self._listed.append(self._note(*done))
            self._data = None
            return
        pack, index = writer.seal(avoid, unique=self._database.unique)
        from usrstore.odb.workers import Workers

        self._workers = self._workers or Workers(_RISING)
        answer = self._workers.start(lambda: writer.publish(self._database.backend, pack))
        self._rising.append(_Rising(writer, pack, index, answer))
        self._data = None
        if len(self._rising) > _RISING:
            self._settle(1)

    def _settle(self, count: int | None = None) -> None:
        """Wait for packs on their way, the oldest first; their objects are then the store's."""
        for _ in range(len(self._rising) if count is None else count):
            rising = self._rising[0]
            rising.answer.get()
            self._rising.popleft().writer.abandon()  # what is left is its file
            self._listed.append(self._note(rising.pack, rising.listed))

    def _roll_meta(self) -> None:
        self._settle()  # I3: what metadata name is there before they are
        if self._meta:
            self.bytes_stored += self._meta.size
            avoid = self._database.docket.condemned
            unique = self._database.unique
            self._note(*self._meta.finish(self._database.backend, avoid, unique=unique))
            self._meta = None

    def _note(self, pack: PackId, index: bytes) -> tuple[PackId, bytes | None]:
        self.published.add(pack)
        self._database.refresh()
        self._database.expect(pack)
        return pack, None if self._database.has_pack(pack) else index

    def finish(self) -> None:
        """Publish everything, data before metadata (I3)."""
        self._roll()
        self._settle()
        for pack, listed in self._listed:
            # A copy of each data pack's index lets fsck rebuild a damaged tail.
            index = listed or self._database.index_of(pack)
            if index is not None:
                self._add_meta(Kind.INDEX, pack, index)
        self._listed.clear()
        self._roll_meta()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        try:
            if kind is None:
                self.finish()
            elif issubclass(kind, Exception):  # not a Ctrl-C: what is on its way may arrive
                with contextlib.suppress(UsrError):
                    self._settle()
        finally:  # a writer that is left has not been published
            for writer in (self._data, self._meta, *(rising.writer for rising in self._rising)):
                if writer:
                    writer.abandon()
            if self._workers:
                self._workers.close()
