"""trust list, add, key: whose signatures this root believes."""

from __future__ import annotations

import os

import click

from usrcli.context import find_root, make_who, print_json
from usrstore.errors import InvalidInputError
from usrstore.trust.sshsig import PublicKey
from usrstore.verbs import believing


@click.group(short_help="Say whose signatures to believe")
def trust() -> None:
    """Listed signers are in .usr/allowed_signers, in OpenSSH's own format."""


@trust.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_signers(as_json: bool) -> int:
    """Listed signers, and the keys pinned at first sight."""
    root = find_root()
    signers = believing.allowed_signers(root).signers
    pins: dict[str, list[str]] = root.notes().get("pins", {})
    mode = believing.mode_of(root, None)
    if as_json:
        print_json(
            {
                "mode": mode,
                "signers": [{"name": s.name, "key": s.key.fingerprint} for s in signers],
                "pins": pins,
            }
        )
        return 0
    click.echo(f"mode {mode}")
    for signer in signers:
        click.echo(f"listed  {signer.key.fingerprint}  {signer.name}")
    for place, keys in sorted(pins.items()):
        for key in keys:
            click.echo(f"pinned  {key}  {place}")
    return 0


@trust.command()
@click.option("--name", required=True, help="Whose key it is.")
@click.option("--key", required=True, help="The public key line, or a file that holds it.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def add(name: str, key: str, as_json: bool) -> int:
    """List a signer."""
    root = find_root()
    text = key
    if " " not in key.strip():
        try:
            with open(os.path.expanduser(key), encoding="utf-8") as file:
                text = file.readline()
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidInputError(
                f"{key!r} is no public key line and no file that can be read: {exc}",
                hint="usr trust key prints the line to give, at whoever signs",
            ) from exc
    public = PublicKey.parse(text)
    believing.add_signer(root, name, public)
    if as_json:
        print_json({"name": name, "key": public.fingerprint})
        return 0
    click.echo(f"{name} {public.fingerprint} is believed in {root.path}")
    return 0


@trust.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def key(as_json: bool) -> int:
    """The key that signs here, as a line that others can add; made if there is none."""
    signer = make_who(find_root()).signer()
    if as_json:
        public = signer.public_key if signer else None
        print_json(
            {"line": public.line(), "key": public.fingerprint}
            if public
            else {"line": None, "key": None}
        )
        return 0
    click.echo(signer.public_key.line() if signer else "nothing is signed here")
    return 0
