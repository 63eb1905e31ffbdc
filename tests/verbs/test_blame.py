"""Which state brought a row and its values: along a line, through merges, past light states."""

from __future__ import annotations

import pyarrow as pa
import pytest

from support import overlays
from support.overlays import part, row
from support.pairs import Pair
from usrstore.errors import NotFoundError
from usrstore.objects.names import head_ref
from usrstore.odb.states import Change
from usrstore.verbs.blame import THE_ROW, blame
from usrstore.verbs.growth import growth

SEQUENCES = ["ACGT", "TTGA", "GGCC"]
ROW = row("TTGA")["id"]
SCORE = {"infer__score": pa.float64()}


@pytest.fixture
def place(tmp_path):
    made = Pair.make(tmp_path).here
    overlays.write_registry(made.path)
    return made


def commit(place, rows, *layers, message=""):
    overlays.write_base(place.folder, rows, row_group_size=2)
    for layer in layers:
        layer.write(place.folder)
    return place.commit(message).manifest


def origins(place, **more):
    found = blame(place.site(), more.pop("start", place.head()), ROW, **more)
    return {origin.column: origin for origin in found}


def bases(*edits):
    return [row(s, **(edits[0] if edits and s == "TTGA" else {})) for s in SEQUENCES]


def scored(number, value):
    return part("infer", number, [{"id": ROW, "infer__score": value}], SCORE)


def test_each_value_is_blamed_on_the_state_that_brought_it(place):
    commit(place, [row("ACGT")])
    second = commit(place, bases())
    third = commit(place, bases({"source": "edited"}), scored(1, 1.0))
    fourth = commit(place, bases({"source": "edited"}), scored(2, 2.0))
    commit(place, [*bases({"source": "edited"}), row("AAAA")])  # not about this row
    found = origins(place)
    assert found[THE_ROW].state == second
    assert found["sequence"].state == second
    assert found["source"].state == third
    assert (found["infer__score"].state, found["infer__score"].value) == (fourth, 2.0)
    assert found["infer__score"].source.startswith("_derived/infer/part-")
    assert not any(origin.unread for origin in found.values())
    assert origins(place, start=third)["infer__score"].value == 1.0


def test_a_value_that_came_back_is_blamed_on_its_return(place):
    commit(place, bases())
    commit(place, bases({"source": "edited"}))
    third = commit(place, bases())
    assert origins(place)["source"].state == third


def test_a_merge_is_blamed_for_nothing_that_a_parent_says(place):
    first = commit(place, bases())
    ours = commit(place, bases({"source": "ours"}))
    # Another line from the first state, and a merge that takes a value of each.
    site = place.site()
    place.root.states.advance(
        {head_ref(site.dataset): Change(ours, first)}, place.who.act("to the other line")
    )
    theirs = commit(place, bases({"created_at": overlays.MOMENT.replace(year=2027)}))
    overlays.write_base(
        place.folder,
        bases({"source": "ours", "created_at": overlays.MOMENT.replace(year=2027)}),
        row_group_size=2,
    )
    merged = place.commit("merge").manifest  # its bytes are kept; now with two parents
    site = place.site()
    both = site.snapshot(site.capture(record=False), message="both", parents=[ours, theirs])
    site.overlay.flush()
    assert both != merged
    found = origins(place, start=both)
    assert found["source"].state == ours
    assert found["created_at"].state == theirs
    assert found["sequence"].state == found[THE_ROW].state == first


def test_of_a_light_state_only_the_latest_that_can_have_brought_it_is_said(place):
    """What is older than a light state and the same is certain; the rest is told as it is."""
    first = commit(place, bases())
    overlays.write_base(
        place.folder, bases({"source": "edited"}), row_group_size=2, compression="none"
    )
    site = place.site()
    light = site.snapshot(site.capture(record=False), message="light", parents=[site.head()])
    site.overlay.flush()
    place.root.states.advance({head_ref(site.dataset): Change(first, light)}, place.who.act(""))
    last = commit(place, bases({"source": "edited"}))
    found = origins(place)
    assert found["sequence"].state == first
    assert not found["sequence"].unread
    assert (found["source"].state, found["source"].unread) == (last, (light,))


def test_a_row_that_is_not_there_is_an_error(place):
    commit(place, [row("ACGT")])
    with pytest.raises(NotFoundError) as caught:
        origins(place)
    assert caught.value.code == "row-not-found"


def test_growth_is_told_without_reading_a_file(place):
    commit(place, [row("ACGT")])
    commit(place, bases(), scored(1, 1.0))
    head = place.manifest()
    for path in place.folder.rglob("*.parquet"):
        path.unlink()
    found = growth(place.root, head)
    assert found.now == {"rows": 3, "columns": 7, "events": None, "overlays": 1}
    assert found.since == {"rows": 2, "columns": 0, "events": None, "overlays": 1}
