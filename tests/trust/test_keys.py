"""Private keys: which files open, and what a person is told when one does not."""

import binascii
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given
from hypothesis import strategies as st

from usrstore.errors import ConfigError
from usrstore.trust.keys import PublicKey, generate, load_private_key
from usrstore.trust.sshsig import Signature, check, field

KEY_FILE, KEY = generate()
PEM, PKCS8 = form.Encoding.PEM, form.PrivateFormat.PKCS8


def pem(private, passphrase=None):
    lock = form.BestAvailableEncryption(passphrase) if passphrase else form.NoEncryption()
    return private.private_bytes(PEM, PKCS8, lock)


def error_of(data, **options):
    with pytest.raises(ConfigError) as caught:
        load_private_key(data, **options)
    assert caught.value.hint
    return caught.value


def test_a_generated_key_signs_and_its_signature_holds():
    data, public = generate()
    signer = load_private_key(data)
    signature = Signature.decode(signer.sign(b"m"))
    assert signer.public_key == signature.public_key == public
    assert check(signature, b"m", namespace="usrstore")
    assert generate()[1] != public


def test_a_pem_key_opens_with_its_passphrase_and_only_with_it():
    private = ec.generate_private_key(ec.SECP256R1())
    locked = pem(private, b"secret")
    signer = load_private_key(locked, passphrase=b"secret")
    assert check(Signature.decode(signer.sign(b"m")), b"m", namespace="usrstore")
    assert error_of(locked).code == "key-encrypted"
    assert "passphrase" in error_of(locked, passphrase=b"wrong").hint


def test_a_passphrase_for_an_open_key_is_no_mistake():
    data, public = generate()
    assert load_private_key(data, passphrase=b"needless").public_key == public


def test_an_encrypted_openssh_key_is_explained(tmp_path):
    path = tmp_path / "key"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path)]
    subprocess.run(make, check=True)
    error = error_of(path.read_bytes())
    assert error.code == "key-encrypted"
    assert "ssh-add" in error.hint


NO_PRIVATE_KEY = {
    "nothing": b"",
    "text": b"not a key",
    "putty": b"PuTTY-User-Key-File-3: ssh-ed25519\n",
    "public": KEY.line().encode(),
    "cut": KEY_FILE[:200],
    "hollow": b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    "huge": bytes(1_000_000),
}


@pytest.mark.parametrize("data", NO_PRIVATE_KEY.values(), ids=NO_PRIVATE_KEY)
def test_what_is_no_private_key_is_explained(data):
    assert error_of(data).code == "key-unreadable"


def test_a_key_that_cannot_sign_here_is_explained():
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    strange = ec.generate_private_key(ec.SECP256K1())
    for private in (weak, strange, ed448.Ed448PrivateKey.generate()):
        assert error_of(pem(private)).code == "key-unsupported"


def test_a_security_keys_handle_file_is_sent_to_the_agent():
    public = field(b"sk-ssh-ed25519@openssh.com") + field(bytes(32)) + field(b"ssh:")
    check_number = bytes(8)
    private = check_number + public + b"\1" + field(b"handle") + field(b"") + field(b"")
    private += bytes(range(1, 9 - len(private) % 8))
    body = b"openssh-key-v1\0" + field(b"none") + field(b"none") + field(b"")
    body += (1).to_bytes(4, "big") + field(public) + field(private)
    name = b"OPENSSH PRIVATE KEY-----\n"
    error = error_of(b"-----BEGIN " + name + binascii.b2a_base64(body) + b"-----END " + name)
    assert error.code == "key-unsupported"
    assert "ssh-add" in error.hint


@given(st.data())
def test_a_damaged_key_file_raises_only_config_error(data):
    file = bytearray(KEY_FILE)
    for _ in range(data.draw(st.integers(1, 5))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    passphrase = data.draw(st.none() | st.binary(max_size=8))
    try:
        load_private_key(bytes(file), passphrase=passphrase)
    except ConfigError:
        pass


def test_the_private_key_shows_in_no_repr():
    signer = load_private_key(KEY_FILE)
    assert "private" not in repr(signer).lower()


def test_a_public_key_line_comes_back():
    assert PublicKey.parse(KEY.line()) == KEY
    assert PublicKey.parse(KEY.line() + " a comment with words\n") == KEY
    assert KEY.algorithm == "ssh-ed25519"


NO_PUBLIC_KEY = {
    "nothing": "",
    "only-a-kind": "ssh-ed25519",
    "cut": KEY.line()[:-4],
    "another-kind": KEY.line().replace("ssh-ed25519", "ssh-rsa"),
    "no-kind": KEY.line().split()[1],
    "not-base64": "ssh-ed25519 !!!!",
    "not-ascii": "ssh-ed25519 ÄÄÄÄ",
    "with-options": f'namespaces="file" {KEY.line()}',
    "dsa": "ssh-dss AAAAB3NzaC1kc3MAAAAA",
}


@pytest.mark.parametrize("line", NO_PUBLIC_KEY.values(), ids=NO_PUBLIC_KEY)
def test_what_is_no_public_key_line_is_explained(line):
    with pytest.raises(ConfigError) as caught:
        PublicKey.parse(line)
    assert "ssh-ed25519" in caught.value.hint


def test_importing_the_rooms_of_trust_loads_neither_cryptography_nor_subprocess():
    rooms = "sshsig keys agent keygen signers"
    code = (
        "import sys, importlib\n"
        f"for room in {rooms.split()}: importlib.import_module('usrstore.trust.' + room)\n"
        "heavy = {'cryptography', 'subprocess', 'socket', 'hashlib', 'datetime', 'base64'}\n"
        "sys.exit(str(heavy & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.stderr.decode().strip() == ""
