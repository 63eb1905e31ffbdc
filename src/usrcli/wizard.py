"""remotes wizard, set: a remote in one command, and one changed setting without an editor."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

import click

from usrcli.context import find_root_or_none, json_option, print_json, remotes_path, terminal
from usrstore.errors import InvalidInputError
from usrstore.remote import profiles


class Preset(NamedTuple):
    """A cluster that many of us use.

    Attributes:
        host: where people log in.
        transfer: its node for moving data.
    """

    host: str
    transfer: str


PRESETS = {"bu-scc": Preset("scc1.bu.edu", "scc-globus.bu.edu")}

batch_option = click.option(
    "--batch-mode/--no-batch-mode", default=None, help="ssh may not ask questions [on]."
)
key_option = click.option("--ssh-key-env", help="An environment variable that holds a key's path.")


@click.command("wizard")
@click.option(
    "--preset",
    type=click.Choice(sorted(PRESETS)),
    help="A cluster whose hosts are known.",
)
@click.option("--name", help="What to call it [the preset's name].")
@click.option("--host", help="Its name [the preset's], or an alias of ~/.ssh/config.")
@click.option("--transfer-node", is_flag=True, help="The preset's node for moving data.")
@click.option("--user", help="Who logs in there.")
@click.option("--base-dir", help="The root at the remote.")
@click.option("--usr-command", default="usr", show_default=True, help="How usr is started there.")
@batch_option
@key_option
@click.option("--overwrite", is_flag=True, help="Replace a remote of this name.")
@json_option
def wizard(
    preset: str | None,
    name: str | None,
    host: str | None,
    transfer_node: bool,
    user: str | None,
    base_dir: str | None,
    usr_command: str,
    batch_mode: bool | None,
    ssh_key_env: str | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Set a remote up step by step; what is not given is asked for, on a terminal."""
    known = PRESETS.get(preset or "")
    if known is not None:
        host = host or (known.transfer if transfer_node else known.host)
    elif transfer_node:
        raise click.UsageError("--transfer-node needs a --preset that knows one")
    name = _asked(name or preset, "What shall the remote be called?", "--name")
    host = _asked(host, "Which host (or alias of ~/.ssh/config)?", "--host")
    user = _asked(user, f"Who are you at {host}?", "--user")
    base_dir = _asked(base_dir, f"Which folder holds the datasets at {host}?", "--base-dir")
    path = remotes_path(find_root_or_none())
    body = {
        "type": "ssh",
        "host": host,
        "user": user,
        "base_dir": base_dir,
        "usr_command": usr_command,
        "batch_mode": batch_mode is not False,
        "ssh_key_env": ssh_key_env,
    }
    profile = profiles.parse(name, body, path)
    profiles.add(path, profile, overwrite=overwrite)
    steps = [
        f"usr remotes warm-auth --remote {name}",
        f"usr remotes doctor --remote {name}",
        f"usr diff DATASET {name}",
    ]
    if as_json:
        print_json({"added": name, "path": path, "next": steps})
        return 0
    click.echo(f"{name} is {profile.place} ({path})")
    click.echo("next, in this order:")
    reasons = ("log in once, if it asks for a second factor", "check everything", "look")
    for step, reason in zip(steps, reasons, strict=True):
        click.echo(f"  {step:<44} # {reason}")
    return 0


def _asked(value: str | None, question: str, option: str) -> str:
    if value:
        return value
    if not terminal():
        raise click.UsageError(f"Missing option '{option}': there is no terminal to ask at")
    answer: str = click.prompt(question, type=str)
    return answer


@click.command("set")
@click.argument("name")
@click.option("--host", help="Its name, or an alias of ~/.ssh/config.")
@click.option("--user", help="Who logs in there.")
@click.option("--base-dir", help="The root at the remote.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of its sshd.")
@batch_option
@key_option
@click.option("--usr-command", help="How usr is started there.")
@json_option
def set_remote(name: str, as_json: bool, **given: Any) -> int:
    """Change settings of a remote; the others stay as they are."""
    path = remotes_path(find_root_or_none())
    before = profiles.find(path, name)
    values = {key: value for key, value in given.items() if value is not None}
    if not values:
        raise InvalidInputError(
            f"no setting of {name} was named; nothing was changed",
            hint=f"usr remotes set {name} --usr-command PATH; see --help",
        )
    body = {key: value for key, value in asdict(before).items() if key != "name"}
    profile = profiles.parse(name, {**body, **values}, path)
    profiles.add(path, profile, overwrite=True)
    if as_json:
        print_json({"changed": name, "path": path})
        return 0
    for key in values:
        click.echo(f"{key}: {getattr(before, key)} → {getattr(profile, key)}")
    return 0
