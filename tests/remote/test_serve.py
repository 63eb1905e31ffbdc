"""The serving end: answers what it may, hangs up on the rest, and says why."""

from __future__ import annotations

import io
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import datasets, wires
from support.liars import Proxy
from usrstore.errors import (
    ConnectionLostError,
    InvalidNameError,
    ProtocolError,
    ReadOnlyError,
    UnsupportedError,
    UsrError,
)
from usrstore.objects import codec
from usrstore.objects.codec import Fields
from usrstore.remote import messages
from usrstore.remote.client import WirePeer
from usrstore.remote.peer import Ask
from usrstore.remote.serve import Limits, serve
from usrstore.remote.wire import MAGIC, PROTOCOL, StreamChannel, Wire

OLD, NEW = datasets.old_files(), datasets.new_files()
HELLO = {"op": "hello", "protocol": PROTOCOL}


@pytest.fixture
def pair(make_pair):
    made = make_pair(OLD)
    made.push()
    made.pull()
    return made


def frame(kind, body):
    return struct.pack(">Ic", len(body), kind) + body


def message(value):
    return frame(b"M", codec.encode(value))


def conversation(host, said, **limits):
    """What the serving end answers to these bytes, after its hello; None for silence."""
    out = io.BytesIO()
    serve(StreamChannel(io.BytesIO(said), out), host, tool="test", limits=Limits(**limits))
    data = out.getvalue()
    assert data.startswith(MAGIC)
    wire = Wire(StreamChannel(io.BytesIO(data[len(MAGIC) :]), io.BytesIO()))
    assert wire.receive() == {**HELLO, "tool": "test"}
    try:
        answer = wire.receive()
        return wire.receive() if answer["op"] == "chunks" else answer
    except ConnectionLostError:
        return None


@pytest.mark.spec("P-1")
def test_hello_comes_first_and_hanging_up_is_no_error(pair):
    assert conversation(pair.there.host(), b"") is None
    assert conversation(pair.there.host(), message(HELLO)) is None


BAD = {
    "an unknown question": message({"op": "delete"}),
    "no question": message({}),
    "a question that is no text": message({"op": 7}),
    "a question that is no map": message([1]),
    "no message": frame(b"E", b""),
    "no frame": b"GET / HTTP/1.1\r\n\r\n",
    "a message cut off inside": frame(b"M", codec.encode({"op": "hello"})[:-1]),
    "a hello without a protocol": message({"op": "hello"}),
    "want before compare": message({"op": "want", "contents": b"", "have": b""}),
    "send before compare": message({"op": "send", "chunks": b""}),
    "offer before compare": message({"op": "offer", "recipes": b""}),
    "publish before plan": message({"op": "publish"}) + frame(b"E", b""),
    "ids cut off": message({"op": "send", "chunks": b"123"}),
    "an unknown field": message({"op": "publish", "more": 1}),
}


@pytest.mark.parametrize("what", BAD)
def test_it_says_why_and_hangs_up(pair, what):
    before = pair.there.everything()
    answer = conversation(pair.there.host(), BAD[what] + message(HELLO))
    assert answer["op"] == "error"
    assert answer["message"]
    assert answer["family"] in ("ProtocolError", "DecodeError")
    assert pair.there.everything() == before


@pytest.mark.parametrize("protocol", [0, PROTOCOL + 1, 1 << 40])
@pytest.mark.spec("P-6")
def test_another_protocol_is_refused_not_guessed_at(pair, protocol):
    answer = conversation(pair.there.host(), message({"op": "hello", "protocol": protocol}))
    assert (answer["op"], answer["code"]) == ("error", "protocol-version")
    assert "install the same version" in answer["hint"]


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300))
def test_noise_ends_the_conversation_with_an_error_or_silence(data):
    answer = conversation(Silent(), data)
    assert answer is None or answer["op"] == "error"


class Silent:
    def close(self):
        pass


