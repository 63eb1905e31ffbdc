"""Run commands in turn, and say how long they took, what they held and what that compares to."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

WIRE = "MB on the wire"
CPU = "s of processor"


@dataclass(frozen=True)
class Sample:
    """One run of one command.

    Attributes:
        seconds: by the clock.
        peak_mb: peak memory of its largest process.
        output: what it printed.
        wire: bytes that went over the link, if they were counted.
        cpu_s: seconds of processor, of all its processes.
    """

    seconds: float
    peak_mb: float
    output: str = ""
    wire: int | None = None
    cpu_s: float = 0.0


def run(argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None) -> Sample:
    """Run one command to its end. Raises: RuntimeError with what it said, if it failed."""
    began = time.perf_counter()
    child = subprocess.Popen(
        argv,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert child.stdout is not None
    output = child.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    if child.returncode:
        raise RuntimeError(f"{' '.join(argv)}\nexit status {child.returncode}\n{output[-2000:]}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Sample(seconds, usage.ru_maxrss / 1024, output, cpu_s=cpu_s)


@dataclass(frozen=True)
class Contender:
    """One way to do a thing: what makes the stage ready (not timed), then the thing."""

    name: str
    act: Callable[[], Sample]
    before: Callable[[], None] = lambda: None


def in_turn(
    contenders: Sequence[Contender],
    rounds: int,
    each_round: Callable[[int], None] = lambda _number: None,
) -> dict[str, list[Sample]]:
    """Every contender once a round, each round beginning with another one.

    What the last one left for the disk is written before the next begins.
    """
    samples: dict[str, list[Sample]] = {c.name: [] for c in contenders}
    for number in range(rounds):
        each_round(number)
        turn = number % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            contender.before()
            os.sync()
            samples[contender.name].append(contender.act())
    return samples


@dataclass
class Row:
    """One line of the table: a quantity of one contender, and its ratio to another's."""

    what: str
    values: list[float]
    unit: str
    against: str | None = None
    ratio: float | None = None
    goal: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        return None if self.goal is None or self.ratio is None else self.ratio <= self.goal

    def data(self) -> dict[str, object]:
        return {
            "what": self.what,
            "unit": self.unit,
            "median": round(self.median, 4),
            "min": round(min(self.values), 4),
            "max": round(max(self.values), 4),
            "runs": len(self.values),
            "against": self.against,
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "goal": self.goal,
            "met": self.met,
        }


@dataclass
class Table:
    """The lines of one benchmark."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        what: str,
        values: Sequence[float],
        unit: str,
        *,
        against: str | None = None,
        goal: float | None = None,
    ) -> None:
        """Add a line; `against` names an earlier line of the same unit to divide by."""
        row = Row(what, list(values), unit, against, goal=goal)
        if against is not None:
            other = next(r for r in self.rows if r.what == against and r.unit == unit)
            row.ratio = row.median / other.median
        self.rows.append(row)

    def add_limit(self, what: str, values: Sequence[float], unit: str, most: float) -> None:
        """Add a line whose goal is an absolute limit."""
        row = Row(what, list(values), unit, f"limit {most:g} {unit}", goal=1.0)
        row.ratio = row.median / most
        self.rows.append(row)

    def add_seconds(
        self,
        samples: Mapping[str, list[Sample]],
        name: str,
        *,
        against: str | None = None,
        goal: float | None = None,
    ) -> None:
        self.add(name, [s.seconds for s in samples[name]], "s", against=against, goal=goal)

    def add_wire(
        self,
        samples: Mapping[str, list[Sample]],
        name: str,
        *,
        against: str | None = None,
        goal: float | None = None,
    ) -> None:
        sizes = [s.wire / 1e6 for s in samples[name] if s.wire is not None]
        if sizes:
            self.add(name, sizes, WIRE, against=against, goal=goal)

    def add_cpu(
        self, samples: Mapping[str, list[Sample]], name: str, *, against: str | None = None
    ) -> None:
        self.add(name, [s.cpu_s for s in samples[name]], CPU, against=against)

    def text(self) -> str:
        """The table as Markdown."""
        lines = [
            f"### {self.title}",
            "",
            "| | median | min – max | ratio | to | goal |",
            "|---|---:|---:|---:|---|---|",
        ]
        for row in self.rows:
            low, high = number(min(row.values), row.unit), number(max(row.values), row.unit)
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            goal = ""
            if row.met is not None:
                goal = f"≤ {row.goal:g} {'met' if row.met else '**missed**'}"
            lines.append(
                f"| {row.what} | {number(row.median, row.unit)} {row.unit} | {low} – {high} "
                f"| {ratio} | {row.against or ''} | {goal} |"
            )
        lines += ["", *self.notes] if self.notes else []
        return "\n".join(lines) + "\n"


def number(value: float, unit: str) -> str:
    if unit in ("s", CPU):
        return f"{value:.3f}" if value < 1 else f"{value:.2f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"
