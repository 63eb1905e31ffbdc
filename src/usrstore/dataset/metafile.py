"""`meta.md`: what people read of a dataset. Its first line is `name: <id>`; notes follow.

name: densegen/promoters
created_at: 2026-11-24T12:00:00+00:00
source: the spring library
notes: none yet
schema: usr v1, id = sha1(bio_type|sequence)

### Updates (2026-11-24)
- 12:00 imported 12 rows
```bash
usr import densegen/promoters --from csv --path rows.csv
```
"""

from __future__ import annotations

import datetime as dt
import re

from usrstore.dataset import events

_HEADING = re.compile(rb"^### Updates \(([0-9-]{10})\)\s*$", re.MULTILINE)
_ZERO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def begin(dataset: str, *, created_us: int, source: str = "", notes: str = "") -> bytes:
    """The file of a new dataset."""
    created = _ZERO + dt.timedelta(microseconds=created_us)
    header = {
        "name": dataset,
        "created_at": created.isoformat(timespec="seconds"),
        "source": _line(source),
        "notes": _line(notes),
        "schema": "usr v1, id = sha1(bio_type|sequence)",
    }
    return "".join(f"{key}: {value}".rstrip() + "\n" for key, value in header.items()).encode()


def with_note(old: bytes, text: str, *, command: str, time_us: int) -> bytes:
    """The file with one more bullet at its end, under a heading of its day."""
    moment = _ZERO + dt.timedelta(microseconds=time_us)
    days = _HEADING.findall(old)
    day = f"{moment:%Y-%m-%d}"
    heading = "" if days and days[-1].decode() == day else f"\n### Updates ({day})\n"
    words = " ".join(map(str, events.redact(command.split())))
    joint = b"" if not old or old.endswith(b"\n") else b"\n"
    bullet = f"{heading}- {moment:%H:%M} {_line(text)}\n```bash\n{words.replace('```', '')}\n```\n"
    return old + joint + bullet.encode()


def counted(count: int, thing: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _line(text: str) -> str:
    return " ".join(text.split())
