"""Agents that misbehave: a clear error within a bounded time, and never a bad signature."""

import contextlib
import select
import socket
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usrstore.errors import ConfigError, TrustError
from usrstore.trust.agent import AgentSigner, agent_keys
from usrstore.trust.keys import generate, load_private_key
from usrstore.trust.sshsig import Signature, check, field

KEY_FILE, KEY = generate()
RSA = b"ssh-rsa-cert-v01@openssh.com"


@contextlib.contextmanager
def agent_that(behave, folder):
    """A socket where `behave(connection)` answers one caller."""
    path = str(folder / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()

        def serve():
            with contextlib.suppress(OSError):
                link, _ = server.accept()
                with link:
                    link.recv(100_000)
                    behave(link)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()
    (folder / "socket").unlink()


def saying(data):
    return lambda link: link.sendall(data)


def listing(*blobs, count=None):
    number = (len(blobs) if count is None else count).to_bytes(4, "big")
    return field(b"\x0c" + number + b"".join(field(blob) + field(b"comment") for blob in blobs))


def test_keys_that_cannot_sign_manifests_are_left_out(tmp_path):
    certificate, dsa = field(RSA) + field(b"x"), field(b"ssh-dss") + field(b"x")
    with agent_that(saying(listing(certificate, KEY.blob, dsa)), tmp_path) as path:
        assert agent_keys(path) == [KEY]


def test_an_empty_agent_has_no_keys(tmp_path):
    with agent_that(saying(listing()), tmp_path) as path:
        assert agent_keys(path) == []


NONSENSE = {
    "empty": field(b""),
    "endless": b"\xff\xff\xff\xff" + bytes(100),
    "too-large": (300 * 1024).to_bytes(4, "big"),
    "fewer-than-counted": listing(KEY.blob, count=2),
    "more-than-counted": listing(KEY.blob, count=0),
    "countless": listing(KEY.blob, count=2**32 - 1),
    "key-cut": listing(KEY.blob[:-1]),
    "key-empty": listing(b""),
    "no-count": field(b"\x0c"),
}


@pytest.mark.parametrize("reply", NONSENSE.values(), ids=NONSENSE)
def test_a_reply_that_makes_no_sense_is_refused(reply, tmp_path):
    with agent_that(saying(reply), tmp_path) as path, pytest.raises(TrustError) as caught:
        agent_keys(path)
    assert caught.value.code == "agent-reply"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_random_replies_raise_only_declared_errors(tmp_path, data):
    for reply in (data, field(b"\x0c" + data), field(b"\x0e" + data)):
        for ask in (agent_keys, lambda path: AgentSigner(path, KEY).sign(b"m")):
            declared = contextlib.suppress(TrustError, ConfigError)
            with agent_that(saying(reply), tmp_path) as path, declared:
                ask(path)


def test_a_refusal_says_what_to_do(tmp_path):
    with agent_that(saying(field(b"\x05")), tmp_path) as path, pytest.raises(TrustError) as caught:
        AgentSigner(path, KEY).sign(b"m")
    assert caught.value.code == "agent-refused"
    assert "unlock" in caught.value.hint


def test_a_signature_over_something_else_is_not_believed(tmp_path):
    other = Signature.decode(load_private_key(KEY_FILE).sign(b"other"))
    proof = field(b"ssh-ed25519") + field(other.raw)
    reply = field(b"\x0e" + field(proof))
    with agent_that(saying(reply), tmp_path) as path, pytest.raises(TrustError) as caught:
        AgentSigner(path, KEY).sign(b"m")
    assert caught.value.code == "agent-signature"
    with agent_that(saying(reply), tmp_path) as path:
        blob = AgentSigner(path, KEY).sign(b"other")
    assert check(Signature.decode(blob), b"other", namespace="usrstore")


@pytest.mark.parametrize("drips", [False, True], ids=["mute", "drip"])
def test_a_slow_agent_is_left_before_it_is_done(drips, tmp_path):
    """It has a byte for every moment of a minute; a reply would need more than that."""
    left = []

    def behave(link):
        for _ in range(1200):
            if select.select([link], [], [], 0.05)[0]:
                left.append(link.recv(1))
                break
            if drips:
                link.sendall(b"\0")

    with agent_that(behave, tmp_path) as path, pytest.raises((ConfigError, TrustError)):
        AgentSigner(path, KEY, timeout_s=0.3).sign(b"m")
    assert left == [b""]


@pytest.mark.parametrize("path", ["/nowhere/agent", "", "x" * 500, "a\0b"], ids=range(4))
def test_no_agent_is_explained(path):
    with pytest.raises(ConfigError) as caught:
        agent_keys(path)
    assert caught.value.code == "agent-unreachable"
    assert "ssh-add" in caught.value.hint


def test_an_agent_that_hangs_up_is_explained(tmp_path):
    with agent_that(lambda _: None, tmp_path) as path, pytest.raises(ConfigError, match="closed"):
        agent_keys(path)
