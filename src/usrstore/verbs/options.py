"""What a person may ask of a pull or a push, and what both say when they must refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from usrstore.errors import DivergedError
from usrstore.objects.sections import Section
from usrstore.objects.tree import Listing
from usrstore.remote.peer import Checks
from usrstore.trust.policy import Mode
from usrstore.verbs.meeting import Meeting
from usrstore.verbs.mergeplan import Choices
from usrstore.verbs.scope import ALL_SECTIONS, Scope

Agree = Callable[[Meeting], bool]
"""Asked once, before anything changes; False ends the command with nothing done."""

OnMeeting = Callable[[Meeting], None]
"""Told how both sides compare, before anything is decided; a refusal can then say it, too."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may ask of a pull or a push.

    Attributes:
        checks: what to verify beyond what always is.
        trust: which signatures to believe.
        sections: which sections move; the others stay as they are at the destination.
        paths: globs of which one must match a file that moves; none stands for all.
        dry_run: plan only.
        force: overwrite what diverged, once it has been kept.
        strict_bootstrap_id: a first pull needs the whole id.
        accept_rollback: believe a remote that went back.
        tags: those of the state that travels follow it.
        choices: what wins where both sides changed the same thing.
    """

    checks: Checks = field(default_factory=Checks)
    trust: Mode = "tofu"
    sections: frozenset[Section] = ALL_SECTIONS
    paths: tuple[str, ...] = ()
    dry_run: bool = False
    force: bool = False
    strict_bootstrap_id: bool = False
    accept_rollback: bool = False
    tags: bool = True
    choices: Choices = field(default_factory=Choices)

    @property
    def scope(self) -> Scope:
        """Which files move."""
        return Scope(self.sections, self.paths)

    @property
    def whole(self) -> bool:
        return self.scope.whole

    @property
    def policy(self) -> tuple[str, ...]:
        """Every opt-out in force, as manifests and operation logs record it."""
        outs = [*self.checks.policy, *self.scope.policy]
        if self.trust == "none":
            outs.append("trust none")
        return tuple(outs)

    def mix(self, destination: Listing, source: Listing) -> Listing:
        """What the destination is to hold: the source's files in scope."""
        return self.scope.mix(destination, source)


def diverged(met: Meeting, verb: str) -> DivergedError:
    """The error of a sync that would have to choose."""

    def listed(paths: Iterable[str]) -> str:
        shown = list(paths)
        more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        return (", ".join(shown[:5]) + more) or "nothing that is known"

    return DivergedError(
        f"{met.site.dataset} changed here and at {met.remote} since they last agreed; "
        f"nothing was changed\n  here:   {listed(met.judged.ours)}\n"
        f"  remote: {listed(met.judged.theirs)}",
        hint=_advice(met, verb),
    )


def _advice(met: Meeting, verb: str) -> str:
    dataset, remote = met.site.dataset, met.remote
    if met.site.root.lone is not None:
        return (
            f"a file is not merged: let one side win, {verb} with --force-with-lease; what it "
            "replaces is kept first"
        )
    winner = f"{verb} with --force-with-lease: what it replaces is kept first"
    if not met.judged.based:
        return (
            "nothing says what both had before; to unite them, `usr fetch "
            f"{dataset} {remote}`, then `usr merge {remote}/{dataset}`; to let one side win, {winner}"
        )
    if verb == "push":
        return f"usr pull {dataset} {remote}   (it merges both); or let one side win: {winner}"
    return f"pull all of it to merge both; or let one side win: {winner}"
