"""remotes list, show, add, remove, doctor; what else belongs to the group is in logins and wizard."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import click

from usrcli import links, logins, wizard
from usrcli.context import find_root_or_none, make_who, print_json, remotes_path
from usrstore.remote import profiles

_OF_A_BUCKET = ("url", "endpoint", "region")
json_option = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group(short_help="List, add, remove and examine remotes")
def remotes() -> None:
    """Remotes are written down in YAML: --remotes-config, USR_REMOTES_PATH, the root's, yours."""


@remotes.command("list")
@json_option
def list_remotes(as_json: bool) -> int:
    """Every remote and where it is."""
    path = remotes_path(find_root_or_none())
    known = profiles.load(path)
    if as_json:
        print_json([_data(profile) for profile in known.values()])
        return 0
    width = max(map(len, known), default=0)
    for name, profile in sorted(known.items()):
        click.echo(f"{name:<{width}}  {profile.type:<6}  {profile.place}")
    if not known:
        click.echo(f"no remotes in {path}")
    return 0


def _data(profile: profiles.Profile) -> dict[str, Any]:
    return {**asdict(profile), "ssh_options": list(profile.ssh_options)}


@remotes.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> int:
    """One remote, with every setting."""
    path = remotes_path(find_root_or_none())
    profile = profiles.find(path, name)
    if as_json:
        print_json(_data(profile))
        return 0
    for key, value in _data(profile).items():
        if (key in _OF_A_BUCKET) != (profile.type == "bucket") and key not in ("name", "type"):
            continue
        click.echo(f"{key:<15}: {value if value is not None else ''}")
    click.echo(f"{'written in':<15}: {path}")
    return 0


@remotes.command()
@click.argument("name")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["ssh", "folder", "bucket"]),
    default="ssh",
    show_default=True,
    help="Another host, another folder on this one, or an object store.",
)
@click.option("--host", help="Its name, or an alias of ~/.ssh/config.")
@click.option("--user", help="Who logs in there [ssh decides].")
@click.option("--base-dir", help="The root at the remote.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of its sshd [ssh decides].")
@click.option("--batch-mode/--no-batch-mode", default=True, help="ssh may not ask questions.")
@click.option("--ssh-key-env", help="An environment variable that holds a key's path.")
@click.option("--usr-command", default="usr", show_default=True, help="How usr is started there.")
@click.option("--ssh-option", "ssh_options", multiple=True, help="One more argument for ssh.")
@click.option("--url", help="Of a bucket: s3://BUCKET/PREFIX, gs://… or az://….")
@click.option("--endpoint", help="The S3 server, as https://HOST [AWS_ENDPOINT_URL, else AWS].")
@click.option("--region", help="Of the bucket [AWS_REGION].")
@click.option("--check/--no-check", default=True, help="Try a bucket out first.")
@click.option("--overwrite", is_flag=True, help="Replace a remote of this name.")
@json_option
def add(name: str, kind: str, overwrite: bool, as_json: bool, check: bool, **values: Any) -> int:
    """Write a remote down. No host is contacted; a bucket is tried out first.

    A bucket whose server lets a key be created twice is refused: two writers there would lose
    each other's work. Credentials come from the environment and are never written down.
    """
    path = remotes_path(find_root_or_none())
    values["ssh_options"] = list(values["ssh_options"])
    if kind == "folder" and values["base_dir"]:  # it is asked for from anywhere
        values["base_dir"] = os.path.abspath(os.path.expanduser(values["base_dir"]))
    profile = profiles.parse(name, {"type": kind, **values}, path)
    read_only = kind == "bucket" and check and not _try_out(profile)
    profiles.add(path, profile, overwrite=overwrite)
    if as_json:
        print_json({"added": name, "path": path})
        return 0
    click.echo(f"{name} is {profile.place} ({path})")
    if read_only:
        click.echo("it may only be read: diff, pull and fetch work")
    click.echo(f"next: usr remotes doctor --remote {name}")
    return 0


def _try_out(profile: profiles.Profile) -> bool:
    from usrcli import credentials
    from usrstore.verbs import bucket

    return bucket.try_out(profile, credentials.gather(os.environ))


@remotes.command()
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> int:
    """Forget a remote; nothing at the remote changes."""
    path = remotes_path(find_root_or_none())
    profiles.remove(path, name)
    if as_json:
        print_json({"removed": name, "path": path})
        return 0
    click.echo(f"{name} removed from {path}")
    return 0


@remotes.command()
@click.option("--remote", "name", required=True, help="Which remote.")
@click.option("--check-base-dir/--no-check-base-dir", default=True, hidden=True)
@json_option
def doctor(name: str, check_base_dir: bool, as_json: bool) -> int:
    """Everything a push needs, each with the command that mends it. Exit 0 only if it would work."""
    from usrstore.verbs.doctor import doctor as verb
    from usrstore.verbs.doctor import healthy

    del check_base_dir  # it is always looked at
    root = find_root_or_none()
    profile = links.find_profile(root, name)
    if profile.type == "bucket":
        from usrcli import credentials
        from usrstore.verbs import bucketdoctor

        found = credentials.gather(os.environ)
        checks = bucketdoctor.examine(root, make_who(root), profile, found)
    else:
        checks = verb(root, make_who(root), profile, lambda: links.connect(profile), os.environ)
    well = healthy(checks)
    if as_json:
        print_json({"remote": name, "healthy": well, "checks": [c._asdict() for c in checks]})
        return 0 if well else 1
    marks = {True: "ok", False: "FAILED", None: "warning"}
    for check in checks:
        first, *rest = check.detail.splitlines() or [""]
        click.echo(f"{check.name:<17} {marks[check.ok]:<8} {first}")
        for text in rest:
            click.echo(f"{'':<26} {text}")
        if check.remedy and check.ok is not True:
            click.echo(f"{'':<17} → {check.remedy}")
    click.echo(f"{name}: {'a push would work' if well else 'a push would fail'}")
    return 0 if well else 1


for command in (logins.status, logins.warm_auth, wizard.wizard, wizard.set_remote):
    remotes.add_command(command)
