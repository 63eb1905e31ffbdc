"""delete, restore and state: marks on rows, and nothing written where nothing changes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import datasets, overlays
from support.overlays import part
from usrstore.dataset import overlay, registry, reserved
from usrstore.errors import InvalidInputError, NotFoundError
from usrstore.verbs import marking

IDS = [overlays.row_id(sequence) for sequence in overlays.SEQUENCES]


@pytest.fixture
def place(home):
    return overlays.make_place(home / "root")


def visible(place):
    return [IDS.index(row["id"]) for row in overlays.joined(place.folder, ["id"])]


def tombstones(place):
    return pq.read_table(place.folder / "_derived" / "usr.parquet").to_pylist()


def test_deleted_rows_are_hidden_and_restored_ones_shown(place):
    done = marking.delete(place.site(), [IDS[3], IDS[1]], reason="contaminated")
    assert (done.changed, done.unchanged, done.missing) == (2, 0, ())
    assert visible(place) == [0, 2, 4]
    first, second = tombstones(place)
    assert (first["id"], first["usr__deleted"]) == (IDS[3], True)
    assert first["usr__deleted_reason"] == "contaminated"
    assert first["usr__deleted_at"] <= second["usr__deleted_at"]
    assert marking.restore(place.site(), [IDS[1]]).changed == 1
    assert visible(place) == [0, 1, 2, 4]
    assert tombstones(place)[1] == {
        "id": IDS[1],
        "usr__deleted": False,
        "usr__deleted_at": None,
        "usr__deleted_reason": None,
    }


def test_each_is_one_event_with_true_numbers(place):
    marking.delete(place.site(), [IDS[0], IDS[0], " "], reason="why")
    marking.restore(place.site(), [IDS[0], "nobody"], allow_missing=True)
    _, tombstone, restored = overlays.events_of(place.folder)  # the first freezes the registry
    assert tombstone["action"] == "tombstone"
    assert tombstone["args"] == {"rows": 1, "reason": "why", "allow_missing": False}
    assert restored["action"] == "restore"
    assert restored["args"] == {"rows": 1, "allow_missing": True}
    assert restored["metrics"] == {"rows": 1, "rows_skipped": 1}
    assert restored["fingerprint"]["rows"] == 1
    assert "Restored 1 row" in (place.folder / "meta.md").read_text()


def test_tombstones_are_as_every_reader_expects_them(place):
    marking.delete(place.site(), [IDS[0]], reason="x")
    file = overlay.inspect(str(place.folder), "_derived/usr.parquet")
    assert (file.namespace, file.key, file.contract_hash) == ("usr", "id", None)
    assert [str(kind) for kind in file.schema.types] == [
        "string", "bool", "timestamp[us, tz=UTC]", "string",
    ]  # fmt: skip


def test_what_changes_nothing_writes_nothing(place):
    marking.delete(place.site(), [IDS[0]], reason="first")
    before = datasets.read(place.folder)
    assert marking.delete(place.site(), [IDS[0]], reason="second").unchanged == 1
    assert marking.restore(place.site(), [IDS[1]]).unchanged == 1
    assert marking.clear_state(place.site(), [IDS[1]]).unchanged == 1
    assert marking.delete(place.site(), ["nobody"], allow_missing=True).missing == ("nobody",)
    assert datasets.read(place.folder) == before


def test_ids_that_are_not_there_are_refused_by_name(place):
    before = datasets.read(place.folder)
    for act in (marking.delete, marking.restore, marking.clear_state, marking.get_state):
        with pytest.raises(NotFoundError) as caught:
            act(place.site(), [IDS[0], *(f"no-{n}" for n in range(7))])
        assert "7 ids: no-0, no-1, no-2, no-3, no-4 …; nothing was changed" in caught.value.message
        assert caught.value.code == "id-not-found"
    with pytest.raises(InvalidInputError, match="no id was given"):
        marking.delete(place.site(), [" "])
    assert datasets.read(place.folder) == before


def test_parts_of_another_tool_are_taken_in(place):
    types = {"usr__deleted": pa.bool_(), "usr__deleted_reason": pa.string()}
    part("usr", 1, [{"id": IDS[0], "usr__deleted": True}], types).write(place.folder)
    part("usr", 2, [{"id": IDS[1], "usr__deleted": True}], types).write(place.folder)
    marking.restore(place.site(), [IDS[0]])
    assert visible(place) == [0, 2, 3, 4]
    assert overlay.find(str(place.folder)) == {"usr": ("_derived/usr.parquet",)}


def test_state_is_set_field_by_field(place):
    values = {"usr_state__masked": True, "usr_state__lineage": ["a", "b"]}
    assert marking.set_state(place.site(), IDS[:2], values).changed == 2
    marking.set_state(place.site(), [IDS[1]], {"usr_state__split": "val"})
    columns = pq.read_schema(place.folder / "_derived" / "usr_state.parquet").names
    assert columns == ["id", "usr_state__masked", "usr_state__split", "usr_state__lineage"]
    assert marking.get_state(place.site(), [IDS[2], IDS[1]]) == [
        {
            "id": IDS[2], "usr_state__masked": False, "usr_state__qc_status": None,
            "usr_state__split": None, "usr_state__supersedes": None, "usr_state__lineage": None,
        },
        {
            "id": IDS[1], "usr_state__masked": True, "usr_state__qc_status": None,
            "usr_state__split": "val", "usr_state__supersedes": None,
            "usr_state__lineage": ["a", "b"],
        },
    ]  # fmt: skip
    assert [row["id"] for row in marking.get_state(place.site())] == IDS[:2]


def test_state_events_say_what_was_set(place):
    marking.set_state(place.site(), [IDS[0]], {"usr_state__qc_status": "warn"})
    marking.clear_state(place.site(), [IDS[0]])
    *_, put, cleared = overlays.events_of(place.folder)
    assert put["action"] == "state_set"
    assert put["args"] == {
        "rows": 1, "masked": None, "qc_status": "warn", "split": "", "supersedes": "",
        "lineage_count": 0, "allow_missing": False,
    }  # fmt: skip
    assert (cleared["action"], cleared["args"]["rows"]) == ("state_clear", 1)
    (row,) = marking.get_state(place.site(), [IDS[0]])
    assert not any(value for name, value in row.items() if name != "id")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "nothing to set"),
        ({"usr_state__masked": None}, "nothing to set"),
        ({"usr_state__split": "dev"}, "usr_state__split is one of train, val, test, holdout"),
        ({"usr_state__qc_status": "good"}, "usr_state__qc_status is one of pass"),
        ({"usr_state__supersedes": ""}, "must not be empty"),
        ({"usr_state__lineage": []}, "must not be empty"),
    ],
)
def test_state_that_is_not_allowed(place, values, says):
    before = datasets.read(place.folder)
    with pytest.raises(InvalidInputError, match=says):
        marking.set_state(place.site(), [IDS[0]], values)
    assert datasets.read(place.folder) == before


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "restore", "set", "clear"]),
        st.lists(st.integers(0, 4), min_size=1, max_size=4),
        st.sampled_from(["train", "val"]),
    ),
    max_size=8,
)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(ACTS)
def test_any_sequence_of_marks_leaves_what_a_dict_would(memory_home, acts):
    place = overlays.make_place(memory_home / f"marks-{hash(repr(acts))}")
    gone, split = set(), {}
    for act, numbers, value in acts:
        ids = [IDS[number] for number in numbers]
        match act:
            case "delete":
                marking.delete(place.site(), ids)
                gone |= set(numbers)
            case "restore":
                marking.restore(place.site(), ids)
                gone -= set(numbers)
            case "set":
                marking.set_state(place.site(), ids, {"usr_state__split": value})
                split |= dict.fromkeys(numbers, value)
            case "clear":
                marking.clear_state(place.site(), ids)
                split = {number: word for number, word in split.items() if number not in numbers}
    assert visible(place) == [number for number in range(5) if number not in gone]
    found = marking.get_state(place.site(), IDS)
    assert [row["usr_state__split"] for row in found] == [split.get(n) for n in range(5)]


def test_state_columns_are_those_of_every_registry():
    columns = registry.EMPTY["namespaces"]["usr_state"]["columns"]
    assert {column["name"]: column["type"] for column in columns} == reserved.STATE_COLUMNS
