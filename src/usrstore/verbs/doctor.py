"""doctor: every precondition of a push, with why it fails and the one command that mends it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping

from usrstore.errors import UsrError
from usrstore.remote.peer import Peer, Probe
from usrstore.remote.profiles import Profile
from usrstore.root import TOOL, Root, Who
from usrstore.verbs import believing, interruption
from usrstore.verbs.diagnosis import Check, key_checks, multiplex_checks, on, unreached

_SKEW_US = 120_000_000
_LOW_BYTES = 1 << 30
_LOW_INODES = 10_000


def doctor(
    root: Root | None,
    who: Who,
    profile: Profile,
    connect: Callable[[], Peer],
    environment: Mapping[str, str],
) -> list[Check]:
    """Look at everything a push to a remote needs, in order; later checks need earlier ones.

    Args:
        root: the local root, if there is one.
        who: whose key signs.
        profile: the remote.
        connect: reaches it.
        environment: for the key that the profile names, and USR_SSH_COMMAND.
    """
    checks = [Check("profile", True, f"{profile.name} is {profile.place}")]
    checks += local_checks(root, who)
    if profile.type == "ssh":
        program = shlex.split(environment.get("USR_SSH_COMMAND") or "ssh")[0]
        if shutil.which(program) is None:
            detail = f"there is no {program} on PATH"
            return [*checks, Check("ssh", False, detail, "install openssh-client")]
        checks += key_checks(profile, environment)
        checks += multiplex_checks(profile, environment)
    try:
        peer = connect()
    except UsrError as exc:
        return [*checks, unreached(profile, exc, environment)]
    try:
        if profile.type == "ssh":
            checks.append(Check("ssh", True, f"{profile.target} answers"))
        checks += _remote(profile, peer.probe(), who)
    except UsrError as exc:
        checks.append(unreached(profile, exc, environment))
    finally:
        peer.close()
    return checks


def local_checks(root: Root | None, who: Who) -> list[Check]:
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
    interrupted = interruption.interrupted(root)
    if interrupted:
        checks.append(
            Check("journal", False, f"interrupted: {', '.join(interrupted)}", "usr recover")
        )
    return checks


def _remote(profile: Profile, probe: Probe, who: Who) -> list[Check]:
    base = probe.base_dir
    same = probe.tool == TOOL
    checks = [
        Check(
            "usr",
            True if same else None,
            probe.tool if same else f"{probe.tool} there, {TOOL} here",
            "" if same else on(profile, f"pip install usrstore=={TOOL.rpartition(' ')[2]}"),
        ),
        Check("base_dir", True, base),
        Check(
            "writable",
            probe.writable,
            base if probe.writable else f"{base} may only be read: diff and pull work",
            ""
            if probe.writable
            else on(profile, f"chmod u+w {base}") + "   (or ask whoever serves it --read-only)",
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
