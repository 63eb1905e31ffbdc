"""From a failed connection to the check that failed and the one command that mends it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from usrstore.errors import RemoteError, UsrError
from usrstore.remote import multiplex, symptoms
from usrstore.remote import ssh as sshing
from usrstore.remote.profiles import Profile


class Check(NamedTuple):
    """One precondition. `ok` None marks a warning: a push would work all the same."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


def on(profile: Profile, command: str) -> str:
    """A command for the remote's shell, as a person types it here."""
    return f"ssh {profile.target} {command!r}" if profile.type == "ssh" else command


def unreached(profile: Profile, exc: UsrError, environment: Mapping[str, str]) -> Check:
    """The check that a failed connection belongs to."""
    key = sshing.key_path(profile, environment)
    symptom = None
    if exc.code in ("ssh-failed", "remote-no-hello", "remote-without-usr"):
        symptom, _ = symptoms.find([exc.message])
    if exc.code == "ssh-failed":
        if symptom is None:
            return Check("ssh", False, exc.message, f"ssh {profile.target} true")
        return Check(symptom.check, False, exc.message, symptoms.remedy(symptom, profile, key))
    if exc.code == "remote-without-usr":
        return _without_usr(profile, exc, environment)
    if exc.code == "protocol-version":
        return Check("usr", False, exc.message, on(profile, "pip install -U usrstore"))
    if exc.code == "remote-silent":
        return Check("shell", False, exc.message, f"ssh {profile.target} true   (it must end)")
    if symptom is not None:
        return Check(symptom.check, False, exc.message, symptoms.remedy(symptom, profile, key))
    if exc.code == "not-found" and "is no folder" in exc.message:
        remedy = f"usr remotes set {profile.name} --base-dir FOLDER"
        return Check("base_dir", False, exc.message, remedy)
    if exc.code == "not-found":
        return Check("base_dir", False, exc.message, on(profile, f"mkdir -p {profile.base_dir}"))
    if exc.code == "config":
        return Check("remote config", False, exc.message, exc.hint or _edit(profile))
    if isinstance(exc, RemoteError):
        return Check("usr", False, exc.message, exc.hint or "")
    return Check("remote", False, exc.message, exc.hint or "")


def _edit(profile: Profile) -> str:
    return on(profile, f"$EDITOR {profile.base_dir}/.usr/config")


def _without_usr(profile: Profile, exc: UsrError, environment: Mapping[str, str]) -> Check:
    """Not on the PATH of the login shell; perhaps it is there all the same."""
    try:
        found = multiplex.find_usr(profile, environment) if profile.type == "ssh" else None
    except UsrError:
        found = None
    if "permission denied" in exc.message.lower():
        return Check("usr", False, exc.message, on(profile, f"chmod +x {profile.usr_command}"))
    if found is None or found == profile.usr_command:
        return Check("usr", False, exc.message, on(profile, "pip install usrstore"))
    return Check(
        "usr",
        False,
        f"{exc.message}; it is at {found}",
        f"usr remotes set {profile.name} --usr-command {found}",
    )


def key_checks(profile: Profile, environment: Mapping[str, str]) -> list[Check]:
    """The key that the profile names, as far as it can be judged from here."""
    variable = profile.ssh_key_env
    if profile.type != "ssh" or variable is None:
        return []
    path = environment.get(variable)
    if not path:
        detail = f"ssh_key_env names {variable}, which is not set: ssh chooses a key"
        return [Check("ssh key", None, detail, f"export {variable}=~/.ssh/id_ed25519")]
    path = os.path.expandvars(path)
    if not os.path.isfile(path):
        return [
            Check(
                "ssh key",
                False,
                f"{variable} names {path}, and there is no such file",
                f"export {variable}=~/.ssh/id_ed25519   (or: ssh-keygen -f {path})",
            )
        ]
    mode = os.stat(path).st_mode & 0o077
    if mode:
        return [
            Check("ssh key", False, f"others may read {path}: ssh ignores it", f"chmod 600 {path}")
        ]
    return [Check("ssh key", True, path)]


def multiplex_checks(profile: Profile, environment: Mapping[str, str]) -> list[Check]:
    """Whether one login serves many commands; never a reason to fail."""
    try:
        found = multiplex.look(profile, environment)
    except UsrError as exc:
        return [Check("ssh config", False, exc.message, exc.hint or "")]
    if not found.enabled:
        return []
    if found.socket_live:
        return [Check("master", True, f"{found.control_path} is up")]
    if found.stale:
        detail = f"{found.control_path} is left of a master that died"
        return [Check("master", None, detail, multiplex.advice(profile, found))]
    return []
