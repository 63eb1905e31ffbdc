"""Packs: few, large, immutable files of objects ([F-37]…[F-42]).

Objects lie contiguously with nothing between them, so a file's chunks are a few long runs.
A pack is written under a temporary name, synced once, and then published whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator

from usrstore.errors import (
    DecodeError,
    HashMismatchError,
    IntegrityError,
    InvalidInputError,
    ObjectNotFoundError,
    StorageError,
)
from usrstore.objects import codec
from usrstore.objects.ids import Kind, ObjectId, PackId, hash_object
from usrstore.odb import compress, durable, packindex
from usrstore.odb.backend.backend import Backend, view
from usrstore.odb.backend.folder import FolderBackend, read_into
from usrstore.odb.packindex import MAGIC, TRAILER, PackIndex, Row

_PAGE_BYTES = 4096
MOST_SALT = 7  # grains in one pack: more than one is already chance
_RUN_BYTES = 4 << 20
_GAP_BYTES = 64 << 10  # far away, to read on over this costs less than to ask again
_HINT = (
    "`usr fsck --deep` says what it affects, `usr fsck --repair` takes it from where it is whole"
)
SMALL = 4096
"""Up to so many objects an index is read whole; above, mapped."""


def pack_key(pack: PackId) -> str:
    return f"packs/{pack}.pack"


def pack_of_key(key: str) -> PackId | None:
    """The pack that a backend key names, or None for a key that names none."""
    try:
        pack = PackId(ObjectId.parse(key[len("packs/") : -len(".pack")]))
    except InvalidInputError:
        return None
    return pack if pack_key(pack) == key else None


class PackWriter:
    """Collects objects into one new pack in a scratch file."""

    def __init__(self, scratch_folder: str) -> None:
        durable.make_folder(scratch_folder)
        self._spool = durable.Spool.create(durable.temporary(scratch_folder))
        self._rows: dict[ObjectId, Row] = {}
        try:
            self._spool.write(MAGIC)
        except StorageError:
            self.abandon()
            raise

    def __contains__(self, oid: ObjectId) -> bool:
        return oid in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        return self._spool.size

    def add(
        self,
        kind: Kind,
        oid: ObjectId,
        data: bytes | memoryview,
        shrunk: compress.Shrunk | None = None,
    ) -> None:
        """Store an object, which may have been compressed before; a second time costs nothing."""
        if oid not in self._rows:
            encoding, stored = shrunk or compress.shrink(data)
            self.add_stored(oid, stored, Row(0, len(stored), len(data), kind, encoding))

    def add_stored(self, oid: ObjectId, stored: bytes | memoryview, row: Row) -> None:
        """Store bytes that are encoded already; `row.offset` is ours to set."""
        self._rows[oid] = row._replace(offset=self._spool.size)
        self._spool.write(stored)

    def read(self, oid: ObjectId) -> bytes | memoryview:
        """An object that was added a moment ago."""
        row = self._rows[oid]
        stored = self._spool.read_at(row.offset, row.stored)
        return compress.expand(row.encoding, stored, row.size)

    @property
    def path(self) -> str:
        """The scratch file."""
        return self._spool.path

    def seal(
        self, avoid: Container[PackId] = frozenset(), *, unique: bool = False
    ) -> tuple[PackId, bytes]:
        """Write the end and sync; the scratch file is then a whole pack without its name.

        Args:
            avoid: names of packs that are on their way out; who would make the very same pack
                adds a grain of salt, an object that nobody asks for.
            unique: add one in any case, so that no pack ever has this name again.
        """
        if unique:
            self._salt()
        pack, index = packindex.encode(self._rows.items())
        while pack in avoid:
            self._salt()
            pack, index = packindex.encode(self._rows.items())
        offset = self._spool.size
        self._spool.write(index + packindex.encode_trailer(offset, len(self._rows), pack))
        self._spool.sync()
        self._spool.close()
        return pack, index

    def _salt(self) -> None:
        salt = os.urandom(16)
        self.add(Kind.CHUNK, hash_object(Kind.CHUNK, salt), salt)

    def finish(
        self,
        backend: Backend,
        avoid: Container[PackId] = frozenset(),
        *,
        unique: bool = False,
    ) -> tuple[PackId, bytes]:
        """Publish the pack; gives its name and index.

        Args:
            backend: where it will rest.
            avoid, unique: names that it must not have; see `seal`.

        Raises:
            StorageError: it could not be written; `abandon` removes what there is of it.
            IntegrityError: a damaged file has its name.
        """
        pack, index = self.seal(avoid, unique=unique)
        self.publish(backend, pack)
        durable.remove(self._spool.path)
        return pack, index

    def publish(self, backend: Backend, pack: PackId) -> None:
        """Give a sealed pack its name; any thread may. Raises: as `finish`."""
        from pathlib import Path  # dear at start-up, and who only reads needs none

        if not backend.create(pack_key(pack), Path(self._spool.path)):
            self._check_present(backend, pack)

    def _check_present(self, backend: Backend, pack: PackId) -> None:
        """I2: another writer made this very pack, and only if it is whole may we rely on it."""
        key = pack_key(pack)
        try:
            found = backend.stat(key)
            present = Pack(backend, pack, found.size if found else 0)
            # From its end, as who reads ahead of a pack does.
            for row, oid in reversed(present.index.as_they_lie()):
                present.read(oid, row)
        except (IntegrityError, ObjectNotFoundError) as exc:
            raise IntegrityError(
                f"{key} is damaged and has the name of a pack that was to be written: "
                f"{exc.message}; nothing was changed",
                hint="move that file out of the store, then run the same command again",
            ) from exc

    def abandon(self) -> None:
        """Remove what there is of a pack that will not be published."""
        try:
            self._spool.close()
        finally:
            durable.remove(self._spool.path)


class Pack:
    """A published pack, read object by object; every object is checked against its name.

    Opening it reads its trailer. A small index is read and hashed at once; a large one is
    mapped where the backend can, and hashed before the first thing it says is believed.

    Attributes:
        pack: its name.
        size: of the file, bytes.
        end: where its objects end and the index begins.
        index: which objects it has.

    Raises:
        DecodeError: it is damaged.
        ObjectNotFoundError: it is not there any more.
    """

    def __init__(
        self,
        backend: Backend,
        pack: PackId,
        size: int,
        index: bytes | memoryview | None = None,
    ) -> None:
        self.pack = pack
        self.size = size
        self._backend = backend
        self._key = pack_key(pack)
        if index is not None:  # remembered, and hashed: the rest of its end follows from it
            self.end = size - TRAILER.size - len(index)
            self.index = PackIndex.check(index, pack)
            return
        trailer = backend.read(self._key, -TRAILER.size)
        self.end, count = packindex.decode_trailer(trailer, pack, size)
        self.size = size
        data = view(backend, self._key, self.end, size - self.end - TRAILER.size)
        self.index = PackIndex(data, count, pack)
        if count <= SMALL:
            self.index.verify()

    @property
    def holds_data(self) -> bool:
        """Whether chunks lie in it; those of metadata lie in packs of their own, with salt."""
        first = range(min(self.index.count, MOST_SALT + 1))
        return all(self.index.row(at).kind == Kind.CHUNK for at in first)

    def read(self, oid: ObjectId, row: Row) -> bytes | memoryview:
        """Raises: DecodeError, HashMismatchError."""
        where = f"pack {self.pack.short}"
        if row.offset + row.stored > self.end:
            raise DecodeError(f"object {oid.short} would lie outside {where}")
        return checked(oid, row, self.read_stored(row), where)

    def read_stored(self, row: Row) -> bytes:
        """The bytes as they lie, unchecked."""
        return self._backend.read(self._key, row.offset, row.stored)

    def as_stored(
        self, rows: Iterable[tuple[Row, ObjectId]]
    ) -> Iterator[tuple[Row, ObjectId, memoryview]]:
        """Objects as they lie, unchecked; neighbours are read together."""
        run: list[tuple[Row, ObjectId]] = []
        for row, oid in sorted(rows):
            if run:
                begin, last = run[0][0].offset, run[-1][0]
                gap = row.offset - last.offset - last.stored
                if gap > _GAP_BYTES or row.offset + row.stored - begin > _RUN_BYTES:
                    yield from self._read_run(run)
                    run = []
            run.append((row, oid))
        if run:
            yield from self._read_run(run)

    def _read_run(
        self, run: list[tuple[Row, ObjectId]]
    ) -> Iterator[tuple[Row, ObjectId, memoryview]]:
        begin = run[0][0].offset
        end = max(row.offset + row.stored for row, _ in run)
        data = memoryview(self._backend.read(self._key, begin, end - begin))
        for row, oid in run:
            at = row.offset - begin
            yield row, oid, data[at : at + row.stored]

    def has_magic(self) -> bool:
        """Whether it begins as a pack does ([F-37]); none of its objects needs that to be read."""
        return self._backend.read(self._key, 0, len(MAGIC)) == MAGIC

    def open(self) -> int | None:
        """The pack as an open file that the caller closes; None where packs are no files."""
        if not isinstance(self._backend, FolderBackend):
            return None
        try:
            return os.open(self._backend.path(self._key), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None  # whoever reads it hears why

    def reader(self, most: int) -> Callable[[int, int], memoryview]:
        """Reads neighbours as they lie, unchecked, up to `most` bytes, for one thread at a time.

        What it gives is good until it is asked again: where packs are files, they are read
        into the same memory over and over, which stays in the processor's cache.
        """
        if not isinstance(self._backend, FolderBackend):
            return lambda offset, size: memoryview(self._backend.read(self._key, offset, size))
        buffer = memoryview(bytearray(most + _PAGE_BYTES))
        path = self._backend.path(self._key)

        def read(offset: int, size: int) -> memoryview:
            nonlocal buffer
            early = offset % _PAGE_BYTES  # copying whole pages takes a third of the time
            if early + size > len(buffer):
                buffer = memoryview(bytearray(early + size))
            return buffer[early : read_into(path, offset - early, buffer[: early + size])]

        return read


def checked(oid: ObjectId, row: Row, stored: bytes | memoryview, where: str) -> bytes | memoryview:
    """The object's bytes, if they hash to its name (I1).

    Raises:
        DecodeError, HashMismatchError: naming the object and where it lies.
    """
    try:
        most = codec.MAX_CHUNK_BYTES if row.kind == Kind.CHUNK else codec.MAX_OBJECT_BYTES
        if row.size > most:
            raise DecodeError(f"it would have {row.size} bytes, over the limit of {most}")
        data = compress.expand(row.encoding, stored, row.size)
        matches = hash_object(Kind(row.kind), data) == oid
    except (DecodeError, ValueError) as exc:
        message = f"object {oid.short} in {where} is damaged: {exc}"
        raise DecodeError(message, hint=_HINT) from exc
    if not matches:
        raise HashMismatchError(
            f"object {oid.short} in {where} does not hash to its name",
            hint=_HINT,
        )
    return data


def scratch_of(store: str) -> str:
    """Where packs of a store in a folder are written before they have a name."""
    return os.path.join(store, "packs")
