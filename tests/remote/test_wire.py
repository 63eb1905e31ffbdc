"""Frames: what one end says the other hears, and nothing that a hostile end sends gets further."""

from __future__ import annotations

import io
import os
import random
import struct
import threading
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.datasets import noise
from usrstore.errors import ConnectionLostError, ProtocolError, UsrError
from usrstore.objects import codec
from usrstore.objects.ids import Kind, hash_object
from usrstore.remote.wire import (
    BATCH_BYTES,
    MAX_DATA_BYTES,
    MAX_MESSAGE_BYTES,
    StreamChannel,
    Wire,
)

MIB = 1 << 20


def spoken(act):
    """The bytes that `act` puts on a wire."""
    sink = io.BytesIO()
    wire = Wire(StreamChannel(io.BytesIO(), sink))
    act(wire)
    assert wire.sent == len(sink.getvalue())
    return sink.getvalue()


def hearing(data, **options):
    return Wire(StreamChannel(io.BytesIO(data), io.BytesIO()), **options)


def frame(kind, body):
    return struct.pack(">Ic", len(body), kind) + body


def record(name, size, kind=Kind.CHUNK):
    data = noise(name, size)
    return kind, hash_object(kind, data), 0, size, data


def objects(rows, payload):
    head = codec.encode(rows)
    return frame(b"D", struct.pack(">I", len(head)) + head + payload)


MESSAGE = {"op": "compared", "flag": True, "nothing": None, "ids": b"\0" * 64, "list": [1, "two"]}
RECORDS = [record(n, size) for n, size in enumerate([0, 1, 1000, 70_000])]
CONVERSATION = spoken(lambda w: (w.send(MESSAGE), w.send_objects(RECORDS), w.send({"op": "end"})))


def heard(wire):
    """The conversation, as the other end of it makes it out."""
    return [
        wire.receive(),
        [(*row[:4], bytes(row[4])) for row in wire.receive_objects()],
        wire.receive(),
    ]


@pytest.mark.spec("P-2")
def test_what_is_said_is_heard():
    wire = hearing(CONVERSATION)
    assert heard(wire) == [MESSAGE, RECORDS, {"op": "end"}]
    assert wire.received == len(CONVERSATION)


@pytest.mark.spec("P-4")
def test_many_objects_travel_in_frames_of_about_a_mebibyte():
    rows = [record(n, 60_000) for n in range(100)]
    data = spoken(lambda wire: wire.send_objects(rows))
    sizes, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        sizes.append(size)
        at += 5 + size
    assert max(sizes) < BATCH_BYTES + 120_000
    assert len(sizes) == 7  # six of them and the end
    assert [bytes(r[4]) for r in hearing(data).receive_objects()] == [r[4] for r in rows]


def test_a_run_without_objects_is_an_end():
    assert spoken(lambda wire: wire.send_objects([])) == frame(b"E", b"")
    assert list(hearing(frame(b"E", b"")).receive_objects()) == []
    with pytest.raises(ProtocolError, match="no objects"):  # of such frames a run has no end
        list(hearing(objects([], b"")).receive_objects())


def test_cut_after_any_byte_the_connection_is_lost_and_nothing_else():
    cuts = list(range(400)) + list(range(400, len(CONVERSATION), 997))
    for end in cuts:
        with pytest.raises(ConnectionLostError) as caught:
            heard(hearing(CONVERSATION[:end]))
        assert "nothing was promoted" in caught.value.message
        assert "run the same command again" in caught.value.hint


