"""What the library does not ask itself: environment, home, clock, keys, terminal."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from usrcli.main import Settings
from usrstore.errors import ConfigError, NotFoundError
from usrstore.root import Root, Who

if TYPE_CHECKING:
    from usrcli import keyring


def settings() -> Settings:
    found = click.get_current_context().find_object(Settings)
    assert found is not None
    return found


def find_root(*, files: bool = False) -> Root:
    """The root: --root, USR_ROOT, or the first folder upwards that is one.

    With `files`, --root may name a file that is synced by itself: its states are then asked for.

    Raises:
        NotFoundError: there is none.
    """
    given = os.path.expanduser(settings().root or os.environ.get("USR_ROOT") or "")
    if given and files and os.path.isfile(given):
        from usrstore.lone import Lone

        return Lone(given)
    if given:
        return Root(given)
    at = os.getcwd()
    while True:
        if os.path.isfile(os.path.join(at, "registry.yaml")) or os.path.isdir(
            os.path.join(at, ".usr", "states")
        ):
            return Root(at)
        above = os.path.dirname(at)
        if above == at:
            raise NotFoundError(
                f"no root here: neither {os.getcwd()} nor a folder above it has a registry.yaml",
                hint="name it with --root DIR or USR_ROOT, or make one with `usr init`",
                code="no-root",
            )
        at = above


def find_root_or_none() -> Root | None:
    """The local root if there is one: a remote can be looked at from anywhere."""
    try:
        return find_root()
    except NotFoundError as exc:
        if exc.code != "no-root":
            raise
        return None


def config_folder() -> str:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "usr")


def remotes_path(root: Root | None) -> str:
    """Where remotes are written down: option, environment, root, user; the first that counts."""
    given = settings().remotes_config or os.environ.get("USR_REMOTES_PATH")
    if given:
        return os.path.expanduser(given)
    if root is not None:
        inside = os.path.join(root.store, "remotes.yaml")
        if os.path.exists(inside):
            return inside
    return os.path.join(config_folder(), "remotes.yaml")


def make_who(root: Root | None = None) -> Who:
    """Who runs this command."""
    import getpass

    try:
        author = os.environ.get("USR_AUTHOR") or getpass.getuser()
    except (KeyError, OSError):
        author = f"uid-{os.getuid()}"
    command = "usr " + " ".join(sys.argv[1:])

    @functools.cache
    def ring() -> keyring.Keyring:
        from usrcli import keyring

        return keyring.open_keyring(root, config_folder(), dict(os.environ))

    return Who(
        author=author[:200],
        host=os.uname().nodename[:200],
        command=command[:4096].encode(errors="replace").decode(),
        now_us=now_us,
        signer=lambda: ring().signer(),
        own_keys=lambda: ring().own(),
        actor=_actor(),
        hash_tables=os.environ.get("USR_EVENT_SHA256") == "1",
    )


def _actor() -> dict[str, Any]:
    """Who event logs name: a tool that runs us may say what it is, and which of its runs."""
    pid = os.getpid()
    return {
        "tool": os.environ.get("USR_ACTOR_TOOL") or "usr",
        "run_id": os.environ.get("USR_ACTOR_RUN_ID") or f"usr-pid-{pid}",
        "host": os.uname().nodename[:200],
        "pid": pid,
    }


def now_us() -> int:
    """The clock, UTC microseconds since 1970."""
    return time.time_ns() // 1000


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def print_json(data: Any) -> None:
    """Results for scripts: one line on standard output."""
    import json

    click.echo(json.dumps({"usr_output_version": 1, "data": data}, separators=(",", ":")))


def terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def infer_dataset(root: Root, text: str | None) -> str:
    """The dataset that was named, or the one we stand in.

    Raises:
        NotFoundError: neither.
    """
    if text is not None:
        return root.find_dataset(text)
    if root.lone is not None:
        return root.datasets()[0]
    here = os.path.relpath(os.path.realpath(os.getcwd()), os.path.realpath(root.path))
    parts = [] if here == "." or here.startswith("..") else here.split("/")
    for depth in (2, 1):
        candidate = "/".join(parts[:depth])
        if len(parts) >= depth and candidate in root.datasets():
            return candidate
    known: Iterable[str] = root.datasets()
    raise NotFoundError(
        "no dataset was named, and this folder is in none",
        hint="name one of: " + (", ".join(list(known)[:8]) or "(this root has no datasets)"),
    )


def parse_seconds(value: float | None) -> float:
    if value is not None and not value >= 0:  # so that nan is none, either
        raise ConfigError("--lock-timeout must not be negative")
    return 30.0 if value is None else value
