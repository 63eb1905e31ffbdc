"""The receiving half of a transfer: nothing is believed before all of it is verified.

plan     trees and recipes complete? what is here already? what is still wanted?
take     chunks, each hashed as it arrives
settle   every staged file hashed, facts and registry checked, all of it durable
promote  journal → folder → after-check → refs, or nothing at all (verbs/promoting.py)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from usrstore.errors import (
    DecodeError,
    HashMismatchError,
    IntegrityError,
    ObjectNotFoundError,
    VerificationError,
)
from usrstore.objects.chunklist import ChunkList
from usrstore.objects.compare import same
from usrstore.objects.ids import ChunkId, Kind
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import RefName
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.recipe import MAX_CHUNKS
from usrstore.objects.sections import EVENTS_FILE, PRIMARY_FILE
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import extents, reach, room
from usrstore.odb.states import Change
from usrstore.remote.peer import Checks, Piece
from usrstore.verbs import arrivals, finishing, preserving
from usrstore.verbs.problems import Problem, too_much, verification_error
from usrstore.verbs.promoting import Settled, promote
from usrstore.verbs.site import Site
from usrstore.verbs.tallies import count_lines, read_footer
from usrstore.worktree import folding
from usrstore.worktree.capture import Capture
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
        size = sum(target.entry.size for target in targets)
        emit(Event("plan", 0, size, files_total=len(targets)))
        with self.stage.salvage() as leftovers, self._sources(targets) as here:
            if len(leftovers):
                self.stage.fill(leftovers.try_read)
            self.bytes_local += self.stage.fill_from(here)
        whole = True
        for portion in self.stage.portions():
            found = extents.find(self.site.overlay.database, portion)
            self.bytes_local += self.stage.fill_extents(found)
            self.bytes_local += self.stage.fill(self._from_packs, portion)
            whole = whole and self.stage.filled(portion)
        return [oid for oid, _ in self.stage.wanted()]

    def _chunks(self, path: str, entry: FileEntry) -> ChunkList:
        if entry.size == 0:
            return ChunkList()
        try:
            chunks = ChunkList(
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
        source = self.site.source()
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
        stage = self.stage
        assert stage is not None
        due = dict(stage.wanted())
        total = sum(due.values())
        for run, damage in arrivals.checked(pieces, due):
            stage.land(run)
            self.bytes_taken += sum(len(data) for _, data in run)
            files = len(stage.targets)
            emit(Event("move", self.bytes_taken, total, "", stage.arriving, files))
            if damage is not None:
                raise self._damaged(*damage)
        stage.landed_all()

    def _damaged(self, oid: ChunkId, detail: str) -> VerificationError:
        assert self.stage is not None
        paths = self.stage.paths_of(oid)
        detail = f"expected chunk {oid.short}; {detail}"
        return self._failed([Problem(path, "different", detail=detail) for path in paths])

    # ── promote ─────────────────────────────────────────────────────────────────────────
    def settle(
        self, *, guard: Callable[[Stage], None] | None = None, emit: Emit = silent
    ) -> Settled:
        """Verify everything, and make it durable beside the folder; only the swap is left.

        Args:
            guard: a last look at the complete stage.
            emit: progress.

        Raises:
            VerificationError: beginning with the words that scripts match.
        """
        stage = self.stage
        assert stage is not None
        self._verify_stage(stage, emit)
        if guard is not None:
            guard(stage)
        finishing.check_registry(self.site.root, [(self.manifest, self.site.overlay.get)])
        stage.sync()
        stage.close()
        self.site.overlay.flush()  # I3: before anything names them
        settled = Settled(
            self.site, self.manifest, self._found, self.listing, stage, self._facts, self.checks,
            self._words,
        )  # fmt: skip
        self._preserve(stage, settled.gone)
        return settled

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
        promote([self.settle(guard=guard, emit=emit)], refs, reason=reason, emit=emit)

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
