"""Both sides changed: what can be united is, what cannot is named, and nothing is ever lost."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import datasets
from support.datasets import DATASET
from support.pairs import Place
from usrstore.dataset import mergetext
from usrstore.errors import ConflictError, MergeConflictError
from usrstore.objects import threeway
from usrstore.objects.ids import ContentHash, Kind, hash_object
from usrstore.objects.tree import FileEntry
from usrstore.verbs import mergestate
from usrstore.verbs.merge import merge
from usrstore.verbs.mergeplan import Choices, merge_bases
from usrstore.verbs.options import Options
from usrstore.verbs.pull import pull
from usrstore.verbs.push import push


def table(**columns) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=4)
    return sink.getvalue()


BASE = {
    "records.parquet": table(id=["a", "b", "c"], n=[1, 2, 3]),
    ".events.log": b'{"n":1}\n{"n":2}\n',
    "meta.md": b"name: x\n\n### Updates\n- one\n",
    "_artifacts/note.txt": b"a note\n",
}


class Sides(NamedTuple):
    here: Place
    there: Place
    go: Callable


@pytest.fixture
def sides(make_pair):
    """Two roots that agreed on BASE; each then changes what a test says, and `here` pulls."""
    pair = make_pair(BASE)
    pair.here.commit("base")
    pair.push()

    def go(ours, theirs, **options):
        for place, changes in ((pair.here, ours), (pair.there, theirs)):
            files = {**BASE, **changes}
            place.write({path: data for path, data in files.items() if data is not None})
        site = pair.here.site()
        return pull(site, pair.there.host(), "lab", Options(**options))

    return Sides(pair.here, pair.there, go)


def rows(place):
    return pq.read_table(place.folder / "records.parquet").to_pydict()


def pushed(pair):
    done = push(pair.here.site(), pair.there.host(), "lab", Options())
    assert done.state == "TRANSFERRED"
    assert pair.here.read() == pair.there.read()
    again = pull(pair.here.site(), pair.there.host(), "lab", Options())
    assert again.state == "NO-OP"
    assert not again.changed
    return done


# ── what can be united ──────────────────────────────────────────────────────────────────
def test_w14_concurrent_work_is_merged_and_both_sides_end_equal(sides):
    """W14: one event on each side, and neither pull nor push worked any more."""
    done = sides.go(
        {
            "records.parquet": table(id=["a", "b", "c", "mine"], n=[1, 2, 3, 4]),
            ".events.log": BASE[".events.log"] + b'{"mine":1}\n',
            "_derived/infer/part-mine.parquet": b"a part",
            "meta.md": BASE["meta.md"] + b"- mine\n",
        },
        {
            "records.parquet": table(id=["a", "b", "c", "yours"], n=[1, 2, 3, 5]),
            ".events.log": BASE[".events.log"] + b'{"yours":1}\n{"yours":2}\n',
            "_derived/infer/part-yours.parquet": b"another part",
            "meta.md": BASE["meta.md"] + b"- yours\n",
        },
    )
    assert done.state == "MERGED"
    assert rows(sides.here) == {"id": ["a", "b", "c", "yours", "mine"], "n": [1, 2, 3, 5, 4]}
    files = sides.here.read()
    assert files[".events.log"] == (BASE[".events.log"] + b'{"yours":1}\n{"yours":2}\n{"mine":1}\n')
    assert files["meta.md"] == BASE["meta.md"] + b"- yours\n- mine\n"
    assert {"_derived/infer/part-mine.parquet", "_derived/infer/part-yours.parquet"} <= {*files}
    manifest = sides.here.manifest()
    assert len(manifest.parents) == 2
    assert (manifest.rows, manifest.events) == (5, 5)
    assert done.merge.log == (2, 1)
    assert done.merge.rows["records.parquet"]["ours"] == 1
    pushed(sides)


def test_cells_of_one_row_from_both_sides(sides):
    sides.go(
        {"records.parquet": table(id=["a", "b", "c"], n=[10, 2, 3])},
        {"records.parquet": table(id=["a", "c"], n=[1, 30])},
    )
    assert rows(sides.here) == {"id": ["a", "c"], "n": [10, 30]}
    pushed(sides)


def test_a_file_that_one_side_removed_is_gone_and_one_that_it_added_is_there(sides):
    sides.go({"_artifacts/note.txt": None}, {"_artifacts/new.txt": b"new"})
    files = sides.here.read()
    assert "_artifacts/note.txt" not in files
    assert files["_artifacts/new.txt"] == b"new"
    pushed(sides)


def test_undo_takes_a_merge_back_byte_for_byte(sides):
    ours = {"records.parquet": table(id=["a", "b", "c", "mine"], n=[1, 2, 3, 4])}
    sides.go(ours, {"records.parquet": table(id=["a", "b", "c", "yours"], n=[1, 2, 3, 5])})
    from usrstore.verbs.undo import undo

    place = sides.here
    undo(place.root, place.site().who, [DATASET])
    assert place.read() == {**BASE, **ours}
    undo(place.root, place.site().who, [DATASET])
    assert rows(place)["id"] == ["a", "b", "c", "yours", "mine"]


def test_merging_again_changes_nothing(sides):
    sides.go({"meta.md": BASE["meta.md"] + b"- mine\n"}, {"_artifacts/x": b"x"})
    head = sides.here.head()
    theirs = sides.here.manifest().parents[1]
    done = merge(sides.here.site(), theirs, name="lab")
    assert (done.state, done.manifest) == ("NO-OP", head)


def test_a_state_that_follows_ours_is_gone_forward_to(sides):
    """Nothing of ours is missing there: no merge is made up."""
    from usrstore.verbs.fetch import fetch

    newer = {**BASE, "_artifacts/new.txt": b"new"}
    sides.there.write(newer)
    oid = fetch(sides.here.site(), sides.there.host(), "lab").manifest
    done = merge(sides.here.site(), oid, name="lab")
    assert (done.state, done.manifest, sides.here.head()) == ("FAST-FORWARD", oid, oid)
    assert sides.here.read() == newer


def test_no_transfer_runs_beside_a_merge(sides):
    """Their stages would be in each other's way."""
    sides.go({"_artifacts/mine": b"x"}, {"_artifacts/yours": b"y"})
    place = sides.here
    with place.site().transfer_lock(), pytest.raises(ConflictError) as caught:
        merge(place.site(), place.head(), name="lab")
    assert caught.value.code == "locked"


