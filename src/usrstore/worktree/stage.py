"""The stage: new files of a state, complete and verified, beside the folder (I5).

Chunks are written straight to where they belong, in whatever order they arrive, and a log
says which have landed; so an interrupted transfer goes on where it stopped, and new bytes
cost the disk once. Files are hashed behind their chunks. Nothing here is believed before
`verify` knows of every staged file that it was hashed to its end, and not written to since.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from usrstore.errors import HashMismatchError
from usrstore.objects.chunklist import ChunkList
from usrstore.objects.ids import ChunkId, ContentHash, Kind, TreeId, hash_object
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.tree import FileEntry
from usrstore.odb import durable
from usrstore.odb.extents import Extent
from usrstore.worktree.crew import in_order
from usrstore.worktree.scan import Stamp
from usrstore.worktree.source import FolderSource
from usrstore.worktree.spots import Spots
from usrstore.worktree.stagelog import StageLog, Whole, folder_name, landed, neighbours
from usrstore.worktree.statcache import stamp_of
from usrstore.worktree.tally import Tally, hash_file

_PORTION_BYTES = 8 << 20  # that are copied before the hash goes on behind them
_SMALL_BYTES = 64 << 10  # files as small as this are hashed sooner than handed on
_OPEN = 4  # files that are written to at a time
_SYNC_EACH = 16  # more files than this are synced by one syncfs(2) instead of one by one


class Target(NamedTuple):
    """A file to be staged: where it goes, what it is, and of which chunks it consists."""

    path: str
    entry: FileEntry
    chunks: ChunkList


class Stage:
    """Files on their way into one folder, numbered by their place in `targets`.

    Args:
        home: a folder of ours, used for one transfer of one tree at a time.
        tree: the state that is being staged.
        targets: the files that differ from the folder. What was staged for another state, or
            for other targets, is only a source: there the same number is another file.
    """

    def __init__(self, home: str, tree: TreeId, targets: list[Target]) -> None:
        self.home = home
        self.tree = tree
        self.targets = targets
        self.folder = os.path.join(home, folder_name(tree, (target.path for target in targets)))
        self._spots = Spots([target.chunks for target in targets])
        self._open: dict[int, durable.Spool] = {}
        self._verified: list[tuple[Target, tuple[int, int]]] = []
        self._arriving: int | None = None
        self._believed = False  # whether what arrives there was hashed before it was written
        self._fresh: dict[int, Whole] = {}
        self._tally = Tally()
        durable.make_folder(self.folder)
        self._log = StageLog(self.folder)
        self._whole = dict(self._log.whole())
        self._there: set[int] = set()
        self._resume()
        self.bytes_resumed = sum(spot.size for _, spot in self._spots.landed())

    def _resume(self) -> None:
        with os.scandir(self.folder) as entries:
            sizes = {e.name: e.stat().st_size for e in entries if e.is_file()}
        self._there = {number for number in range(len(self.targets)) if str(number) in sizes}
        for oid, spot in self._log.landed():
            numbers = self._spots.numbers(oid)
            spots = [self._spots.spot(number) for number in numbers]
            # A promotion that was taken back, or ended by a crash, took files out of here.
            if spot in spots and all(s.offset + s.size <= sizes.get(str(s.file), 0) for s in spots):
                self._spots.land(numbers[0])

    def path(self, number: int) -> str:
        return f"{self.folder}/{number}"

    def wanted(self) -> Iterator[tuple[ChunkId, int]]:
        """Chunks that have not landed, in the order of the files, each once."""
        return self._spots.lacking()

    @property
    def arriving(self) -> int:
        """How many files chunks have come for, if they come in the order of `wanted`."""
        return 0 if self._arriving is None else self._arriving + 1

    def portions(self) -> Iterator[list[tuple[ChunkId, int]]]:
        """What is wanted, a few mebibytes at a time."""
        portion: list[tuple[ChunkId, int]] = []
        left = _PORTION_BYTES
        for oid, size in self.wanted():
            portion.append((oid, size))
            left -= size
            if left <= 0:
                yield portion
                portion, left = [], _PORTION_BYTES
        if portion:
            yield portion

    def lacks(self, oid: ChunkId) -> bool:
        """Whether a chunk is wanted still."""
        numbers = self._spots.numbers(oid)
        return bool(numbers) and not self._spots.has_landed(numbers[0])

    def paths_of(self, oid: ChunkId) -> list[str]:
        """The files that a chunk belongs to."""
        return sorted({self.targets[spot.file].path for spot in self._spots.of(oid)})

    def place(self, oid: ChunkId, data: bytes | memoryview) -> None:
        """Write a chunk, whose bytes hash to its name, wherever it belongs."""
        numbers = self._spots.numbers(oid)
        for spot in map(self._spots.spot, numbers):
            self._file(spot.file).write_at(spot.offset, data)
        self._note((oid, numbers[0]))

    def land(self, chunks: Sequence[tuple[ChunkId, bytes | memoryview]]) -> None:
        """Write chunks that were hashed to their names, neighbours at once; hash their files on.

        A file whose chunks land in the order of `wanted` need not be read to be verified.
        """
        # Repeats first: what hashes a file may get to them as soon as the rest is there.
        placed = [(self._spots.numbers(oid), data) for oid, data in chunks]
        again = ((self._spots.spot(n), data) for numbers, data in placed for n in numbers[1:])
        for number, offset, pieces in neighbours(again):
            self._file(number).write_all_at(offset, pieces)
        first = ((self._spots.spot(numbers[0]), data) for numbers, data in placed)
        for number, offset, pieces in neighbours(first):
            if number != self._arriving:
                self._arrived()
            self._arriving, self._believed = number, True
            self._file(number).write_all_at(offset, pieces)
            if len(self.targets[number].chunks) > 1:
                self._tally.wrote(number, self.path(number), offset, pieces)
        self._note(
            *((oid, numbers[0]) for (oid, _), (numbers, _) in zip(chunks, placed, strict=True))
        )
        self._note_whole()

    def filled(self, portion: Sequence[tuple[ChunkId, int]]) -> bool:
        """Hash files on behind a portion that was copied, and nobody has hashed so far.

        Returns:
            False if it has not landed as a whole: what comes behind it cannot be hashed yet.
        """
        firsts = [self._spots.numbers(oid)[0] for oid, _ in portion]
        if not all(map(self._spots.has_landed, firsts)):
            return False
        ends: dict[int, int] = {}
        for spot in map(self._spots.spot, firsts):
            ends[spot.file] = spot.offset + spot.size
        for number, end in ends.items():
            if number != self._arriving:
                self._arrived()
            if self.targets[number].entry.size > _SMALL_BYTES:
                self._arriving, self._believed = number, False
                self._tally.wrote(number, self.path(number), end, ())
        self._note_whole()
        return True

    def landed_all(self) -> None:
        """No more chunks will come."""
        self._arrived()
        self._note_whole()
        self._tally.close()

    def _arrived(self) -> None:
        """If chunks come in their order, the file that was arriving is complete."""
        number, self._arriving = self._arriving, None
        if number is None:
            return
        self._close()
        stamp, chunks = stamp_of(self.path(number)), self.targets[number].chunks
        if stamp is None:
            return
        if len(chunks) > 1 or not self._believed:
            self._tally.ended(number, self.path(number), stamp)
            self._fresh.update(self._tally.done())  # waits: the disk changes in one order only
        else:  # a file of one chunk has its chunk's name
            self._fresh[number] = Whole(ContentHash(chunks.oid(0)), stamp)

    def _note_whole(self) -> None:
        files, self._fresh = self._fresh, {}
        if files:
            self._whole |= files
            self._log.note_whole(files.items())

    def copy(self, oid: ChunkId, fd: int, offset: int) -> None:
        """Copy a chunk from an open file; `verify` will tell whether it was what it should be."""
        numbers = self._spots.numbers(oid)
        for spot in map(self._spots.spot, numbers):
            self._file(spot.file).copy_from(fd, offset, spot.offset, spot.size)
        self._note((oid, numbers[0]))

    def _note(self, *landed: tuple[ChunkId, int]) -> None:
        """Chunks that have landed, each with its first number."""
        for _, number in landed:
            self._spots.land(number)
        self._log.note_landed((oid, self._spots.spot(number)) for oid, number in landed)

    def _file(self, number: int) -> durable.Spool:
        """A staged file to write to; a few stay open, for what is in several is written to each."""
        if number not in self._open:
            if len(self._open) == _OPEN:
                self._open.pop(next(iter(self._open))).close()
            opened = durable.Spool.reopen if number in self._there else durable.Spool.create
            self._open[number] = opened(self.path(number))
            self._there.add(number)
        return self._open[number]

    def fill_from(self, source: FolderSource) -> int:
        """Copy what the folder holds already, run by run; gives the bytes copied."""
        copied = 0
        for oid, size in self.wanted():
            place = source.find(oid)
            if place is None:
                continue
            fd = source.fd(place.path)
            if os.fstat(fd).st_size >= place.offset + size:  # else it changed; let it travel
                self.copy(oid, fd, place.offset)
                copied += size
        return copied

    def fill_extents(self, extents: Iterable[Extent]) -> int:
        """Copy chunks that lie as they are, many at a time; `verify` will tell what they were."""
        copied = 0
        for extent in extents:
            offset = extent.offset
            for stretch, size in self._stretches(extent.chunks):
                for spot in self._spots.of(stretch[0][0]):
                    file = self._file(spot.file)
                    file.copy_from(extent.fd, offset, spot.offset, size, start=False)
                self._note(*stretch)
                offset += size
                copied += size
        return copied

    def _stretches(
        self, chunks: list[tuple[ChunkId, int]]
    ) -> Iterator[tuple[list[tuple[ChunkId, int]], int]]:
        """Chunks that belong one behind the other, with their first numbers; their bytes."""
        stretch: list[tuple[ChunkId, int]] = []
        length = 0
        ends: list[tuple[int, int]] = []
        for oid, size in chunks:
            numbers = self._spots.numbers(oid)
            spots = [self._spots.spot(number) for number in numbers]
            if stretch and ends != [(spot.file, spot.offset) for spot in spots]:
                yield stretch, length
                stretch, length = [], 0
            stretch.append((oid, numbers[0]))
            length += size
            ends = [(spot.file, spot.offset + size) for spot in spots]
        if stretch:
            yield stretch, length

    def fill(
        self,
        get: Callable[[ChunkId], bytes | None],
        portion: Sequence[tuple[ChunkId, int]] | None = None,
    ) -> int:
        """Write what `get` has, already verified, of a portion or of all; gives the bytes."""
        written = 0
        for oid, size in self.wanted() if portion is None else portion:
            data = get(oid) if self.lacks(oid) else None
            if data is not None:
                self.place(oid, data)
                written += size
        return written

    def salvage(self) -> FolderSource:
        """What an interrupted transfer of another state left here, as a source of chunks."""
        source = FolderSource(self.home)
        for name in sorted(os.listdir(self.home)):
            log = os.path.join(self.home, name, "landed")
            if name == os.path.basename(self.folder) or not os.path.isfile(log):
                continue
            with open(log, "rb") as file:
                data = file.read()
            for oid, spot in landed(data):
                source.add_at(oid, f"{name}/{spot.file}", spot.offset, spot.size)
        return source

    def verify(
        self, emit: Emit = silent, again: Callable[[ChunkId], bytes | None] | None = None
    ) -> None:
        """Hash every staged file against its content hash.

        Args:
            emit: progress.
            again: reads a chunk anew, verified; asked for those of a file that do not hash to
                their names, because what they were copied from is damaged or changed.

        Raises:
            HashMismatchError: naming the first file that is not what the state says; that
                file is thrown away, so that the next run fetches it anew, and only it.
        """
        self._close()
        self.landed_all()
        self._verified.clear()
        total, done = sum(t.entry.size for t in self.targets), 0
        for number in range(len(self.targets)):
            if number not in self._there:
                self._file(number)  # an empty file has no chunk
        self._close()
        with contextlib.closing(self._hashes()) as hashes:
            for number, (target, what) in enumerate(zip(self.targets, hashes, strict=True)):
                found, stamp = what
                right = (target.entry.size, target.entry.content)
                if (stamp.size, found) != right:
                    found, stamp = hash_file(self.path(number))  # chunks out of order, perhaps
                if (stamp.size, found) != right and again is not None:
                    self._mend(number, again)
                    found, stamp = hash_file(self.path(number))
                if (stamp.size, found) != right:
                    expected = f"{target.entry.size} bytes, {target.entry.content.short}"
                    actual = f"{stamp.size} bytes, {found.short}"
                    self._throw_away(number)
                    raise HashMismatchError(
                        f"{target.path}: expected {expected}; staged {actual}",
                        hint="run the same command again; the damaged copy was thrown away",
                    )
                self._verified.append((target, (stamp.inode, stamp.mtime_ns)))
                done += stamp.size
                emit(Event("verify", done, total, target.path, number + 1, len(self.targets)))

    def _hashes(self) -> Generator[tuple[ContentHash, Stamp]]:
        """What each staged file hashes to, on threads where that is worth it."""
        numbers = range(len(self.targets))
        if sum(t.entry.size for t in self.targets) < len(self.targets) * _SMALL_BYTES:
            yield from map(self._hash, numbers)
        else:
            with contextlib.closing(in_order(self._hash, numbers)) as hashes:
                yield from hashes

    def _hash(self, number: int) -> tuple[ContentHash, Stamp]:
        whole = self._whole.get(number)
        if whole is not None and whole.stamp == stamp_of(self.path(number)):
            return whole
        return hash_file(self.path(number))

    def _mend(self, number: int, again: Callable[[ChunkId], bytes | None]) -> None:
        """Write those chunks of a staged file anew that do not hash to their names."""
        offset = 0
        with durable.Spool.reopen(self.path(number)) as file:
            for oid, size in self.targets[number].chunks:
                if hash_object(Kind.CHUNK, file.read_at(offset, size)) != oid:
                    data = again(oid)
                    if data is not None:
                        file.write_at(offset, data)
                offset += size

    def _throw_away(self, number: int) -> None:
        """Forget a damaged file and every chunk that was noted as landed in it."""
        self._spots.lose(number)
        self._log.only_landed(self._spots.landed())
        durable.remove(self.path(number))
        self._there.discard(number)

    def verified(self) -> list[tuple[Target, tuple[int, int]]]:
        """What `verify` hashed: each target, with the inode and mtime of the file it saw."""
        return self._verified

    def sync(self) -> None:
        """Make every staged file durable, with its name."""
        self._close()
        paths = [self.path(number) for number in range(len(self.targets))]
        if len(paths) > _SYNC_EACH and durable.sync_everything(self.folder):
            return
        for path in paths:
            with durable.Spool.reopen(path) as spool:
                spool.sync()
        # A file is lost with the name of any folder above it, and two of these are new.
        durable.sync_files([self.folder, self.home, os.path.dirname(self.home)])

    def _close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def close(self) -> None:
        """Leave the stage as it is, for a later run to go on with."""
        self._close()
        self._tally.close()
        self._log.close()

    def discard(self) -> None:
        """Remove everything staged for this folder."""
        self.close()
        durable.remove_tree(self.home)
