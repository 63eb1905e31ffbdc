"""Progress from events: one line on a terminal, nothing in a pipe, JSON when asked."""

from __future__ import annotations

import json
import sys
import time

import click

from usrcli.render.text import human_bytes
from usrstore.objects.progress import Event

_EVERY_S = 0.1
_WORDS = {"scan": "scanning", "plan": "planning", "move": "moving", "verify": "verifying",
          "promote": "promoting"}  # fmt: skip


class ProgressLine:
    """Rewrites one line of standard error; `done` wipes it."""

    def __init__(self) -> None:
        self._last = 0.0
        self._shown = False
        self._began = time.monotonic()
        self._phase: tuple[str, str] = ("", "")

    def __call__(self, event: Event) -> None:
        if event.phase == "note":
            self.done()
            click.echo(f"note: {event.text}", err=True)
            return
        now = time.monotonic()
        if (event.phase, event.dataset) != self._phase:
            self._phase, self._began = (event.phase, event.dataset), now
        elif now - self._last < _EVERY_S:
            return
        self._last = now
        which = f"[{event.number}/{event.of} {event.dataset}] " if event.of else ""
        text = f"{which}{_WORDS[event.phase]:<10} {human_bytes(event.done) if event.done else event.text}"
        if event.total:
            share = min(1.0, event.done / event.total)
            rate = event.done / max(now - self._began, 1e-3)
            left = (event.total - event.done) / rate if rate else 0
            text += f" of {human_bytes(event.total)} {share:4.0%} {human_bytes(int(rate))}/s"
            text += f" {left:.0f} s left"
        sys.stderr.write(f"\r\x1b[K{text[:100]}")
        sys.stderr.flush()
        self._shown = True

    def done(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


class JsonLines:
    """Each event as one JSON line on standard error, for notebooks and schedulers."""

    def __call__(self, event: Event) -> None:
        body = {"phase": event.phase, "done": event.done, "total": event.total, "text": event.text}
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
