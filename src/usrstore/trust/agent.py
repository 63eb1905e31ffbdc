"""The SSH agent: keys that this process never sees, asked over the agent's socket.

The socket's path is an argument; who read it from the environment is not our business.
A reply is bounded in size and in time, and a signature is checked before it is believed,
so an agent that is locked, slow or broken gives a clear error and never a bad manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usrstore.errors import ConfigError, DecodeError, TrustError
from usrstore.trust import sshsig
from usrstore.trust.sshsig import KEY_ALGORITHMS, NAMESPACE, PublicKey, Reader, Signature, field

if TYPE_CHECKING:
    import socket

MAX_REPLY_BYTES = 256 * 1024  # OpenSSH's own bound on an agent's message

_LIST, _KEYS = 11, 12
_SIGN, _SIGNED = 13, 14
_RSA_SHA2_512 = 4  # without it an agent signs with SHA-1 for an RSA key


def agent_keys(socket_path: str, *, timeout_s: float = 5.0) -> list[PublicKey]:
    """The keys that the agent offers, in its order; certificates and unknown kinds left out.

    Raises:
        ConfigError: no agent answers there.
        TrustError: what answers makes no sense.
    """
    reply = _ask(socket_path, bytes([_LIST]), expected=_KEYS, timeout_s=timeout_s)
    blobs = []
    try:
        for _ in range(reply.number()):
            blobs.append(reply.string())
            reply.string()  # the comment
        reply.end()
        algorithms = [Reader(blob).word() for blob in blobs]
        pairs = zip(blobs, algorithms, strict=True)
        return [PublicKey(blob) for blob, algorithm in pairs if algorithm in KEY_ALGORITHMS]
    except DecodeError as exc:
        raise _nonsense(exc) from exc


@dataclass(frozen=True, slots=True, eq=False)
class AgentSigner:
    """Signs with one key of the agent at `socket_path`."""

    socket_path: str
    public_key: PublicKey
    timeout_s: float = 60.0  # long enough for a person to confirm or to touch a key

    def sign(self, message: bytes, *, namespace: str = NAMESPACE) -> bytes:
        data = sshsig.to_sign(message, namespace=namespace)
        flags = _RSA_SHA2_512 if self.public_key.algorithm == "ssh-rsa" else 0
        request = bytes([_SIGN]) + field(self.public_key.blob) + field(data)
        request += flags.to_bytes(4, "big")
        reply = _ask(self.socket_path, request, expected=_SIGNED, timeout_s=self.timeout_s)
        try:
            proof = reply.string()
            reply.end()
            blob = sshsig.enclose(self.public_key, namespace, "sha512", proof)
            signature = Signature.decode(blob)
        except DecodeError as exc:
            raise _nonsense(exc) from exc
        if not sshsig.check(signature, message, namespace=namespace):
            raise TrustError(
                f"the SSH agent's {signature.algorithm} signature does not hold for"
                f" {self.public_key.fingerprint}",
                hint="sign with another key, or with the key file itself",
                code="agent-signature",
            )
        return blob


def _ask(socket_path: str, request: bytes, *, expected: int, timeout_s: float) -> Reader:
    """Send one message; the reader stands behind the reply's type."""
    import socket
    import time

    deadline = time.monotonic() + timeout_s
    try:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("this system has no such sockets")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(timeout_s)
            link.connect(socket_path)
            link.sendall(field(request))
            size = int.from_bytes(_receive(link, 4, deadline), "big")
            if not 1 <= size <= MAX_REPLY_BYTES:
                raise _nonsense(f"a reply of {size} bytes")
            reply = _receive(link, size, deadline)
    except (OSError, ValueError) as exc:  # ValueError: a path that cannot be one
        raise ConfigError(
            f"no SSH agent answers at {socket_path}: {exc}",
            hint="start one with 'ssh-agent', add your key with 'ssh-add', or sign with a key file",
            code="agent-unreachable",
        ) from exc
    if reply[0] != expected:
        raise TrustError(
            "the SSH agent refused",
            hint="'ssh-add -l' lists its keys; unlock it, confirm, or add the key with 'ssh-add'",
            code="agent-refused",
        )
    return Reader(reply[1:])


def _receive(link: socket.socket, size: int, deadline: float) -> bytes:
    """Exactly `size` bytes before `deadline`, however slowly they drip."""
    import time

    data = bytearray()
    while len(data) < size:
        link.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = link.recv(size - len(data))
        if not piece:
            raise ConnectionError("it closed the connection")
        data += piece
    return bytes(data)


def _nonsense(why: object) -> TrustError:
    return TrustError(
        f"the SSH agent's reply makes no sense: {why}",
        hint="check that the socket is an SSH agent's: 'ssh-add -l'",
        code="agent-reply",
    )
