"""verify-manifest: who signed a state, and whether that holds. Plumbing; its output is an API."""

from __future__ import annotations

import os
from shlex import quote

import click

from usrcli.context import find_root, make_who, now_us
from usrstore.errors import IncompleteError, ObjectNotFoundError
from usrstore.objects.ids import Kind, ManifestId
from usrstore.objects.manifest import Signed
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.trust.policy import Verdict, judge
from usrstore.verbs import believing
from usrstore.verbs.revisions import resolve


@click.command("verify-manifest", short_help="Say who signed a state, and whether that holds")
@click.argument("revisions", nargs=-1, required=True)
@click.option("--history", is_flag=True, help="Also every state that it descends from.")
@click.option(
    "--objects", is_flag=True, help="Also read every tree, recipe and stored chunk of it."
)
@click.option("--openssh", is_flag=True, help="Print how to check it with OpenSSH alone.")
def verify_manifest(revisions: tuple[str, ...], history: bool, objects: bool, openssh: bool) -> int:
    """Check the signature of each state; fail unless all of them are good.

    A line each: ID, status (good, unknown, bad or absent), the key's fingerprint or `-`, and who
    that is or `-`. Good is a listed signer, a pinned one, or you.
    """
    from usrstore.verbs.tags import check_verdict

    root = find_root()
    asked: dict[ManifestId, None] = {}
    for text in revisions:
        oid, _ = resolve(root, text, now_us=now_us())
        above = reach.ancestry(root.database.get, oid) if history else [(oid, None)]
        asked.update(dict.fromkeys(found for found, _ in above))
    verdicts = []
    for oid in asked:
        verdict = _verdict(root, oid)
        verdicts.append((oid, verdict))
        key = verdict.key.fingerprint if verdict.key else "-"
        click.echo(f"{oid} {verdict.status} {key} {verdict.principal or '-'}")
        if objects:
            _read_all(root, oid)
        if openssh:
            for text in _recipe(root, oid, verdict):
                click.echo(text)
    for oid, verdict in verdicts:
        check_verdict(verdict, f"state {oid.short}")
    return 0


def _verdict(root: Root, oid: ManifestId) -> Verdict:
    signed = Signed.decode(root.database.get(Kind.MANIFEST, oid))
    manifest = reach.manifest(root.database.get, oid)
    policy = believing.policy_for(root, make_who(root), "", manifest.dataset, "none")
    return judge(signed, policy, at_s=manifest.time_us // 1_000_000)


def _read_all(root: Root, oid: ManifestId) -> None:
    """I1, I2: all that the state needs is here and hashes to its name.

    Raises:
        IncompleteError: some of it is not.
        IntegrityError: some of it is damaged.
    """
    get = root.database.get
    manifest = reach.manifest(get, oid)
    try:
        for kind, node in reach.metadata(get, oid):
            get(kind, node)
        seen = set()
        for entry in reach.listing(get, manifest.tree).values():
            for chunk, _ in reach.chunks(get, entry) if entry.size else ():
                if chunk not in seen:
                    seen.add(chunk)
                    get(Kind.CHUNK, chunk)
    except ObjectNotFoundError as exc:
        raise IncompleteError(
            f"state {oid.short} is not whole: {exc.message}",
            hint="a light state has its bytes in the folder only; `usr commit` keeps them",
        ) from exc


def _recipe(root: Root, oid: ManifestId, verdict: Verdict) -> list[str]:
    """Commands for a shell, which need this program only to get the two files out."""
    lines = [
        f"  usr cat-file --payload {oid} > {oid.short}.payload",
        f"  usr cat-file --signature {oid} > {oid.short}.sig",
    ]
    signers = believing.signers_path(root)
    if verdict.principal not in (None, "you", "pinned") and os.path.exists(signers):
        how = f"verify -f {quote(signers)} -I {quote(verdict.principal)}"
    else:
        how = "check-novalidate"
    return [*lines, f"  ssh-keygen -Y {how} -n usrstore -s {oid.short}.sig < {oid.short}.payload"]
