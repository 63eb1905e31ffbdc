"""repair: save what is whole, fetch what is not, then let damaged files go out of the way.

In this order, so that a repair that is cut off has lost nothing, and one that is run again
goes on: caches and quarantine → states that can be what they were → packs, each rewritten
from its good objects and from whatever source has the bad ones, before the damaged file is
moved to `damaged/` → objects that are missing altogether → a newest state that is gone →
copies of indexes. No object is ever removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from usrstore.errors import DecodeError, IntegrityError, StorageError, UsrError
from usrstore.objects.ids import Kind, ObjectId, PackId
from usrstore.objects.names import DatasetId
from usrstore.objects.progress import Emit, Event, silent
from usrstore.odb import compress, durable, flock, mending, packindex, salvage
from usrstore.odb.pack import PackWriter, checked, pack_key, pack_of_key
from usrstore.odb.packindex import PackIndex, Row
from usrstore.odb.salvage import Found, PackFile, Wanted
from usrstore.odb.scrub import scrub
from usrstore.remote.peer import Peer
from usrstore.root import Root, Who
from usrstore.verbs import fsck, interruption, restating, surroundings
from usrstore.verbs.findings import FsckResult
from usrstore.verbs.healing import Aside, Folders, Healed, Need, Remote, fits, is_whole
from usrstore.worktree import journal as journals

_MAX_ROUNDS = 64

Source = Aside | Folders | Remote


def repair(
    root: Root,
    who: Who,
    *,
    remotes: Sequence[tuple[str, Callable[[], Peer]]] = (),
    emit: Emit = silent,
) -> FsckResult:
    """Mend what can be mended, then check everything anew.

    Args:
        root: whose store.
        who: for the record of a state that had to be made anew.
        remotes: names of remotes that may have what is lost, and how each is reached.
        emit: progress.

    Returns:
        What a deep check finds afterwards: what could not be healed, with the files it hurts.

    Raises:
        LockedError: another repair is running.
        StorageError: the disk failed; whatever was mended stays mended.
    """
    done: list[str] = []
    if root.has_store:
        path = os.path.join(root.store, "locks", "@repair")
        durable.make_folder(os.path.dirname(path))
        with flock.hold(path, timeout_s=0, what="a repair of this store"):
            done = list(_Repair(root, who, remotes, emit).run())
    return fsck.fsck(Root(root.path), who, deep=True, emit=emit)._replace(repaired=tuple(done))


class _Repair:
    def __init__(
        self,
        root: Root,
        who: Who,
        remotes: Sequence[tuple[str, Callable[[], Peer]]],
        emit: Emit,
    ) -> None:
        self._root = root
        self._who = who
        self._emit = emit
        self._folders = Folders(root, who, emit)
        self._remotes = remotes
        self._flips = 0

    def run(self) -> Iterator[str]:
        yield from self._surroundings()
        yield from restating.mend(self._root, self._who, None)
        keys = self._damaged()
        for means in _MEANS:
            # What one pack gives, an index copy or a recipe, may tell what lies in another.
            before = None
            while keys and keys != before:
                before, keys = keys, []
                for key in before:
                    yield from self._pack(key, means, keys)
            yield from self._misnamed()
            yield from self._missing()
        yield from restating.mend(self._root, self._who, self._folders.tree)
        yield from self._missing()
        yield from self._needless(keys)
        yield from self._index_copies()

    # ── what lies beside ────────────────────────────────────────────────────────────────
    def _surroundings(self) -> Iterator[str]:
        root = self._root
        for dataset in root.cached():
            if surroundings.damaged_cache(root, dataset) is not None:
                durable.remove(root.cache_path(dataset))
                yield f"index/{dataset}: removed; the next look at the folder makes it anew"
        for dataset in interruption.interrupted(root):
            try:
                if interruption.restore(root, dataset):
                    yield f"journal/{dataset}: written anew from the copy in its stage"
                journals.find(root.journal_path(dataset))
            except DecodeError:
                yield self._unreadable_journal(dataset)
        for dataset in root.staged():
            if interruption.is_interrupted(root, dataset):
                continue  # a promotion needs its stage
            for stage, _ in surroundings.damaged_stages(root, dataset):
                durable.remove_tree(stage)
                yield f"{os.path.relpath(stage, root.store)}: removed; it will travel again"

    def _unreadable_journal(self, dataset: DatasetId) -> str:
        """The old files of a promotion whose journal is lost go with it, where none clears them."""
        root = self._root
        stages = [root.quarantine_path(dataset)]
        if any(
            path.startswith(root.stage_path(dataset)) for path in interruption.copies(root, dataset)
        ):
            stages.append(root.stage_path(dataset))
        aside = [mending.set_aside(root.store, stage) for stage in stages if os.path.isdir(stage)]
        where = "nothing was staged for it"
        if aside:
            where = f"the files it was moving are in {' and '.join(aside)}"
        if os.path.exists(root.journal_path(dataset)):
            mending.set_aside(root.store, root.journal_path(dataset))
        return (
            f"journal/{dataset}: set aside, {where}; `usr status {dataset}` says how the folder "
            f"differs from its last state, `usr checkout {dataset}` or a pull makes it whole"
        )

    # ── packs ───────────────────────────────────────────────────────────────────────────
    def _path(self, key: str) -> str:
        return os.path.join(self._root.store, key)

    def _damaged(self) -> list[str]:
        """Packs that cannot be opened, or hold damaged objects."""
        database = self._root.database
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            self._emit(Event("verify", done))

        packs = list(database.packs())
        bad = [
            pack_key(pack.pack)
            for pack in packs
            if scrub(pack, progress=progress) or not pack.has_magic()
        ]
        return sorted({*database.damaged, *bad})

    def _pack(self, key: str, means: str, left: list[str]) -> Iterator[str]:
        """Save what is whole of a damaged pack, then move it out of the way.

        Args:
            key: the pack.
            means: `index` to trust an index only, `metadata` to scan metadata packs, `scan` all.
            left: takes the pack if it must stay where it is.
        """
        pack, path = pack_of_key(key), self._path(key)
        if pack is not None and self._is_sound(pack):
            return  # it got its name back when another was mended
        with PackFile(path) as file:
            found = salvage.rows_of(
                file, pack, self._copy, Wanted if means == "index" else self._wanted
            )
            data_only = all(row.kind == Kind.CHUNK for _, row in found.rows)
            if found.how == "scan" and (means == "index" or (means == "metadata" and data_only)):
                left.append(key)
                return
            if found.pack not in (None, pack) and self._is_sound(found.pack):
                mending.set_aside(self._root.store, path)
                yield f"{key}: set aside; it is a copy of {pack_key(found.pack)}, which is whole"
                return
            whole = found.is_all_of(pack)
            if not whole:
                left.append(key)
                fresh = [row for row in found.rows if not self._root.database.has(row[0])]
                if not fresh:
                    return
                found = found._replace(rows=fresh)
            saved, healed, lost = self._rewrite(file, found, key, aside=whole)
        told = f"{healed} healed; the damaged file is in {mending.FOLDER}/"
        if not whole:
            told = "but what else was in it nothing tells, so it stays"
        yield f"{key}: {saved} of {saved + healed + lost} objects saved ({_HOW[found.how]}), {told}"

    def _misnamed(self) -> Iterator[str]:
        """What was set aside under another pack's name is saved like any pack.

        Not only what is missing now: that an older state's trees are gone shows nowhere.
        """
        for path in mending.set_aside_as(self._root.store, "packs@"):
            with PackFile(path) as file:
                found = salvage.rows_of(file, None, self._copy, Wanted)
                own = found.pack
                if own is None or found.how == "scan" or str(own) in path:
                    continue
                if all(self._root.database.has(oid) for oid, _ in found.rows):
                    continue
                saved, healed, lost = self._rewrite(file, found, pack_key(own), aside=False)
            name = os.path.basename(path)
            count = f"{saved} of {saved + healed + lost} objects saved"
            yield f"{pack_key(own)}: it lay under another name ({name}); {count}, {healed} healed"

    def _rewrite(
        self, file: PackFile, found: Found, key: str, *, aside: bool
    ) -> tuple[int, int, int]:
        """A new pack of what can be saved of a damaged one; how many were, had to be healed, are lost."""
        store, bad = self._root.store, dict[ObjectId, Row]()
        swapped = False
        writer = PackWriter(os.path.join(store, "packs"))
        try:
            for oid, row in found.rows:
                stored = file.whole(oid, row)
                if stored is None:
                    bad[oid] = row
                else:
                    writer.add_stored(oid, stored, row)
            saved = len(writer)
            for one in self._turned_back(file, bad):
                writer.add(one.kind, one.oid, one.data)
            need = {oid: Kind(row.kind) for oid, row in bad.items() if oid not in writer}
            for one in self._heal(need):
                writer.add(one.kind, one.oid, one.data)
            healed = len(writer) - saved
            if len(writer):
                name, _ = writer.seal()
                swapped = pack_key(name) == key
                target = self._path(pack_key(name))
                if swapped or (os.path.exists(target) and not self._is_sound(name)):
                    mending.swap(store, target, writer.path)
                else:
                    durable.publish(writer.path, target)
        finally:
            writer.abandon()
        if aside and not swapped:
            mending.set_aside(store, file.path)
        self._root = Root(self._root.path)
        return saved, healed, len(bad) - healed

    def _needless(self, keys: Sequence[str]) -> Iterator[str]:
        """Packs of which nothing tells what was in them, once nothing can have been in them."""
        if not keys:
            return
        closure = fsck.reached(self._root, fsck.Links(self._root))
        if closure.lacks or closure.absent:
            return
        for key in keys:
            mending.set_aside(self._root.store, self._path(key))
            yield f"{key}: set aside; nothing that any state reaches can have been in it alone"

    def _copy(self, pack: PackId) -> PackIndex | None:
        """The copy of a pack's index, if a metadata pack has it."""
        try:
            return PackIndex.check(self._root.database.get(Kind.INDEX, pack), pack)
        except UsrError:
            return None

    def _is_sound(self, pack: PackId | None) -> bool:
        return any(
            one.pack == pack and one.has_magic() and not scrub(one)
            for one in self._root.database.packs()
        )

    def _wanted(self) -> Wanted:
        """What a scan may look for: the chunks that recipes and trees name, and index copies."""
        database, wanted = self._root.database, Wanted()
        for stat in database.backend.list("packs/"):
            if (pack := pack_of_key(stat.key)) is not None and not database.has(pack):
                wanted.indexes.add(pack)
        for opened in list(database.packs()):
            for oid, row in opened.index.items():
                if row.kind not in (Kind.RECIPE, Kind.TREE, Kind.MANIFEST):
                    continue
                try:
                    parts = salvage.chunks_in(Kind(row.kind), bytes(opened.read(oid, row)))
                except UsrError:
                    continue
                wanted.chunks.update(parts)
                if row.kind == Kind.RECIPE:
                    for (one, _), (other, _) in pairwise(parts):
                        wanted.next.setdefault(one, other)
        return wanted

    # ── sources ─────────────────────────────────────────────────────────────────────────
    def _turned_back(self, file: PackFile, bad: dict[ObjectId, Row]) -> Iterator[Healed]:
        """Small objects with one flipped bit, which their hash points out."""
        for oid, row in bad.items():
            if self._flips >= salvage.MAX_FLIPS:
                return
            self._flips += 1
            right = salvage.unflip(file.read(row.offset, row.stored), _rightness(oid, row))
            if right is not None:
                data = bytes(compress.expand(row.encoding, right, row.size))
                yield Healed(Kind(row.kind), oid, data, "one bit turned back")

    def _heal(self, need: Need) -> Iterator[Healed]:
        """Each needed object once, from the first source that has it whole."""
        left = dict(need)
        for pack in list(self._root.database.packs()) if left else ():
            for oid, kind in list(left.items()):
                row = pack.index.find(oid)
                if row is not None and row.kind == kind:
                    try:
                        data = bytes(pack.read(oid, row))
                    except UsrError:
                        continue
                    del left[oid]
                    yield Healed(kind, oid, data, "another pack")
        for source in self._sources():
            if not left:
                return
            try:
                for one in source.give(left):
                    if fits(left.get(one.oid), one.kind) and is_whole(one):
                        del left[one.oid]
                        yield one
            except StorageError:
                raise
            except UsrError as exc:  # a folder in use, a remote that is away, damaged, or lies
                self._emit(Event("note", text=f"not all could be asked: {exc.message}"))

    def _sources(self) -> Iterator[Source]:
        yield Aside(self._root.store, self._copy)
        yield self._folders
        datasets = {*self._root.datasets(), *fsck.Links(self._root).datasets}
        for name, connect in self._remotes:
            yield Remote(self._root, name, connect, datasets, self._emit)

    # ── what is missing altogether ──────────────────────────────────────────────────────
    def _missing(self) -> Iterator[str]:
        """What the refs reach and no pack has; metadata first, for they tell what else is."""
        for _ in range(_MAX_ROUNDS):
            closure = fsck.reached(self._root, fsck.Links(self._root))
            need = {oid: lack.kind for oid, lack in closure.lacks.items()}
            count: dict[str, int] = {}
            if need:
                with self._root.database.batch() as batch:
                    for one in self._heal(need):
                        batch.put(one.kind, one.oid, one.data)
                        count[one.source] = count.get(one.source, 0) + 1
            if not count:
                return
            for source, number in count.items():
                word = "object" if number == 1 else "objects"
                yield f"{number} missing {word} had again from {source}"
            self._root = Root(self._root.path)

    def _index_copies(self) -> Iterator[str]:
        database, count = self._root.database, 0
        with database.batch() as batch:
            for pack in list(database.packs()):
                if pack.holds_data and not database.has(pack.pack):
                    name, data = packindex.encode(pack.index.items())
                    batch.put(Kind.INDEX, name, data)
                    count += 1
        if count:
            yield f"{count} indexes of packs copied into a metadata pack"


_MEANS = ("index", "metadata", "scan")
_HOW = {
    "tail": "its index was whole",
    "copy": "by the copy of its index",
    "scan": "by a scan, for no index was left",
}


def _rightness(oid: ObjectId, row: Row) -> Callable[[bytes], bool]:
    def is_right(stored: bytes) -> bool:
        try:
            checked(oid, row, stored, "")
        except IntegrityError:
            return False
        return True

    return is_right
