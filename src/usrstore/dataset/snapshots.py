"""Snapshots of the base table: whole copies under `_snapshots/`, the newest five.

A copy, not a second name: whoever writes over the base table in place must not reach its
snapshots. In the store equal bytes are one, so a snapshot costs nothing there; on disks that
can share blocks the copy costs nothing either.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterable

from usrstore.objects.sections import SNAPSHOTS_FOLDER as FOLDER
from usrstore.odb import durable

KEPT = 5

_NAME = re.compile(r"records-[0-9]{8}T[0-9]{12}\.parquet")
_COPY_BYTES = 64 << 20


def new_path(time_us: int, names: Iterable[str]) -> str:
    """Where a snapshot of this moment goes: behind every other one, by its name."""
    last = max((_moment_us(name) for name in names if _NAME.fullmatch(name)), default=0)
    return f"{FOLDER}/{_name(max(time_us, last + 1))}"  # clocks may go back


def surplus(names: Iterable[str]) -> list[str]:
    """The snapshots that have had their time: all but the newest five by name."""
    return sorted(name for name in names if _NAME.fullmatch(name))[:-KEPT]


def _name(time_us: int) -> str:
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_us)
    return f"records-{moment:%Y%m%dT%H%M%S%f}.parquet"


def _moment_us(name: str) -> int:
    stamp = name.removeprefix("records-").removesuffix(".parquet")
    try:
        moment = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%S%f").replace(tzinfo=dt.UTC)
    except ValueError:  # digits, but no date
        return 0
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def copy(source: str, path: str) -> None:
    """A copy of `source` at `path`, which must be free; whoever stages it syncs it."""
    with open(source, "rb", buffering=0) as file, durable.Spool.create(path) as spool:
        size = os.fstat(file.fileno()).st_size
        for start in range(0, size, _COPY_BYTES):
            spool.copy_from(file.fileno(), start, start, min(_COPY_BYTES, size - start))


__all__ = ["FOLDER", "KEPT", "copy", "new_path", "surplus"]
