"""A real sshd for one drill or one test: on loopback, with keys of its own, ended by pid."""

from __future__ import annotations

import contextlib
import getpass
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")
_START_S = 60.0
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Sshd:
    """Where a running sshd is reached.

    Attributes:
        port: on 127.0.0.1.
        user: who may log in.
        config: an ssh client configuration: key, known host, nothing of the user's own.
        pid: its process.
    """

    port: int
    user: str
    config: str
    pid: int


def find_sshd() -> str | None:
    """The path of an sshd that can be started, or None."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_SBIN))
    found = shutil.which("sshd", path=path)
    tools = all(shutil.which(tool) for tool in ("ssh", "ssh-keygen"))
    return found if found and tools else None


@contextlib.contextmanager
def running(folder: str, *, extra: Sequence[str] = ()) -> Iterator[Sshd]:
    """Start an sshd whose files are in `folder`; end it when the block is left.

    Args:
        folder: an empty folder for keys, configuration and log.
        extra: further lines for sshd_config, for example a ForceCommand.

    Raises:
        OSError: it did not start; the message holds the end of its log.
    """
    program = find_sshd()
    if program is None:
        raise FileNotFoundError("there is no sshd, ssh or ssh-keygen on this machine")
    user = getpass.getuser()
    for name in ("host", "client"):
        path = os.path.join(folder, name)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True
        )
    shutil.copyfile(os.path.join(folder, "client.pub"), os.path.join(folder, "authorized"))
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    port = free_port()
    log = os.path.join(folder, "sshd.log")
    server = os.path.join(folder, "sshd_config")
    _write(server, _server_config(folder, port, user, extra))
    client = os.path.join(folder, "ssh_config")
    _write(client, _client_config(folder, port, user))
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", server],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait(process, port, log)
        yield Sshd(port, user, client, process.pid)
    finally:
        process.terminate()
        process.wait()


def _write(path: str, lines: Sequence[str]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def _server_config(folder: str, port: int, user: str, extra: Sequence[str]) -> list[str]:
    return [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host",
        f"AuthorizedKeysFile {folder}/authorized",
        f"AllowUsers {user}",
        *extra,  # of two lines that set one thing, sshd believes the first
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "MaxStartups 100",
    ]


def _client_config(folder: str, port: int, user: str) -> list[str]:
    with open(os.path.join(folder, "host.pub"), encoding="utf-8") as file:
        key = " ".join(file.readline().split()[:2])
    _write(os.path.join(folder, "known_hosts"), [f"[127.0.0.1]:{port} {key}"])
    return [
        "Host *",
        "  HostName 127.0.0.1",
        f"  Port {port}",
        f"  User {user}",
        f"  IdentityFile {folder}/client",
        "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {folder}/known_hosts",
        "  GlobalKnownHostsFile none",
        "  StrictHostKeyChecking yes",
        "  LogLevel ERROR",
    ]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has: below those that systems give to whoever connects."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port of 127.0.0.1 is free")


def _wait(process: subprocess.Popen[bytes], port: int, log: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    with open(log, encoding="utf-8", errors="replace") as file:
        raise OSError(f"sshd did not start: {file.read()[-500:]}")
