"""compact, remove, archive and stamp overlays: what a reader sees stays what it was."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import datasets, overlays
from support.overlays import Layer, part
from usrstore.dataset import offer, overlay, parquetfile
from usrstore.errors import NotFoundError, OverlayError, RegistryError
from usrstore.verbs import overlays as verbs
from usrstore.verbs.attach import write_overlay_part

IDS = [overlays.row_id(sequence) for sequence in overlays.SEQUENCES]
SCORE = {"infer__score": pa.float64()}


@pytest.fixture
def place(home):
    return overlays.make_place(home / "root")


def write(place, *parts, types=None):
    """Parts from lists of (number of the row, score)."""
    for number, pairs in enumerate(parts):
        rows = [{"id": IDS[n], "infer__score": score} for n, score in pairs]
        part("infer", number, rows, types or SCORE).write(place.folder)


def scores(place):
    return [row["infer__score"] for row in overlays.joined(place.folder)]


def unchanged(place, error, code, act, *args, **options):
    before = datasets.read(place.folder)
    with pytest.raises(error) as caught:
        act(place.site(), *args, **options)
    assert caught.value.code == code
    assert datasets.read(place.folder) == before
    return caught.value


# ── compact ─────────────────────────────────────────────────────────────────────────────
def test_w9_compaction_keeps_the_newest_value_and_no_key_twice(place):
    """W9: parts that overlapped were concatenated and deleted; every read then failed."""
    write(place, [(0, 1.0), (1, 2.0)], [(1, 3.0), (2, None)], [(2, 4.0), (0, None)])
    before = overlays.joined(place.folder)
    done = verbs.compact(place.site(), "infer")
    assert (done.parts, done.rows_before, done.rows, done.created) == (3, 6, 3, True)
    (layer,) = overlays.read_layers(place.folder, "infer")
    assert layer.name is None
    assert len({row["id"] for row in layer.rows}) == len(layer.rows) == 3
    assert overlays.joined(place.folder) == before
    assert scores(place)[:3] == [1.0, 3.0, 4.0]
    assert not (place.folder / "_derived" / "infer").exists()


def test_compaction_is_one_event_with_true_numbers(place):
    write(place, [(0, 1.0)], [(0, 2.0)])
    done = verbs.compact(place.site(), "infer")
    *_, event = overlays.events_of(place.folder)
    assert event["action"] == "compact_overlay"
    assert event["metrics"] == {"rows_read": 2, "rows_written": 1}
    assert event["maintenance"] == {"reason": "overlay_compact"}
    assert event["fingerprint"] == {
        "rows": 1,
        "cols": 2,
        "size_bytes": (place.folder / done.path).stat().st_size,
    }


def test_the_same_parts_compact_to_the_same_bytes(home):
    files = []
    for name in ("one", "two"):
        place = overlays.make_place(home / name)
        write(place, [(0, 1.0), (1, None)], [(1, 2.0)])
        files.append((place.folder / verbs.compact(place.site(), "infer").path).read_bytes())
    assert files[0] == files[1]


def test_what_is_compact_stays_as_it_is(place):
    write(place, [(0, 1.0)])
    verbs.compact(place.site(), "infer")
    before = datasets.read(place.folder)
    assert verbs.compact(place.site(), "infer").created is False
    assert datasets.read(place.folder) == before


def test_a_part_written_after_compaction_wins(place):
    write(place, [(0, 1.0), (1, 1.0)], [(0, 2.0)])
    verbs.compact(place.site(), "infer")
    table = pa.table({"id": [IDS[0]], "infer__score": [3.0]})
    write_overlay_part(place.site(), "infer", table)
    assert scores(place)[:2] == [3.0, 1.0]
    verbs.compact(place.site(), "infer")
    assert scores(place)[:2] == [3.0, 1.0]


def test_an_overlay_that_breaks_its_namespace_is_not_compacted(place):
    write(place, [(0, 1.0)])
    rows = [{"id": IDS[0], "infer__odd": "x", "infer__n": "y"}]
    part("infer", 5, rows, {"infer__odd": pa.string(), "infer__n": pa.string()}).write(place.folder)
    error = unchanged(place, RegistryError, "registry", verbs.compact, "infer")
    assert "the column infer__odd is not registered" in error.message
    assert "infer__n is string, registered as int32" in error.message


def test_what_lies_among_the_parts_stops_compaction(place):
    write(place, [(0, 1.0)], [(1, 1.0)])
    (place.folder / "_derived" / "infer" / "part-3.parquet.tmp").write_bytes(b"half")
    error = unchanged(place, OverlayError, "overlay-strays", verbs.compact, "infer")
    assert "part-3.parquet.tmp" in error.message


def test_a_ledger_of_parts_goes_with_them(place):
    write(place, [(0, 1.0)], [(1, 1.0)])
    (place.folder / "_derived" / "infer" / "digest_ledger.json").write_text("{}")
    verbs.compact(place.site(), "infer")
    assert not (place.folder / "_derived" / "infer").exists()


def test_an_overlay_that_is_not_there(place):
    write(place, [(0, 1.0)])
    for act in (verbs.compact, verbs.remove, verbs.refresh_metadata):
        error = unchanged(place, NotFoundError, "overlay-not-found", act, "annot")
        assert error.hint == "it has: infer"


def test_w27_a_compact_file_shares_its_pages_with_the_parts(home):
    """W27: what is rewritten is new bytes only where it says something new."""
    rows, items, parts = 4000, 64, 3
    sequences = [f"{n:014b}".replace("0", "A").replace("1", "C") for n in range(rows * parts)]
    place = overlays.make_place(home / "root", sequences)
    ids = [overlays.row_id(sequence) for sequence in sequences]
    for number in range(parts):
        noise = pa.py_buffer(datasets.noise(number, rows * items * 4))
        flat = pa.Array.from_buffers(pa.float32(), rows * items, [None, noise])
        ends = pa.array(range(0, rows * items + 1, items), pa.int32())
        vectors = pa.ListArray.from_arrays(ends, flat)
        columns = {"id": ids[number * rows : (number + 1) * rows], "infer__vector": vectors}
        write_overlay_part(place.site(), "infer", pa.table(columns))
    place.commit()
    size = sum(path.stat().st_size for path in place.folder.glob("_derived/infer/*.parquet"))
    verbs.compact(place.site(), "infer")
    stored = place.commit().bytes_stored
    assert stored < size / 10, (stored, size)


# ── remove and archive ──────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("mode", ["error", "delete"])
def test_a_removed_overlay_is_gone_with_its_folder(place, mode):
    write(place, [(0, 1.0)], [(1, 1.0)])
    done = verbs.remove(place.site(), "infer", mode=mode)
    assert len(done.removed) == 2
    assert not (place.folder / "_derived").exists()
    *_, event = overlays.events_of(place.folder)
    assert (event["action"], event["metrics"]) == ("remove_overlay", {"files": 2, "rows": 2})
    before = datasets.read(place.folder)
    if mode == "delete":
        assert verbs.remove(place.site(), "infer", mode=mode).removed == ()
        assert datasets.read(place.folder) == before
    else:
        unchanged(place, NotFoundError, "overlay-not-found", verbs.remove, "infer")


@pytest.mark.parametrize("compact", [False, True])
def test_an_archived_overlay_keeps_its_bytes_and_is_seen_no_more(place, compact):
    write(place, [(0, 1.0)], [(1, 1.0)])
    if compact:
        verbs.compact(place.site(), "infer")
    old = {p.name: p.read_bytes() for p in place.folder.glob("_derived/infer*/**/*.parquet")}
    old |= {p.name: p.read_bytes() for p in place.folder.glob("_derived/infer*.parquet")}
    done = verbs.remove(place.site(), "infer", mode="archive")
    where = place.folder / done.archived
    found = [where] if compact else sorted(where.iterdir())
    assert sorted(p.read_bytes() for p in found) == sorted(old.values())
    assert overlay.find(str(place.folder)) == {}
    assert overlays.events_of(place.folder)[-1]["args"]["archived"] == str(where)


def test_of_a_namespace_only_the_newest_archive_stays(place):
    write(place, [(0, 1.0)])
    first = verbs.remove(place.site(), "infer", mode="archive").archived
    other = Layer("annot", 1, None, [{"id": IDS[0], "annot__ok": True}], {"annot__ok": pa.bool_()})
    other.write(place.folder)
    kept = verbs.remove(place.site(), "annot", mode="archive").archived
    write(place, [(1, 1.0)])
    done = verbs.remove(place.site(), "infer", mode="archive")
    assert all(path.startswith(first) for path in done.dropped)
    names = {path.name for path in (place.folder / "_derived" / "_archived").iterdir()}
    assert names == {kept.rpartition("/")[2], done.archived.rpartition("/")[2]}


def test_reserved_namespaces_are_not_removed(place):
    for namespace in ("usr", "usr_state"):
        unchanged(place, RegistryError, "namespace-reserved", verbs.remove, namespace)


# ── stamps ──────────────────────────────────────────────────────────────────────────────
def test_w12_a_new_namespace_needs_no_rewriting_and_a_stamp_only_new_footers(place):
    """W12: a registry that grew made data invalid; the remedy rewrote it."""
    write_overlay_part(place.site(), "infer", pa.table({"id": IDS, "infer__n": [1] * 5}))
    old = overlay.load(str(place.folder))["infer"].files[0]
    overlays.write_registry(place.path, {**overlays.NAMESPACES, "more": {"more__x": "string"}})
    base = (place.folder / "records.parquet").read_bytes()
    (changed,) = verbs.refresh_metadata(place.site(), "infer")
    new = overlay.load(str(place.folder))["infer"].files[0]
    assert (new.path, new.created_us) == (changed, old.created_us)
    assert new.registry_hash != old.registry_hash
    assert new.contract_hash == old.contract_hash
    assert (place.folder / "records.parquet").read_bytes() == base
    *_, event = overlays.events_of(place.folder)
    assert event["action"] == "refresh_overlay_metadata"
    assert event["registry_hash"] == new.registry_hash
    assert event["metrics"] == {"files": 1}
    before = datasets.read(place.folder)
    assert verbs.refresh_metadata(place.site(), "infer") == ()
    assert datasets.read(place.folder) == before


def test_a_stamp_leaves_the_rows_their_bytes(place):
    write_overlay_part(place.site(), "infer", pa.table({"id": IDS, "infer__n": [1] * 5}))
    (file,) = overlay.load(str(place.folder))["infer"].files
    path = place.folder / file.path
    old, footer = path.read_bytes(), pq.read_metadata(path).serialized_size
    overlays.write_registry(place.path, {**overlays.NAMESPACES, "more": {"more__x": "string"}})
    verbs.refresh_metadata(place.site(), "infer")
    end = len(old) - footer - 8
    assert path.read_bytes()[:end] == old[:end]
    assert parquetfile.facts(str(path)).metadata["usr:overlay_key"] == "id"


def test_an_overlay_that_breaks_its_namespace_gets_no_stamp(place):
    write(place, [(0, 1.0)])
    overlays.write_registry(place.path, {"infer": {"infer__score": "string"}})
    unchanged(place, RegistryError, "registry", verbs.refresh_metadata, "infer")


def test_offers_are_capped(place):
    """A contract that is broken everywhere is told in a screenful."""
    types = {f"infer__x{n}": pa.string() for n in range(30)}
    part("infer", 1, [], types).write(place.folder)
    error = unchanged(place, RegistryError, "registry", verbs.compact, "infer")
    assert error.message.endswith("… and 10 more")
    assert offer.listed(["a"] * 9).endswith("…")
