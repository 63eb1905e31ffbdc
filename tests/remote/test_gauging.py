"""Measurements through the peer: bounded, without a trace, whoever asks."""

from __future__ import annotations

import io
import os

import pytest

from support.besieged import HELLO, frame, message, objects
from support.people import make_who
from usrstore.errors import DecodeError, DiskFullError, ProtocolError
from usrstore.objects.ids import Kind, hash_object
from usrstore.odb import durable
from usrstore.remote import messages
from usrstore.remote.client import WirePeer
from usrstore.remote.serve import Limits, serve
from usrstore.remote.wire import MAGIC, StreamChannel, Wire
from usrstore.root import Root
from usrstore.verbs.gauging import weigh
from usrstore.verbs.host import Host

MIB = 1 << 20
END = frame(b"E", b"")


def chunk(size):
    data = bytes(size)
    return objects([[int(Kind.CHUNK), hash_object(Kind.CHUNK, data), 0, size, size]], data)


def answers(root, *said, **limits):
    """What the serving end says, up to its first message that is no hello."""
    out = io.BytesIO()
    channel = StreamChannel(io.BytesIO(b"".join([message(HELLO), *said])), out)
    serve(channel, Host(root, make_who()), tool="test", limits=Limits(**limits))
    wire = Wire(StreamChannel(io.BytesIO(out.getvalue()[len(MAGIC) :]), io.BytesIO()))
    wire.receive()
    return wire


@pytest.fixture
def root(tmp_path):
    return Root(str(tmp_path))


def test_a_file_that_is_weighed_has_no_name_while_it_is_written(root):
    seen = []

    def look(when, op, _path):
        if (when, op) == ("after", "write"):
            seen.append(os.listdir(root.path))

    with durable.tapped(look):
        found = weigh(root, 3 * MIB, may_write=True)
    assert seen == [[], [], []]
    assert found.size == 3 * MIB
    assert found.read_us
    assert found.write_us


@pytest.mark.parametrize("op", ["create", "unlink", "write", "fsync"])
def test_a_disk_that_refuses_leaves_no_file(root, op):
    def refuse(when, what, path):
        if (when, what) == ("before", op):
            raise DiskFullError(path)

    with durable.tapped(refuse), pytest.raises(DiskFullError):
        weigh(root, MIB, may_write=True)
    # A name that the disk will not take back is swept with the others like it.
    assert [n for n in os.listdir(root.path) if not n.startswith(durable.TEMPORARY_PREFIX)] == []
    assert op == "unlink" or os.listdir(root.path) == []


@pytest.mark.spec("P-22")
@pytest.mark.parametrize(
    "limits", [{"read_only": True}, {"datasets": {"ns/x": False}}, {"max_bytes": MIB - 1}]
)
def test_where_no_such_push_is_taken_only_hashing_is_measured(root, limits):
    def refuse(_when, op, path):
        raise DiskFullError(f"{op} {path}")

    with durable.tapped(refuse):
        said = answers(root, message({"op": "weigh", "size": MIB}), **limits).receive()
    assert (said["op"], said["size"], said["read_us"], said["write_us"]) == (
        "weighed", MIB, None, None,
    )  # fmt: skip


@pytest.mark.spec("P-22")
def test_a_link_carries_as_many_bytes_back(root):
    wire = answers(root, message({"op": "carry", "size": MIB + 7}), chunk(MIB), chunk(7), END)
    assert wire.receive() == {"op": "carried"}
    assert sum(len(record[4]) for record in wire.receive_objects()) == MIB + 7


BAD = {
    "too much at once": message({"op": "weigh", "size": messages.MAX_GAUGE_BYTES + 1}),
    "less than nothing": message({"op": "weigh", "size": -1}),
    "a field that there is not": message({"op": "weigh", "size": 1, "path": "/etc"}),
    "more than was said": message({"op": "carry", "size": 5}) + chunk(6) + END,
    "less than was said": message({"op": "carry", "size": 5}) + chunk(4) + END,
    "chunks without bytes": message({"op": "carry", "size": 5}) + chunk(0) * 9 + END,
    "trees": message({"op": "carry", "size": 7})
    + objects([[int(Kind.TREE), bytes(32), 0, 7, 7]], b"1234567")
    + END,
    "compressed": message({"op": "carry", "size": 7})
    + objects([[int(Kind.CHUNK), bytes(32), 1, 7, 7]], b"1234567")
    + END,
}


@pytest.mark.spec("P-22")
@pytest.mark.parametrize("said", BAD.values(), ids=BAD.keys())
def test_a_measurement_out_of_bounds_is_hung_up_on(root, said):
    answer = answers(root, said).receive()
    assert (answer["op"], answer["family"]) in {
        ("error", "ProtocolError"), ("error", "DecodeError"), ("error", "InvalidInputError"),
    }, answer  # fmt: skip
    assert os.listdir(root.path) == []


@pytest.mark.spec("P-22")
def test_a_session_measures_so_much_and_no_more(root, monkeypatch):
    monkeypatch.setattr(messages, "MAX_GAUGED_BYTES", 3 * MIB)
    wire = answers(root, *[message({"op": "weigh", "size": MIB})] * 5)
    ops = [wire.receive()["op"] for _ in range(4)]
    assert ops == ["weighed", "weighed", "weighed", "error"]


def asking(*said):
    source = io.BytesIO(b"".join([message({**HELLO, "tool": "t"}), *said]))
    return WirePeer(Wire(StreamChannel(source, io.BytesIO())), "remote r", lambda: None)


LIES = {
    "more than was asked": {"size": MIB + 1, "hash_us": 1, "read_us": 1, "write_us": 1},
    "nonsense": {"size": MIB, "hash_us": "fast", "read_us": 1, "write_us": 1},
    "a field missing": {"size": MIB, "hash_us": 1, "read_us": 1},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_serving_end_that_lies_about_its_weight_is_refused(lie):
    with pytest.raises((ProtocolError, DecodeError)):
        asking(message({"op": "weighed", **lie})).weigh(MIB)


def test_a_serving_end_that_carries_without_end_is_refused():
    with pytest.raises(ProtocolError):
        asking(message({"op": "carried"}), *[chunk(MIB)] * 3).carry(2 * MIB)
