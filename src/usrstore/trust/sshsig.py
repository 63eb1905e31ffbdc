"""The SSHSIG format: what `ssh-keygen -Y sign` writes, as values; no disk, no agent, no clock.

A signature carries the key that made it, so *which* key signed is read here and *whether
that key may* is `signers`' and `policy`'s business. Reading is strict: a blob that decodes
encodes to the same bytes again. Random bytes raise `DecodeError` and nothing else.
The lowest room of `trust`: keys, agents and signers stand on it.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Self

from usrstore.errors import ConfigError, DecodeError, InvalidInputError, UnsupportedError

NAMESPACE = "usrstore"
MAX_SIGNATURE_BYTES = 8192  # RSA-16384, the largest that OpenSSH knows, needs 2 × 2 KiB
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 16384

_MAGIC = b"SSHSIG"
_VERSION = 1
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_HASHES = ("sha512", "sha256")
_TOUCH_BYTES = 5  # a security key's flags (1) and signature counter (4)
_USER_PRESENT = 0x01

# How many strings follow the name in a key of each kind.
_KEY_FIELDS = {
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
KEY_ALGORITHMS = frozenset(_KEY_FIELDS)


def field(data: bytes) -> bytes:
    """`data` as an SSH string: its length in four bytes, then itself."""
    return len(data).to_bytes(4, "big") + data


class Reader:
    """Reads SSH's wire types in order; every shortage is a `DecodeError`."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise DecodeError("SSH data ends before its stated length")
        self._at += size
        return piece

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())

    def word(self) -> str:
        word = self.string()
        if not word.isascii() or not (text := word.decode("ascii")).isprintable() or not text:
            raise DecodeError("an SSH name is empty or not printable ASCII")
        return text

    def end(self) -> None:
        if self._at != len(self._data):
            raise DecodeError(f"{len(self._data) - self._at} bytes follow the end of SSH data")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key as SSH writes it; two keys are the same if their bytes are."""

    blob: bytes

    def __post_init__(self) -> None:
        _ = self.fields  # a PublicKey that exists is of a known kind and whole

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read the line of a `.pub` file: algorithm, base64, comment.

        Raises:
            ConfigError: for anything else.
        """
        hint = "expected the one line of a .pub file, such as 'ssh-ed25519 AAAA… comment'"
        words = line.split(None, 2)
        try:
            algorithm, text = words[:2]
            key = cls(binascii.a2b_base64(text, strict_mode=True))
        except (ValueError, DecodeError) as exc:
            raise ConfigError(f"not an SSH public key: {exc}", hint=hint) from exc
        if key.algorithm != algorithm:
            message = f"an SSH public key calls itself {algorithm!r} and is {key.algorithm!r}"
            raise ConfigError(message, hint=hint)
        return key

    @property
    def algorithm(self) -> str:
        return Reader(self.blob).word()

    @property
    def fields(self) -> tuple[bytes, ...]:
        """The strings after the algorithm: the key's numbers, its application."""
        if len(self.blob) > MAX_SIGNATURE_BYTES:
            raise DecodeError(f"an SSH public key of {len(self.blob)} bytes is too large")
        reader = Reader(self.blob)
        algorithm = reader.word()
        if algorithm not in _KEY_FIELDS:
            raise DecodeError(f"unknown SSH key algorithm {algorithm!r}")
        fields = tuple(reader.string() for _ in range(_KEY_FIELDS[algorithm]))
        reader.end()
        return fields

    @property
    def on_token(self) -> bool:
        """Whether the private half lives in a FIDO security key."""
        return self.algorithm.startswith("sk-")

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -l` prints it."""
        import hashlib

        text = binascii.b2a_base64(hashlib.sha256(self.blob).digest(), newline=False)
        return "SHA256:" + text.decode("ascii").rstrip("=")

    def line(self) -> str:
        """Algorithm and base64: the line of a `.pub` file without its comment."""
        return f"{self.algorithm} {binascii.b2a_base64(self.blob, newline=False).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One SSHSIG signature: who signed, for what purpose, and the bytes that prove it."""

    public_key: PublicKey
    namespace: str
    hash_algorithm: str
    algorithm: str
    raw: bytes
    touch: bytes = b""  # flags and counter of a security key; empty for every other key

    @classmethod
    def decode(cls, blob: bytes) -> Self:
        """Read a signature blob (not armored).

        Raises:
            DecodeError: for bytes that are not exactly one version 1 signature.
        """
        if len(blob) > MAX_SIGNATURE_BYTES:
            raise DecodeError(f"a signature of {len(blob)} bytes is too large")
        reader = Reader(blob)
        if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != _VERSION:
            raise DecodeError("not an SSH signature of version 1")
        key, namespace = PublicKey(reader.string()), reader.word()
        if reader.string():
            raise DecodeError("the reserved field of an SSH signature is not empty")
        hash_algorithm = reader.word()
        if hash_algorithm not in _HASHES:
            raise DecodeError(f"unknown hash {hash_algorithm!r} in an SSH signature")
        inner = Reader(reader.string())
        reader.end()
        algorithm, raw = inner.word(), inner.string()
        touch = inner.take(_TOUCH_BYTES) if key.on_token else b""
        inner.end()
        return cls(key, namespace, hash_algorithm, algorithm, raw, touch)

    def encode(self) -> bytes:
        proof = field(self.algorithm.encode()) + field(self.raw) + self.touch
        return enclose(self.public_key, self.namespace, self.hash_algorithm, proof)


def enclose(key: PublicKey, namespace: str, hash_algorithm: str, proof: bytes) -> bytes:
    """The signature blob around `proof`, an SSH signature as agents give it."""
    preamble = _MAGIC + _VERSION.to_bytes(4, "big") + field(key.blob)
    return preamble + _purpose(namespace, hash_algorithm) + field(proof)


def _purpose(namespace: str, hash_algorithm: str) -> bytes:
    reserved = b""
    return field(namespace.encode()) + field(reserved) + field(hash_algorithm.encode())


def armor(blob: bytes) -> str:
    """The text that `ssh-keygen -Y verify -s` reads."""
    text = binascii.b2a_base64(blob, newline=False).decode("ascii")
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join([_BEGIN, *lines, _END, ""])


def dearmor(text: str) -> bytes:
    """The blob inside an armored signature.

    Raises:
        DecodeError: if there is none, or more than one.
    """
    lines = text[: 2 * MAX_SIGNATURE_BYTES].split()  # 4/3 for base64, and some room
    joined = " ".join(lines)
    if not (joined.startswith(_BEGIN) and joined.endswith(_END)):
        raise DecodeError("not an armored SSH signature")
    try:
        body = joined[len(_BEGIN) : -len(_END)].replace(" ", "")
        return binascii.a2b_base64(body, strict_mode=True)
    except ValueError as exc:
        raise DecodeError(f"an armored SSH signature is not base64: {exc}") from exc


def to_sign(message: bytes, *, namespace: str, hash_algorithm: str = "sha512") -> bytes:
    """What the key itself signs: purpose and hash of `message`, unlike any SSH login."""
    import hashlib

    if not (namespace and namespace.isascii() and namespace.isprintable()):
        raise InvalidInputError(f"not a signature namespace: {namespace!r}")
    if hash_algorithm not in _HASHES:
        raise InvalidInputError(f"not a signature hash: {hash_algorithm!r}")
    digest = hashlib.new(hash_algorithm, message).digest()
    return _MAGIC + _purpose(namespace, hash_algorithm) + field(digest)


def check(signature: Signature, message: bytes, *, namespace: str) -> bool:
    """Whether the key inside `signature` signed `message` for `namespace`.

    False for whatever is wrong; it says nothing of whether that key may sign.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    if signature.namespace != namespace:
        return False
    data = to_sign(message, namespace=namespace, hash_algorithm=signature.hash_algorithm)
    try:
        _verify(signature, data)
    except (InvalidSignature, ValueError, DecodeError):
        return False
    except UnsupportedAlgorithm as exc:
        raise UnsupportedError(
            f"the OpenSSL of this computer cannot check {signature.algorithm} signatures"
        ) from exc
    return True


def _verify(signature: Signature, data: bytes) -> None:
    """Raise `InvalidSignature` or `ValueError` unless the key signed `data`."""
    from hashlib import sha256

    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

    key, raw, fields = signature.public_key, signature.raw, signature.public_key.fields
    # An RSA key's own name, as a signature algorithm, means SHA-1: refused.
    accepted = ("rsa-sha2-512", "rsa-sha2-256") if key.algorithm == "ssh-rsa" else (key.algorithm,)
    if signature.algorithm not in accepted:
        raise InvalidSignature
    if key.on_token:
        if not (signature.touch and signature.touch[0] & _USER_PRESENT):
            raise InvalidSignature  # signed while nobody was there to touch the key
        data = sha256(fields[-1]).digest() + signature.touch + sha256(data).digest()

    if "ed25519" in key.algorithm:
        ed25519.Ed25519PublicKey.from_public_bytes(fields[0]).verify(raw, data)
    elif key.algorithm == "ssh-rsa":
        exponent, modulus = map(_integer, fields)
        if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
            raise InvalidSignature
        digest = hashes.SHA512() if signature.algorithm == "rsa-sha2-512" else hashes.SHA256()
        numbers = rsa.RSAPublicNumbers(exponent, modulus)
        numbers.public_key().verify(raw, data, padding.PKCS1v15(), digest)
    else:
        curve, point = fields[0].decode("ascii"), fields[1]
        if curve not in key.algorithm:
            raise InvalidSignature
        reader = Reader(raw)
        der = utils.encode_dss_signature(_integer(reader.string()), _integer(reader.string()))
        reader.end()
        make_curve, make_hash = {
            "nistp256": (ec.SECP256R1, hashes.SHA256),
            "nistp384": (ec.SECP384R1, hashes.SHA384),
            "nistp521": (ec.SECP521R1, hashes.SHA512),
        }[curve]
        ec_key = ec.EllipticCurvePublicKey.from_encoded_point(make_curve(), point)
        ec_key.verify(der, data, ec.ECDSA(make_hash()))


def _integer(data: bytes) -> int:
    """SSH's mpint: not negative and in its shortest form, so that one number has one spelling."""
    value = int.from_bytes(data, "big", signed=True)
    if value < 0 or len(data) != (value.bit_length() + 8) // 8 * (value > 0):
        raise DecodeError("an SSH integer is negative or not in its shortest form")
    return value


def integer_field(value: int) -> bytes:
    """A positive `value` as an mpint."""
    return field(value.to_bytes(value.bit_length() // 8 + 1, "big"))
