"""The swap at the end of a transfer: folders and refs of one dataset or of several, or nothing.

journals → folders → after-checks → one state for all refs
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from usrstore.dataset import locks
from usrstore.errors import ChangedWhileReadError
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import RefName
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.recipe import RULE
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.objects.tree import Listing
from usrstore.odb.states import Act, Change
from usrstore.remote.peer import Checks
from usrstore.verbs import finishing
from usrstore.verbs.problems import Problem, verification_error
from usrstore.verbs.site import Site
from usrstore.worktree import promote as promotion
from usrstore.worktree import statcache
from usrstore.worktree.capture import Capture
from usrstore.worktree.journal import Journal, RefChange
from usrstore.worktree.scan import Stamp
from usrstore.worktree.stage import Stage
from usrstore.worktree.statcache import Facts


@dataclass(frozen=True, slots=True)
class Settled:
    """A state that lies verified and durable beside the folder that it goes to.

    Attributes:
        site: the dataset.
        manifest: the state.
        found: the folder as captured; None if there is none yet.
        listing: what the folder will hold.
        stage: the files that differ.
        facts: of the new state, as its files say.
        checks: what is verified after the swap.
        words: how a failed check is named.
    """

    site: Site
    manifest: Manifest
    found: Capture | None
    listing: Listing
    stage: Stage
    facts: Facts
    checks: Checks
    words: str

    @property
    def gone(self) -> list[str]:
        """The paths that the new state does not have."""
        before = self.found.listing if self.found else {}
        return [path for path in before if path not in self.listing]

    def part(self, refs: tuple[RefChange, ...], act: Act, group: tuple[str, ...]) -> promotion.Part:
        """What is to be done. Raises: ChangedWhileReadError."""
        site, stage = self.site, self.stage
        self._check_unchanged()
        stamps = self.found.stamps if self.found else {}
        ops, made = promotion.plan_ops(
            site.folder,
            stage.folder,
            [(site.on_disk(target.path), n) for n, target in enumerate(stage.targets)],
            [site.on_disk(path) for path in self.gone],
            {site.on_disk(path): stamp for path, stamp in stamps.items()},
        )
        journal = Journal(
            dataset=site.dataset,
            undoing=False,
            tree=self.manifest.tree,
            stage=os.path.relpath(stage.folder, site.root.store),
            ops=ops,
            made=made,
            refs=refs,
            actor=act.actor,
            command=act.command,
            reason=act.reason,
            group=group,
        )
        path = site.root.journal_path(site.dataset)
        return promotion.Part(site.folder, path, journal, check=self._after_check)

    def _check_unchanged(self) -> None:
        folder = self.site.folder
        if self.found is None:
            if os.path.isdir(folder) and self.site.scan():
                raise _moved(folder)
        elif self.site.scan() != self.found.stamps:
            raise _moved(folder)

    def _after_check(self) -> None:
        """The folder, file by file, against the manifest (I6)."""
        files = self.site.scan()
        problems = []
        staged = {target.path: stamp for target, stamp in self.stage.verified()}
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
            raise verification_error(self.words, problems)

    def remember(self) -> None:
        """Write the stat cache of the new folder, so that the next look reads nothing."""
        site = self.site
        old = self.found.cache.files if self.found else {}
        targets = {target.path for target in self.stage.targets}

        def stamps() -> dict[str, Stamp]:
            return site.scan()

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
        cache.facts = self.facts
        statcache.save(site.root.cache_path(site.dataset), cache)


def promote(
    settled: Sequence[Settled],
    refs: Mapping[RefName, Change],
    *,
    reason: str = "",
    emit: Emit = silent,
) -> None:
    """Swap the folders and move the refs, all of it as one; on any error nothing has changed.

    Args:
        settled: of one root, one for each dataset.
        refs: how all the refs move.
        reason: for the operation log.
        emit: progress.

    Raises:
        ChangedWhileReadError: a folder is no longer what was captured.
        VerificationError: the promoted folder is not what its manifest says.
    """
    members = sorted(settled, key=lambda member: member.site.dataset)
    site = members[0].site
    root, who = site.root, site.who
    arriving = [(member.manifest, member.site.overlay.get) for member in members]
    finishing.check_registry(root, arriving)
    with contextlib.ExitStack() as held:
        for member in members:
            timeout_s = member.site.lock_timeout_s
            folder = member.site.folder
            held.enter_context(locks.writing(folder, timeout_s=timeout_s, create=root.makes_locks))
        moves = tuple(RefChange(n, c.expected, c.new) for n, c in refs.items())
        act = who.act(reason)
        group = tuple(member.site.dataset for member in members) if len(members) > 1 else ()
        parts = [member.part(moves, act, group) for member in members]
        emit(Event("promote", files_total=sum(len(p.journal.ops) for p in parts)))
        promotion.promote(
            root.store,
            parts,
            commit=lambda: finishing.commit(root, who, parts[0].journal),
        )
        for member in members:
            member.remember()


def _moved(folder: str) -> ChangedWhileReadError:
    return ChangedWhileReadError(
        f"{folder} was written by another program during the transfer; nothing was promoted",
        hint="run the same command again; what has arrived is kept",
    )