def test_both_sides_may_merge_and_meet(sides):
    """Crossed histories: both merged the same two states; then they agree without a conflict."""
    mine = {"records.parquet": table(id=["a", "b", "c", "mine"], n=[1, 2, 3, 4])}
    yours = {"records.parquet": table(id=["a", "b", "c", "yours"], n=[1, 2, 3, 5])}
    sides.go(mine, yours)
    pull(sides.there.site(), sides.here.host(), "lab", Options())
    assert sorted(rows(sides.there)["id"]) == ["a", "b", "c", "mine", "yours"]
    final = pull(sides.here.site(), sides.there.host(), "lab", Options())
    assert final.state in ("NO-OP", "TRANSFERRED", "MERGED")
    assert sorted(rows(sides.here)["id"]) == ["a", "b", "c", "mine", "yours"]


# ── logs that were cut, bases that are gone ─────────────────────────────────────────────
CUT = {
    ".events.archive/events-20261101T000000000000Z-0123456789ab.jsonl": b'{"n":1}\n',
    ".events.log": b'{"n":2}\n{"garden":1}\n',
}
GREW = {".events.log": BASE[".events.log"] + b'{"grew":1}\n'}


def test_w15_a_gardened_log_merges_with_one_that_grew(sides):
    """W15: the front of their log is in an archive; our new line follows, and no old one returns."""
    sides.go(GREW, CUT)
    assert sides.here.read()[".events.log"] == CUT[".events.log"] + b'{"grew":1}\n'
    pushed(sides)


def test_our_gardened_log_merges_with_theirs_that_grew(sides):
    sides.go({**CUT, "_artifacts/x": b"x"}, GREW)
    assert sides.here.read()[".events.log"] == CUT[".events.log"] + b'{"grew":1}\n'
    pushed(sides)


def test_two_gardened_logs_are_a_conflict(sides):
    with pytest.raises(MergeConflictError):
        sides.go(CUT, {**CUT, ".events.log": b'{"n":2}\n{"garden":2}\n'})


ROWS = (
    {"records.parquet": table(id=["a", "b", "c"], n=[10, 2, 3])},
    {"records.parquet": table(id=["a", "b", "c"], n=[1, 2, 30])},
)


