"""What two ends say to each other, counted on the channel between them: turns and bytes.

A turn is a change from writing to waiting for an answer: one round trip of the link, whatever
its delay. New bytes are what nobody at the other end has: a part, rows or a column by itself.
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import datasets, wires
from support.datasets import noise
from support.pairs import Pair
from usrstore.remote.peer import Checks
from usrstore.remote.wire import StreamChannel

OVERHEAD = 20_000
UNVETTED = {"checks": Checks(registry=False)}  # these columns are not of the registry


class Recorder(StreamChannel):
    """A channel that counts."""

    def __init__(self, reader, writer):
        super().__init__(reader, writer)
        self.turns = 0
        self.size = 0
        self._asking = False

    def read(self, size):
        self.turns += self._asking
        self._asking = False
        self.size += size
        return super().read(size)

    def write(self, data):
        self._asking = True
        self.size += len(data)
        super().write(data)


def recorded(peer):
    """A client of that peer, and what counts between them."""
    channels = []

    def channel(reader, writer):
        channels.append(Recorder(reader, writer))
        return channels[0]

    return wires.connect(peer, channel_type=channel), channels[0]


def table(rows, *, seed=0, columns=("seq",)):
    """Rows that do not compress, as a table."""
    ids = pa.array([f"{seed}-{n:09d}" for n in range(rows)])
    drawn = {
        name: pa.array([noise(f"{name} {seed} {n}", 120) for n in range(rows)], pa.binary())
        for name in columns
    }
    return pa.table({"id": ids, **drawn})


def parquet(*tables) -> bytes:
    """A Parquet file with a row group for each table."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, tables[0].schema, compression="zstd") as writer:
        for part in tables:
            writer.write_table(part)
    return sink.getvalue()


BASE = [table(4000, seed=n) for n in range(4)]
MORE = table(2000, seed=9)
PART = parquet(table(3000, seed=20, columns=("infer__logits",)))


def added_column():
    """The same rows with one more column, and that column by itself."""
    column = table(4000, seed=30, columns=("extra",))["extra"]
    wide = [part.append_column("extra", column) for part in BASE]
    return parquet(*wide), len(parquet(pa.table({"extra": column}))) * len(BASE)


def files():
    return {**datasets.old_files(), "records.parquet": parquet(*BASE)}


def append():
    return {**files(), "records.parquet": parquet(*BASE, MORE)}, len(parquet(MORE))


def overlay():
    return {**files(), "_derived/infer/part-9.parquet": PART}, len(PART)


def column():
    data, new = added_column()
    return {**files(), "records.parquet": data}, new


CHANGES = {"append": append, "overlay": overlay, "column": column}


@pytest.fixture
def agreed(tmp_path):
    pair = Pair.make(tmp_path, files=files())
    pair.push()
    return pair


@pytest.mark.parametrize("verb", ["push", "pull", "diff"])
def test_equal_states_cost_one_round_trip(agreed, verb):
    getattr(agreed, verb)()
    client, recorder = recorded(agreed.there.host())
    getattr(agreed, verb)(client)
    assert (recorder.turns, client.questions) == (1, 1)
    assert recorder.size < OVERHEAD


@pytest.mark.parametrize("change", CHANGES)
def test_a_push_sends_what_is_new_and_hardly_more(agreed, change):
    changed, new = CHANGES[change]()
    agreed.here.write(changed)
    client, recorder = recorded(agreed.there.host())
    agreed.push(client, **UNVETTED)
    assert recorder.turns <= 4
    assert recorder.size <= 1.05 * new + OVERHEAD, f"{recorder.size} for {new}"
    assert agreed.there.read() == changed


@pytest.mark.parametrize("change", CHANGES)
def test_a_pull_fetches_what_is_new_and_hardly_more(agreed, change):
    changed, new = CHANGES[change]()
    agreed.there.write(changed)
    client, recorder = recorded(agreed.there.host())
    agreed.pull(client, **UNVETTED)
    assert recorder.turns <= 4
    assert recorder.size <= 1.05 * new + OVERHEAD, f"{recorder.size} for {new}"
    assert agreed.here.read() == changed


def test_the_round_trips_of_a_transfer_do_not_follow_its_size(tmp_path):
    many = {f"_artifacts/{n}.bin": noise(n, 300) for n in range(300)}
    many["_artifacts/large.bin"] = noise("large", 8 << 20)
    pair = Pair.make(tmp_path, files={**datasets.old_files(), **many})
    client, recorder = recorded(pair.there.host())
    pair.push(client)
    assert recorder.turns <= 4
    pair.there.write({path: data + b"!" for path, data in pair.here.read().items()})
    client, recorder = recorded(pair.there.host())
    pair.pull(client)
    assert recorder.turns <= 4
    assert pair.here.read() == pair.there.read()
