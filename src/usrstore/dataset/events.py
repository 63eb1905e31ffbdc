"""The event log of a dataset, `.events.log`: one JSON object a line, only ever longer.

Written under `.events.lock`, by one append that is on disk before it counts, and taken back
if it could not be. Read without a lock: a last line without its newline is *torn*, which an
unfinished append, or a disk that was full, leaves behind; readers pass over it, writers
refuse to go on behind it, and only `usr maintenance events-repair` takes it off.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from usrstore.errors import IntegrityError, InvalidInputError
from usrstore.objects.sections import EVENTS_FILE
from usrstore.odb import durable

EVENT_VERSION = 1
TOOL_VERSION = "0.1.0"
MAX_LINE_BYTES = 1 << 20
REDACTED = "***REDACTED***"

_SECRET = re.compile(
    r"secret|token|password|passwd|api_key|apikey|webhook|auth|credential|bearer|cookie|session",
    re.IGNORECASE,
)
_BLOCK_BYTES = 1 << 16
_POLL_S = 0.2


def compose(
    action: str,
    *,
    dataset: str,
    root: str,
    time_us: int,
    actor: Mapping[str, Any],
    args: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    artifacts: Mapping[str, Any] | None = None,
    maintenance: Mapping[str, Any] | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    registry_hash: str | None = None,
) -> bytes:
    """One line of the log, its newline included.

    Args:
        action: what was done, in the words of the log: `import_rows`, `attach`, …
        dataset, root: its id, and the absolute path of the root.
        time_us: when, UTC microseconds since 1970.
        actor: who, as handed in: {tool, run_id, …}.
        args: of the action; values whose names sound like secrets are not written.
        metrics, artifacts, maintenance: as the action has them.
        fingerprint: {rows, cols, size_bytes} of the Parquet file that was touched.
        registry_hash: of the registry in force.

    Raises:
        InvalidInputError: the line would be over 1 MiB, or a value is none of JSON's.
    """
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_us)
    event = {
        "event_version": EVENT_VERSION,
        "timestamp_utc": moment.isoformat(timespec="microseconds"),
        "action": action,
        "dataset": {"name": dataset, "root": root},
        "args": redact(dict(args or {})),
        "metrics": dict(metrics or {}),
        "artifacts": dict(artifacts or {}),
        "maintenance": dict(maintenance or {}),
        "fingerprint": dict(fingerprint or {}),
        "registry_hash": registry_hash,
        "actor": dict(actor),
        "version": TOOL_VERSION,
    }
    try:
        text = json.dumps(event, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise InvalidInputError(f"the event {action!r} cannot be written as JSON: {exc}") from exc
    line = f"{text}\n".encode("ascii")
    if len(line) > MAX_LINE_BYTES:
        raise InvalidInputError(
            f"the event {action!r} has {len(line)} bytes; at most {MAX_LINE_BYTES} make a line",
            hint="give it fewer arguments",
        )
    return line


def redact(value: Any) -> Any:
    """The same value, without what hides behind a name like token or password.

    In a list of words, the word after `--token` is hidden, and what follows `--token=`.
    """
    if isinstance(value, Mapping):
        return {
            key: REDACTED if _SECRET.search(str(key)) and held else redact(held)
            for key, held in value.items()
        }
    if isinstance(value, list | tuple):
        return _redact_words(value)
    return value


def _redact_words(words: Sequence[Any]) -> list[Any]:
    shown: list[Any] = []
    hide = False
    for word in words:
        flag = isinstance(word, str) and word.startswith("-")
        name, equals, _ = word.partition("=") if flag else ("", "", "")
        if hide and not flag:
            shown.append(REDACTED)
        elif equals and _SECRET.search(name):
            shown.append(f"{name}={REDACTED}")
        else:
            shown.append(redact(word))
        hide = flag and not equals and bool(_SECRET.search(word))
    return shown


def path(folder: str) -> str:
    """The log of the dataset in `folder`."""
    return os.path.join(folder, EVENTS_FILE)


def check_whole(folder: str) -> int:
    """The size of a log that ends with a whole line; 0 where there is none.

    Raises:
        IntegrityError: its last line is torn.
    """
    try:
        with open(path(folder), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    raise _torn(folder)
            return size
    except FileNotFoundError:
        return 0


def _torn(folder: str) -> IntegrityError:
    return IntegrityError(
        f"the last line of {path(folder)} is torn: an append to it was cut off; "
        "nothing was changed",
        hint="look at it with `usr events tail --format raw -n 1`, then run "
        "`usr maintenance events-repair`, which keeps a copy of what it takes off",
        code="events-torn",
    )


def append(folder: str, lines: bytes) -> int:
    """Add whole lines to the log; the caller holds `.events.lock`. Gives where they begin.

    Raises:
        IntegrityError: the log's last line is torn.
        StorageError: they could not be written; the log is as it was.
    """
    size = check_whole(folder)
    durable.append(path(folder), lines)
    return size


def append_once(folder: str, lines: bytes, size: int) -> None:
    """`append`, as often as a crash asks for it: afterwards the lines are there once.

    Args:
        folder: the dataset; the caller holds `.events.lock`.
        lines: whole lines.
        size: of the log before the first attempt.
    """
    held = _behind(folder, size)
    if held == lines or _holds(held, lines):
        return
    if _is_cut_off(held, lines):
        durable.truncate(path(folder), size)
    append(folder, lines)


def take_back(folder: str, lines: bytes, size: int) -> None:
    """Undo `append_once`, as far as nobody has written behind it."""
    held = _behind(folder, size)
    if _is_cut_off(held, lines):
        if size:
            durable.truncate(path(folder), size)
        else:
            durable.remove(path(folder))


def _behind(folder: str, size: int) -> bytes:
    try:
        with open(path(folder), "rb") as file:
            file.seek(size)
            return file.read()
    except FileNotFoundError:
        return b""


def _is_cut_off(held: bytes, lines: bytes) -> bool:
    """Whether this is what an interrupted attempt left.

    The beginning of the lines, or, after a power cut, as much with zeros where bytes did not
    reach the disk; nobody else writes zeros.
    """
    return 0 < len(held) <= len(lines) and all(
        byte in (0, wanted) for byte, wanted in zip(held, lines, strict=False)
    )


def _holds(held: bytes, lines: bytes) -> bool:
    place = held.find(lines)
    return place == 0 or (place > 0 and held[place - 1 : place] == b"\n")


def lines(folder: str, *, start: int = 0) -> Iterator[bytes]:
    """The whole lines of a log from a byte on, without their newlines; none of a torn one."""
    try:
        file = open(path(folder), "rb")  # noqa: SIM115  closed below
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


def tail(folder: str, count: int) -> tuple[list[bytes], int]:
    """The last `count` whole lines, and where the line behind them begins.

    Reads from the end: the length of the log does not matter.
    """
    try:
        file = open(path(folder), "rb")  # noqa: SIM115  closed below
    except FileNotFoundError:
        return [], 0
    with file:
        at = file.seek(0, os.SEEK_END)
        held = b""
        while at and held.count(b"\n") <= count:
            step = min(at, _BLOCK_BYTES)
            at -= step
            file.seek(at)
            held = file.read(step) + held
        end = at + held.rfind(b"\n") + 1
        found = held[: end - at].split(b"\n")[:-1]
        if at:
            found = found[1:]  # the block may begin inside a line
        return found[-count:] if count else [], end


def follow(folder: str, start: int, *, wait: Callable[[float], None]) -> Iterator[bytes]:
    """Lines as they are written, from a byte on; for ever.

    Args:
        folder: the dataset.
        start: where to begin, as `tail` gave it.
        wait: sleeps; what it raises ends the watch.
    """
    at, inode = start, _inode(folder)
    while True:
        now = _inode(folder)
        if now != inode or _size(folder) < at:  # another log has its name
            at, inode = 0, now
        for line in lines(folder, start=at):
            at += len(line) + 1
            yield line
        wait(_POLL_S)


def _inode(folder: str) -> int:
    try:
        return os.stat(path(folder)).st_ino
    except FileNotFoundError:
        return 0


def _size(folder: str) -> int:
    try:
        return os.stat(path(folder)).st_size
    except FileNotFoundError:
        return 0


def torn(folder: str) -> tuple[int, bytes]:
    """Where a torn last line begins, and what is there of it; b"" if the log is whole."""
    end = tail(folder, 1)[1]
    return end, _behind(folder, end)