@pytest.mark.parametrize("keeps", ["the remote", "nobody"])
def test_a_base_whose_bytes_are_gone_here_is_asked_of_the_remote(make_pair, keeps):
    pair = make_pair(BASE)
    pair.push()  # light at both ends: the bytes rest in the folders
    if keeps == "the remote":
        pair.there.commit()
    for place, changes in zip((pair.here, pair.there), ROWS, strict=True):
        place.write({**BASE, **changes})
    if keeps == "nobody":  # then nobody can tell who changed a cell
        with pytest.raises(MergeConflictError) as caught:
            pull(pair.here.site(), pair.there.host(), "lab", Options())
        assert {c["key"] for c in caught.value.conflicts} == {"a", "c"}
        return
    done = pull(pair.here.site(), pair.there.host(), "lab", Options())
    assert done.state == "MERGED"
    assert rows(pair.here)["n"] == [10, 2, 30]


def test_without_a_base_rows_of_both_sides_are_there_and_the_report_says_why(make_pair):
    pair = make_pair(BASE)
    pair.push()
    for place, key in ((pair.here, "mine"), (pair.there, "yours")):
        data = table(id=["a", "b", "c", key], n=[1, 2, 3, 4])
        place.write({**BASE, "records.parquet": data})
    done = pull(pair.here.site(), pair.there.host(), "lab", Options())
    assert rows(pair.here)["id"] == ["a", "b", "c", "yours", "mine"]
    assert "counts as added by the other" in done.merge.notes[0]


# ── what cannot ─────────────────────────────────────────────────────────────────────────
CLASH = (
    {"records.parquet": table(id=["a", "b", "c"], n=[7, 2, 3]), "_artifacts/note.txt": b"mine\n"},
    {"records.parquet": table(id=["a", "b", "c"], n=[8, 2, 3]), "_artifacts/note.txt": b"yours\n"},
)


def test_a_conflict_is_named_and_nothing_is_touched(sides):
    with pytest.raises(MergeConflictError) as caught:
        sides.go(*CLASH)
    found = {(c["path"], c["key"], c["column"]): c for c in caught.value.conflicts}
    cell = found["records.parquet", "a", "n"]
    assert (cell["base"], cell["ours"], cell["theirs"]) == ("1", "7", "8")
    assert ("_artifacts/note.txt", "", "") in found
    assert "records.parquet a n" in caught.value.message
    assert "nothing was changed" in caught.value.message
    assert sides.here.read() == {**BASE, **CLASH[0]}
    assert sides.there.read() == {**BASE, **CLASH[1]}


def test_a_conflict_does_not_count_as_agreed(sides):
    """After a refused merge, or a fetch, a push may not take the remote's work away."""
    with pytest.raises(MergeConflictError):
        sides.go(*CLASH)
    with pytest.raises(ConflictError):
        push(sides.here.site(), sides.there.host(), "lab", Options())
    assert sides.there.read() == {**BASE, **CLASH[1]}


def test_choices_settle_a_merge_that_waits(sides):
    with pytest.raises(MergeConflictError):
        sides.go(*CLASH)
    place = sides.here
    pending = mergestate.find(place.root, place.site().dataset)
    more = Choices(theirs=("_artifacts/*",), rows="ours")
    done = merge(
        place.site(), pending.theirs, name=pending.name, choices=pending.choices.with_more(more)
    )
    assert done.state == "MERGED"
    assert rows(place)["n"] == [7, 2, 3]
    assert place.read()["_artifacts/note.txt"] == b"yours\n"
    with pytest.raises(ConflictError):
        mergestate.find(place.root, place.site().dataset)
    pushed(sides)


@pytest.mark.parametrize(("side", "value"), [("ours", 7), ("theirs", 8)])
def test_a_pull_can_be_told_who_wins(sides, side, value):
    sides.go(*CLASH, choices=Choices(ours=("_artifacts/note.txt",), rows=side))
    assert rows(sides.here)["n"][0] == value
    assert sides.here.read()["_artifacts/note.txt"] == b"mine\n"
    pushed(sides)


def test_a_removal_against_a_change_is_a_conflict(sides):
    with pytest.raises(MergeConflictError) as caught:
        sides.go({"_artifacts/note.txt": None}, {"_artifacts/note.txt": b"changed\n"})
    [conflict] = caught.value.conflicts
    assert conflict["ours"] is None


