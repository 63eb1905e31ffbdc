"""OpenSSH is the judge: its programs accept what we sign, and we what they sign."""

import os
import subprocess
import time

import pytest
import sshsig as oracle
from test_sshsig import MESSAGE, on_token

from usrstore.errors import ConfigError, TrustError
from usrstore.trust import sshsig
from usrstore.trust.agent import AgentSigner, agent_keys
from usrstore.trust.keygen import KeygenSigner
from usrstore.trust.keys import generate, load_private_key
from usrstore.trust.signers import AllowedSigners
from usrstore.trust.sshsig import PublicKey, Signature, check

KINDS = ["ed25519", "rsa-2048", "ecdsa-256", "ecdsa-384", "ecdsa-521"]


@pytest.fixture(scope="module")
def key_paths(tmp_path_factory):
    """One key file of every kind, made by ssh-keygen."""
    folder = tmp_path_factory.mktemp("keys")
    paths = {}
    for kind in KINDS:
        algorithm, _, bits = kind.partition("-")
        paths[kind] = folder / kind
        make = ["ssh-keygen", "-q", "-t", algorithm, "-N", "", "-C", "a comment", "-f", paths[kind]]
        subprocess.run(make + (["-b", bits] if bits else []), check=True)
    return paths


@pytest.fixture(scope="module")
def agent(tmp_path_factory, key_paths):
    """The socket of a real agent that holds every key."""
    path = str(tmp_path_factory.mktemp("agent") / "socket")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        try:
            while not os.path.exists(path):
                assert process.poll() is None
                time.sleep(0.01)
            for key in key_paths.values():
                add = ["ssh-add", "-q", str(key)]
                subprocess.run(add, env={**os.environ, "SSH_AUTH_SOCK": path}, check=True)
            yield path
        finally:
            process.terminate()


def public_key(path):
    return PublicKey.parse(path.with_name(path.name + ".pub").read_text())


def openssh_accepts(folder, blob, message, *, key, namespace="usrstore"):
    """Whether `ssh-keygen -Y verify` takes our blob, with an allowed_signers file of ours."""
    allowed, signature = folder / "allowed", folder / "signature"
    allowed.write_text(AllowedSigners().with_signer("ada@example.org", key).text())
    signature.write_text(sshsig.armor(blob))
    command = ["ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "ada@example.org"]
    command += ["-n", namespace, "-s", signature]
    return subprocess.run(command, input=message, capture_output=True, check=False).returncode == 0


def test_openssh_accepts_a_signature_with_a_key_that_we_made(tmp_path):
    data, public = generate()
    blob = load_private_key(data).sign(MESSAGE)
    assert openssh_accepts(tmp_path, blob, MESSAGE, key=public)
    assert not openssh_accepts(tmp_path, blob, MESSAGE + b"!", key=public)
    assert not openssh_accepts(tmp_path, blob, MESSAGE, key=public, namespace="file")
    assert not openssh_accepts(tmp_path, blob, MESSAGE, key=generate()[1])


def test_openssh_reads_the_private_key_that_we_made(tmp_path):
    data, public = generate()
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(data)
    shown = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, check=True)
    assert PublicKey.parse(shown.stdout.decode()) == public


@pytest.mark.parametrize("kind", KINDS)
def test_openssh_and_the_oracle_accept_what_a_key_file_signs(kind, key_paths, tmp_path):
    signer = load_private_key(key_paths[kind].read_bytes())
    blob = signer.sign(MESSAGE)
    assert signer.public_key == public_key(key_paths[kind])
    assert check(Signature.decode(blob), MESSAGE, namespace="usrstore")
    assert openssh_accepts(tmp_path, blob, MESSAGE, key=signer.public_key)
    if not kind.startswith("ecdsa"):  # which the oracle does not know
        text = sshsig.armor(blob)
        found = oracle.sshsig.check_signature(MESSAGE, text, "usrstore")
        assert found.openssh_str() == signer.public_key.line()


@pytest.mark.parametrize("kind", KINDS)
def test_openssh_accepts_what_an_agent_signs(kind, key_paths, agent, tmp_path):
    signer = AgentSigner(agent, public_key(key_paths[kind]))
    blob = signer.sign(MESSAGE)
    assert check(Signature.decode(blob), MESSAGE, namespace="usrstore")
    assert openssh_accepts(tmp_path, blob, MESSAGE, key=signer.public_key)


