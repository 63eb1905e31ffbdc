"""What a failed verification says: the words that scripts match, then exactly what differs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from usrstore.errors import HashMismatchError, ProtocolError, UsrError, VerificationError
from usrstore.objects.sections import Section, section_of
from usrstore.objects.tree import FileEntry

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Problem:
    """One file that is not what the manifest says; an empty path stands for the inventory."""

    path: str
    kind: Literal["missing", "unexpected", "different", "incomplete"]
    expected: FileEntry | None = None
    size: int | None = None
    detail: str = ""

    @property
    def section(self) -> Section | None:
        return section_of(self.path) if self.path else None

    def line(self) -> str:
        if self.detail:
            return f"{self.kind}: {self.path + ': ' if self.path not in self.detail else ''}" + (
                self.detail
            )
        parts = [f"{self.kind}: {self.path}"]
        if self.expected is not None:
            parts.append(f"expected {self.expected.size} bytes, hash {self.expected.content.short}")
        if self.size is not None:
            parts.append(f"found {self.size} bytes")
        return "; ".join(parts)


@contextlib.contextmanager
def inventory_check(words: str) -> Iterator[None]:
    """Trees or recipes that arrive damaged are a payload whose inventory disagrees."""
    try:
        yield
    except UsrError as exc:
        if exc.code != HashMismatchError.code:
            raise
        raise verification_error(words, [Problem("", "different", detail=exc.message)]) from exc


def verification_error(words: str, problems: Sequence[Problem]) -> VerificationError:
    """The error of a failed check.

    Args:
        words: `post-pull` or `post-push`.
        problems: at least one; the primary's come first.
    """
    primary = [p for p in problems if p.section is Section.PRIMARY]
    chosen = primary or list(problems)
    head = f"{words}-primary" if primary else f"{words}-sidecars"
    labels = list(dict.fromkeys(p.section.label if p.section else "inventory" for p in chosen))
    counts = ", ".join(
        f"{sum(p.kind == kind for p in chosen)} {kind}"
        for kind in ("missing", "unexpected", "different", "incomplete")
        if any(p.kind == kind for p in chosen)
    )
    lines = "".join(f"\n  {problem.line()}" for problem in chosen[:_SHOWN])
    more = len(chosen) - _SHOWN
    if more > 0:
        lines += f"\n  … and {more} more"
    where = "local" if words == "post-pull" else "remote"
    return VerificationError(
        f"{head}: {', '.join(labels)}: {counts}{lines}\n"
        f"The {where} files and refs are exactly as they were.",
        hint="fix the payload at its source, then run the same command again; what arrived "
        "and was verified is kept. Do not disable the checks.",
        code=head,
    )


def too_much(what: str) -> ProtocolError:
    """Few bytes can name very many files and chunks; what they add up to is bounded."""
    return ProtocolError(
        f"{what} than this end takes; nothing was changed",
        hint="raise --max-metadata at the serving end",
        code="too-much-metadata",
    )