def whole_push(pair):
    """Every byte that a push of NEW says, taken down as it is said."""
    pair.here.write(NEW)
    client = wires.connect(pair.there.host())
    channel, said = client.wire._channel, bytearray()
    write = channel.write

    def note(data):
        said.extend(data)
        write(data)

    channel.write = note
    pair.push(client)
    return message(HELLO) + bytes(said)


def test_a_push_cut_after_any_byte_changes_nothing(pair, home):
    fresh = pair.copy_to(home / "fresh")
    said = whole_push(pair.copy_to(home / "taken-down"))
    before = fresh.there.everything()
    ends = [*range(0, len(said), 4001), len(said) - 1]
    for end in ends:
        answer = conversation(fresh.there.host(), said[:end])
        assert answer is None or answer["op"] != "error"
        assert fresh.there.everything() == before
        assert fresh.there.root.journaled() == []


def test_a_push_that_is_replayed_is_refused(pair, home):
    said = whole_push(pair)
    before = pair.there.everything()
    out = io.BytesIO()
    channel = StreamChannel(io.BytesIO(said), out)
    serve(channel, pair.there.host(), tool="test", limits=Limits())
    assert b"RefConflictError" in out.getvalue()
    assert pair.there.everything() == before


# ── limits ────────────────────────────────────────────────────────────────────────────────
def test_a_read_only_end_gives_and_never_takes(pair):
    pair.there.write(NEW)
    limits = Limits(read_only=True)
    assert pair.diff(wires.connect(pair.there.host(read_only=True), limits=limits)).changed
    pair.pull(wires.connect(pair.there.host(read_only=True), limits=limits))
    assert pair.here.read() == NEW
    pair.here.write(OLD)
    before = pair.there.everything()
    for host in (pair.there.host(), pair.there.host(read_only=True)):
        with pytest.raises(ReadOnlyError):
            pair.push(wires.connect(host, limits=limits))
    with pytest.raises(ReadOnlyError):
        pair.push(pair.there.host(read_only=True))
    assert pair.there.everything() == before


def test_a_plan_is_refused_read_only_whatever_was_asked_before(pair):
    class Sly(Proxy):
        def compare(self, ask):
            return self.peer.compare(Ask(ask.dataset, "pull", ask.root, ask.have, ask.known))

    pair.here.write(NEW)
    peer = Sly(wires.connect(pair.there.host(), limits=Limits(read_only=True)))
    with pytest.raises(ReadOnlyError):
        pair.push(peer)
    assert pair.there.read() == OLD


def test_an_end_that_serves_one_dataset_serves_no_other(pair):
    limits = Limits(datasets={"ns/other": True})
    for verb in (pair.diff, pair.pull):
        with pytest.raises(ReadOnlyError) as caught:
            verb(wires.connect(pair.there.host(), limits=limits))
        assert caught.value.code == "refused"
    assert not pair.diff(
        wires.connect(pair.there.host(), limits=Limits(datasets={"ns/x": True}))
    ).changed


def test_more_bytes_than_allowed_end_a_push(pair):
    pair.here.write({**OLD, "_artifacts/large": datasets.noise("large", 3_000_000)})
    before = pair.there.everything()
    with pytest.raises(UsrError) as caught:
        pair.push(wires.connect(pair.there.host(), limits=Limits(max_bytes=1_000_000)))
    assert "1000000 bytes" in caught.value.message
    assert "--max-bytes" in caught.value.hint
    assert pair.there.everything() == before


@pytest.mark.parametrize("dataset", ["../outside", "/etc", "a/b/c", ".usr", "ns/..", "", "a\0b"])
def test_a_dataset_that_would_leave_the_root_is_no_name(pair, dataset):
    client = wires.connect(pair.there.host())
    with pytest.raises(InvalidNameError):
        client.compare(Ask(dataset, "pull"))
    client.close()


