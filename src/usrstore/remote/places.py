"""Where a clone comes from, as people type it: the forms of git, and those of object stores.

me@host:/path   host:path   ssh://me@host:2222/path      another host
s3://bucket/prefix   gs://…   az://…                     an object store
/path   ./path   ~/path   file:///path                   a folder here
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from usrstore.errors import InvalidInputError

_SCP = re.compile(r"(?:(?P<user>[^@/:\s]+)@)?(?P<host>[^@/:\s]+):(?P<path>.+)", re.DOTALL)
_BUCKETS = ("s3://", "gs://", "az://")


def parse(text: str) -> dict[str, Any]:
    """The settings of a remote at that place.

    Raises:
        InvalidInputError: no place that is understood.
    """
    if text.startswith(_BUCKETS):
        return {"type": "bucket", "url": text}
    if text.startswith("ssh://"):
        return _url(text)
    if text.startswith("file://"):
        return {"type": "folder", "base_dir": _path_of(text)}
    if "://" in text:
        raise _unknown(text)
    if text.startswith(("/", "./", "../", "~")) or text in (".", ".."):
        return {"type": "folder", "base_dir": text}
    found = _SCP.fullmatch(text)
    if found is None:
        raise _unknown(text)
    body = {"type": "ssh", "host": found["host"], "base_dir": found["path"]}
    return {**body, "user": found["user"]} if found["user"] else body


def _url(text: str) -> dict[str, Any]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _unknown(text) from None
    path = unquote(parts.path)
    if not parts.hostname or path in ("", "/") or parts.password:
        raise _unknown(text)
    body: dict[str, Any] = {
        "type": "ssh",
        "host": parts.hostname,
        "base_dir": path[1:] if path.startswith("/~") else path,
    }
    if parts.username:
        body["user"] = unquote(parts.username)
    return {**body, "port": port} if port else body


def _path_of(text: str) -> str:
    try:
        return unquote(urlsplit(text).path)
    except ValueError:  # a host in brackets that is none
        raise _unknown(text) from None


def _unknown(text: str) -> InvalidInputError:
    return InvalidInputError(
        f"{text!r} is no remote and no place; nothing was changed",
        hint="give the name of a remote, or user@host:/path, ssh://…, s3://bucket/prefix, /path",
    )
