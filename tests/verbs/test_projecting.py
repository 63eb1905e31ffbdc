"""overlay-project: columns of one dataset for the rows of another that they belong to."""

from __future__ import annotations

import pyarrow as pa
import pytest

from support import datasets, overlays
from support.overlays import part, row, row_id
from usrstore.errors import InvalidInputError, NotFoundError, RegistryError, UsrError
from usrstore.verbs.projecting import project

HERE, SOURCE = ["ACGT", "TTGA", "GGCC"], ["TTGA", "CATG", "ACGT"]
TYPES = {"infer__score": pa.float64(), "infer__n": pa.int32()}


@pytest.fixture
def place(home):
    made = overlays.make_place(home / "root", HERE)
    source = made.path / "ns" / "source"
    overlays.write_base(source, [row(sequence) for sequence in SOURCE])
    rows = [{"id": row_id(s), "infer__score": float(n)} for n, s in enumerate(SOURCE)]
    part("infer", 1, rows, TYPES).write(source)
    return made


def run(place, **options):
    options.setdefault("allow_missing", True)
    return project(place.site(), "ns/source", "infer", **options)


def scores(place):
    return [row.get("infer__score") for row in overlays.joined(place.folder)]


@pytest.mark.parametrize("join", ["id", "sequence"])
def test_rows_get_what_the_source_has(place, join):
    done = run(place, source_join=join, target_join=join)
    assert (done.rows, done.matched, done.missing) == (3, 2, 1)
    assert done.columns == ("infer__score", "infer__n")
    assert scores(place) == [2.0, 0.0, None]
    *_, event = overlays.events_of(place.folder)
    assert event["args"]["note"].startswith("projected from ns/source by")
    assert event["metrics"] == {"rows_written": 2, "rows_skipped": 0}


def test_rows_that_share_a_key_all_get_the_value(home):
    place = overlays.make_place(home / "root", [])
    rows = [row(sequence, source=name) for sequence, name in zip(HERE, "aab", strict=True)]
    overlays.write_base(place.folder, rows)
    source = place.path / "ns" / "source"
    overlays.write_base(source, [row("CCCC", source="a"), row("GGGG", source="")])
    rows = [{"id": row_id("CCCC"), "infer__score": 4.0}]
    part("infer", 1, rows, TYPES).write(source)
    run(place, source_join="source", target_join="source")
    assert scores(place) == [4.0, 4.0, None]


def refused(place, error, says, **options):
    before = datasets.read(place.folder)
    with pytest.raises(error) as caught:
        run(place, **options)
    assert says in caught.value.message
    assert datasets.read(place.folder) == before


def test_what_is_refused(place):
    refused(
        place,
        InvalidInputError,
        "ns/source lacks the id of 1 of the 3 rows of ns/x: ",
        allow_missing=False,
    )
    refused(place, NotFoundError, "no column infer__nope", columns=["nope"])
    refused(place, NotFoundError, "no column nope", source_join="nope")
    refused(place, NotFoundError, "the destination has no column nope", target_join="nope")
    refused(place, InvalidInputError, "share a source: test", source_join="source")
    run(place, columns=["score"])
    refused(place, InvalidInputError, "columns already exist", overwrite=False)
    overlays.write_registry(place.path, {})
    refused(place, RegistryError, "the namespace infer is not registered")


def test_a_dry_run_only_looks(place):
    before = datasets.read(place.folder)
    done = run(place, dry_run=True)
    assert (done.matched, done.path) == (2, None)
    assert datasets.read(place.folder) == before


def test_nothing_matched_writes_nothing(place):
    before = datasets.read(place.folder)
    assert run(place, target_join="alphabet").path is None
    assert datasets.read(place.folder) == before


def test_reserved_namespaces_and_unknown_sources(place):
    with pytest.raises(RegistryError):
        project(place.site(), "ns/source", "usr")
    with pytest.raises(UsrError):
        project(place.site(), "ns/nope", "infer")
