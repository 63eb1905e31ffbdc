"""Readers take no lock: what they show beside a busy writer is a moment that was, or they say so.

The writer is another process. One is a stranger that knows no journal and holds no lock, as other
tools of the family do; one is our own compaction and attachment. What it writes says the same in
either form, so a reader that shows anything else has looked between two states.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from support import overlays
from support.overlays import part
from usrstore.dataset import overlaypaths, query
from usrstore.errors import ChangedWhileReadError, ConflictError, OverlayError
from usrstore.objects.names import DatasetId
from usrstore.verbs import reading

IDS = [overlays.row_id(sequence) for sequence in overlays.SEQUENCES]
SCORES = [float(n) for n in range(len(IDS))]
TYPES = {"infer__score": pa.float64()}
READS, SHOWN = 40, 15
LISTINGS = 2000, 200_000  # at least, and at most

STRANGER = """
import itertools, os, sys, time
derived, store = sys.argv[1:]
home = os.path.join(derived, "infer")
names = sorted(os.listdir(home))
spare = os.path.join(store, "spare")
print("ready", flush=True)
for turn in itertools.count():
    rest = 0.01 * 2 ** (turn % 6)
    os.link(spare, os.path.join(derived, "infer.parquet"))
    time.sleep(0.001)
    for name in names:
        os.rename(os.path.join(home, name), os.path.join(store, name))
    os.rmdir(home)
    time.sleep(rest)
    os.mkdir(os.path.join(store, "infer"))
    for name in names:
        os.rename(os.path.join(store, name), os.path.join(store, "infer", name))
    os.rename(os.path.join(store, "infer"), home)
    time.sleep(0.001)
    os.unlink(os.path.join(derived, "infer.parquet"))
    time.sleep(rest)
"""

OURS = """
import itertools, sys, time
sys.path.insert(0, sys.argv[1])
import pyarrow as pa
from support import overlays
from support.pairs import Place
from support.people import Clock, make_who
from pathlib import Path
from usrstore.verbs import overlays as care
from usrstore.verbs.attach import write_overlay_part
from usrstore.dataset import incoming
place = Place(Path(sys.argv[2]), make_who(clock=Clock()))
table = incoming.as_arrow([{"id": overlays.row_id("ACGT"), "score": 0.0}])
print("ready", flush=True)
for turn in itertools.count():
    time.sleep(0.01 * 2 ** (turn % 6))
    care.compact(place.site(), "infer")
    write_overlay_part(place.site(), "infer", table, key="id")
"""


@pytest.fixture
def place(home):
    place = overlays.make_place(home / "root")
    for number, (key, score) in enumerate(zip(IDS, SCORES, strict=True)):
        part("infer", number, [{"id": key, "infer__score": score}], TYPES).write(place.folder)
    return place


def racing(code, *words):
    """A process that goes on until it is killed; it has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def look(place):
    """Reads until enough were answered; gives everything that was shown, and how often nothing."""
    shown, refused = [], 0
    for _ in range(READS):
        try:
            shown.append(
                reading.read(
                    place.root,
                    DatasetId("ns/x"),
                    lambda view: [
                        row["infer__score"]
                        for b in view.head(9, ["infer__score"])
                        for row in b.to_pylist()
                    ],
                )
            )
        except ChangedWhileReadError:
            refused += 1
        except ConflictError as exc:
            assert exc.code == "journal-pending"
            refused += 1
        if len(shown) == SHOWN:
            break
    return shown, refused


def beside(process, act):
    try:
        found = act()
        assert process.poll() is None  # it was at work all the while
        return found
    finally:
        process.kill()
        process.communicate()


def test_a_reader_beside_a_stranger_that_compacts_shows_every_value_or_says_so(place, home):
    store = home / "away"
    store.mkdir()
    layers = overlays.read_layers(place.folder, "infer")
    rows = [row for layer in layers for row in layer.rows]
    overlays.Layer("infer", layers[-1].created_us, None, rows, TYPES).write(home / "other")
    (home / "other" / "_derived" / "infer.parquet").rename(store / "spare")
    writer = racing(STRANGER, place.folder / "_derived", store)
    shown, _ = beside(writer, lambda: look(place))
    assert shown
    assert all(values == SCORES for values in shown)


def test_a_reader_beside_our_own_compaction_shows_every_value_or_says_so(place):
    writer = racing(OURS, Path(__file__).parents[1], place.path)
    shown, _ = beside(writer, lambda: look(place))
    assert shown
    assert all(values == SCORES for values in shown)


def test_no_listing_beside_a_compaction_lacks_a_part(place, home):
    """Where a listing shows neither form, or some parts only, a reader would miss values."""
    store = home / "away"
    store.mkdir()
    (store / "spare").write_bytes(b"compact")
    whole = set(overlaypaths.listed(place.folder))
    writer = racing(STRANGER, place.folder / "_derived", store)
    compact = {"_derived/infer.parquet"}

    def lists():
        seen = []
        for count in range(LISTINGS[1]):
            listing = set(overlaypaths.listed(place.folder))
            assert listing >= whole or listing >= compact
            if listing in (whole, compact) and listing not in seen:
                seen.append(listing)
            if count >= LISTINGS[0] and len(seen) == 2:
                break
        return seen

    assert len(beside(writer, lists)) == 2


def test_both_forms_that_stay_are_refused_however_long_one_looks(place):
    (place.folder / "_derived" / "infer.parquet").write_bytes(b"compact")
    for act in (overlaypaths.find, query.open_view):
        with pytest.raises(OverlayError) as caught:
            act(str(place.folder))
        assert caught.value.code == "overlay-both-forms"
    with pytest.raises(OverlayError):
        reading.read(place.root, DatasetId("ns/x"), lambda view: view)
