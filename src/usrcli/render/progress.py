"""Progress from events: a bar on a terminal, nothing in a pipe, JSON lines when asked.

moving      ██████████░░░░░░░░░░  52%  312 MB of 600 MB   12 of 24 files   144 MB/s   2 s left
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import deque

import click

from usrcli.render.text import human_bytes
from usrstore.objects.progress import Event

_EVERY_S = 0.1
_RATE_S = 5.0  # a rate is that of so many seconds past
_BAR = 20
_WORDS = {"scan": "scanning", "plan": "planning", "move": "moving", "verify": "verifying",
          "promote": "promoting"}  # fmt: skip


class Pace:
    """When to speak of an event, and how fast it goes."""

    def __init__(self) -> None:
        self._phase = ("", "")
        self._last = 0.0
        self._seen: deque[tuple[float, int]] = deque()

    def due(self, event: Event, now: float) -> bool:
        """Whether it is time: at the begin and the end of a phase, and ten times a second."""
        began = (event.phase, event.dataset) != self._phase
        if began:
            self._phase = (event.phase, event.dataset)
            self._seen.clear()
        ended = event.total is not None and event.done >= event.total > 0
        if not (began or ended or now - self._last >= _EVERY_S):
            return False
        self._last = now
        self._seen.append((now, event.done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_S:
            self._seen.popleft()
        return True

    @property
    def rate(self) -> float | None:
        """Bytes a second; None until there is something to tell it by."""
        (began, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - began) if last > first and now > began else None


class ProgressLine:
    """Rewrites one line of standard error; `done` wipes it."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._shown = False
        encoding = (getattr(sys.stderr, "encoding", "") or "ascii").lower()
        self._marks = "█░" if encoding.startswith("utf") else "#."

    def __call__(self, event: Event) -> None:
        if event.phase == "note":
            self.done()
            click.echo(f"note: {event.text}", err=True)
        elif self._pace.due(event, time.monotonic()):
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{self._line(event, width)}")
            sys.stderr.flush()
            self._shown = True

    def _line(self, event: Event, width: int) -> str:
        """What is known, the more important first, as far as the line is wide."""
        which = f"[{event.number}/{event.of} {event.dataset}] " if event.of else ""
        line = f"{which}{_WORDS[event.phase]:<10}"
        parts = []
        if event.total:
            share = min(1.0, event.done / event.total)
            full = int(share * _BAR)
            if width - len(which) >= 60:
                line += f"  {self._marks[0] * full}{self._marks[1] * (_BAR - full)}"
            line += f" {share:4.0%}"
            parts.append(f"{human_bytes(event.done)} of {human_bytes(event.total)}")
        elif event.done:
            parts.append(human_bytes(event.done))
        if event.files_total is not None and event.files:
            parts.append(f"{event.files} of {event.files_total} files")
        elif event.files_total:
            parts.append(f"{event.files_total} files")
        rate = self._pace.rate
        if rate:
            parts.append(f"{human_bytes(int(rate))}/s")
            if event.total and event.done < event.total:
                parts.append(f"{clock((event.total - event.done) / rate)} left")
        if not parts and event.text:
            parts.append(event.text)
        for part in parts:
            if len(line) + 3 + len(part) > width:
                break
            line += f"   {part}"
        return line[:width]

    def done(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def clock(seconds: float) -> str:
    """A time that is left, as people say it: 8 s, 2:05 min, 3:10 h."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


class JsonLines:
    """Events as JSON lines on standard error, for notebooks and schedulers; ten a second at most."""

    def __init__(self) -> None:
        self._pace = Pace()

    def __call__(self, event: Event) -> None:
        if event.phase != "note" and not self._pace.due(event, time.monotonic()):
            return
        rate = self._pace.rate if event.phase != "note" else None
        left = (event.total - event.done) / rate if rate and event.total else None
        body: dict[str, object] = {
            "phase": event.phase,
            "done": event.done,
            "total": event.total,
            "files": event.files,
            "files_total": event.files_total,
            "rate": None if rate is None else round(rate),
            "seconds_left": None if left is None else round(left, 1),
            "text": event.text,
        }
        if event.of:
            body |= {"dataset": event.dataset, "number": event.number, "of": event.of}
        click.echo(json.dumps({"usr_progress": body}), err=True)

    def done(self) -> None:
        """Nothing to wipe."""


class Notes:
    """Warnings only."""

    def __call__(self, event: Event) -> None:
        if event.phase == "note":
            click.echo(f"note: {event.text}", err=True)

    def done(self) -> None:
        """Nothing to wipe."""


def reporter(mode: str) -> ProgressLine | JsonLines | Notes:
    """`auto` shows a line on a terminal unless --no-rich; `json`; `none`."""
    if mode == "json":
        return JsonLines()
    context = click.get_current_context(silent=True)
    plain = context is not None and context.color is False
    return ProgressLine() if mode == "auto" and sys.stderr.isatty() and not plain else Notes()
