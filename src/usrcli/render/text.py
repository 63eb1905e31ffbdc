"""Sizes, times and moments for people."""

from __future__ import annotations

import datetime as dt


def human_bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return str(count)


def human_seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s"


def human_duration(seconds: float) -> str:
    """A time of grace or retention, in its largest whole unit."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            return plural(int(seconds // size), unit)
    return f"{seconds:g} s"


def moment(time_us: int) -> str:
    """Local time with its offset, to the second."""
    return dt.datetime.fromtimestamp(time_us / 1e6).astimezone().isoformat(" ", "seconds")


def indented(message: str) -> list[str]:
    """A message as git shows it: an empty line, then its lines, moved in."""
    return ["", *(f"    {line}".rstrip() for line in message.splitlines())] if message else []


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
