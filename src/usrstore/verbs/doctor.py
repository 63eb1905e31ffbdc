"""doctor: every precondition of a push, with why it fails and the one command that mends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import NamedTuple

from usrstore.errors import RemoteError, UsrError
from usrstore.remote.peer import Peer, Probe
from usrstore.remote.profiles import Profile
from usrstore.root import TOOL, Root, Who
from usrstore.verbs import believing

_SKEW_US = 120_000_000
_LOW_BYTES = 1 << 30
_LOW_INODES = 10_000


class Check(NamedTuple):
    """One precondition. `ok` None marks a warning: a push would work all the same."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


def doctor(
    root: Root | None, who: Who, profile: Profile, connect: Callable[[], Peer]
) -> list[Check]:
    """Look at everything a push to a remote needs, in order; later checks need earlier ones.

    Args:
        root: the local root, if there is one.
        who: whose key signs.
        profile: the remote.
        connect: reaches it.
    """
    checks = [Check("profile", True, f"{profile.name} is {profile.place}")]
    checks += _local(root, who)
    if profile.type == "ssh" and shutil.which("ssh") is None:
        return [*checks, Check("ssh", False, "there is no ssh on PATH", "install openssh-client")]
    try:
        peer = connect()
    except UsrError as exc:
        return [*checks, _unreached(profile, exc)]
    try:
        if profile.type == "ssh":
            checks.append(Check("ssh", True, f"{profile.target} answers"))
        checks += _remote(profile, peer.probe(), who)
    except UsrError as exc:
        checks.append(_unreached(profile, exc))
    finally:
        peer.close()
    return checks


def _unreached(profile: Profile, exc: UsrError) -> Check:
    """The check that a failed connection belongs to."""
    if exc.code == "ssh-failed":
        text = exc.message
        remedy = f"ssh {profile.target} true"
        if "Permission denied" in text:
            remedy = f"ssh-copy-id {profile.target}   (or ssh-add the key)"
        elif "Host key verification failed" in text:
            remedy = f"ssh {profile.target} true   (and accept the host key once you know it)"
        elif "Could not resolve" in text:
            remedy = f"check the host name: usr remotes show {profile.name}"
        return Check("ssh", False, text, remedy)
    if exc.code == "remote-without-usr":
        return Check("usr", False, exc.message, f"ssh {profile.target} 'pip install usrstore'")
    if exc.code == "protocol-version":
        return Check("usr", False, exc.message, f"ssh {profile.target} 'pip install -U usrstore'")
    if exc.code == "not-found":
        remedy = f"mkdir -p {profile.base_dir}"
        if profile.type == "ssh":
            remedy = f"ssh {profile.target} {remedy!r}"
        return Check("base_dir", False, exc.message, remedy)
    if isinstance(exc, RemoteError):
        return Check("usr", False, exc.message, exc.hint or "")
    return Check("remote", False, exc.message, exc.hint or "")


def _local(root: Root | None, who: Who) -> list[Check]:
    checks = []
    try:
        signer = who.signer()
        if signer is None:
            checks.append(Check("signing key", None, "states will not be signed", "usr trust key"))
        else:
            checks.append(Check("signing key", True, signer.public_key.fingerprint))
    except UsrError as exc:
        checks.append(Check("signing key", False, exc.message, exc.hint or ""))
    if root is None:
        checks.append(Check("root", None, "no local root was found here", "usr init"))
        return checks
    try:
        mode = believing.mode_of(root, None)
        listed = len(believing.allowed_signers(root).signers)
        bad = mode == "strict" and not listed
        checks.append(
            Check(
                "trust",
                not bad,
                f"mode {mode}, {listed} listed {'signer' if listed == 1 else 'signers'}",
                "usr trust add --name WHO --key 'ssh-ed25519 …'" if bad else "",
            )
        )
    except UsrError as exc:
        checks.append(Check("trust", False, exc.message, exc.hint or ""))
    writable = root.writable
    checks.append(
        Check(
            "root",
            writable,
            f"{root.path} {'' if writable else 'may not be written'}".rstrip(),
            "" if writable else f"chmod u+w {root.path}",
        )
    )
    if root.registry() is None:
        checks.append(Check("registry", None, "no registry.yaml here; a push needs it", "usr init"))
    interrupted = root.journaled()
    if interrupted:
        checks.append(
            Check("journal", False, f"interrupted: {', '.join(interrupted)}", "usr recover")
        )
    return checks


def _remote(profile: Profile, probe: Probe, who: Who) -> list[Check]:
    def on(command: str) -> str:
        return f"ssh {profile.target} {command!r}" if profile.type == "ssh" else command

    base = probe.base_dir
    same = probe.tool == TOOL
    checks = [
        Check(
            "usr",
            True if same else None,
            probe.tool if same else f"{probe.tool} there, {TOOL} here",
            "" if same else "install the same version at both ends",
        ),
        Check("base_dir", True, base),
        Check(
            "writable",
            probe.writable,
            base if probe.writable else f"{base} may only be read: diff and pull work",
            "" if probe.writable else on(f"chmod u+w {base}"),
        ),
    ]
    if probe.writable:
        checks.append(
            Check(
                "exclusive create",
                probe.exclusive_create,
                "link(2) works" if probe.exclusive_create else "a name can be made twice there",
                "" if probe.exclusive_create else "put base_dir on a file system with hard links",
            )
        )
        checks.append(
            Check(
                "flock",
                True if probe.flock else None,
                "flock(2) works" if probe.flock else "no flock(2): changes are noticed instead",
            )
        )
        low = probe.free_bytes < _LOW_BYTES
        few = probe.free_inodes is not None and probe.free_inodes < _LOW_INODES
        inodes = "" if probe.free_inodes is None else f", {probe.free_inodes} inodes"
        checks.append(
            Check(
                "room",
                None if low or few else True,
                f"{probe.free_bytes / 1e9:.1f} GB{inodes} free",
                "free some space there" if low or few else "",
            )
        )
    skew_us = abs(probe.now_us - who.now_us())
    fine = skew_us < _SKEW_US
    checks.append(
        Check(
            "clock",
            True if fine else None,
            f"{skew_us / 1e6:.0f} s apart",
            "" if fine else "set the clocks by NTP; @{date} revisions are off until then",
        )
    )
    return checks


def healthy(checks: list[Check]) -> bool:
    """Whether a push would work."""
    return all(check.ok is not False for check in checks)
