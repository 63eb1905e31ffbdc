"""Where a bucket is: a URL, and for S3 whose server. Never how one gets in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from usrstore.errors import ConfigError

Scheme = Literal["s3", "gs", "az"]

_SCHEMES = ("s3", "gs", "az")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,62}")
_SEGMENT = re.compile(r"[A-Za-z0-9=+_-][A-Za-z0-9=+._-]*")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+/?")
_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Address:
    """One place in one bucket.

    Attributes:
        scheme: `s3` (and whatever speaks it), `gs` (Google), `az` (Azure: a container).
        bucket: its name.
        prefix: what every key begins with, without a slash at either end; may be empty.
        endpoint: the server, as http(s)://host[:port]; None for the provider's own.
        region: of the bucket; None leaves it to the environment.
    """

    scheme: Scheme
    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        at = f" at {self.endpoint}" if self.endpoint else ""
        return f"{self.scheme}://{'/'.join(filter(None, (self.bucket, self.prefix)))}{at}"


def parse(url: str, *, endpoint: str | None = None, region: str | None = None) -> Address:
    """The address that a person wrote down.

    Raises:
        ConfigError: saying what is wrong with it. A URL that holds a password or a signature
            is refused, and not repeated: it would be written down, and shown.
    """
    if any("@" in text or "?" in text for text in (url, endpoint or "")):
        raise ConfigError(
            "the address of a bucket must not hold credentials; nothing was written down",
            hint="leave them to the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, …)",
        )
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in _SCHEMES:
        raise ConfigError(
            f"{url!r} is no bucket", hint="write s3://BUCKET/PREFIX, gs://… or az://…"
        )
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ConfigError(f"{url!r}: {bucket!r} cannot be the name of a bucket")
    prefix = prefix.rstrip("/")
    for segment in prefix.split("/") if prefix else ():
        if not _SEGMENT.fullmatch(segment) or len(prefix) > 256:
            raise ConfigError(f"{url!r}: {segment!r} cannot be a part of a prefix")
    if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
        raise ConfigError(
            f"{endpoint!r} is no endpoint", hint="write https://HOST or http://HOST:PORT"
        )
    if endpoint is not None and scheme != "s3":
        raise ConfigError(f"only an s3:// bucket takes an endpoint, {url} does not")
    if region is not None and not _REGION.fullmatch(region):
        raise ConfigError(f"{region!r} is no region")
    endpoint = None if endpoint is None else endpoint.rstrip("/")
    return Address(cast("Scheme", scheme), bucket, prefix, endpoint, region)
