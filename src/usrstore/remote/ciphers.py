"""Which cipher the user's ssh tries first: AES-GCM, where nobody said otherwise.

OpenSSH tries ChaCha20-Poly1305 before all others, for processors that have no instructions for
AES. Where they have, AES-GCM, which both ends offer as well, takes about half as long, and on a
fast link enciphering is most of what ends do. It is the order alone that changes, and only where
the list is the one that ssh came with: whoever chose ciphers gets those.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import subprocess
from collections.abc import Sequence

_PATIENCE_S = 5.0
_CPUINFO = "/proc/cpuinfo"
_CPUINFO_BYTES = 8192  # the first processor, and more: hundreds of them take long to be listed
_AES = re.compile(rb"^(?:flags|Features)\s*:.*\baes\b", re.MULTILINE)
_MACHINES_WITH_AES = {"arm64", "x86_64"}  # of those that have no such file: macOS


def prefer(arguments: Sequence[str]) -> list[str]:
    """An ssh command that asks for AES-GCM first, if that is ours to say.

    Args:
        arguments: the program, its options, and the host as the last of them.

    Returns:
        The same command, with one option more, or as it was.
    """
    program, *options = arguments
    if os.path.basename(program) != "ssh" or not has_aes():
        return list(arguments)
    asking = [
        [program, "-G", *options],  # as it would be used for this host
        [program, "-G", "-F", "none", options[-1]],  # as it came
    ]
    chosen, built_in = _ask(asking)
    if not chosen or chosen != built_in:
        return list(arguments)
    fast = [name for name in chosen if "-gcm" in name]
    ordered = [*fast, *(name for name in chosen if name not in fast)]
    return [program, "-o", f"Ciphers={','.join(ordered)}", *options]


def _ask(commands: Sequence[Sequence[str]]) -> list[list[str]]:
    """The ciphers that each of these would offer; nothing is contacted."""
    with contextlib.ExitStack() as held:
        children = []
        for command in commands:
            try:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            except OSError:
                return [[] for _ in commands]
            children.append(held.enter_context(child))
        return [_ciphers(child) for child in children]


def _ciphers(child: subprocess.Popen[bytes]) -> list[str]:
    try:
        said, _ = child.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:  # a `Match exec` that hangs will be met by ssh itself
        child.kill()
        return []
    for line in said.decode(errors="replace").splitlines():
        name, _, value = line.partition(" ")
        if name == "ciphers":
            return value.split(",")
    return []


@functools.cache
def has_aes() -> bool:
    """Whether processors of this machine have instructions for AES."""
    try:
        with open(_CPUINFO, "rb") as file:
            return _AES.search(file.read(_CPUINFO_BYTES)) is not None
    except OSError:
        return platform.machine() in _MACHINES_WITH_AES
