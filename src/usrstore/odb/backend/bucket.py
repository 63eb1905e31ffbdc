"""A backend in a bucket: S3 and what speaks it, Google, Azure. Needs `If-None-Match: *`.

Every value is one object. Small ones are created by a single conditional PUT, so of any
number of writers exactly one succeeds; a pack too large for that goes up in parts, and its
name, the hash of its index, is what makes two writers of it agree. Each create carries a mark
of its writer, so that a lost reply can be told from somebody else's success.

Only this room knows obstore. What it says in its errors (addresses, headers, the server's
words) never leaves here: a message names the place, the status and the server's error code.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from usrstore.errors import BucketError, ObjectNotFoundError, StorageError, UsrError
from usrstore.odb.backend.address import Address
from usrstore.odb.backend.backend import Stat, check_key, is_word
from usrstore.odb.workers import interruptible

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

PATIENCE_S = 60.0
SINGLE_PUT_BYTES = 8 << 20
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4  # four parts of 8 MiB: what an upload holds in memory
_ATTEMPTS = 8
_MARK = "usrwriter"

# What the environment may say, by the names that each provider's own tools use.
_SETTINGS = {
    "s3": (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
        "AWS_DEFAULT_REGION", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_SKIP_SIGNATURE",
    ),
    "gs": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SKIP_SIGNATURE"),
    "az": (
        "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_CLIENT_ID", "AZURE_STORAGE_CLIENT_SECRET", "AZURE_STORAGE_TENANT_ID",
        "AZURE_SKIP_SIGNATURE",
    ),
}  # fmt: skip


class BucketBackend:
    """Keys are names of objects below the address's prefix.

    Args:
        address: where.
        environment: credentials and region, by the names of the provider's own tools.
        patience_s: how long one question may be asked again before it is given up.
    """

    def __init__(
        self, address: Address, environment: Mapping[str, str], *, patience_s: float | None = None
    ) -> None:
        self.address = address
        self.sent = 0
        self.received = 0
        self.requests = 0
        patience_s = PATIENCE_S if patience_s is None else patience_s
        self._patience_s = patience_s
        self._prefix = f"{address.prefix}/" if address.prefix else ""
        self._lock = threading.Lock()
        self._store = _open(address, environment, patience_s)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        name = self._name(key)
        if length == 0:
            if self.stat(key) is None:
                raise self._absent(key)
            return b""
        span: Any = {"offset": start} if length is None else (start, start + length)
        if start < 0:
            span = {"suffix": -start}
        import obstore

        def get() -> bytes:
            if start == 0 and length is None:
                return bytes(obstore.get(self._store, name).bytes())
            return bytes(obstore.get(self._store, name, options={"range": span}).bytes())

        data = self._ask(f"read {key}", get, key=key, ranged=True)
        self._count(received=len(data))
        return data[:length]

    def create(self, key: str, data: bytes | Path) -> bool:
        name, mark = self._name(key), os.urandom(8).hex()
        size = len(data) if isinstance(data, bytes) else os.stat(data).st_size
        if isinstance(data, Path) and size <= SINGLE_PUT_BYTES:
            data = data.read_bytes()
        if isinstance(data, Path) and self.stat(key) is not None:
            return False
        deadline = time.monotonic() + self._patience_s
        for attempt in range(_ATTEMPTS):
            try:
                made = self._put(key, name, data, mark)
            except BucketError as exc:
                if exc.code not in ("bucket-unreachable", "bucket-busy"):
                    raise
                # The reply may have been lost on its way; what is there tells.
                owner = self._owner(key, name)
                if owner is None and (attempt + 1 == _ATTEMPTS or time.monotonic() > deadline):
                    raise
            else:
                owner = mark if made else self._owner(key, name)
            if owner is not None:
                self._count(sent=size)
                return owner == mark
            # Nothing is there: it failed, or another create was in flight and failed (409).
            time.sleep(random.uniform(0.05, 0.1) * 2 ** min(attempt, 5))  # noqa: S311  no secret
        raise BucketError(
            f"{self.address} did not take {key} in {_ATTEMPTS} attempts; nothing was changed",
            hint="run the same command again",
            code="bucket-busy",
        )

    def _put(self, key: str, name: str, data: bytes | Path, mark: str) -> bool:
        """Whether the server says that we made it."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        def put() -> bool:
            try:
                if isinstance(data, bytes):
                    obstore.put(self._store, name, data, mode="create", attributes={_MARK: mark})
                else:
                    obstore.put(
                        self._store,
                        name,
                        data,
                        use_multipart=True,
                        chunk_size=_PART_BYTES,
                        max_concurrency=_PARTS_AT_ONCE,
                        attributes={_MARK: mark},
                    )
            except AlreadyExistsError:
                return False
            return True

        return self._ask(f"create {key}", put)

    def _owner(self, key: str, name: str) -> str | None:
        """The mark of whoever created a key, '' if it bears none; None if there is no such key."""
        import obstore

        def look() -> str | None:
            try:
                found = obstore.get(self._store, name, options={"head": True})
            except FileNotFoundError:
                return None
            return str(found.attributes.get(_MARK, ""))

        return self._ask(f"look at {key}", look)

    def stat(self, key: str) -> Stat | None:
        name = self._name(key)
        import obstore

        def head() -> Stat | None:
            try:
                found = obstore.head(self._store, name)
            except FileNotFoundError:
                return None
            return Stat(key, found["size"], int(found["last_modified"].timestamp()))

        return self._ask(f"look at {key}", head)

    def list(self, prefix: str) -> Iterator[Stat]:
        check_key(prefix.rstrip("/"))
        import obstore

        found = obstore.list(self._store, prefix=f"{self._prefix}{prefix}".rstrip("/"))
        while True:
            rows = self._ask(f"list {prefix}", lambda: next(found, None))
            if rows is None:
                return
            for row in rows:
                key = row["path"].removeprefix(self._prefix)
                if all(map(is_word, key.split("/"))):
                    yield Stat(key, row["size"], int(row["last_modified"].timestamp()))

    def delete(self, key: str) -> None:
        name = self._name(key)
        import obstore

        def delete() -> None:
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError:
                return

        self._ask(f"delete {key}", delete)

    # ── how a question is asked ─────────────────────────────────────────────────────────
    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _count(self, *, sent: int = 0, received: int = 0, requests: int = 0) -> None:
        with self._lock:
            self.sent += sent
            self.received += received
            self.requests += requests

    def _absent(self, key: str) -> ObjectNotFoundError:
        return ObjectNotFoundError(f"no {key} in {self.address}")

    def _ask(
        self, what: str, call: Callable[[], T], *, key: str | None = None, ranged: bool = False
    ) -> T:
        """One question; whatever goes wrong leaves here in our words."""
        self._count(requests=1)
        failure: UsrError
        try:
            return interruptible(call)
        except FileNotFoundError as exc:
            text = str(exc)
            failure = self._failed(what, text)
            if key is not None and "NoSuchBucket" not in text:
                failure = self._absent(key)
        except Exception as exc:
            if type(exc).__module__.partition(".")[0] != "obstore" and not isinstance(exc, OSError):
                raise
            text = str(exc)
            if ranged and ("416 " in text or "non-partial" in text):
                return self._out_of_range(key or "", text)  # type: ignore[return-value]
            failure = self._failed(what, text)
        # Raised out here, so that no traceback chains to what the server was sent.
        raise failure

    def _out_of_range(self, key: str, text: str) -> bytes:
        """A range beyond the end holds nothing, and an empty object has no other."""
        found = self.stat(key)
        if found is None:
            raise self._absent(key)
        if "non-partial" in text and found.size:
            raise StorageError(
                f"{self.address} does not serve parts of objects; nothing was changed",
                hint="that server cannot hold a store; choose another",
                code="bucket-without-ranges",
            )
        return b""

    def _failed(self, what: str, text: str) -> BucketError:
        status = _found(r"status code: (\d{3})", text)
        word = _found(r"<Code>([A-Za-z]{1,64})</Code>", text)
        said = " ".join(filter(None, (status, word)))
        where = f"{self.address}: cannot {what}"
        if word == "NoSuchBucket" or (status == "404" and "NotFound" in text):
            return BucketError(
                f"{self.address}: there is no such bucket ({said}); nothing was changed",
                hint="make it with your provider's tools; usr makes no buckets",
                code="bucket-missing",
            )
        if word in ("RequestTimeTooSkewed", "RequestExpired"):
            return BucketError(
                f"{where}: the clocks are too far apart ({said}); nothing was changed",
                hint="set this machine's clock by NTP",
                code="bucket-denied",
            )
        if word is None and _CREDENTIALS.search(text):
            return BucketError(
                f"{where}: there are no credentials for it; nothing was changed",
                hint="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
                "AWS_SKIP_SIGNATURE=true reads a public bucket",
                code="bucket-denied",
            )
        if status in ("401", "403"):
            return BucketError(
                f"{where}: access denied ({said}); nothing was changed",
                hint="check the credentials in the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID, "
                "…) and what they may do with that bucket",
                code="bucket-denied",
            )
        if status in ("429", "500", "502", "503", "504"):
            return BucketError(
                f"{where}: the server is too busy ({said}); nothing was changed",
                hint="run the same command again in a while",
                code="bucket-busy",
            )
        if status is None:
            return BucketError(
                f"{where}: nobody answers; nothing was changed",
                hint="check the network and the endpoint, then run the same command again",
                code="bucket-unreachable",
            )
        return BucketError(
            f"{where}: the server refused it ({said}); nothing was changed",
            hint="usr remotes doctor says what it can do",
        )