def test_any_flipped_byte_is_an_error_of_ours_or_data_that_hashing_will_refuse():
    rng = random.Random(1)
    for at in [*range(300), *rng.sample(range(len(CONVERSATION)), 300)]:
        data = bytearray(CONVERSATION)
        data[at] ^= 1 << rng.randrange(8)
        try:
            heard(hearing(bytes(data)))
        except UsrError:
            continue


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_an_error_of_ours(data):
    for act in (Wire.receive, lambda wire: list(wire.receive_objects())):
        try:
            act(hearing(data))
        except UsrError:
            continue


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(values, st.binary(max_size=60))
def test_well_formed_nonsense_is_an_error_of_ours(value, payload):
    body = codec.encode(value)
    for data in (
        frame(b"M", body),
        frame(b"D", struct.pack(">I", len(body)) + body + payload),
        objects([value], payload),
        objects([[1, b"\0" * 32, 0, value, 0]], payload),
        objects([[1, value, 0, 0, value]], payload),
    ):
        for act in (Wire.receive, lambda wire: list(wire.receive_objects())):
            try:
                act(hearing(data))
            except UsrError:
                continue


GOOD = hash_object(Kind.CHUNK, b"12345")
BAD_RUNS = {
    "an unknown frame": frame(b"X", b""),
    "no list": frame(b"D", struct.pack(">I", 1) + b"\x01"),
    "a head that reaches past the frame": frame(b"D", struct.pack(">I", 1 << 31) + b"\x90"),
    "no head": frame(b"D", b"\0\0"),
    "an unknown kind": objects([[99, GOOD, 0, 5, 5]], b"12345"),
    "a short id": objects([[1, GOOD[:31], 0, 5, 5]], b"12345"),
    "a long id": objects([[1, GOOD + b"!", 0, 5, 5]], b"12345"),
    "a negative length": objects([[1, GOOD, 0, 5, -5]], b"12345"),
    "a length past the frame": objects([[1, GOOD, 0, 5, 6]], b"12345"),
    "a length past everything": objects([[1, GOOD, 0, 5, 1 << 63]], b"12345"),
    "a size past everything": objects([[1, GOOD, 0, 1 << 40, 5]], b"12345"),
    "bytes that belong to nothing": objects([[1, GOOD, 0, 5, 4]], b"12345"),
    "too few fields": objects([[1, GOOD, 0, 5]], b"12345"),
    "a boolean for a number": objects([[True, GOOD, 0, 5, 5]], b"12345"),
}


@pytest.mark.parametrize("what", BAD_RUNS)
def test_a_run_that_holds(what):
    with pytest.raises(ProtocolError):
        list(hearing(BAD_RUNS[what]).receive_objects())


@pytest.mark.spec("P-3")
def test_a_message_that_is_no_map_is_refused():
    for value in ([], 1, None, "text"):
        with pytest.raises(ProtocolError):
            hearing(frame(b"M", codec.encode(value))).receive()
        with pytest.raises(ProtocolError):
            wire = hearing(frame(b"M", codec.encode(value)))
            list(wire.receive_objects(on_message=lambda message: message.get("op")))


def test_objects_where_a_message_belongs_are_refused_and_the_other_way_round():
    with pytest.raises(ProtocolError):
        hearing(objects([], b"")).receive()
    with pytest.raises(ProtocolError):
        list(hearing(frame(b"M", codec.encode({}))).receive_objects())


def test_an_error_in_the_middle_of_a_run_is_heard():
    _, oid, _, size, stored = RECORDS[2]
    rows = [[int(Kind.CHUNK), oid, 0, size, size]]
    data = spoken(lambda wire: (wire._objects(rows, [stored]), wire.send({"op": "error"})))

    class HeardError(Exception):
        pass

    def on_message(message):
        raise HeardError(message["op"])

    with pytest.raises(HeardError, match="error"):
        list(hearing(data).receive_objects(on_message=on_message))


def test_any_other_message_in_the_middle_of_a_run_ends_it():
    data = frame(b"M", codec.encode({"op": "chat"})) * 3
    with pytest.raises(ProtocolError, match="inside a run"):
        list(hearing(data).receive_objects(on_message=lambda _message: None))


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, (1 << 32) - 1])
@pytest.mark.spec("P-5")
def test_an_oversized_frame_is_refused_before_any_of_it_is_read(size):
    with pytest.raises(ProtocolError, match="at most"):
        hearing(struct.pack(">Ic", size, b"M")).receive()


