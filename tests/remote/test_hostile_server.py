"""The asking end against a serving end that wants to harm it: real processes, bounded memory."""

from __future__ import annotations

import itertools
import signal
import sys
import time
import tracemalloc

import pytest

from support.besieged import HELLO, frame, message, objects
from usrstore.errors import ProtocolError, RemoteError, UnsupportedError, UsrError
from usrstore.objects.ids import Kind, hash_object
from usrstore.remote import ssh
from usrstore.remote.client import WirePeer
from usrstore.remote.peer import Ask
from usrstore.remote.wire import MAGIC, StreamChannel, Wire

MIB = 1 << 20
ASK = Ask("ns/x", "pull")


class Endless:
    """A file object that yields pieces for ever; counts what was read of it."""

    def __init__(self, pieces):
        self._pieces, self._buffer, self.count = iter(pieces), bytearray(), 0

    def read(self, size):
        while len(self._buffer) < size:
            self._buffer += next(self._pieces)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self.count += size
        return data


class Sink:
    def write(self, data):
        pass

    def flush(self):
        pass


def asking(*pieces):
    source = Endless(itertools.chain([message({**HELLO, "tool": "t"})], *pieces))
    return WirePeer(Wire(StreamChannel(source, Sink())), "remote r", lambda: None), source


COMPARED = message(
    {
        "op": "compared", "exists": True, "has_store": True, "writable": True, "root": None,
        "rows": None, "columns": None, "schema": None, "events": None, "registry": None,
        "state": None, "seen": None, "head": None, "notes": [], "now_us": 0,
    }
)  # fmt: skip


def names():
    rows = [[1, b"%032d" % n, 0, 0, 0] for n in range(20_000)]
    return itertools.repeat(objects(rows))


def trees():
    for start in itertools.count(0, 2000):
        datas = [b"%07d" % number for number in range(start, start + 2000)]
        rows = [[int(Kind.TREE), hash_object(Kind.TREE, data), 0, 7, 7] for data in datas]
        yield objects(rows, b"".join(datas))


STREAMS = {
    "empty frames": (lambda peer: peer.compare(ASK), [[COMPARED], itertools.repeat(objects([]))]),
    "chunks for trees": (
        lambda peer: peer.compare(ASK),
        [[COMPARED], itertools.repeat(objects([[1, bytes(32), 0, 4, 4]], b"four"))],
    ),
    "one tree again and again": (
        lambda peer: peer.compare(ASK),
        [[COMPARED], itertools.repeat(next(trees()))],
    ),
    "trees": (lambda peer: peer.compare(ASK), [[COMPARED], trees()]),
    "recipes that are trees": (
        lambda peer: list(peer.want([], frozenset())),
        [[message({"op": "recipes"})], trees()],
    ),
    "hellos": (lambda peer: peer.probe(), [itertools.repeat(message({**HELLO, "tool": "t"}))]),
    "errors amid a run": (
        lambda peer: peer.compare(ASK),
        [[COMPARED], itertools.repeat(message({"op": "error"}))],
    ),
    "messages amid a run": (
        lambda peer: peer.compare(ASK),
        [[COMPARED], itertools.repeat(message({"op": "probed"}))],
    ),
    "answers to something else": (
        lambda peer: peer.offer([]),
        [itertools.repeat(message({"op": "planned", "resumed": 0}))],
    ),
    "a frame that never ends": (
        lambda peer: peer.probe(),
        [[b"\xff\xff\xff\xffM"], itertools.repeat(bytes(MIB))],
    ),
    "a tree that claims to unpack to gigabytes": (
        lambda peer: peer.compare(ASK),
        [[COMPARED], itertools.repeat(objects([[3, bytes(32), 1, 1 << 40, 4]], b"four"))],
    ),
}