# Where a provider's machines ask who they are: nobody answers that elsewhere.
_CREDENTIALS = re.compile(r"169\.254\.|metadata\.google|InstanceCredential|[Cc]redential")


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match[1] if match else None


def _open(address: Address, environment: Mapping[str, str], patience_s: float) -> ObjectStore:
    """Raises: StorageError, if obstore is not installed or the settings make no sense."""
    from datetime import timedelta

    try:
        from obstore import store
    except ImportError:
        raise StorageError(
            "this installation cannot speak to buckets: obstore is missing",
            hint="pip install 'usrstore[bucket]'",
            code="obstore-missing",
        ) from None
    config = {
        name.lower(): environment[name]
        for name in _SETTINGS[address.scheme]
        if environment.get(name)
    }
    endpoint = address.endpoint
    if address.scheme == "s3":
        endpoint = (
            endpoint
            or environment.get("AWS_ENDPOINT_URL_S3")
            or environment.get("AWS_ENDPOINT_URL")
        )
        region = address.region or config.get("aws_region") or config.get("aws_default_region")
        config["aws_region"] = region or "us-east-1"
        config.pop("aws_default_region", None)
        if endpoint:
            config["aws_endpoint"] = endpoint
    kinds: dict[str, Any] = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}
    try:
        opened: ObjectStore = kinds[address.scheme](
            address.bucket,
            config=config,
            client_options={
                "allow_http": bool(endpoint and endpoint.startswith("http:")),
                "connect_timeout": timedelta(seconds=min(10.0, patience_s)),
                "read_timeout": timedelta(seconds=min(30.0, patience_s)),
                "timeout": timedelta(seconds=max(300.0, patience_s)),
            },
            retry_config={
                "max_retries": _ATTEMPTS,
                "retry_timeout": timedelta(seconds=patience_s),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        )
    except Exception:  # it would say what the settings are
        failure = BucketError(
            f"{address}: its settings, or those of the environment, make no sense; "
            "nothing was changed",
            hint="check AWS_… (GOOGLE_…, AZURE_…) in the environment",
            code="bucket-denied",
        )
    else:
        return opened
    raise failure