def test_an_oversized_run_is_refused():
    body = b"\0" * (MAX_DATA_BYTES + 1)
    with pytest.raises(ProtocolError):
        list(hearing(frame(b"D", body)).receive_objects())


def test_a_limit_on_data_ends_a_run_that_goes_on_and_on():
    one = objects([[1, GOOD, 0, 5, 5]], b"12345")
    wire = hearing(one * 1000, max_data=10_000)
    seen = 0
    with pytest.raises(ProtocolError, match="10000 bytes"):
        for _ in wire.receive_objects():
            seen += 1
    assert seen <= 10_000 // (len(one) - 5)


def peak_of(act):
    tracemalloc.start()
    try:
        with pytest.raises(UsrError):
            act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_length_that_nothing_follows_costs_no_more_than_its_own_bound():
    ours, theirs = os.pipe()
    with open(ours, "rb") as reader, open(theirs, "wb") as writer:
        writer.write(struct.pack(">Ic", MAX_MESSAGE_BYTES, b"M"))
        writer.close()
        wire = Wire(StreamChannel(reader, io.BytesIO()))
        assert peak_of(wire.receive) < MAX_MESSAGE_BYTES + MIB


def test_promised_sizes_allocate_nothing():
    rows = [[1, GOOD, 1, codec.MAX_OBJECT_BYTES, 0]] * 1000
    data = objects(rows, b"") + frame(b"X", b"")
    assert peak_of(lambda: list(hearing(data).receive_objects())) < 2 * MIB


def test_a_head_of_nothing_but_nesting_costs_a_bounded_multiple_of_a_frame():
    heads = {
        "flat": b"\xdd" + struct.pack(">I", 15 * MIB) + b"\x90" * (15 * MIB),
        "deep": b"\x91" * (15 * MIB),
        "false": b"\xdd\xff\xff\xff\xff" * (3 * MIB),
    }
    for head in heads.values():
        data = frame(b"D", struct.pack(">I", len(head)) + head)
        assert peak_of(lambda data=data: list(hearing(data).receive_objects())) < 4 * len(data)


@pytest.mark.parametrize("empty", [b"\x90", b"\x80"], ids=["lists", "maps"])
def test_a_message_of_empty_lists_and_maps_costs_little(empty):
    """One byte that becomes sixty: sixty-four megabytes of it would be four gigabytes."""
    inner = b"\xdc\x10\x00" + empty * 4096
    body = b"\x81\xa1a\xdc\x0f\x00" + inner * 3840
    assert peak_of(hearing(frame(b"M", body)).receive) < 3 * len(body)  # it is held twice


def test_a_message_of_nothing_but_claims_costs_nothing():
    for body in (
        b"\x81\xa1a" + b"\xdd\xff\xff\xff\xff" * 1000,
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * MIB,
    ):
        assert peak_of(lambda body=body: hearing(frame(b"M", body)).receive()) < 4 * MIB


def test_a_reader_that_is_gone_is_a_lost_connection_with_its_reason():
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "wb", buffering=0) as writer:
        channel = StreamChannel(io.BytesIO(), writer, lost=lambda: "it said goodbye")
        with pytest.raises(ConnectionLostError, match="it said goodbye"):
            Wire(channel).send({"op": "x"})


def test_frames_may_arrive_in_pieces_of_any_size():
    ours, theirs = os.pipe()

    def dribble():
        rng = random.Random(2)
        at = 0
        with open(theirs, "wb", buffering=0) as writer:
            while at < len(CONVERSATION):
                at += writer.write(CONVERSATION[at : at + rng.choice([1, 2, 5, 1000])])

    thread = threading.Thread(target=dribble)
    thread.start()
    with open(ours, "rb") as reader:
        assert heard(Wire(StreamChannel(reader, io.BytesIO()))) == [MESSAGE, RECORDS, {"op": "end"}]
    thread.join()
