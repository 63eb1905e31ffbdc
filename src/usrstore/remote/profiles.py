"""Remotes as people write them down: the YAML that they have already, with two more types.

No credential is ever in it: a bucket's come from the environment of whoever asks.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from usrstore.errors import UNREADABLE, ConfigError, RemoteNotFoundError
from usrstore.objects.names import check_remote
from usrstore.odb import durable
from usrstore.odb.backend import address
from usrstore.odb.backend.address import Address

_MEND = "mend that file, or remove it and write the remotes down again with `usr remotes add`"


@dataclass(frozen=True, slots=True)
class Profile:
    """One remote.

    Attributes:
        type: `ssh` (another host), `folder` (another root on this host or a mount), `bucket`
            (an object store).
        base_dir: the root at the remote; a bucket has none.
        usr_command: how `usr` is started there.
        ssh_options: further arguments for ssh, before the host.
        ssh_key_env: name of an environment variable that holds the path of a key.
        url: of a bucket: s3://BUCKET/PREFIX, gs://… or az://….
        endpoint, region: of an S3 server; None leaves them to the environment.
    """

    name: str
    type: Literal["ssh", "folder", "bucket"] = "ssh"
    host: str | None = None
    user: str | None = None
    base_dir: str = ""
    batch_mode: bool = True
    ssh_key_env: str | None = None
    repo_root: str | None = None
    local_repo_root: str | None = None
    port: int | None = None
    usr_command: str = "usr"
    ssh_options: tuple[str, ...] = ()
    url: str | None = None
    endpoint: str | None = None
    region: str | None = None

    @property
    def target(self) -> str:
        return f"{self.user}@{self.host}" if self.user else str(self.host)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        if self.type == "bucket":
            return str(self.address)
        return f"{self.target}:{self.base_dir}" if self.type == "ssh" else self.base_dir

    @property
    def address(self) -> Address:
        """Of a bucket. Raises: ConfigError."""
        return address.parse(self.url or "", endpoint=self.endpoint, region=self.region)


_KNOWN = {field.name for field in fields(Profile)} - {"name"}
_OF_A_BUCKET = {"url", "endpoint", "region"}
_WORDS = {
    *("host", "user", "base_dir", "ssh_key_env", "repo_root", "local_repo_root", "usr_command"),
    *_OF_A_BUCKET,
}
_NEEDED = {"ssh": ("host", "base_dir"), "folder": ("base_dir",), "bucket": ("url",)}


def parse(name: str, body: Any, where: str) -> Profile:
    """One entry of `remotes:`.

    Raises:
        ConfigError: naming the remote, the key and what it should be.
    """
    check_remote(name)
    at = f"{where}: remote {name!r}"
    if not isinstance(body, dict):
        raise ConfigError(f"{at} is not a map of settings")
    if unknown := sorted(str(key) for key in body if key not in _KNOWN):
        raise ConfigError(f"{at} has unknown settings: {', '.join(unknown)}")
    values = {key: value for key, value in body.items() if value is not None}
    for key in values.keys() & _WORDS:
        if not isinstance(values[key], str):
            raise ConfigError(f"{at}: {key} must be text")
    options = values.get("ssh_options", ())
    if isinstance(options, str):
        options = options.split()
    if not isinstance(options, (list, tuple)) or not all(isinstance(o, str) for o in options):
        raise ConfigError(f"{at}: ssh_options must be a list of texts")
    values["ssh_options"] = tuple(options)
    if not isinstance(values.get("batch_mode", True), bool):
        raise ConfigError(f"{at}: batch_mode must be true or false")
    port = values.get("port", 22)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise ConfigError(f"{at}: port must be a number from 1 to 65535")
    kind = values.get("type", "ssh")
    if not isinstance(kind, str) or kind not in _NEEDED:
        raise ConfigError(f"{at}: type {kind!r} is not known", hint="use ssh, folder or bucket")
    for key in _NEEDED[kind]:
        if not values.get(key):
            raise ConfigError(f"{at}: {key} is missing")
    for key in ("host", "user"):
        if str(values.get(key, "")).startswith("-"):
            raise ConfigError(f"{at}: {key} must not start with '-'")
    profile = Profile(name=name, **values)
    if kind == "bucket":
        try:
            str(profile.address)
        except ConfigError as exc:
            raise ConfigError(f"{at}: {exc.message}", hint=exc.hint) from exc
    elif given := sorted(_OF_A_BUCKET & values.keys()):
        raise ConfigError(f"{at}: {', '.join(given)} is for a bucket (type: bucket)")
    return profile


def load(path: str) -> dict[str, Profile]:
    """The remotes of a file; none if there is no file.

    Raises:
        ConfigError: naming the file and what is wrong.
    """
    return {
        str(name): parse(str(name), body, path) for name, body in _read(path)["remotes"].items()
    }


def _read(path: str) -> dict[str, Any]:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            value = yaml.safe_load(file)
    except FileNotFoundError:
        value = None
    except (yaml.YAMLError, OSError, *UNREADABLE) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}", hint=_MEND) from exc
    value = {} if value is None else value
    if not isinstance(value, dict) or not isinstance(value.get("remotes") or {}, dict):
        raise ConfigError(f"{path}: it needs a map `remotes`", hint=_MEND)
    return {**value, "remotes": value.get("remotes") or {}}


def find(path: str, name: str) -> Profile:
    """Raises: RemoteNotFoundError, ConfigError."""
    known = load(path)
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise RemoteNotFoundError(
            f"there is no remote {name!r}; {path} has: {listed}",
            hint=f"usr remotes add {name} --type ssh --host HOST --user USER --base-dir DIR",
        )
    return known[name]


def add(path: str, profile: Profile, *, overwrite: bool = False) -> None:
    """Write a remote down, keeping whatever else the file says.

    Raises:
        ConfigError: the name is taken.
    """
    value = _read(path)
    if profile.name in value["remotes"] and not overwrite:
        raise ConfigError(
            f"{path} has a remote {profile.name!r} already; it was not changed",
            hint="give another name, or --overwrite",
        )
    body = {key: v for key, v in asdict(profile).items() if key != "name"}
    body["ssh_options"] = list(profile.ssh_options)
    defaults = asdict(Profile(profile.name))
    value["remotes"][profile.name] = {
        key: v for key, v in body.items() if key == "type" or v not in (defaults[key], [])
    }
    _write(path, value)


def remove(path: str, name: str) -> None:
    """Raises: RemoteNotFoundError."""
    find(path, name)
    value = _read(path)
    del value["remotes"][name]
    _write(path, value)


def _write(path: str, value: dict[str, Any]) -> None:
    import yaml

    durable.replace(os.path.abspath(path), yaml.safe_dump(value, sort_keys=False).encode())
