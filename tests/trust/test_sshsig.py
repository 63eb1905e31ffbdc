"""The signature format by itself: strict to read, and true only if nothing was touched."""

from dataclasses import replace
from hashlib import sha256

import pytest
import sshsig as oracle
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512
from hypothesis import given
from hypothesis import strategies as st

from usrstore.errors import ConfigError, DecodeError, InvalidInputError
from usrstore.trust import sshsig
from usrstore.trust.keys import generate, load_private_key
from usrstore.trust.sshsig import PublicKey, Signature, check, field

MESSAGE = b"a manifest's bytes"
PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RAW_PUBLIC = PRIVATE.public_key().public_bytes_raw()
KEY = PublicKey(field(b"ssh-ed25519") + field(RAW_PUBLIC))


def sign(message=MESSAGE, *, namespace="usrstore", hash_algorithm="sha512"):
    data = sshsig.to_sign(message, namespace=namespace, hash_algorithm=hash_algorithm)
    return Signature(KEY, namespace, hash_algorithm, "ssh-ed25519", PRIVATE.sign(data))


def holds(blob, message=MESSAGE):
    """As a verifier does it: whatever does not decode does not hold."""
    try:
        signature = Signature.decode(blob)
    except DecodeError:
        return False
    return check(signature, message, namespace="usrstore")


def on_token(*, flags=1, application=b"ssh:", counter=7, kind="ed25519"):
    """A FIDO token's signature, made in software."""
    touch = bytes([flags]) + counter.to_bytes(4, "big")
    data = sshsig.to_sign(MESSAGE, namespace="usrstore")
    data = sha256(application).digest() + touch + sha256(data).digest()
    if kind == "ed25519":
        name, numbers, raw = b"sk-ssh-ed25519@openssh.com", field(RAW_PUBLIC), PRIVATE.sign(data)
    else:
        private = ec.derive_private_key(12345, ec.SECP256R1())
        point = private.public_key().public_numbers()
        packed = b"\x04" + point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
        name, numbers = b"sk-ecdsa-sha2-nistp256@openssh.com", field(b"nistp256") + field(packed)
        pair = utils.decode_dss_signature(private.sign(data, ec.ECDSA(SHA256())))
        raw = b"".join(map(sshsig.integer_field, pair))
    key = PublicKey(field(name) + numbers + field(application))
    return Signature(key, "usrstore", "sha512", key.algorithm, raw, touch)


@pytest.mark.parametrize("hash_algorithm", ["sha512", "sha256"])
def test_a_signature_holds_and_comes_back_from_its_bytes(hash_algorithm):
    signature = sign(hash_algorithm=hash_algorithm)
    assert check(signature, MESSAGE, namespace="usrstore")
    assert Signature.decode(signature.encode()) == signature


def test_another_message_or_namespace_or_key_does_not_hold():
    signature = sign()
    other = generate()[1]
    assert not check(signature, MESSAGE + b"!", namespace="usrstore")
    assert not check(signature, b"", namespace="usrstore")
    assert not check(signature, MESSAGE, namespace="git")
    assert not check(replace(signature, public_key=other), MESSAGE, namespace="usrstore")
    assert not check(replace(signature, hash_algorithm="sha256"), MESSAGE, namespace="usrstore")
    assert not check(sign(namespace="git"), MESSAGE, namespace="usrstore")
    assert not check(
        replace(sign(namespace="git"), namespace="usrstore"), MESSAGE, namespace="usrstore"
    )


@pytest.mark.parametrize("make", [sign, on_token, lambda: on_token(kind="ecdsa")])
def test_a_signature_cut_at_any_byte_is_refused(make):
    blob = make().encode()
    for size in range(len(blob)):
        with pytest.raises(DecodeError):
            Signature.decode(blob[:size])


@pytest.mark.parametrize("make", [sign, on_token])
def test_a_signature_with_any_bit_flipped_does_not_hold(make):
    blob = make().encode()
    assert holds(blob)
    for at in range(len(blob)):
        for bit in range(8):
            assert not holds(blob[:at] + bytes([blob[at] ^ 1 << bit]) + blob[at + 1 :])


