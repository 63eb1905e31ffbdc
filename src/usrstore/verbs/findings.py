"""What fsck says: findings, each with a place, a remedy and whom it hurts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MOST_NAMED = 20

REPAIR = "usr fsck --repair, and with --from REMOTE if a remote has what is lost"
BACKUP = "fetch or pull from a remote that has it, or restore the file from a copy"


class Finding(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        code: stable name.
        where: the file, object, ref or dataset.
        message: what is wrong with it.
        remedy: what to do about it, a command where there is one.
        affects: files of states that cannot be had because of it; empty if none are known.
    """

    code: str
    where: str
    message: str
    remedy: str
    affects: tuple[str, ...] = ()


class Checked(NamedTuple):
    """How far a deep check came.

    Attributes:
        packs, folders: looked at to the end, of so many.
        size: bytes that were read and hashed.
        complete: whether nothing was left for the next run.
        oldest_us: when the part that was looked at longest ago was; None if one never was.
    """

    packs: int
    of_packs: int
    folders: int
    of_folders: int
    size: int
    complete: bool
    oldest_us: int | None


class FsckResult(NamedTuple):
    """Everything that was looked at, and what is not as it should be.

    Attributes:
        findings: in the order they were found.
        objects, manifests, states: how many there are, are reachable, are in the chain.
        checked: of a deep check; else None.
        repaired: what a repair did, in words; None if none was asked for.
    """

    findings: list[Finding]
    objects: int
    manifests: int
    states: int
    checked: Checked | None = None
    repaired: tuple[str, ...] | None = None


def named(words: Sequence[str]) -> str:
    """The first few of many, and how many more."""
    shown = ", ".join(words[:3])
    return shown if len(words) <= 3 else f"{shown} and {len(words) - 3} more"
