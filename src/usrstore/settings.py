"""`.usr/config`: what a root may be told, as TOML. Every setting has a default."""

from __future__ import annotations

import os
from typing import Any

from usrstore.errors import UNREADABLE, ConfigError

KNOWN = {
    "trust": {"mode", "max_age", "stale"},
    "signing": {"key"},
    "keep": {"replaced"},
    "gc": {
        *("grace", "keep-last", "keep-daily", "keep-weekly", "keep-monthly"),
        *("keep-tagged", "keep-within", "keep-ops"),
    },
}
"""Every section and setting that the file may hold."""
_HINT = "mend that file, or remove it: every setting in it has a default"


def load(path: str) -> dict[str, Any]:
    """The settings of a file; none if there is no file.

    A setting that nobody knows is refused: a misspelt `mode` must not relax it.

    Raises:
        ConfigError: naming the file and the line, or the setting.
    """
    if not os.path.exists(path):
        return {}
    import tomllib

    try:
        with open(path, "rb") as file:
            value = tomllib.load(file)
    except UNREADABLE as exc:
        raise ConfigError(f"{path}: {exc}; nothing was changed", hint=_HINT) from exc
    for section, settings in value.items():
        known = KNOWN.get(section)
        if known is None or not isinstance(settings, dict):
            raise ConfigError(f"{path}: there is no section [{section}]", hint=_HINT)
        if unknown := sorted(settings.keys() - known):
            raise ConfigError(
                f"{path}: there is no setting {unknown[0]!r} in [{section}]", hint=_HINT
            )
    return value
