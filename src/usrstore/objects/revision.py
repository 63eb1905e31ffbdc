"""Revisions, git's way: what a person types to name a state, parsed but not yet looked up ([F-36]).

<dataset>   <dataset>@<tag>   <dataset>~3   <dataset>@{2026-11-01}   <dataset>@{2 days ago}
<dataset>@{u}   <remote>/<dataset>   <id or prefix>   …and any of them followed by :<path>
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from usrstore.errors import InvalidInputError

# A colon inside @{…} belongs to a time of day.
_HEAD = re.compile(r"(?:@\{[^{}]*\}|[^:])*")
_SUFFIX = re.compile(r"(?P<steps>[~^][0-9]{0,9})|@\{(?P<at>[^{}]*)\}|@(?P<tag>[^@~^:{}/]+)")


@dataclass(frozen=True, slots=True)
class Ancestor:
    """`~n`: n first parents back."""

    steps: int


@dataclass(frozen=True, slots=True)
class Parent:
    """`^n`: the nth parent."""

    nth: int


@dataclass(frozen=True, slots=True)
class At:
    """`@{…}`: a moment, a number of operations back, or `u` for the last synced remote state."""

    text: str


@dataclass(frozen=True, slots=True)
class Tagged:
    """`@<tag>`."""

    name: str


Step = Ancestor | Parent | At | Tagged


@dataclass(frozen=True, slots=True)
class Revision:
    base: str
    steps: tuple[Step, ...]
    path: str | None


def parse(text: str) -> Revision:
    """Raises: InvalidInputError, saying where the text stops making sense."""
    head = _HEAD.match(text)
    revision = head[0] if head else ""
    colon, path = text[len(revision) :][:1], text[len(revision) + 1 :]
    cut = min((i for i in map(revision.find, "@~^") if i >= 0), default=len(revision))
    base, rest = revision[:cut], revision[cut:]
    if not base:
        raise InvalidInputError(f"{text!r} names no dataset", hint="for example densegen/x~1")
    steps: list[Step] = []
    at = 0
    while at < len(rest):
        match = _SUFFIX.match(rest, at)
        if match is None:
            raise InvalidInputError(
                f"{text!r} is no revision: {rest[at:]!r} is not understood",
                hint="use NAME, NAME~N, NAME@TAG, NAME@{DATE}, NAME@{u} or an id",
            )
        steps.append(_step(match))
        at = match.end()
    return Revision(base, tuple(steps), path if colon else None)


_RANGE = re.compile(r"((?:@\{[^{}]*\}|(?!\.\.)[^{}])*)\.\.(.*)", re.DOTALL)


def split_range(text: str) -> tuple[str, str] | None:
    """The two ends of `A..B`, either of which may be empty; None for what is no range.

    Raises:
        InvalidInputError: `A...B`, or no end at all.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    since, until = match.groups()
    if until.startswith("."):
        raise InvalidInputError(
            f"{text!r} is no range: three dots are not understood", hint="use A..B"
        )
    if not since and not until:
        raise InvalidInputError(f"{text!r} names neither end", hint="use A..B, A.. or ..B")
    return since, until


def _step(match: re.Match[str]) -> Step:
    if match["tag"] is not None:
        return Tagged(match["tag"])
    if match["at"] is not None:
        return At(match["at"].strip())
    sign, digits = match["steps"][0], match["steps"][1:]
    count = int(digits) if digits else 1
    return Ancestor(count) if sign == "~" else Parent(count)
