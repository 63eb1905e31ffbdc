"""Who can sign: the `Signer` promise, and the signer that holds a private key in memory.

Key files come in as bytes and new keys go out as bytes; finding, reading and writing them
(0600) is the caller's. `agent` and `keygen` keep the same promise for keys that this
process never sees. Whatever is wrong with a key file is a `ConfigError` that says what to
do; its bytes appear in no message and no repr.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from usrstore.errors import ConfigError
from usrstore.trust import sshsig
from usrstore.trust.sshsig import NAMESPACE, PublicKey, Signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey = Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey

__all__ = ["KeySigner", "PublicKey", "Signer", "generate", "load_private_key"]

MAX_KEY_FILE_BYTES = 64 * 1024  # an RSA-16384 key in armor is under 16 KiB


class Signer(Protocol):
    """Something that signs with one key."""

    @property
    def public_key(self) -> PublicKey: ...

    def sign(self, message: bytes, *, namespace: str = NAMESPACE) -> bytes:
        """The encoded SSHSIG blob over `message`, which `sshsig.check` accepts.

        May wait for a person (a passphrase, a touch), never without end.

        Raises:
            ConfigError: the way to the key is not set up.
            TrustError: the key, or who guards it, did not sign.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class KeySigner:
    """Signs with a private key held in memory; made by `load_private_key`."""

    public_key: PublicKey
    _private: PrivateKey = field(repr=False)

    def sign(self, message: bytes, *, namespace: str = NAMESPACE) -> bytes:
        data = sshsig.to_sign(message, namespace=namespace)
        own = self.public_key.algorithm
        algorithm = "rsa-sha2-512" if own == "ssh-rsa" else own
        raw = _sign(self._private, data)
        return Signature(self.public_key, namespace, "sha512", algorithm, raw).encode()


def load_private_key(data: bytes, *, passphrase: bytes | None = None) -> KeySigner:
    """A signer from the bytes of a private key file, OpenSSH's format or PEM.

    Raises:
        ConfigError: not a key, a key that wants a (or another) passphrase, or one of a
            kind or size that cannot sign here (`key-unreadable`, `key-encrypted`,
            `key-unsupported`).
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    if len(data) > MAX_KEY_FILE_BYTES:
        raise _unreadable(f"{len(data)} bytes are too many")
    openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    try:
        private = load(data, passphrase)
    except TypeError as exc:
        if passphrase is not None:  # the key is not encrypted after all
            return load_private_key(data)
        raise ConfigError(
            "the private key is protected by a passphrase",
            hint="add it to your SSH agent with 'ssh-add', or give the passphrase",
            code="key-encrypted",
        ) from exc
    except UnsupportedAlgorithm as exc:
        # Also what an encrypted OpenSSH key meets where the optional bcrypt is not installed.
        raise _unsupported(str(exc)) from exc
    except ValueError as exc:
        raise _unreadable(str(exc), passphrase=passphrase) from exc
    return _signer(private)


def generate() -> tuple[bytes, PublicKey]:
    """A new Ed25519 key: its private file in OpenSSH's format, and its public half."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    encryption = form.NoEncryption()
    data = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, encryption)
    return data, _signer(private).public_key


def _signer(private: object) -> KeySigner:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    kinds = (ed25519.Ed25519PrivateKey, rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)
    if not isinstance(private, kinds):
        raise _unsupported(f"a {type(private).__name__} cannot sign for SSH")
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size < sshsig.MIN_RSA_BITS:
        raise _unsupported(f"an RSA key of {private.key_size} bits is too weak")
    try:
        line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except ValueError as exc:  # a curve that SSH has no name for
        raise _unsupported(str(exc)) from exc
    return KeySigner(PublicKey.parse(line.decode("ascii")), private)


def _sign(private: PrivateKey, data: bytes) -> bytes:
    """The raw signature, as SSH spells it for this kind of key."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(data, padding.PKCS1v15(), hashes.SHA512())
    if isinstance(private, ec.EllipticCurvePrivateKey):
        digests = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
        der = private.sign(data, ec.ECDSA(digests[private.key_size]))
        r, s = utils.decode_dss_signature(der)
        return sshsig.integer_field(r) + sshsig.integer_field(s)
    return private.sign(data)


def _unreadable(why: str, *, passphrase: bytes | None = None) -> ConfigError:
    hint = "name the private half, without .pub; convert a PuTTY key with puttygen first"
    if passphrase is not None:
        hint = "check the passphrase and the file with 'ssh-keygen -y -f FILE'"
    message = f"the private key cannot be read: {why}"
    return ConfigError(message, hint=hint, code="key-unreadable")


def _unsupported(why: str) -> ConfigError:
    return ConfigError(
        f"cannot sign with this private key: {why}",
        hint="add it to your SSH agent with 'ssh-add', or make one with 'ssh-keygen -t ed25519'",
        code="key-unsupported",
    )