@pytest.mark.parametrize("what", STREAMS)
def test_a_stream_without_end_is_ended_by_us(what, monkeypatch):
    from usrstore.remote import messages

    monkeypatch.setattr(messages.split_records, "__kwdefaults__", {"most": 4 * MIB})
    act, pieces = STREAMS[what]
    peer, source = asking(*pieces)
    tracemalloc.start()
    with pytest.raises(UsrError) as caught:
        act(peer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(caught.value, RemoteError), caught.value
    assert peak < 24 * MIB
    assert source.count < 64 * MIB
    print(f"{what}: {caught.value.code}, {peak / MIB:.1f} MiB")


def test_wanted_names_without_end_are_ended_by_us(monkeypatch):
    from usrstore.remote import client

    monkeypatch.setattr(client, "_MAX_NAMES", 100_000)
    peer, source = asking([message({"op": "planned", "resumed": 0})], names())
    monkeypatch.setattr(peer, "_upload", lambda _records: None)
    from usrstore.objects.ids import ManifestId, ObjectId
    from usrstore.remote.peer import Proposal

    proposal = Proposal("ns/x", ManifestId(ObjectId(bytes(32))), {}, {}, None, None, None)
    with pytest.raises(ProtocolError, match="100000 names"):
        peer.plan(proposal)
    assert source.count < 16 * MIB


@pytest.mark.parametrize("protocol", [0, 2, -1, None, "1", 1 << 70])
def test_a_downgrade_is_refused(protocol):
    hello = [] if protocol == 1 << 70 else [message({**HELLO, "tool": "t", "protocol": protocol})]
    source = Endless(itertools.chain(hello, itertools.repeat(b"\0")))
    peer = WirePeer(Wire(StreamChannel(source, Sink())), "remote r", lambda: None)
    with pytest.raises((UnsupportedError, ProtocolError)):
        peer.probe()


def test_garbage_at_every_position_is_an_error_of_ours():
    """One byte of a whole answer replaced, everywhere, by each of four values."""
    datas = [b"tree %d" % number for number in range(4)]
    rows = [[3, hash_object(Kind.TREE, data), 0, len(data), len(data)] for data in datas]
    answer = message({**HELLO, "tool": "t"}) + COMPARED + objects(rows, b"".join(datas))
    count, filler = 0, frame(b"E", b"") * (1 << 16)
    for at in range(len(answer)):
        for value in (0, 0x7F, 0x80, 0xFF):
            data = answer[:at] + bytes([value]) + answer[at + 1 :]
            source = Endless(itertools.chain([data], itertools.repeat(filler)))
            peer = WirePeer(Wire(StreamChannel(source, Sink())), "remote r", lambda: None)
            try:
                peer.compare(ASK)
            except UsrError:
                pass
            count += 1
    print(f"{count} answers with a false byte")


# ── before the hello ──────────────────────────────────────────────────────────────────────
def started(program, **options):
    return ssh.open_process([sys.executable, "-c", program], "remote r", **options)


@pytest.mark.spec("P-1")
def test_noise_without_end_before_the_hello_is_ended_by_us():
    program = "import sys\nwhile True: sys.stdout.write('welcome ' * 1000)"
    with pytest.raises(RemoteError) as caught:
        started(program)
    assert caught.value.code == "remote-no-hello"
    assert "1048576 bytes" in caught.value.message


def test_dripping_noise_is_ended_by_patience():
    program = (
        "import sys, time\nwhile True: sys.stdout.write('.'); sys.stdout.flush(); time.sleep(0.05)"
    )
    with pytest.raises(RemoteError) as caught:
        started(program, patience_s=0.5)
    assert caught.value.code == "remote-silent"


def test_a_login_that_says_much_is_still_a_login():
    program = (
        "import sys\nsys.stdout.buffer.write(b'motd\\n' * 100_000)\n"
        f"sys.stdout.buffer.write({MAGIC!r}); sys.stdout.flush(); sys.stdin.buffer.read()"
    )
    started(program).close()


# ── a hello that is not waited for ────────────────────────────────────────────────────────
GOES_AWAY = "import sys; sys.stderr.write('no such place\\n'); sys.exit(1)"
SAYS_NOTHING = "import time; time.sleep(30)"


def test_who_does_not_wait_is_told_with_the_first_question_why_there_is_nobody():
    peer = started(GOES_AWAY, wait=False)
    with pytest.raises(RemoteError) as caught:
        peer.compare(ASK)
    assert caught.value.code == "remote-no-hello"
    assert "no such place" in caught.value.message
    peer.close()


def test_who_works_meanwhile_notices_it_without_waiting():
    peer = started(GOES_AWAY, wait=False)
    until = time.monotonic() + 30
    with pytest.raises(RemoteError) as caught:
        while time.monotonic() < until:
            peer.ready()
            time.sleep(0.01)
    assert caught.value.code == "remote-no-hello"
    peer.close()


def test_silence_is_no_failure_yet_and_closing_does_not_wait_for_it():
    peer = started(SAYS_NOTHING, wait=False)
    peer.ready()
    child = peer._close.__self__._child
    peer.close()
    assert child.returncode == -signal.SIGTERM


def test_silence_has_its_patience_with_the_first_question_too():
    peer = started(SAYS_NOTHING, patience_s=0.3, wait=False)
    with pytest.raises(RemoteError) as caught:
        peer.compare(ASK)
    assert caught.value.code == "remote-silent"
    peer.close()


def test_a_hello_that_came_while_we_worked_longer_than_our_patience_counts(tmp_path):
    said = b"motd\n" + MAGIC + message({**HELLO, "tool": "t"})
    said += message({"op": "listed", "datasets": ""})
    done = tmp_path / "said"
    program = (
        f"import sys; sys.stdout.buffer.write({said!r}); sys.stdout.flush(); "
        f"open({str(done)!r}, 'w').close(); sys.stdin.buffer.read()"
    )
    peer = started(program, patience_s=0.2, wait=False)
    until = time.monotonic() + 60
    while not done.exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)  # our patience, and a little
    assert peer.datasets() == []
    peer.close()