def test_what_follows_a_signature_or_hides_in_it_is_refused():
    signature, blob = sign(), sign().encode()
    proof = field(b"ssh-ed25519") + field(signature.raw)
    reserved = b"SSHSIG" + (1).to_bytes(4, "big") + field(KEY.blob) + field(b"usrstore")
    bad = [
        blob + b"\0",
        blob.replace(b"SSHSIG\0\0\0\1", b"SSHSIG\0\0\0\2"),
        reserved + field(b"room") + field(b"sha512") + field(proof),
        reserved + field(b"") + field(b"sha1") + field(proof),
        sshsig.enclose(KEY, "", "sha512", proof),
        sshsig.enclose(KEY, "usr\n", "sha512", proof),
        sshsig.enclose(KEY, "usrstore", "sha512", proof + b"\1\0\0\0\7"),
        sshsig.enclose(KEY, "usrstore", "sha512", proof + bytes(sshsig.MAX_SIGNATURE_BYTES)),
        sshsig.enclose(on_token().public_key, "usrstore", "sha512", proof),
        blob[:10] + b"\xff\xff\xff\xff" + blob[14:],
    ]
    for number, data in enumerate(bad):
        with pytest.raises(DecodeError):
            Signature.decode(data)
            pytest.fail(f"bad blob {number} was read")


@given(st.binary(max_size=400))
def test_random_bytes_raise_only_decode_error(data):
    for decode in (Signature.decode, PublicKey):
        for prefix in (b"", b"SSHSIG\0\0\0\1", field(b"ssh-rsa"), field(b"ssh-ed25519")):
            try:
                decode(prefix + data)
            except DecodeError:
                pass


BLOBS = [sign().encode(), on_token().encode(), on_token(kind="ecdsa").encode()]


