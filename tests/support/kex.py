"""What ssh and sshd agreed on, as ssh's own log says."""

from __future__ import annotations

from usrstore.remote import ciphers

GCM = "aes128-gcm@openssh.com"
CHACHA = "chacha20-poly1305@openssh.com"


def logging_to(path) -> list[str]:
    """Options with which ssh writes that log."""
    return ["-o", "LogLevel=DEBUG1", "-E", str(path)]


def agreed(text) -> set[str]:
    """The ciphers of both directions."""
    return {
        line.partition("cipher: ")[2].split()[0]
        for line in text.splitlines()
        if "kex: " in line and "cipher: " in line
    }


def expected() -> set[str]:
    """What they should agree on where this machine's processors have the word."""
    return {GCM if ciphers.has_aes() else CHACHA}