def test_an_agent_lists_its_keys_in_order(key_paths, agent):
    assert agent_keys(agent) == [public_key(key_paths[kind]) for kind in KINDS]


def test_an_agent_without_the_key_says_so(agent):
    with pytest.raises(TrustError) as caught:
        AgentSigner(agent, generate()[1]).sign(MESSAGE)
    assert caught.value.code == "agent-refused"
    assert "ssh-add" in caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_we_accept_what_ssh_keygen_signs_and_give_its_bytes_back(kind, key_paths):
    command = ["ssh-keygen", "-Y", "sign", "-n", "usrstore", "-f", key_paths[kind]]
    text = subprocess.run(command, input=MESSAGE, capture_output=True, check=True).stdout.decode()
    blob = sshsig.dearmor(text)
    signature = Signature.decode(blob)
    assert check(signature, MESSAGE, namespace="usrstore")
    assert not check(signature, MESSAGE[:-1], namespace="usrstore")
    assert signature.encode() == blob
    assert sshsig.armor(blob) == text


@pytest.mark.parametrize("half", ["", ".pub"])
@pytest.mark.parametrize("kind", KINDS)
def test_openssh_accepts_what_we_let_ssh_keygen_sign(kind, half, key_paths, tmp_path):
    signer = KeygenSigner.open(f"{key_paths[kind]}{half}")
    blob = signer.sign(MESSAGE)
    assert openssh_accepts(tmp_path, blob, MESSAGE, key=signer.public_key)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_openssh_accepts_a_token_signature_that_we_accept(kind, tmp_path):
    signature = on_token(kind=kind)
    assert check(signature, MESSAGE, namespace="usrstore")
    assert openssh_accepts(tmp_path, signature.encode(), MESSAGE, key=signature.public_key)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fingerprint_is_what_ssh_keygen_prints(kind, key_paths):
    shown = subprocess.run(["ssh-keygen", "-lf", key_paths[kind]], capture_output=True, check=True)
    assert public_key(key_paths[kind]).fingerprint == shown.stdout.decode().split()[1]


def test_ssh_keygen_that_is_absent_is_explained(key_paths):
    signer = KeygenSigner.open(str(key_paths["ed25519"]), program="/nowhere/ssh-keygen")
    with pytest.raises(ConfigError) as caught:
        signer.sign(MESSAGE)
    assert caught.value.code == "keygen-absent"
    assert "install" in caught.value.hint


def test_a_key_without_its_public_half_is_explained(tmp_path):
    with pytest.raises(ConfigError) as caught:
        KeygenSigner.open(str(tmp_path / "absent"))
    assert "ssh-keygen -y" in caught.value.hint


def test_ssh_keygen_that_fails_is_quoted(key_paths, tmp_path):
    lonely = tmp_path / "lonely.pub"
    lonely.write_text(public_key(key_paths["ed25519"]).line())
    with pytest.raises(TrustError) as caught:
        KeygenSigner.open(str(lonely)).sign(MESSAGE)
    assert caught.value.code == "keygen-failed"
    assert "lonely" in caught.value.message or "key" in caught.value.message


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo hello", "no signature"),
        ("echo broken >&2; exit 3", "broken"),
        ("exit 3", "status 3"),
        ("exec sleep 600", "finish"),
    ],
)
def test_a_program_that_only_claims_to_sign_is_not_believed(script, words, key_paths, tmp_path):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    key = public_key(key_paths["ed25519"])
    patience_s = 0.5 if words == "finish" else 60  # a busy machine takes its time to start one
    signer = KeygenSigner(str(key_paths["ed25519"]), key, str(program), timeout_s=patience_s)
    with pytest.raises(TrustError, match=words):
        signer.sign(MESSAGE)


def test_a_signature_of_another_key_or_message_is_not_believed(key_paths, tmp_path):
    signer = KeygenSigner(str(key_paths["ed25519"]), public_key(key_paths["rsa-2048"]))
    with pytest.raises(TrustError, match="no valid signature"):
        signer.sign(MESSAGE)
    replay = tmp_path / "replay"
    text = sshsig.armor(KeygenSigner.open(str(key_paths["ed25519"])).sign(b"older"))
    replay.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
    replay.chmod(0o700)
    with pytest.raises(TrustError, match="no valid signature"):
        KeygenSigner.open(str(key_paths["ed25519"]), program=str(replay)).sign(MESSAGE)
