"""One login for many commands: what the user's ssh shares, and how to start sharing.

Clusters ask for a second factor at every login. OpenSSH's own answer is a master connection
(ControlMaster) that later connections ride on; this room looks at it and starts it, with the
user's configuration and nothing of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from usrstore.errors import ConfigError, ConnectionLostError, RemoteError
from usrstore.remote import ciphers, ssh, symptoms
from usrstore.remote.messages import printable
from usrstore.remote.profiles import Profile

_LOOK_S = 20.0
_ADVICE = "add to ~/.ssh/config, below `Host {host}`: ControlMaster auto, ControlPath ~/.ssh/%C, "
_ADVICE += "ControlPersist 8h"


@dataclass(frozen=True, slots=True)
class Multiplex:
    """How ssh shares connections to one remote.

    Attributes:
        control_master, control_path, control_persist: as `ssh -G` prints them; None: not set.
        socket_exists: there is a file at `control_path`.
        socket_live: a master answers there, so the next command logs in without being asked.
    """

    control_master: str | None
    control_path: str | None
    control_persist: str | None
    socket_exists: bool
    socket_live: bool

    @property
    def enabled(self) -> bool:
        return self.control_path is not None and self.control_master in (
            "true", "yes", "auto", "ask", "autoask",
        )  # fmt: skip

    @property
    def stale(self) -> bool:
        """Somebody's master died and left its socket; ssh then logs in anew each time."""
        return self.socket_exists and not self.socket_live


def look(profile: Profile, environment: Mapping[str, str]) -> Multiplex:
    """Ask the user's ssh; nothing is contacted but a socket on this machine.

    Raises:
        ConfigError: ssh cannot read its own configuration.
        RemoteError: there is no ssh.
    """
    asked = _run(ssh.ssh_arguments(profile, environment, "-G"))
    if asked.returncode != 0:
        raise ConfigError(
            f"ssh cannot read its configuration for {profile.target}: {_last(asked)}",
            hint="mend ~/.ssh/config, or `ssh_options` in the remote's settings",
        )
    said = dict(
        line.partition(" ")[::2] for line in asked.stdout.decode(errors="replace").splitlines()
    )
    path = said.get("controlpath")
    path = None if path in (None, "none") else path
    live = path is not None and _alive(profile, environment)
    return Multiplex(
        said.get("controlmaster"),
        path,
        said.get("controlpersist"),
        path is not None and os.path.exists(path),
        live,
    )


def _alive(profile: Profile, environment: Mapping[str, str]) -> bool:
    return _run(ssh.ssh_arguments(profile, environment, "-O", "check")).returncode == 0


def master_pid(profile: Profile, environment: Mapping[str, str]) -> int | None:
    """The process that enciphers for all who share a connection; None: everybody has their own."""
    said = _run(ssh.ssh_arguments(profile, environment, "-O", "check")).stderr
    found = re.search(rb"\(pid=(\d+)\)", said)
    return int(found[1]) if found else None


def advice(profile: Profile, found: Multiplex) -> str:
    """What a person should do next, in one line."""
    name = profile.name
    if found.socket_live:
        return "a master connection is up: commands log in without asking"
    if not found.enabled:
        return _ADVICE.format(host=profile.host)
    if found.stale:
        return f"rm {found.control_path} && usr remotes warm-auth --remote {name}"
    return f"usr remotes warm-auth --remote {name}"


def warm(profile: Profile, environment: Mapping[str, str]) -> bool:
    """Log in once, with a person at the terminal, and leave a master behind.

    Returns:
        True if a master was started, False if one was up already.

    Raises:
        ConfigError: the user's ssh is not set up to share connections.
        RemoteError: the login failed, or left no master.
    """
    before = look(profile, environment)
    if before.socket_live:
        return False
    if not before.enabled:
        raise ConfigError(
            f"ssh does not share connections to {profile.target}, so one login cannot serve "
            "the next; nothing was changed",
            hint=_ADVICE.format(host=profile.host),
            code="multiplex-off",
        )
    # The terminal is the person's: passwords and one-time codes are typed there, not here.
    login = ssh.ssh_arguments(profile, environment, "-f", "-N", batch_mode=False)
    arguments = ciphers.prefer(login)
    try:
        done = subprocess.run(arguments, stderr=subprocess.PIPE, check=False)
    except OSError as exc:
        raise _no_ssh(arguments, exc) from exc
    if done.returncode != 0:
        said = printable(done.stderr.decode(errors="replace")).strip().splitlines()
        symptom, line = symptoms.find(said)
        key = ssh.key_path(profile, environment)
        raise ConnectionLostError(
            f"the login at {profile.target} failed: {line or f'status {done.returncode}'}; "
            "nothing was changed",
            hint=symptoms.remedy(symptom, profile, key)
            if symptom and symptom.name != "second-factor"
            else f"ssh {profile.target} true",
            code="ssh-failed",
        )
    if not look(profile, environment).socket_live:
        raise RemoteError(
            f"the login at {profile.target} worked, but left no master at {before.control_path}",
            hint=f"ssh -v -f -N {profile.target}",
        )
    return True


def _run(arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LOOK_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise RemoteError(f"{arguments[0]} did not answer within {_LOOK_S:g} s") from exc
    except OSError as exc:
        raise _no_ssh(arguments, exc) from exc


def _no_ssh(arguments: list[str], exc: OSError) -> RemoteError:
    return RemoteError(
        f"cannot start {arguments[0]}: {exc.strerror}",
        hint="install the OpenSSH client",
        code="ssh-missing",
    )


def _last(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = printable(done.stderr.decode(errors="replace")).strip().splitlines()
    return lines[0] if lines else f"status {done.returncode}"


def find_usr(profile: Profile, environment: Mapping[str, str]) -> str | None:
    """Where `usr` is at a remote whose login shell does not find it; None if nowhere.

    Asks a login shell, then looks where pip, conda and pipx put programs.
    """
    script = (
        "found=$(bash -lc 'command -v usr' 2>/dev/null | tail -n 1); "
        'for at in "$found" "$HOME"/.local/bin/usr "$HOME"/bin/usr "$HOME"/.venv/bin/usr '
        '"$HOME"/venv/bin/usr "$HOME"/*conda3/bin/usr "$HOME"/*conda3/envs/*/bin/usr '
        "/usr/local/bin/usr /opt/*/bin/usr; do "
        'if [ -n "$at" ] && [ -x "$at" ]; then printf "usr-is-at:%s\\n" "$at"; exit 0; fi; done'
    )
    done = _run([*ssh.ssh_arguments(profile, environment), f"sh -c '{_quoted(script)}'"])
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.startswith("usr-is-at:"):
            return printable(line.removeprefix("usr-is-at:").strip())
    return None


def _quoted(script: str) -> str:
    """Inside single quotes, for whatever shell logs in there."""
    return script.replace("'", "'\\''")
