"""Row diffs of states that are in packs, in folders and at remotes: what is read, and from where."""

from __future__ import annotations

import pyarrow as pa
import pytest

from support import overlays, wires
from support.overlays import part, row
from support.pairs import Pair
from usrstore.dataset import rowsummary
from usrstore.errors import ChangedWhileReadError, IncompleteError
from usrstore.odb import reach
from usrstore.verbs import rowdiff
from usrstore.verbs.meeting import meet
from usrstore.verbs.rowdiff import Question

SEQUENCES = [
    f"ACGT{'ACGT'[n % 4]}{n:05}".translate(str.maketrans("0123456789", "ACGTACGTAC"))
    + "A" * (n % 50)
    for n in range(400)
]
TYPES = {"infer__score": pa.float64()}


def rows(**edits):
    return [row(s, **edits.get(f"r{n}", {})) for n, s in enumerate(dict.fromkeys(SEQUENCES))]


def write(place, base, *layers):
    overlays.write_base(place.folder, base, row_group_size=100)
    for layer in layers:
        layer.write(place.folder)


def scores(number, count, value):
    named = [{"id": r["id"], "infer__score": value} for r in rows()[:count]]
    return part("infer", number, named, TYPES)


@pytest.fixture
def pair(tmp_path):
    made = Pair.make(tmp_path)
    overlays.write_registry(made.here.path)
    write(made.here, rows(), scores(1, 10, 1.0))
    return made


def listing(place, oid):
    return reach.listing(place.root.database.get, place.manifest(oid).tree)


def summaries(both, scratch, **question):
    return {
        table.name: (table, rowsummary.summarize(table.parts, 100))
        for table in both.tables(Question(**question), str(scratch))
    }


def test_two_kept_states_are_compared_without_the_folder(pair, tmp_path):
    here = pair.here
    first = here.commit().manifest
    write(here, rows(r3={"source": "edited"}), scores(2, 4, 2.0))
    second = here.commit().manifest
    for path in here.folder.rglob("*.parquet"):
        path.write_bytes(b"the folder has moved on")
    site = here.site()
    sides = (listing(here, first), listing(here, second))
    with rowdiff.between(site, None, *sides, ("old", "new")) as both:
        found = summaries(both, tmp_path / "s")["rows"][1]
        assert (found.added, found.removed, found.changed) == (0, 0, 4)
        assert found.cells == {"source": 1, "infer__score": 4}
        by_file = summaries(both, tmp_path / "t", mode="raw")
    assert [t.status for t, _ in by_file.values()] == ["A", "M"]
    assert by_file["records.parquet"][1].cells == {"source": 1}


def test_a_light_state_whose_bytes_are_gone_says_so(pair, tmp_path):
    pair.push()
    pulled = pair.there
    first = pulled.head()
    before = listing(pulled, first)
    write(pulled, rows(r399={"source": "edited"}))
    site = pulled.site()
    sides = rowdiff.between(site, site.capture(record=False), before, None, ("a", "b"))
    with sides as both, pytest.raises(IncompleteError) as caught:
        summaries(both, tmp_path / "s", mode="raw")
    assert caught.value.code == "not-kept"
    assert "light" in caught.value.message


def test_a_folder_that_is_written_to_meanwhile_is_an_error(pair, tmp_path):
    here = pair.here
    before = listing(here, here.commit().manifest)
    write(here, rows(r3={"source": "edited"}))
    site = here.site()
    with rowdiff.between(site, site.capture(record=True), before, None, ("a", "b")) as both:
        tables = both.tables(Question(), str(tmp_path / "s"))
        next(tables)
        write(here, rows(r4={"source": "again"}))
        with pytest.raises(ChangedWhileReadError):
            list(tables)


def test_of_a_remote_only_what_differs_is_fetched_and_nothing_is_made_there(pair, tmp_path):
    big = [row(s, note=overlays.row_id(s) * 40) for s in dict.fromkeys(SEQUENCES)]
    overlays.write_base(pair.here.folder, big, {"note": pa.string()}, row_group_size=50)
    pair.push()
    there = pair.there.everything()
    edited = [dict(r) for r in big]
    edited[7]["length"] += 1
    overlays.write_base(pair.here.folder, edited, {"note": pa.string()}, row_group_size=50)
    size = (pair.here.folder / "records.parquet").stat().st_size
    peer = wires.connect(pair.there.host())
    try:
        met = meet(pair.here.site(), peer, "r", "diff")
        _, before, questions = peer.traffic()
        with rowdiff.with_remote(met, peer) as both:
            found = summaries(both, tmp_path / "s")["rows"][1]
        _, after, asked = peer.traffic()
    finally:
        peer.close()
    assert found.cells == {"length": 1}
    assert [change.key for change in found.changed_rows] == [edited[7]["id"]]
    assert after - before < size / 4
    assert asked - questions <= 6
    assert pair.there.everything() == there


def test_a_remote_that_sends_other_bytes_is_found_out(pair, tmp_path):
    pair.push()
    write(pair.here, rows(r3={"source": "edited"}))
    host = pair.there.host()
    honest = host.send

    def lie(oids):
        for piece in honest(oids):
            yield piece._replace(encoding=0, size=3, stored=b"lie")

    host.send = lie
    met = meet(pair.here.site(), host, "r", "diff")
    with rowdiff.with_remote(met, host) as both, pytest.raises(Exception) as caught:
        summaries(both, tmp_path / "s")
    host.close()
    assert "arrived damaged" in str(caught.value)
