"""What lies beside the tables: snapshots, events, notes, frozen registries, left-overs."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator

from usrstore.dataset import events, rowgroups, schema
from usrstore.dataset.flaws import Flaws
from usrstore.errors import IntegrityError
from usrstore.objects.sections import DERIVED_FOLDER, EVENTS_FILE, META_FILE, SNAPSHOTS_FOLDER

FROZEN_FOLDER = "_registry"
_SNAPSHOT = re.compile(r"records-[0-9]{8}T[0-9]{12}\.parquet")
_FROZEN = re.compile(r"registry\.([0-9a-f]{64})\.yaml")
_LEFT_OVER = re.compile(r".*\.tmp|.*\.tmp\.parquet|records\.materialize\.parquet|\..*\.usr-sync-.*")


def check(folder: str, dataset: str, flaws: Flaws) -> None:
    """Look at everything but the base and the overlays."""
    _snapshots(folder, flaws)
    _events(folder, flaws)
    _meta(folder, dataset, flaws)
    for path, digest, data in frozen(folder):
        if hashlib.sha256(data).hexdigest() != digest:
            flaws.add("frozen-registry", path, "its bytes do not hash to its name")
    for at in ("", DERIVED_FOLDER, SNAPSHOTS_FOLDER):
        for name in _names(os.path.join(folder, at)):
            if _LEFT_OVER.fullmatch(name):
                path = f"{at}/{name}" if at else name
                flaws.add("left-over", path, "a program left this behind; remove it")


def frozen(folder: str) -> Iterator[tuple[str, str, bytes]]:
    """The frozen registries: path, the hash in the name, bytes."""
    for name in _names(os.path.join(folder, FROZEN_FOLDER)):
        if found := _FROZEN.fullmatch(name):
            with open(os.path.join(folder, FROZEN_FOLDER, name), "rb") as file:
                yield f"{FROZEN_FOLDER}/{name}", found[1], file.read()


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _snapshots(folder: str, flaws: Flaws) -> None:
    for name in _names(os.path.join(folder, SNAPSHOTS_FOLDER)):
        path = f"{SNAPSHOTS_FOLDER}/{name}"
        if _LEFT_OVER.fullmatch(name):
            continue
        if not _SNAPSHOT.fullmatch(name):
            flaws.add("snapshot-name", path, "not named records-YYYYMMDDThhmmssffffff.parquet")
        try:
            with rowgroups.open_file(folder, path) as file:
                missing = [n for n in schema.REQUIRED if n not in file.schema_arrow.names]
        except IntegrityError as exc:
            flaws.add("parquet-unreadable", path, exc.message)
            continue
        if missing:
            flaws.add("snapshot-columns", path, f"columns are missing: {', '.join(missing)}")


def _events(folder: str, flaws: Flaws) -> None:
    last = ""
    for number, line in enumerate(events.lines(folder)):
        problem, moment = _event(line)
        if problem:
            flaws.add("events-line", EVENTS_FILE, problem, row=number)
        elif moment < last:
            flaws.add("events-order", EVENTS_FILE, f"{moment} comes after {last}", row=number)
        last = max(last, moment)
    _, rest = events.torn(folder)
    if rest:
        message = f"the last line is torn: {len(rest)} bytes without an end"
        flaws.add("events-torn", EVENTS_FILE, message)


def _event(line: bytes) -> tuple[str, str]:
    """What is wrong with a line, and its moment."""
    if len(line) >= events.MAX_LINE_BYTES:
        return f"{len(line)} bytes; at most {events.MAX_LINE_BYTES} make a line", ""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as exc:
        return f"not JSON: {exc}", ""
    if not isinstance(value, dict) or not isinstance(value.get("action"), str):
        return "not an event: it has no action", ""
    moment = value.get("timestamp_utc")
    return "", moment if isinstance(moment, str) else ""


def _meta(folder: str, dataset: str, flaws: Flaws) -> None:
    try:
        with open(os.path.join(folder, META_FILE), "rb") as file:
            first = file.readline(4096).decode(errors="replace").strip()
    except FileNotFoundError:
        flaws.add("meta-missing", META_FILE, "there is none")
        return
    if first != f"name: {dataset}":
        message = f"it begins with {first[:80]!r}, not with 'name: {dataset}'"
        flaws.add("meta-header", META_FILE, message)
