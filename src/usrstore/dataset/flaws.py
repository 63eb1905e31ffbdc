"""What is wrong with a dataset: flaws, each with its place; all are counted, the first are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MOST_KEPT = 20
_VALUE_LETTERS = 60

# What is odd, but hides or falsifies nothing: counts as a finding only if one is strict.
MILD = frozenset(
    {"overlay-orphans", "snapshot-name", "events-order", "meta-header", "meta-missing", "left-over"}
)


class Flaw(NamedTuple):
    """One thing that is wrong.

    Attributes:
        code: stable name of its kind.
        path: the file, in the dataset.
        message: what is wrong.
        row: of that file, counted from 0; None if it is about the whole file.
        column, value: if it is about one value; long values are cut.
    """

    code: str
    path: str
    message: str
    row: int | None = None
    column: str | None = None
    value: str | None = None

    @property
    def mild(self) -> bool:
        return self.code in MILD

    def line(self) -> str:
        """One line for people."""
        place = self.path if self.row is None else f"{self.path} row {self.row}"
        what = "" if self.column is None else f", {self.column} = {self.value}"
        return f"{place}{what}: {self.message}"


@dataclass
class Flaws:
    """The flaws of a dataset; of each kind in each file the first MOST_KEPT are kept."""

    kept: list[Flaw] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _of_file: Counter[tuple[str, str]] = field(default_factory=Counter, repr=False)

    def add(
        self,
        code: str,
        path: str,
        message: str,
        *,
        row: int | None = None,
        column: str | None = None,
        value: Any = None,
    ) -> None:
        self.counts[code] += 1
        self._of_file[code, path] += 1
        if self._of_file[code, path] <= MOST_KEPT:
            shown = None if column is None else _shown(value)
            self.kept.append(Flaw(code, path, message, row, column, shown))

    @property
    def grave(self) -> int:
        """How many there are that hide or falsify something."""
        return sum(count for code, count in self.counts.items() if code not in MILD)

    @property
    def mild(self) -> int:
        return sum(count for code, count in self.counts.items() if code in MILD)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _VALUE_LETTERS else f"{text[: _VALUE_LETTERS - 1]}…"
