"""trust …: whose signatures this root believes, and what it remembers of each remote."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from usrcli.context import find_root, infer_dataset, make_who, now_us, print_json
from usrcli.render.text import moment
from usrstore.errors import InvalidInputError
from usrstore.objects.names import DatasetId, check_remote
from usrstore.trust.sshsig import PublicKey
from usrstore.verbs import believing

if TYPE_CHECKING:
    from usrstore.objects.ids import ManifestId
    from usrstore.remote.peer import Seen
    from usrstore.root import Root
    from usrstore.trust.signers import AllowedSigner
    from usrstore.verbs.accepting import Found
    from usrstore.verbs.memory import Memory


@click.group(short_help="Say whose signatures to believe")
def trust() -> None:
    """Listed signers are in .usr/allowed_signers, in OpenSSH's own format.

    Pinned keys, and how far each remote had come, are in .usr/seen.json.
    """


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
    public = _public(key)
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


@trust.command()
@click.argument("who", metavar="NAME|FINGERPRINT")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def remove(who: str, as_json: bool) -> int:
    """Take a signer out of the list. What they signed is good no more, of whatever date.

    To believe them up to a day, write `valid-before="YYYYMMDD"` into their line instead.
    """
    root = find_root()
    gone = believing.remove_signer(root, who)
    if as_json:
        print_json([{"name": signer.name, "key": signer.key.fingerprint} for signer in gone])
        return 0
    for signer in gone:
        click.echo(f"{signer.name} {signer.key.fingerprint} is no longer believed in {root.path}")
    return 0


@trust.command()
@click.argument("remote", required=False)
@click.argument("dataset", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(remote: str | None, dataset: str | None, as_json: bool) -> int:
    """What is remembered of each remote and dataset: pinned keys, the newest state seen.

    `push` stands for whoever pushes into this root.
    """
    from usrstore.verbs import memory

    root = find_root()
    name = infer_dataset(root, dataset) if dataset else None
    rows = list(memory.remembered(root, remote, name))
    if as_json:
        print_json([_data(row) for row in rows])
        return 0
    names = {signer.key.fingerprint: signer.name for signer in _signers(root)}
    for row in rows:
        click.echo(f"{row.place} {row.dataset}")
        for pin_ in row.pins:
            known = f"  {names[pin_.key]}" if pin_.key in names else ""
            since = f"  since {moment(pin_.since_us)}" if pin_.since_us else ""
            click.echo(f"  pinned  {pin_.key}{since}{known}")
        if not row.pins:
            click.echo(f"  pinned  nobody{'; signed by you, or by somebody listed' * row.signed}")
        if row.head is not None:
            when = f"  since {moment(row.head_us)}" if row.head_us else ""
            number = f"  (state {row.state.number} there)" if row.state else ""
            click.echo(f"  newest  {row.head.short}{when}{number}")
    return 0


@trust.command()
@click.argument("remote")
@click.argument("dataset")
@click.option("--key", required=True, help="A fingerprint, a public key line, or its file.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def pin(remote: str, dataset: str, key: str, as_json: bool) -> int:
    """Believe a key for one dataset at one remote, without waiting for first sight."""
    from usrstore.verbs import memory

    root = find_root()
    name = infer_dataset(root, dataset)
    found = _fingerprint(key)
    memory.pin(root, check_remote(remote), name, found, at_us=now_us())
    return _say(as_json, remote, name, [found], f"{found} is pinned for {name} at {remote}")


@trust.command()
@click.argument("remote")
@click.argument("dataset")
@click.option("--key", help="Only this fingerprint, public key line, or file [all].")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def unpin(remote: str, dataset: str, key: str | None, as_json: bool) -> int:
    """Forget the keys pinned for one dataset at one remote; the next signer is the first again."""
    from usrstore.verbs import memory

    root = find_root()
    name = infer_dataset(root, dataset)
    gone = memory.unpin(root, remote, name, _fingerprint(key) if key else None)
    text = f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} pinned no more"
    return _say(as_json, remote, name, gone, f"{text} for {name} at {remote}")


@trust.command()
@click.argument("remote")
@click.argument("dataset")
@click.option("--signer", is_flag=True, help="Also pin whoever signed the state that is there.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def accept(remote: str, dataset: str, signer: bool, yes: bool, as_json: bool) -> int:
    """Take what REMOTE has of DATASET now for the newest that was seen there.

    For a remote that was refused because it went back (`rollback`), has another history
    (`fork`), or, with --signer, is signed by somebody new (`signer-unknown`). Shows what was
    seen and what is there, and asks. Nothing of the dataset itself changes: pull or diff next.
    """
    from usrcli.links import peer_of
    from usrstore.verbs import accepting

    root = find_root()
    name = DatasetId(infer_dataset(root, dataset))
    who = make_who(root)
    with peer_of(root, remote) as peer:
        found = accepting.look(root, who, peer, remote, name)
    if not as_json or not yes:
        for line in _offer_lines(found):
            click.echo(line, err=as_json)
    if not yes:
        click.echo("Believe it from now on? [y/N] : ", nl=False, err=as_json)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            click.echo("nothing was changed", err=True)
            return 130
    accepting.accept(root, found, signer=signer, at_us=now_us())
    pins = [found.signer] if signer and found.signer else []
    return _say(as_json, remote, name, pins, f"{name} at {remote} is believed as it is now")


def _offer_lines(found: Found) -> list[str]:
    def told(state: Seen | None, head: ManifestId | None) -> str:
        number = f"state {state.number} {state.oid.short}" if state else "no state"
        return f"{number}, {head.short if head else 'no signed state of it'}"

    return [
        f"seen : {told(found.seen, found.seen_head)}",
        f"now  : {told(found.state, found.head)}",
        f"by   : {found.signer or 'nobody'} ({found.status})",
    ]


def _signers(root: Root) -> tuple[AllowedSigner, ...]:
    return believing.allowed_signers(root).signers


def _public(key: str) -> PublicKey:
    """A public key line, or the first line of a file."""
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
    return PublicKey.parse(text)


def _fingerprint(key: str) -> str:
    if re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", key):
        return key
    return _public(key).fingerprint


def _say(as_json: bool, remote: str, dataset: str, keys: list[str], text: str) -> int:
    if as_json:
        print_json({"remote": remote, "dataset": dataset, "keys": keys})
    else:
        click.echo(text)
    return 0


def _data(row: Memory) -> dict[str, Any]:
    return {
        "remote": row.place,
        "dataset": row.dataset,
        "pins": [{"key": key, "since_us": since} for key, since in row.pins],
        "signed": row.signed,
        "state": {"number": row.state.number, "id": row.state.oid.hex()} if row.state else None,
        "manifest": row.head.hex() if row.head else None,
        "manifest_since_us": row.head_us,
    }
