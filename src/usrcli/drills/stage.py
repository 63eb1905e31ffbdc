"""Where a drill plays: two roots, two homes, a link, and the real `usr` as a process."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

USR = [sys.executable, "-m", "usrcli"]


@dataclass(frozen=True, slots=True)
class Run:
    """One command and what came of it."""

    command: str
    status: int
    out: str
    err: str
    seconds: float

    def says(self, start: str) -> bool:
        """Whether a line of the errors begins with these words."""
        return any(line.startswith(start) for line in self.err.splitlines())

    @property
    def last_line(self) -> str:
        lines = [line for line in self.out.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    @property
    def error(self) -> str:
        return self.err.strip().splitlines()[0] if self.err.strip() else "no error was printed"


class Stage:
    """A work folder with a local root, and a remote that is reached as remotes are.

    Args:
        work: an empty folder.
        remote: the remote's name.
        remotes: the file that describes it.
        remote_root: the remote's root on this machine; None if it is really elsewhere.
        link: what stands in for ssh, or None for ssh itself.
    """

    def __init__(
        self,
        work: str,
        remote: str,
        remotes: str,
        remote_root: str | None,
        link: list[str] | None,
    ) -> None:
        self.work = work
        self.remote = remote
        self.remote_root = remote_root
        self.local_root = os.path.join(work, "local")
        self.third_root = os.path.join(work, "third")
        self._remotes = remotes
        self._link = link
        os.makedirs(self.local_root, exist_ok=True)

    def usr(self, *arguments: str, fault: str | None = None, root: str | None = None) -> Run:
        """Run a command on the local root, over a link that may have a fault."""
        command = [
            *USR, "--root", root or self.local_root, "--remotes-config", self._remotes, *arguments
        ]  # fmt: skip
        environment = {
            **os.environ,
            "XDG_CONFIG_HOME": os.path.join(self.work, "home"),
            "PYTHONUNBUFFERED": "1",
        }
        link = self._link
        if fault is not None:
            relay = [sys.executable, "-m", "usrcli.drills.relay", fault]
            link = [*relay, *(link or ["ssh"])]
        if link is not None:
            environment["USR_SSH_COMMAND"] = shlex.join(link)
        done = _run(command, environment)
        return replace(done, command=shlex.join(["usr", *arguments]))

    def tool(self, program: str, *arguments: str) -> Run:
        """Run another tool on the local root, as its users do."""
        environment = {**os.environ, "USR_ROOT": self.local_root}
        return _run([sys.executable, program, *arguments], environment)

    def audit(self, name: str) -> str:
        return os.path.join(self.work, f"audit-{name}.json")


def _run(command: list[str], environment: dict[str, str]) -> Run:
    began = time.monotonic()
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    return Run(shlex.join(command), done.returncode, done.stdout, done.stderr, seconds)


def read_audit(path: str) -> dict[str, Any]:
    """The data of an audit file; empty if there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            data: dict[str, Any] = json.load(file)["data"]
            return data
    except (OSError, ValueError, KeyError):
        return {}


def fingerprint(folder: str) -> dict[str, str]:
    """Every file of a dataset folder with a hash of its bytes, locks aside."""
    found = {}
    for base, folders, files in os.walk(folder):
        folders.sort()
        for name in files:
            path = os.path.join(base, name)
            if base == folder and name in (".usr.lock", ".events.lock"):
                continue
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[os.path.relpath(path, folder)] = digest
    return found