@given(st.data())
def test_whatever_decodes_encodes_to_the_same_bytes_and_can_be_checked(data):
    blob = bytearray(data.draw(st.sampled_from(BLOBS)))
    for _ in range(data.draw(st.integers(0, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        signature = Signature.decode(bytes(blob))
    except DecodeError:
        return
    assert signature.encode() == blob
    check(signature, MESSAGE, namespace="usrstore")


KINDS = st.sampled_from([name.encode() for name in sorted(sshsig.KEY_ALGORITHMS)])


@given(KINDS, st.lists(st.binary(max_size=70) | st.just(b"nistp256"), max_size=4), st.binary())
def test_a_key_of_nonsense_numbers_never_verifies_and_never_breaks(kind, numbers, raw):
    try:
        key = PublicKey(field(kind) + b"".join(map(field, numbers)))
    except DecodeError:
        return
    names = {key.algorithm, "rsa-sha2-512"}
    for name in names:
        signature = Signature(key, "usrstore", "sha512", name, raw, bytes([1, 0, 0, 0, 0]))
        assert not check(signature, MESSAGE, namespace="usrstore")


def test_armor_is_what_the_oracle_reads_and_dearmor_brings_it_back():
    blob = sign().encode()
    text = sshsig.armor(blob)
    assert sshsig.dearmor(text) == blob
    assert sshsig.dearmor("\n" + text.replace("\n", "\r\n")) == blob
    assert oracle.sshsig.check_signature(MESSAGE, text, "usrstore").openssh_str() == KEY.line()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAAA",
        "-----BEGIN SSH SIGNATURE-----",
        "-----BEGIN SSH SIGNATURE-----\n!!!!\n-----END SSH SIGNATURE-----",
        "-----BEGIN SSH SIGNATURE-----\nQQ\n-----END SSH SIGNATURE-----",
        "-----BEGIN SSH SIGNATURE-----\nÄÄÄÄ\n-----END SSH SIGNATURE-----",
        sshsig.armor(b"one") + sshsig.armor(b"two"),
        sshsig.armor(bytes(100_000)),
    ],
    ids=range(8),
)
def test_text_that_is_no_armor_is_a_decode_error(text):
    with pytest.raises(DecodeError):
        sshsig.dearmor(text)


@given(st.text(max_size=200))
def test_random_text_raises_only_declared_errors(text):
    for prefix in ("", "ssh-ed25519 ", "-----BEGIN SSH SIGNATURE-----\n"):
        for read, error in ((sshsig.dearmor, DecodeError), (PublicKey.parse, ConfigError)):
            try:
                read(prefix + text)
            except error:
                pass


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_security_key_counts_only_if_it_was_touched(kind):
    assert check(on_token(kind=kind), MESSAGE, namespace="usrstore")
    assert check(on_token(kind=kind, flags=5), MESSAGE, namespace="usrstore")
    assert not check(on_token(kind=kind, flags=0), MESSAGE, namespace="usrstore")
    assert not check(on_token(kind=kind, flags=4), MESSAGE, namespace="usrstore")
    touched = replace(on_token(kind=kind, flags=0), touch=on_token().touch)
    assert not check(touched, MESSAGE, namespace="usrstore")
    assert not check(replace(on_token(kind=kind), touch=b""), MESSAGE, namespace="usrstore")


def rsa_signature(bits, algorithm, digest):
    private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    public = private.public_key().public_numbers()
    numbers = sshsig.integer_field(public.e) + sshsig.integer_field(public.n)
    key = PublicKey(field(b"ssh-rsa") + numbers)
    data = sshsig.to_sign(MESSAGE, namespace="usrstore")
    raw = private.sign(data, padding.PKCS1v15(), digest)
    return Signature(key, "usrstore", "sha512", algorithm, raw)


def test_rsa_holds_with_sha2_and_not_with_sha1_nor_with_a_short_key():
    def accepted(*args):
        return check(rsa_signature(*args), MESSAGE, namespace="usrstore")

    assert accepted(2048, "rsa-sha2-512", SHA512())
    assert accepted(2048, "rsa-sha2-256", SHA256())
    assert not accepted(2048, "ssh-rsa", SHA1())
    assert not accepted(2048, "rsa-sha2-512", SHA256())
    assert not accepted(1024, "rsa-sha2-512", SHA512())


def test_one_number_has_one_spelling():
    signature = on_token(kind="ecdsa")
    reader = sshsig.Reader(signature.raw)
    r, s = reader.string(), reader.string()
    longer = replace(signature, raw=field(b"\0" + r) + field(s))
    assert not check(longer, MESSAGE, namespace="usrstore")
    assert not check(replace(signature, raw=signature.raw + b"\0"), MESSAGE, namespace="usrstore")


def test_a_key_of_one_curve_does_not_pass_for_another():
    key = on_token(kind="ecdsa").public_key
    numbers = field(b"nistp384") + field(key.fields[1])
    forged = PublicKey(field(b"ecdsa-sha2-nistp256") + numbers)
    signature = replace(on_token(kind="ecdsa"), public_key=forged, algorithm=forged.algorithm)
    assert not check(signature, MESSAGE, namespace="usrstore")


def test_signing_for_no_purpose_or_with_a_weak_hash_is_refused():
    signer = load_private_key(generate()[0])
    for namespace in ("", "a\nb", "ü"):
        with pytest.raises(InvalidInputError):
            signer.sign(MESSAGE, namespace=namespace)
    with pytest.raises(InvalidInputError):
        sshsig.to_sign(MESSAGE, namespace="usrstore", hash_algorithm="sha1")


def test_the_bytes_to_sign_are_the_documented_ones():
    digest = bytes.fromhex(
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
    )  # SHA-512 of "abc", FIPS 180
    expected = b"SSHSIG\0\0\0\x08usrstore\0\0\0\0\0\0\0\x06sha512\0\0\0\x40" + digest
    assert sshsig.to_sign(b"abc", namespace="usrstore") == expected
