"""remotes status, warm-auth: one login for many commands, where a cluster asks for two factors."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from usrcli import links
from usrcli.context import find_root_or_none, json_option, remotes_path
from usrstore.errors import InvalidInputError
from usrstore.remote import multiplex
from usrstore.remote.multiplex import Multiplex
from usrstore.remote.profiles import Profile

remote_option = click.option("--remote", "name", required=True, help="Which remote.")


@click.command("status")
@remote_option
@json_option
def status(name: str, as_json: bool) -> int:
    """Whether the next command will have to log in. Nothing is contacted."""
    profile = _ssh_profile(name)
    _show(profile, multiplex.look(profile, os.environ), as_json)
    return 0


@click.command("warm-auth")
@remote_option
@json_option
def warm_auth(name: str, as_json: bool) -> int:
    """Log in once, at this terminal; later commands ride on that connection.

    Needs ControlMaster, ControlPath and ControlPersist in your ~/.ssh/config; says which lines.
    """
    profile = _ssh_profile(name)
    started = multiplex.warm(profile, os.environ)
    found = multiplex.look(profile, os.environ)
    _show(profile, found, as_json, bootstrap_state="started" if started else "existing")
    return 0


def _ssh_profile(name: str) -> Profile:
    profile = links.find_profile(find_root_or_none(), name)
    if profile.type != "ssh":
        raise InvalidInputError(
            f"{name} is a {profile.type}: it has no logins; nothing was changed",
            hint=f"usr remotes doctor --remote {name}",
        )
    return profile


def _show(profile: Profile, found: Multiplex, as_json: bool, **more: str) -> None:
    data: dict[str, Any] = {
        "remote": profile.name,
        "remotes_config": remotes_path(find_root_or_none()),
        "ssh_target": profile.target,
        "host": profile.host,
        "user": profile.user,
        "base_dir": profile.base_dir,
        "batch_mode": profile.batch_mode,
        "control_master": found.control_master,
        "control_path": found.control_path,
        "control_persist": found.control_persist,
        "multiplex_enabled": found.enabled,
        "socket_exists": found.socket_exists,
        "socket_live": found.socket_live,
        "recommendation": multiplex.advice(profile, found),
        **more,
    }
    if as_json:  # bare, as scripts have read it for years
        click.echo(json.dumps(data, separators=(",", ":")))
        return
    master = "up" if found.socket_live else "left of a dead master" if found.stale else "none"
    persist = found.control_persist
    rows = {
        "Remote": f"{profile.name} is {profile.place}",
        "Batch mode": "on: ssh may not ask" if profile.batch_mode else "off: ssh may ask",
        "Sharing": f"on, at {found.control_path}" if found.enabled else "off",
        "Persists": persist if found.enabled and persist else "-",
        "Master": f"{master}, {more['bootstrap_state']}" if more else master,
        "Next": multiplex.advice(profile, found),
    }
    for label, text in rows.items():
        click.echo(f"{label:<11}: {text}")
