"""The file of what a root remembers of others, `.usr/seen.json`: read whole, or not at all.

    {"pins": {"PLACE DATASET": [fingerprint]}, "pinned_us": {"PLACE DATASET": {fingerprint: time}},
     "signed": {"PLACE DATASET": time},
     "remotes": {name: {"state": [number, id], "heads": {dataset: id}, "heads_us": {dataset: time}}},
     "sum": hash of all the rest}

A flipped digit in it would accuse an honest remote, or clear a dishonest one: a sum is kept, and
whatever does not have exactly this shape is said to be damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from usrstore.errors import UNREADABLE, ConfigError
from usrstore.objects.ids import Kind, hash_object
from usrstore.odb import durable


def read(path: str) -> dict[str, Any]:
    """What is remembered; nothing where there is no file.

    Raises:
        ConfigError: the file is damaged.
    """
    import json

    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except FileNotFoundError:
        return {}
    except UNREADABLE as exc:
        raise _damaged(path, str(exc)) from exc
    stated = value.pop("sum", None) if isinstance(value, dict) else None
    if not _are_notes(value):
        raise _damaged(path, "it does not hold what usr writes there")
    if stated not in (None, sum_of(value)):
        raise _damaged(path, "its sum does not hold")
    return dict(value)


def write(path: str, value: dict[str, Any]) -> None:
    """Replace the file."""
    import json

    summed = {**value, "sum": sum_of(value)}
    durable.replace(path, json.dumps(summed, indent=1, sort_keys=True).encode() + b"\n")


def sum_of(notes: dict[str, Any]) -> str:
    """The sum that goes into the file, over everything else in it."""
    import json

    return hash_object(Kind.CHUNK, json.dumps(notes, sort_keys=True).encode()).hex()


# ── its shape ───────────────────────────────────────────────────────────────────────────
def _are_notes(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _all(value.get("pins", {}), _is_pair, _are_texts)
        and _all(value.get("pinned_us", {}), _is_pair, _are_times)
        and _all(value.get("signed", {}), _is_pair, _is_time)
        and _all(value.get("remotes", {}), _is_text, _is_mark)
    )


def _is_mark(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _all(value.get("heads", {}), _is_text, _is_id)
        and _are_times(value.get("heads_us", {}))
        and _is_state(value.get("state"))
    )


def _all(value: Any, key: Callable[[Any], bool], item: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(key(k) and item(v) for k, v in value.items())


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pair(value: Any) -> bool:
    """A place and a dataset."""
    return isinstance(value, str) and " " in value


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_times(value: Any) -> bool:
    return _all(value, _is_text, _is_time)


def _is_time(value: Any) -> bool:
    return isinstance(value, int)


def _is_state(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], int)
        and value[0] >= 0
        and _is_id(value[1])
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _damaged(path: str, why: str) -> ConfigError:
    return ConfigError(
        f"{path} is damaged: {why}; nothing was changed",
        hint="it holds pinned signers and the newest states seen of remotes; remove it to "
        "start trusting anew",
    )
