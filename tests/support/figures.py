"""What was tried, and how often: figures that tests give, summed up at the end of a run.

    figures("kills over a real sshd", kills=24, pushes=42)

prints a line (`-rP` shows it beside its test) and adds its counts to those of every other test
that speaks of the same thing; the end of the run shows the sums, from all processes.
"""

from __future__ import annotations

import collections
import json
import os

import pytest

_NAME, _CPU = "figures", "cpu seconds"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """How much of the processors a test and the processes that it waited for took."""
    began = sum(os.times()[:4])
    yield
    item.user_properties.append((_CPU, sum(os.times()[:4]) - began))


@pytest.fixture
def figures(record_property):
    """Says of something that was tried how often it was."""

    def tell(what, **counts):
        print(_line(what, counts))
        record_property(_NAME, json.dumps([what, counts]))

    return tell


def _line(what, counts):
    return f"{what}: " + ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()
    )


def summarise(reporter) -> None:
    """Write the sums, and where a long run spent its time, to the end of a run."""
    sums: dict[str, collections.Counter] = {}
    spent, worked = collections.Counter(), collections.Counter()
    for report in (r for rows in reporter.stats.values() for r in rows if hasattr(r, "when")):
        place = "/".join(report.nodeid.partition("::")[0].split("/")[:2])
        spent[place] += report.duration
        for name, value in report.user_properties if report.when == "call" else ():
            if name == _CPU:
                worked[place] += value
            if name == _NAME and report.passed:
                what, counts = json.loads(value)
                sums.setdefault(what, collections.Counter()).update(counts)
    if sums:
        reporter.section("what was tried, and how often")
        for what, counts in sorted(sums.items()):
            reporter.write_line(_line(what, counts))
    if sum(spent.values()) > 600:
        reporter.section("where the time went: seconds in all processes, of them computing")
        for place, seconds in spent.most_common():
            reporter.write_line(f"{seconds:7.0f} {worked[place]:7.0f}  {place}")
