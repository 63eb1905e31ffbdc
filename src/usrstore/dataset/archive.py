"""Where old events rest: `.events.archive/`, and the whole history that a log continues.

    .events.archive/events-<moment>-<sha12>.jsonl    what gardens took off the front, in order
    .events.archive/torn-<moment>.txt                what a repair took off the end

The archives in the order of their names, and then the log, are every line there ever was: a
log that was gardened still continues, byte by byte, the log that it was before.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re

from usrstore.dataset import events

FOLDER = ".events.archive"
_NAME = re.compile(r"events-([0-9]{8}T[0-9]{12}Z)-[0-9a-f]{12}\.jsonl")
_ZERO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def history(folder: str) -> list[str]:
    """The files that hold all events of a dataset, oldest first; the log is the last."""
    at = os.path.join(folder, FOLDER)
    names = sorted(filter(_NAME.fullmatch, os.listdir(at))) if os.path.isdir(at) else []
    return [*(os.path.join(at, name) for name in names), events.path(folder)]


def new_path(time_us: int, data_sha256: str, names: list[str]) -> str:
    """Where removed lines go: behind every earlier archive, by its name."""
    last = max((found[1] for name in names if (found := _NAME.fullmatch(name))), default="")
    stamp = _stamp(time_us)
    if stamp <= last:
        moment = dt.datetime.strptime(last, "%Y%m%dT%H%M%S%fZ").replace(tzinfo=dt.UTC)
        stamp = _stamp((moment - _ZERO) // dt.timedelta(microseconds=1) + 1)
    return f"{FOLDER}/events-{stamp}-{data_sha256[:12]}.jsonl"


def torn_path(time_us: int) -> str:
    return f"{FOLDER}/torn-{_stamp(time_us)}.txt"


def _stamp(time_us: int) -> str:
    return f"{_ZERO + dt.timedelta(microseconds=time_us):%Y%m%dT%H%M%S%fZ}"


def cut(folder: str, retained: int) -> tuple[int, int]:
    """Where the last `retained` whole lines of a log begin, and how many lines are before."""
    count = sum(1 for _ in events.lines(folder))
    removed, place = max(0, count - retained), 0
    for number, line in enumerate(events.lines(folder)):
        if number == removed:
            break
        place += len(line) + 1
    return place, removed


def sha256(path: str, size: int) -> str:
    """Of the first `size` bytes of a file."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while size and (piece := file.read(min(size, 1 << 20))):
            hasher.update(piece)
            size -= len(piece)
    return hasher.hexdigest()
