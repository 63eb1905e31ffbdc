"""`usr serve` at the other end of the user's own ssh, or of any command that speaks for it."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from usrstore.errors import ConnectionLostError, RemoteError
from usrstore.remote import ciphers, symptoms
from usrstore.remote.client import WirePeer
from usrstore.remote.gather import GatheringWriter
from usrstore.remote.messages import printable
from usrstore.remote.profiles import Profile
from usrstore.remote.wire import MAGIC, READ_BYTES, StreamChannel, Wire

CONNECT_TIMEOUT_S = 10
_HELLO_TIMEOUT_S = 60.0
_LOGIN_TIMEOUT_S = 300.0  # a person may be typing a one-time password
_MAX_NOISE_BYTES = 1 << 20  # a login that prints more than that is no login
_NOISE_BYTES = 256  # of what came before the hello: enough to find it, and to show
_STDERR_BYTES = 8192
_PIPE_BYTES = 1 << 20


def ssh_arguments(
    profile: Profile,
    environment: Mapping[str, str],
    *extra: str,
    batch_mode: bool | None = None,
) -> list[str]:
    """The ssh command up to and including the host; USR_SSH_COMMAND names another program.

    Args:
        profile: the remote.
        environment: where USR_SSH_COMMAND and the key's path are looked up.
        extra: further options, before the user's own.
        batch_mode: whether ssh may ask a person; None: as the profile says.
    """
    program = shlex.split(environment.get("USR_SSH_COMMAND") or "ssh")
    arguments = [*program, "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}"]
    arguments += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8"]
    if profile.batch_mode if batch_mode is None else batch_mode:
        arguments += ["-o", "BatchMode=yes"]
    if profile.port is not None:
        arguments += ["-p", str(profile.port)]
    if key := key_path(profile, environment):
        arguments += ["-i", key]
    return [*arguments, *extra, *profile.ssh_options, "-T", profile.target]


def key_path(profile: Profile, environment: Mapping[str, str]) -> str | None:
    """The key that `ssh_key_env` names, if its variable is set."""
    return environment.get(profile.ssh_key_env) or None if profile.ssh_key_env else None


def serve_command(profile: Profile, *extra: str) -> str:
    """What is run at the remote, for its shell. A leading '~/' stays the shell's to expand."""
    base = profile.base_dir
    quoted = f"~/{shlex.quote(base[2:])}" if base.startswith("~/") else shlex.quote(base)
    tail = "".join(f" {shlex.quote(word)}" for word in extra)
    return f"{profile.usr_command} serve --stdio --root {quoted}{tail}"


def connect(
    profile: Profile, environment: Mapping[str, str], *serving: str, wait: bool = True
) -> WirePeer:
    """Start the remote end, and wait for its hello.

    Args:
        profile: the remote.
        environment: see `ssh_arguments`.
        serving: further options of `usr serve` there.
        wait: else whoever has work of its own to do first finds out with the first question, or
            by `ready`. Where ssh may ask a person, it is waited for in any case.

    Raises:
        RemoteError: saying which step failed, with what ssh said.
    """
    login = ciphers.prefer(ssh_arguments(profile, environment))
    arguments = [*login, serve_command(profile, *serving)]
    patience = _HELLO_TIMEOUT_S if profile.batch_mode else _LOGIN_TIMEOUT_S

    def advise(said: Sequence[str]) -> tuple[str, str | None]:
        symptom, line = symptoms.find(said)
        if symptom is None:
            return line, None
        told = f"{line} ({symptom.meaning})" if symptom.meaning else line
        return told, symptoms.remedy(symptom, profile, key_path(profile, environment))

    return open_process(
        arguments,
        f"remote {profile.name}",
        patience_s=patience,
        advise=advise,
        wait=wait or not profile.batch_mode,
    )


Advise = Callable[[Sequence[str]], tuple[str, str | None]]
"""From what was said on stderr to the line that tells most, and what mends it."""


def _last_line(said: Sequence[str]) -> tuple[str, str | None]:
    return (said[-1] if said else ""), None


def open_process(
    arguments: list[str],
    where: str,
    *,
    patience_s: float = _HELLO_TIMEOUT_S,
    advise: Advise = _last_line,
    wait: bool = True,
) -> WirePeer:
    """A peer behind a process that runs `usr serve --stdio` one way or another."""
    link = _Process(arguments, where, patience_s, advise)
    try:
        if wait:
            link.find_magic()
        peer = WirePeer(Wire(link.channel), where, link.close, ready=link.look)
        peer.carriers = (link.pid,)
        peer.greet()
    except BaseException:
        link.close()
        raise
    return peer


