"""The receiving half of a transfer: nothing is believed before all of it is verified.

plan     trees and recipes complete? what is here already? what is still wanted?
take     chunks, each hashed as it arrives
promote  every staged file hashed, facts and registry checked, folder still as captured;
then journal → folder → after-check → refs, or nothing at all
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from usrstore.dataset import locks
from usrstore.errors import (
    ChangedWhileReadError,
    DecodeError,
    HashMismatchError,
    IntegrityError,
    ObjectNotFoundError,
    ProtocolError,
    VerificationError,
)
from usrstore.objects.compare import same
from usrstore.objects.ids import ChunkId, Kind, hash_object
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import RefName
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.recipe import MAX_CHUNKS, RULE
from usrstore.objects.sections import EVENTS_FILE, PRIMARY_FILE
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import compress, durable, extents, reach, room
from usrstore.odb.states import Change
from usrstore.remote.peer import Checks, Piece
from usrstore.verbs import finishing, preserving
from usrstore.verbs.problems import Problem, too_much, verification_error
from usrstore.verbs.site import Site
from usrstore.verbs.tallies import count_lines, read_footer
from usrstore.worktree import folding, promote, statcache
from usrstore.worktree.capture import Capture
from usrstore.worktree.journal import Journal, RefChange
from usrstore.worktree.scan import Stamp, scan
from usrstore.worktree.source import FolderSource
from usrstore.worktree.stage import Stage, Target
from usrstore.worktree.statcache import Facts


class Receiving:
    """One state on its way into one folder.

    Args:
        site: where it goes; its overlay holds the new metadata, already hashed.
        manifest: the state, already believed.
        found: the folder as captured; None if there is none yet.
        checks: what to verify beyond what always is.
        words: `post-pull` or `post-push`: how a failed check is named.
        most_chunks: that the new files may have: few recipe nodes can name very many.
    """

    def __init__(
        self,
        site: Site,
        manifest: Manifest,
        found: Capture | None,
        checks: Checks,
        words: str,
        *,
        most_chunks: int = MAX_CHUNKS,
    ) -> None:
        self.site = site
        self.manifest = manifest
        self.checks = checks
        self._words = words
        self._chunks_left = most_chunks
        self._found = found
        self._before: Listing = found.listing if found else {}
        self.listing = self._read_listing()
        self.bytes_taken = 0
        self.bytes_local = 0
        self._facts = Facts()
        self.stage: Stage | None = None

    def _read_listing(self) -> Listing:
        try:
            return reach.listing(self.site.overlay.get, self.manifest.tree)
        except (ObjectNotFoundError, DecodeError) as exc:
            raise self._failed([Problem("", "incomplete", detail=exc.message)]) from exc

    # ── plan ────────────────────────────────────────────────────────────────────────────
    def plan(self, emit: Emit = silent) -> list[ChunkId]:
        """Open the stage, fill it from what is here, and say which chunks are wanted.

        Raises:
            VerificationError: trees or recipes are missing or do not add up.
            DiskFullError: there is no room for the new files.
            UnsafeFileError: files that the disk cannot tell apart.
        """
        new = [
            (path, entry)
            for path, entry in sorted(self.listing.items(), key=_order)
            if not same(self._before.get(path), entry)
        ]
        self._check_room([entry for _, entry in new])  # before recipes are read: sizes may lie
        folding.check(self.listing, self.site.root.store)
        targets = [Target(path, entry, self._chunks(path, entry)) for path, entry in new]
        self.stage = Stage(
            self.site.root.quarantine_path(self.site.dataset), self.manifest.tree, targets
        )
        emit(Event("plan", 0, sum(target.entry.size for target in targets)))
        with self.stage.salvage() as leftovers, self._sources(targets) as here:
            if len(leftovers):
                self.stage.fill(leftovers.try_read)
            self.bytes_local += self.stage.fill_from(here)
        wanted = list(self.stage.wanted())
        found = extents.find(self.site.overlay.database, wanted)
        self.bytes_local += self.stage.fill_extents(found)
        self.bytes_local += self.stage.fill(self._from_packs)
        return [oid for oid, _ in self.stage.wanted()]

    def _chunks(self, path: str, entry: FileEntry) -> tuple[tuple[ChunkId, int], ...]:
        if entry.size == 0:
            return ()
        try:
            chunks = tuple(
                islice(reach.chunks(self.site.overlay.get, entry), self._chunks_left + 1)
            )
        except (ObjectNotFoundError, DecodeError) as exc:
            raise self._failed([Problem(path, "incomplete", detail=exc.message)]) from exc
        self._chunks_left -= len(chunks)
        if self._chunks_left < 0:
            raise too_much(f"the new files of {self.site.dataset} have more chunks")
        return chunks

    def _check_room(self, entries: Sequence[FileEntry]) -> None:
        size = sum(entry.size for entry in entries)
        resumed = room.taken(self.site.root.quarantine_path(self.site.dataset))
        room.check(
            self.site.root.path,
            size=max(0, size - resumed),
            files=len(entries),
            what=f"the new state of {self.site.dataset}",
        )

    def _sources(self, targets: Sequence[Target]) -> FolderSource:
        """Files of the folder that share content with what is wanted, or will be replaced."""
        source = FolderSource(self.site.folder)
        contents = {target.entry.content for target in targets}
        replaced = {target.path for target in targets}
        for path, entry in self._before.items():
            if entry.content in contents or path in replaced or path not in self.listing:
                try:
                    source.add(path, reach.chunks(self.site.overlay.get, entry))
                except ObjectNotFoundError:
                    continue  # a recipe that gc took: the bytes travel instead
        return source

    def _from_packs(self, oid: ChunkId) -> bytes | None:
        if not self.site.overlay.database.has(oid):
            return None
        return self.site.overlay.database.get(Kind.CHUNK, oid)

    # ── take ────────────────────────────────────────────────────────────────────────────
    def take(self, pieces: Iterable[Piece], emit: Emit = silent) -> None:
        """Chunks as they come; each must be wanted and hash to its name.

        Raises:
            VerificationError: one that does not; it is named by the file it belongs to.
            ProtocolError: one that nobody asked for.
        """
        assert self.stage is not None
        total = sum(size for _, size in self.stage.wanted())
        for piece in pieces:
            if not self.stage.lacks(piece.oid):
                raise ProtocolError(f"chunk {piece.oid.short} was not asked for")
            try:
                data = compress.expand(piece.encoding, piece.stored, piece.size)
            except DecodeError as exc:
                raise self._damaged(piece.oid, exc.message) from exc
            actual = hash_object(Kind.CHUNK, data)
            if actual != piece.oid:
                raise self._damaged(piece.oid, f"a chunk hashes to {actual.short}")
            self.stage.place(piece.oid, data)
            self.bytes_taken += len(data)
            emit(Event("move", self.bytes_taken, total))

    def _damaged(self, oid: ChunkId, detail: str) -> VerificationError:
        assert self.stage is not None
        paths = self.stage.paths_of(oid)
        detail = f"expected chunk {oid.short}; {detail}"
        return self._failed([Problem(path, "different", detail=detail) for path in paths])

    # ── promote ─────────────────────────────────────────────────────────────────────────
    def promote(
        self,
        refs: Mapping[RefName, Change],
        *,
        reason: str = "",
        guard: Callable[[Stage], None] | None = None,
        emit: Emit = silent,
    ) -> None:
        """Verify everything, then swap folder and refs; on any error nothing has changed.

        Args:
            refs: how the refs move.
            reason: for the operation log.
            guard: a last look at the complete stage.
            emit: progress.

        Raises:
            VerificationError: beginning with the words that scripts match.
            ChangedWhileReadError: the folder is no longer what was captured.
        """
        stage = self.stage
        assert stage is not None
        self._verify_stage(stage, emit)
        if guard is not None:
            guard(stage)
        finishing.check_registry(self.site.root, self.manifest, self.site.overlay.get)
        stage.sync()
        stage.close()
        self.site.overlay.flush()  # I3: before anything names them
        stamps = self._found.stamps if self._found else {}
        gone = [path for path in self._before if path not in self.listing]
        self._preserve(stage, gone)
        with locks.writing(self.site.folder, timeout_s=self.site.lock_timeout_s):
            self._check_unchanged()
            ops, made = promote.plan_ops(
                self.site.folder,
                stage.folder,
                [(target.path, number) for number, target in enumerate(stage.targets)],
                gone,
                stamps,
            )
            act = self.site.who.act(reason)
            journal = Journal(
                dataset=self.site.dataset,
                undoing=False,
                tree=self.manifest.tree,
                stage=os.path.relpath(stage.folder, self.site.root.store),
                ops=ops,
                made=made,
                refs=tuple(RefChange(n, c.expected, c.new) for n, c in refs.items()),
                actor=act.actor,
                command=act.command,
                reason=act.reason,
            )
            emit(Event("promote", 0, len(ops)))
            durable.make_folder(os.path.dirname(self.site.root.journal_path(self.site.dataset)))
            promote.promote(
                self.site.folder,
                self.site.root.store,
                self.site.root.journal_path(self.site.dataset),
                journal,
                check=lambda: self._after_check(stage),
                commit=lambda: finishing.commit(self.site.root, self.site.who, journal),
            )
            self._remember(stage)

    def _preserve(self, stage: Stage, gone: Iterable[str]) -> None:
        paths = [*(target.path for target in stage.targets), *gone]
        going = {path: self._before[path] for path in paths if path in self._before}
        staying = (oid for target in stage.targets for oid, _ in target.chunks)
        preserving.preserve(self.site, going, staying)

    def _verify_stage(self, stage: Stage, emit: Emit) -> None:
        missing = sorted({path for oid, _ in stage.wanted() for path in stage.paths_of(oid)})
        if missing:
            raise self._failed(
                [Problem(path, "missing", expected=self.listing[path]) for path in missing]
            )
        damage: list[IntegrityError] = []

        def again(oid: ChunkId) -> bytes | None:
            try:
                return self._from_packs(oid)
            except IntegrityError as exc:
                damage.append(exc)
                return None

        try:
            stage.verify(emit, again)
        except HashMismatchError as exc:
            if damage:
                raise damage[0] from exc  # the store is at fault, and says where
            path = exc.message.partition(":")[0]
            raise self._failed([Problem(path, "different", detail=exc.message)]) from exc
        self._facts = self._read_facts(stage)
        self._check_facts(self._facts)

    def _read_facts(self, stage: Stage) -> Facts:
        """What the files of the new state say themselves."""
        facts = self._found.facts if self._found else Facts()
        staged = {target.path: number for number, target in enumerate(stage.targets)}
        if PRIMARY_FILE in staged:
            size = self.listing[PRIMARY_FILE].size
            footer = read_footer(stage.path(staged[PRIMARY_FILE]), size)
            rows, columns, schema = (
                (footer.rows, footer.columns, footer.schema) if footer else (None, None, None)
            )
            facts = facts._replace(rows=rows, columns=columns, schema=schema)
        if EVENTS_FILE in staged:
            facts = facts._replace(events=count_lines(stage.path(staged[EVENTS_FILE])))
        return facts.of(self.listing)

    def _check_facts(self, actual: Facts) -> None:
        """The primary must be the table, and the log as long, as the manifest says, if it does."""
        stated, table = self.manifest, (actual.rows, actual.columns, actual.schema)
        described = (stated.rows, stated.columns, stated.schema)
        problems = []
        if described not in (table, (None, None, None)):
            detail = (
                f"{PRIMARY_FILE}: expected rows={stated.rows} columns={stated.columns}; "
                f"found rows={actual.rows} columns={actual.columns}"
            )
            problems.append(Problem(PRIMARY_FILE, "different", detail=detail))
        elif actual.rows is None and self.checks.primary == "parquet":
            detail = f"{PRIMARY_FILE} does not open as Parquet"
            problems.append(Problem(PRIMARY_FILE, "different", detail=detail))
        if stated.events not in (actual.events, None):
            detail = f"{EVENTS_FILE}: expected {stated.events} lines; found {actual.events}"
            problems.append(Problem(EVENTS_FILE, "different", detail=detail))
        if problems:
            raise self._failed(problems)

    def _check_unchanged(self) -> None:
        if self._found is None:
            if os.path.isdir(self.site.folder) and scan(self.site.folder):
                raise _moved(self.site.folder)
        elif scan(self.site.folder) != self._found.stamps:
            raise _moved(self.site.folder)

    def _after_check(self, stage: Stage) -> None:
        """The folder, file by file, against the manifest (I6)."""
        files = scan(self.site.folder)
        problems = []
        staged = {target.path: stamp for target, stamp in stage.verified()}
        for path in sorted(files.keys() | self.listing.keys()):
            if path != PRIMARY_FILE and not self.checks.sidecars:
                continue
            there, wanted = files.get(path), self.listing.get(path)
            if there is None:
                problems.append(Problem(path, "missing", expected=wanted))
            elif wanted is None:
                problems.append(Problem(path, "unexpected"))
            elif there.size != wanted.size or (
                path in staged and (there.inode, there.mtime_ns) != staged[path]
            ):
                problems.append(Problem(path, "different", expected=wanted, size=there.size))
        if problems:
            raise self._failed(problems)

    def _remember(self, stage: Stage) -> None:
        """Write the stat cache of the new folder, so that the next look reads nothing."""
        old = self._found.cache.files if self._found else {}
        targets = {target.path for target in stage.targets}

        def stamps() -> dict[str, Stamp]:
            return scan(self.site.folder)

        now = statcache.settle(stamps) if targets else stamps()
        cache = statcache.StatCache(RULE)
        for path, stamp in now.items():
            entry = self.listing.get(path)
            if entry is None:
                continue
            if path in targets:
                cache.files[path] = statcache.Known(stamp, entry.content, entry.recipe)
            elif path in old and old[path].stamp == stamp:
                cache.files[path] = old[path]
        cache.facts = self._facts
        statcache.save(self.site.root.cache_path(self.site.dataset), cache)

    def _failed(self, problems: list[Problem]) -> VerificationError:
        return verification_error(self._words, problems)

    def discard(self) -> None:
        """Throw the stage away: what it lacks will never come."""
        if self.stage is not None:
            self.stage.discard()

    def close(self) -> None:
        """Leave the stage for a later run to go on with."""
        if self.stage is not None:
            self.stage.close()


def _order(item: tuple[str, FileEntry]) -> tuple[bool, str]:
    """Small sidecars first: they name what the large files then bring."""
    return item[0] == PRIMARY_FILE, item[0]


def _moved(folder: str) -> ChangedWhileReadError:
    return ChangedWhileReadError(
        f"{folder} was written by another program during the transfer; nothing was promoted",
        hint="run the same command again; what has arrived is kept",
    )
