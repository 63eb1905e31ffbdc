"""The line of progress: what it says, how often, and that it fits."""

from __future__ import annotations

import pytest

from usrcli.render.progress import Pace, ProgressLine, clock
from usrstore.objects.progress import Event

MB = 1_000_000


def at(done, *, files=1):
    return Event("move", done * MB, 600 * MB, "records.parquet", files, 24)


@pytest.fixture
def line(monkeypatch):
    """What is shown of an event that comes one second after another, a tenth of the work later."""
    now = [0.0]
    monkeypatch.setattr("usrcli.render.progress.time.monotonic", lambda: now[0])
    shown = ProgressLine()

    def show(event, width=110):
        now[0] += 1
        shown._pace.due(event, now[0])
        return shown._line(event, width)

    return show


def test_it_says_how_much_of_what_how_fast_and_how_long(line):
    line(at(100))
    said = line(at(220, files=12))
    assert said.startswith("moving ")
    for part in ("37%", "220.0 MB of 600.0 MB", "12 of 24 files", "120.0 MB/s", "3 s left"):
        assert part in said


def test_what_is_not_known_is_not_said(line):
    assert line(Event("verify", text="at the remote")).split() == [
        "verifying",
        "at",
        "the",
        "remote",
    ]
    assert "left" not in line(at(100))
    assert "%" not in line(Event("move", 105 * MB))


@pytest.mark.parametrize("width", [10, 20, 40, 60, 79, 200])
def test_it_fits_whatever_the_terminal(line, width):
    line(at(100), width)
    assert len(line(at(200), width)) <= width


def test_it_speaks_at_the_begin_and_the_end_of_a_phase_and_ten_times_a_second():
    pace = Pace()
    spoken = [n for n in range(1001) if pace.due(at(n * 0.6), n / 1000)]
    assert (spoken[0], spoken[-1]) == (0, 1000)
    assert len(spoken) <= 12
    assert pace.due(Event("verify", 0, 10), 1.0001)


def test_a_rate_is_that_of_the_last_seconds_and_forgets_a_phase_with_it():
    pace = Pace()
    for second in range(20):
        pace.due(at(second if second < 10 else 10 + (second - 10) * 50), second)
    assert pace.rate == 50 * MB
    pace.due(Event("verify", 0, 10), 20)
    assert pace.rate is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (8, "8 s"), (125, "2:05 min"), (11_400, "3:10 h")],
)
def test_times_that_are_left(seconds, said):
    assert clock(seconds) == said
