"""What ssh and login shells say when a remote cannot be reached, and what mends it.

One table serves every command (its hint) and the doctor (its remedy). The words are those
of OpenSSH and of common shells; a line that no row knows is shown as it came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from usrstore.remote.profiles import Profile


class Symptom(NamedTuple):
    """One way to fail.

    Attributes:
        name: stable word for it.
        check: the doctor's check that it belongs to.
        pattern: how the line looks that tells it.
        meaning: what it means, where the line itself does not say; may be empty.
        remedy: what mends it; {target}, {host}, {name} and {key} stand for the remote's own.
    """

    name: str
    check: str
    pattern: re.Pattern[str]
    meaning: str
    remedy: str


def _row(name: str, check: str, pattern: str, meaning: str, remedy: str) -> Symptom:
    return Symptom(name, check, re.compile(pattern, re.IGNORECASE), meaning, remedy)


# Most telling first: a changed host key also fails verification, a bad key is also denied.
SYMPTOMS = (
    _row(
        "host-unknown",
        "ssh",
        r"could not resolve|name or service not known|failure in name resolution",
        "",
        "check the host name: usr remotes show {name}",
    ),
    _row(
        "ssh-config",
        "ssh",
        r"bad configuration option|bad owner or permissions on|percent_expand|"
        r"terminating, \d+ bad configuration",
        "",
        "mend ~/.ssh/config; `ssh -G {target}` names the line",
    ),
    _row(
        "socket-path",
        "ssh",
        r"too long for unix domain socket|ControlPath too long",
        "",
        "shorten ControlPath in ~/.ssh/config: ControlPath ~/.ssh/%C",
    ),
    _row(
        "host-key-changed",
        "ssh",
        r"remote host identification has changed",
        "",
        "ask whoever runs {host} whether its key changed, then: ssh-keygen -R {host}",
    ),
    _row(
        "host-key-unknown",
        "ssh",
        r"host key verification failed",
        "",
        "ssh {target} true   (and accept the host key once you know it)",
    ),
    _row(
        "key-exposed",
        "ssh",
        r"unprotected private key file|permissions \d+ for .* are too open",
        "",
        "chmod 600 {key}",
    ),
    _row(
        "key-unreadable",
        "ssh",
        r"load key .*(invalid format|error in libcrypto|incorrect passphrase)",
        "",
        "ssh-add {key}   (or name a key that ssh can read)",
    ),
    _row("key-missing", "ssh", r"identity file .* not accessible", "", "ls -l {key}"),
    _row(
        "agent-refused",
        "ssh",
        r"agent refused operation",
        "",
        "ssh-add -l, then touch or unlock the key it lists",
    ),
    _row(
        "too-many-keys",
        "ssh",
        r"too many authentication failures",
        "",
        "name the key in ~/.ssh/config: IdentityFile … and IdentitiesOnly yes",
    ),
    _row(
        "second-factor",
        "ssh",
        r"permission denied \([^)]*keyboard-interactive",
        "it asks for more than a key, and in batch mode nobody can answer",
        "usr remotes warm-auth --remote {name}",
    ),
    _row(
        "key-refused",
        "ssh",
        r"permission denied \(",
        "",
        "ssh-copy-id {target}   (or ssh-add the key)",
    ),
    _row(
        "no-common-cipher",
        "ssh",
        r"unable to negotiate|no matching (host key|key exchange|cipher|mac)",
        "",
        "ask whoever runs {host} for an OpenSSH that is not older than yours by years",
    ),
    _row(
        "network",
        "ssh",
        r"no route to host|network is unreachable|timed out",
        "",
        "join the network (or VPN) from which {host} can be reached, then: ssh {target} true",
    ),
    _row(
        "jump-host",
        "ssh",
        r"unknown port 65535|stdio forwarding failed|channel 0: open failed",
        "the way through the jump host is closed",
        "ssh -v {target} true   (the host before the last `Connection closed` is at fault)",
    ),
    _row("port-closed", "ssh", r"connection refused", "", "ssh {target} true"),
    _row(
        "too-many-logins",
        "ssh",
        r"connection (closed|reset) by|exceeded maxstartups|kex_exchange_identification",
        "",
        "wait a little: too many logins at once are turned away; then: ssh {target} true",
    ),
    _row(
        "no-shell",
        "shell",
        r"account is currently not available|allows sftp connections only|"
        r"shell access .*(disabled|denied)|nologin",
        "",
        "ask whoever runs {host} for a login shell, or a ForceCommand of `usr serve --stdio`",
    ),
    _row(
        "home-full",
        "shell",
        r"disk quota exceeded|no space left on device",
        "",
        "ssh {target} 'quota -s; df -h ~'   (and free some space)",
    ),
    _row(
        "usr-broken",
        "usr",
        r"modulenotfounderror|importerror|no module named|bad interpreter|exec format error",
        "",
        "ssh {target} 'pip install --force-reinstall usrstore'",
    ),
    _row(
        "usr-other",
        "usr",
        r"no such (command|option).*(serve|--stdio)|invalid choice: 'serve'",
        "another program there has the name `usr`",
        "name ours with `usr_command` in the settings of {name}",
    ),
)


def find(lines: Sequence[str]) -> tuple[Symptom | None, str]:
    """The symptom that tells most, and the line that tells it; without one, the last line."""
    for symptom in SYMPTOMS:
        for line in lines:
            if symptom.pattern.search(line):
                return symptom, line.strip("@ \t")
    return None, lines[-1] if lines else ""


def remedy(symptom: Symptom, profile: Profile, key: str | None) -> str:
    """What mends it at this remote."""
    return symptom.remedy.format(
        target=profile.target,
        host=profile.host,
        name=profile.name,
        key=key or "the key",
    )
