"""Signing through `ssh-keygen -Y sign`: for FIDO keys, whose token only OpenSSH can reach.

`ssh-keygen` asks for a passphrase or PIN on the terminal by itself; what it says besides is
kept for the error. Its signature is checked before it is believed. A process each time
(6 ms), so plain keys are better signed with by `keys`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from usrstore.errors import ConfigError, DecodeError, TrustError
from usrstore.trust import sshsig
from usrstore.trust.sshsig import NAMESPACE, PublicKey, Signature

MAX_PUBLIC_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class KeygenSigner:
    """Signs with the key at `key_path`, private or `.pub`, as `ssh-keygen -f` takes it."""

    key_path: str
    public_key: PublicKey
    program: str = "ssh-keygen"
    timeout_s: float = 120.0  # a person looks for the token, types a PIN, touches it

    @classmethod
    def open(cls, key_path: str, *, program: str = "ssh-keygen") -> Self:
        """The signer for a key file; its public half is read from the `.pub` file.

        Raises:
            ConfigError: there is no such file, or it holds no public key.
        """
        public_path = key_path if key_path.endswith(".pub") else key_path + ".pub"
        try:
            with open(public_path, encoding="utf-8") as file:
                line = file.read(MAX_PUBLIC_FILE_BYTES)
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"cannot read the public key {public_path}: {exc}",
                hint=f"make it with 'ssh-keygen -y -f {key_path} > {public_path}'",
                code="key-unreadable",
            ) from exc
        return cls(key_path, PublicKey.parse(line), program)

    def sign(self, message: bytes, *, namespace: str = NAMESPACE) -> bytes:
        output = self._run(message, namespace)
        try:
            signature = Signature.decode(sshsig.dearmor(output))
        except DecodeError as exc:
            raise _failed(f"wrote no signature: {exc}") from exc
        same_key = signature.public_key == self.public_key
        if not (same_key and sshsig.check(signature, message, namespace=namespace)):
            raise _failed(f"made no valid signature with {self.public_key.fingerprint}")
        return signature.encode()

    def _run(self, message: bytes, namespace: str) -> str:
        import subprocess

        command = [self.program, "-Y", "sign", "-n", namespace, "-f", self.key_path]
        try:
            done = subprocess.run(
                command, input=message, capture_output=True, timeout=self.timeout_s, check=False
            )
        except subprocess.TimeoutExpired as exc:
            raise _failed(f"did not finish in {self.timeout_s:g} seconds") from exc
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"cannot run {self.program}: {exc}",
                hint="install OpenSSH's client tools, or sign with a key file or an SSH agent",
                code="keygen-absent",
            ) from exc
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise _failed(said[-1] if said else f"exit status {done.returncode}")
        return done.stdout.decode("ascii", "replace")


def _failed(why: str) -> TrustError:
    return TrustError(
        f"ssh-keygen did not sign: {why}",
        hint="is the security key plugged in, or the key in your SSH agent ('ssh-add -l')?",
        code="keygen-failed",
    )
