"""What was measured, as values and as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Run:
    """When, where and how all the tables of one page came to be.

    Attributes:
        minutes: what all of it took.
        load_before, load_after: the load average over one minute.
        options: the command's, as typed.
        versions: what each program calls itself.
    """

    date: str
    cpus: int
    minutes: int
    load_before: float
    load_after: float
    options: str
    versions: dict[str, str]

    @property
    def quiet(self) -> bool:
        """Nothing else was at work when it began: what it does itself does not count."""
        return self.load_before < self.cpus / 2


@dataclass(frozen=True)
class Cell:
    """One tool at one step. None: it does not do that, or did not end in time."""

    tool: str
    step: str
    seconds: float | None
    wire: int | None
    disk: int | None


@dataclass
class Sheet:
    """A table of one size and one distance; reads like measure.Table."""

    title: str
    megabytes: int
    delay_ms: int
    steps: dict[str, str]
    cells: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Sheet]:
        return [self]

    def data(self) -> dict[str, object]:
        return {
            "title": self.title,
            "megabytes": self.megabytes,
            "delay_ms": self.delay_ms,
            "steps": self.steps,
            "notes": self.notes,
            "cells": [asdict(cell) for cell in self.cells],
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Sheet:
        """What `data` gave, read back from a file."""
        return cls(**{**data, "cells": [Cell(**cell) for cell in data["cells"]]})

    @property
    def tools(self) -> list[str]:
        return list(dict.fromkeys(cell.tool for cell in self.cells))

    def cell(self, tool: str, step: str) -> Cell | None:
        return next((c for c in self.cells if (c.tool, c.step) == (tool, step)), None)

    def value(self, tool: str, step: str, what: str) -> float | None:
        cell = self.cell(tool, step)
        return None if cell is None else getattr(cell, what)

    def total(self, tool: str, what: str) -> float | None:
        """Of all steps; of the disk, after the last. None: it did not come to the end."""
        values = [self.value(tool, step, what) for step in self.steps]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return known[-1] if what == "disk" else sum(known)

    def text(self) -> str:
        """Markdown: a line a step, a column a tool: seconds, MB on the wire, MB on disk."""
        lines = [f"### {self.title}", ""]
        lines.append("| | " + " | ".join(self.tools) + " |")
        lines.append("|---|" + "---:|" * len(self.tools))
        for what, title in (("seconds", "s"), ("wire", "MB on the wire"), ("disk", "MB on disk")):
            for step, words in self.steps.items():
                cells = [shown(self.value(tool, step, what), what) for tool in self.tools]
                lines.append(f"| {words}, {title} | " + " | ".join(cells) + " |")
        return "\n".join([*lines, "", *self.notes, ""])


def shown(value: float | None, what: str) -> str:
    """Seconds, or megabytes of bytes, with the digits that say something."""
    if value is None:
        return "-"
    if what == "seconds":
        return f"{value:.2f}" if value < 10 else f"{value:.0f}"
    megabytes = value / 1e6
    return f"{megabytes:.3f}" if megabytes < 1 else f"{megabytes:.1f}"
