"""Progress as values: the library says what it does, whoever calls decides how to show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Phase = Literal["scan", "plan", "move", "verify", "promote", "note"]


class Event(NamedTuple):
    """Where a verb is.

    Attributes:
        phase: what it is doing; `note` carries a warning for the person.
        done, total: bytes; total None while it is not known.
        text: the file or remote concerned, or the warning.
        files, files_total: files that are through; files_total None while it is not known.
        dataset, number, of: which of how many datasets it concerns; `of` is 0 where there is one.
    """

    phase: Phase
    done: int = 0
    total: int | None = None
    text: str = ""
    files: int = 0
    files_total: int | None = None
    dataset: str = ""
    number: int = 0
    of: int = 0


Emit = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Nobody listens."""