# ── the asking end ────────────────────────────────────────────────────────────────────────
def asking(answers):
    """A client whose other end says exactly these bytes."""
    channel = StreamChannel(io.BytesIO(answers), io.BytesIO())
    return WirePeer(Wire(channel), "remote r", lambda: None)


def questions(client):
    yield lambda: client.compare(Ask("ns/x", "pull"))
    yield lambda: list(client.want([], frozenset()))
    yield lambda: list(client.send([]))
    yield lambda: client.offer([])
    yield lambda: client.publish([])
    yield client.probe


NONSENSE = [
    b"",
    b"\xff" * 100,
    frame(b"E", b""),
    message({"op": "compared"}),
    message({"op": 3}),
    message([]),
    message({**HELLO, "tool": "t"}),
    message({"op": "error"}),
    message({"op": "published", "number": 1, "state": b"short"}),
    message({"op": "lacking", "recipes": b"123"}),
    message({"op": "chunks"}) + message([1]),
    message({"op": "recipes"}) + message({"op": "error", "family": "os", "code": 1}),
    message({"op": "chunks"}) + frame(b"D", b"\0\0\0\1\x91"),
]


@pytest.mark.parametrize("answers", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_from_the_serving_end_is_an_error_of_ours(answers):
    for number in range(6):
        with pytest.raises(UsrError):
            list(questions(asking(answers)))[number]()


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=120))
def test_noise_from_the_serving_end_is_an_error_of_ours(data):
    for number in range(6):
        with pytest.raises(UsrError):
            list(questions(asking(data)))[number]()


def test_a_serving_end_of_another_protocol_is_named(pair):
    client = asking(message({"op": "hello", "protocol": 2, "tool": "t"}))
    with pytest.raises(UnsupportedError) as caught:
        client.compare(Ask("ns/x", "pull"))
    assert caught.value.code == "protocol-version"
    assert "same version" in caught.value.hint


def test_why_the_other_end_hung_up_is_heard_even_in_the_middle_of_an_upload(pair):
    pair.here.write({**OLD, "_artifacts/large": datasets.noise("large", 40_000_000)})
    with pytest.raises(UsrError) as caught:
        pair.push(wires.connect(pair.there.host(), limits=Limits(max_bytes=100_000)))
    assert "100000 bytes" in caught.value.message


def test_an_end_that_goes_away_is_a_lost_connection(pair):
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, ours.makefile("rb") as reader, ours.makefile("wb", buffering=0) as writer:
        client = WirePeer(Wire(StreamChannel(reader, writer)), "remote r", lambda: None)
        with pytest.raises(ConnectionLostError):
            client.compare(Ask("ns/x", "pull"))


def test_errors_at_the_serving_end_keep_their_family_code_and_hint():
    class Failing:
        def compare(self, ask):
            raise ReadOnlyError("no", hint="ask", code="very-own")

        def close(self):
            pass

    client = wires.connect(Failing())
    with pytest.raises(ReadOnlyError) as caught:
        client.compare(Ask("ns/x", "pull"))
    assert (caught.value.code, caught.value.hint) == ("very-own", "ask")
    client.close()


@pytest.mark.parametrize("error", [OSError(5, "broken"), ValueError("odd"), KeyError("k")])
def test_even_a_fault_of_ours_reaches_the_asking_end_as_an_error(error):
    class Failing:
        def compare(self, ask):
            raise error

        def close(self):
            pass

    client = wires.connect(Failing())
    with pytest.raises(UsrError):
        client.compare(Ask("ns/x", "pull"))
    client.close()


def test_the_question_that_failed_is_the_last(pair):
    client = wires.connect(pair.there.host())
    with pytest.raises(ProtocolError):
        client.offer([])
    with pytest.raises(UsrError):
        client.compare(Ask("ns/x", "pull"))
    client.close()
    assert messages.parse_error(
        Fields({"family": "X", "code": "c", "message": "m", "hint": "h"}, "error"), "w"
    ).message.startswith("w: ")
