"""Retention: which states keep their files, and how far back the operation log goes.

Where nobody asks for less, everything is kept. Any rule makes the states that no rule names
*light*: their manifests, trees and recipes stay, so `usr log` and `usr show` go on saying what
they were, but their bytes go. What a ref names now is never touched, nor is what an operation
of the last `keep-ops` replaced, so that it can be undone.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from usrstore.errors import ConfigError
from usrstore.objects.ids import ManifestId

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """What a collection keeps; None for a rule that was not asked for. Times in seconds.

    Attributes:
        grace: how long what nothing reaches is left alone: longer than any command takes.
        keep_last: so many newest kept states of a dataset.
        keep_daily, keep_weekly, keep_monthly: the newest of each of so many days and so on (UTC).
        keep_within: those not older than this before the newest of the dataset.
        keep_tagged: those that have a tag.
        keep_ops: operations of so long ago can be undone still; forever without any rule.
    """

    grace: float = DAY_S
    keep_last: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_within: float | None = None
    keep_tagged: bool = True
    keep_ops: float | None = None

    @property
    def asked(self) -> bool:
        """Whether anything that a ref's history reaches is to be given up."""
        rules = (self.keep_last, self.keep_daily, self.keep_weekly, self.keep_monthly)
        return any(rule is not None for rule in rules) or self.keep_within is not None

    @property
    def ops_s(self) -> float | None:
        """How far back the operation log is kept; None for all of it."""
        if self.keep_ops is None and self.asked:
            return 7 * DAY_S
        return self.keep_ops

    def select(self, moments: Mapping[ManifestId, int]) -> set[ManifestId]:
        """The states of one dataset that rules name, given the time of each in microseconds."""
        newest_first = sorted(moments, key=lambda oid: (moments[oid], oid), reverse=True)
        chosen = set(newest_first[: self.keep_last or 0])
        for count, form in (
            (self.keep_daily, "%Y-%m-%d"),
            (self.keep_weekly, "%G-%V"),
            (self.keep_monthly, "%Y-%m"),
        ):
            seen: dict[str, ManifestId] = {}
            for oid in newest_first:
                seen.setdefault(_utc(moments[oid]).strftime(form), oid)
            chosen.update(list(seen.values())[: count or 0])
        if self.keep_within is not None and newest_first:
            since = moments[newest_first[0]] - self.keep_within * 1e6
            chosen.update(oid for oid in newest_first if moments[oid] >= since)
        return chosen


def _utc(time_us: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_us)


def parse_duration(text: str) -> float:
    """`90s`, `15m`, `12h`, `14d`, `2w`, `1y`, or several of them together, in seconds.

    Raises:
        ConfigError: anything else.
    """
    parts = re.findall(r"(\d{1,9})([smhdwy])", text)
    if text == "0" or not parts or "".join(map("".join, parts)) != text:
        if text == "0":
            return 0.0
        raise ConfigError(
            f"{text!r} is no duration", hint="for example 90s, 15m, 12h, 14d, 2w, 1y, 1d12h"
        )
    return float(sum(int(count) * _UNITS[unit] for count, unit in parts))


def from_settings(section: Mapping[str, Any], given: Mapping[str, Any]) -> Retention:
    """What `[gc]` in the root's config says, and over it what was given.

    Args:
        section: names with hyphens; durations as text.
        given: values by the names of `Retention`; None says nothing.

    Raises:
        ConfigError: a value that makes no sense.
    """
    values: dict[str, Any] = {}
    for name in _names():
        key = name.replace("_", "-")
        if given.get(name) is not None:
            values[name] = given[name]
        elif key in section:
            values[name] = section[key]
        else:
            continue
        values[name] = _checked(key, values[name])
    return Retention(**values)


def _names() -> Iterable[str]:
    return (field.name for field in fields(Retention))


def _checked(key: str, value: Any) -> Any:
    if key in ("grace", "keep-within", "keep-ops"):
        if isinstance(value, str):
            return parse_duration(value)
        right, what = isinstance(value, float), "a duration such as 14d"
    elif key == "keep-tagged":
        right, what = isinstance(value, bool), "true or false"
    else:
        right = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        what = "a number"
    if not right:
        raise ConfigError(f"[gc] {key} = {value!r} in .usr/config is not {what}")
    return value