class _Process:
    """The child, its pipes, and the end of what it wrote to stderr."""

    def __init__(self, arguments: list[str], where: str, patience_s: float, advise: Advise) -> None:
        self._where = where
        self._advise = advise
        self._patience_s = patience_s
        self._deadline = time.monotonic() + patience_s
        self._seen, self._skipped = b"", 0
        try:
            # Its stdin is ours alone: the caller's is never eaten.
            self._child = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=READ_BYTES,
                pipesize=_PIPE_BYTES,
            )
        except OSError as exc:
            raise RemoteError(
                f"cannot start {arguments[0]}: {exc.strerror}",
                hint="install the OpenSSH client",
                code="ssh-missing",
            ) from exc
        self._tail = b""
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()
        self.channel = _Link(self)

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """What it says, and what it is told."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        return self._child.stdout, self._child.stdin

    @property
    def pid(self) -> int:
        return self._child.pid

    def _read_stderr(self) -> None:
        assert self._child.stderr is not None
        descriptor = self._child.stderr.fileno()
        with contextlib.suppress(OSError, ValueError):
            while piece := os.read(descriptor, 4096):
                self._tail = (self._tail + piece)[-_STDERR_BYTES:]

    def reason(self) -> str:
        """Why the other end went away, as far as it can be known."""
        return self._explain()[0]

    def _explain(self) -> tuple[str, str | None]:
        """Why the other end went away, and what mends it, as far as either can be known."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=5)
        self._drain.join(timeout=1)
        said = printable(self._tail.decode(errors="replace")).strip().splitlines()
        status = self._child.returncode
        told, remedy = self._advise(said)
        return told or (f"exit status {status}" if status is not None else "no more data"), remedy

    def look(self) -> None:
        """Skip what is there of the login; never waits. Raises: RemoteError, as `find_magic`."""
        self.find_magic(wait=False)

    def find_magic(self, *, wait: bool = True) -> None:
        """Skip what login shells print before the hello.

        Raises:
            RemoteError: the process ended, or was silent for too long, before the hello.
        """
        if self._seen.endswith(MAGIC):
            return
        descriptor = self.pipes[0].fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while not self._seen.endswith(MAGIC):
            left = self._deadline - time.monotonic() if wait else 0.0
            if not poll.poll(max(0.0, left) * 1000):
                if not wait:
                    return
                raise RemoteError(
                    f"{self._where} did not answer within {self._patience_s:g} s; "
                    "nothing was changed",
                    hint=f"usr remotes doctor --remote {self._name}",
                    code="remote-silent",
                )
            byte = os.read(descriptor, 1)
            self._skipped += 1
            if self._skipped > _MAX_NOISE_BYTES:
                raise RemoteError(
                    f"{self._where} sent {_MAX_NOISE_BYTES} bytes and no hello; "
                    "nothing was changed",
                    hint=f"usr remotes doctor --remote {self._name}",
                    code="remote-no-hello",
                )
            if not byte:
                raise self._no_hello(self._seen)
            self._seen = (self._seen + byte)[-_NOISE_BYTES:]

    @property
    def _name(self) -> str:
        return self._where.removeprefix("remote ")

    def _no_hello(self, seen: bytes) -> RemoteError:
        reason, remedy = self._explain()
        status = self._child.returncode
        look = f"usr remotes doctor --remote {self._name}"
        if status == 255:
            return ConnectionLostError(
                f"ssh could not reach {self._where}: {reason}; nothing was changed",
                hint=f"{remedy}   (all checks: {look})" if remedy else look,
                code="ssh-failed",
            )
        if status in (126, 127):
            return RemoteError(
                f"{self._where} has no `usr` to answer: {reason}; nothing was changed",
                hint="install usrstore there, or name its path with `usr_command` in the "
                f"remote's settings; `{look}` looks for it",
                code="remote-without-usr",
            )
        shown = printable(seen[-200:].decode(errors="replace")).strip()
        return RemoteError(
            f"{self._where} did not speak the usr protocol (exit status {status}): "
            f"{reason if self._tail else shown or reason}; nothing was changed",
            hint=remedy or look,
            code="remote-no-hello",
        )

    def close(self) -> None:
        if not self._seen.endswith(MAGIC):
            self._child.terminate()  # still on its way: whoever closes does not wait for it
        for stream in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._drain.join(timeout=1)
        with contextlib.suppress(OSError, ValueError):
            if self._child.stderr is not None:
                self._child.stderr.close()


class _Link(StreamChannel):
    """The pipes of a process, from its hello on: why there is none is said before all else."""

    def __init__(self, process: _Process) -> None:
        said, told = process.pipes
        tell = functools.partial(os.writev, told.fileno())
        super().__init__(said, GatheringWriter(tell), lost=process.reason)
        self._process = process

    def read(self, size: int) -> bytes:
        self._process.find_magic()
        return super().read(size)

    def write(self, data: bytes | memoryview) -> None:
        try:
            super().write(data)
        except ConnectionLostError:
            self._process.find_magic()
            raise

    def flush(self) -> None:
        try:
            super().flush()
        except ConnectionLostError:
            self._process.find_magic()
            raise