def test_one_part_name_with_two_contents_is_a_conflict(sides):
    name = "_derived/infer/part-1.parquet"
    with pytest.raises(MergeConflictError) as caught:
        sides.go({name: b"mine"}, {name: b"yours"})
    assert [c["path"] for c in caught.value.conflicts] == [name]


def test_a_compact_overlay_and_parts_of_one_namespace_are_a_conflict(sides):
    with pytest.raises(MergeConflictError) as caught:
        sides.go({"_derived/infer.parquet": b"x"}, {"_derived/infer/part-1.parquet": b"y"})
    assert "_derived/infer.parquet" in str(caught.value)


def test_a_fetched_state_is_no_agreement(sides):
    """A fetch, then a push: the remote's own work would have been overwritten."""
    from usrstore.verbs.fetch import fetch

    sides.here.write({**BASE, "_artifacts/mine": b"mine"})
    sides.there.write({**BASE, "_artifacts/yours": b"yours"})
    fetch(sides.here.site(), sides.there.host(), "lab")
    with pytest.raises(ConflictError):
        push(sides.here.site(), sides.there.host(), "lab", Options())
    assert "_artifacts/yours" in sides.there.read()


# ── the parts ───────────────────────────────────────────────────────────────────────────
def entry(text):
    data = text.encode()
    return FileEntry("f", len(data), ContentHash(hash_object(Kind.CHUNK, data)), None)


def listing(**files):
    return {path: entry(text) for path, text in files.items()}


def test_paths_are_split_by_who_changed_them():
    found = threeway.split(
        [listing(same="1", mine="1", yours="1", both="1", gone="1")],
        listing(same="1", mine="2", yours="1", both="2", new="x"),
        listing(same="1", mine="1", yours="2", both="3", gone="1"),
    )
    assert found.ours == ("gone", "mine", "new")
    assert found.theirs == ("yours",)
    assert [clash.path for clash in found.clashes] == ["both"]
    assert "gone" not in found.settled


def test_without_a_base_what_one_side_lacks_was_added():
    found = threeway.split([], listing(a="1", c="1"), listing(b="1", c="2"))
    assert {*found.settled} == {"a", "b"}
    assert [clash.path for clash in found.clashes] == ["c"]


def test_bases_of_crossed_histories():
    class M:
        def __init__(self, *parents):
            self.parents = parents

    crossed = {"m": M("a", "b"), "a": M("r"), "b": M("r"), "r": M()}
    other = {"n": M("a", "b"), "a": M("r"), "b": M("r"), "r": M()}
    assert merge_bases(crossed, other) == ["a", "b"]
    assert merge_bases({"a": M("r"), "r": M()}, {"b": M("r"), "r": M()}) == ["r"]
    assert merge_bases({"a": M()}, {"b": M()}) == []


def lines(text):
    return text.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged", "conflicts"),
    [
        ("a\nb\n", "a\nb\nmine\n", "a\nb\nyours\n", "a\nb\nyours\nmine\n", 0),
        ("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n", "A\nb\nC\n", 0),
        ("a\nb\n", "a\n", "a\nb\n", "a\n", 0),
        ("a\n", "b\n", "b\n", "b\n", 0),
        ("a\n", "b\n", "c\n", None, 1),
        ("x\n", "x\n```\none\n```\n", "x\n```\ntwo\n```\n", "x\n```\ntwo\n```\n```\none\n```\n", 0),
        ("", "a\n", "a\n", "a\n", 0),
        ("", "a\nb\n", "a\n", "a\nb\n", 0),
    ],
)
def test_texts(base, ours, theirs, merged, conflicts):
    found = mergetext.merge(lines(base), lines(ours), lines(theirs))
    assert len(found.conflicts) == conflicts
    if merged is not None:
        assert "".join(found.lines) == merged


def test_a_dataset_is_not_merged_with_another(sides):
    datasets.write(sides.here.folder.parent / "other", BASE)
    other = sides.here.site(dataset="ns/other")
    from usrstore.verbs.commit import commit

    oid = commit(other, message="x").manifest
    with pytest.raises(Exception, match="nothing was changed"):
        merge(sides.here.site(), oid, name="other")
