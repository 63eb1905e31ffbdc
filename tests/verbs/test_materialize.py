"""materialize: a reader sees the same rows before and after, and the overlays' fate is chosen."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from support import datasets, overlays
from support.overlays import Layer, part
from usrstore.dataset import overlay, parquetfile, schema
from usrstore.errors import InvalidInputError, NotFoundError, RegistryError
from usrstore.verbs import attach, materialize
from usrstore.verbs import overlays as care

IDS = [overlays.row_id(sequence) for sequence in overlays.SEQUENCES]
TYPES = {"infer__score": pa.float64(), "infer__n": pa.int32()}


@pytest.fixture
def place(home):
    made = overlays.make_place(home / "root")
    part("infer", 1, [{"id": IDS[0], "infer__score": 1.0}, {"id": IDS[1]}], TYPES).write(
        made.folder
    )
    part("infer", 2, [{"id": IDS[0], "infer__n": 7}, {"id": "nobody"}], TYPES).write(made.folder)
    Layer(
        "annot", 5, None, [{"id": IDS[2], "annot__label": "x"}], {"annot__label": pa.string()}
    ).write(made.folder)
    return made


def tombs(place, *numbers):
    rows = [{"id": IDS[n], "usr__deleted": True} for n in numbers]
    Layer("usr", 1, None, rows, {"usr__deleted": pa.bool_()}).write(place.folder)


def run(place, **options):
    return materialize.materialize(place.site(), **options)


def base(place):
    return pq.read_table(place.folder / "records.parquet")


def test_a_reader_sees_the_same_before_and_after(place):
    before = overlays.joined(place.folder)
    done = run(place)
    assert done.namespaces == ("annot", "infer")
    assert done.columns_added == ("annot__label", "infer__score", "infer__n")
    assert (done.rows, done.rows_dropped, done.overlays) == (5, 0, "kept")
    assert overlays.joined(place.folder) == before
    assert base(place).to_pylist() == before
    assert len(overlay.find(str(place.folder))["infer"]) == 2


def test_required_columns_come_first_and_the_dataset_keeps_its_birthday(place):
    path = place.folder / "records.parquet"
    meta = {**parquetfile.facts(str(path)).metadata, "usr:dataset_created_at": "then", "x": "y"}
    table = pq.read_table(path).replace_schema_metadata(meta)
    pq.write_table(table, path)
    run(place)
    facts = parquetfile.facts(str(path))
    assert facts.schema.names[:7] == list(schema.REQUIRED)
    assert facts.metadata["usr:dataset_created_at"] == "then"
    assert facts.metadata["x"] == "y"
    assert (
        facts.metadata["usr:registry_hash"] == overlays.events_of(place.folder)[-1]["registry_hash"]
    )


def test_dropped_overlays_are_gone_and_their_values_stay(place):
    before = overlays.joined(place.folder)
    done = run(place, drop_overlays=True)
    assert done.overlays == "dropped"
    assert not (place.folder / "_derived").exists()
    assert overlays.joined(place.folder) == before


def test_archived_overlays_are_seen_no_more(place):
    before = overlays.joined(place.folder)
    run(place, archive_overlays=True)
    assert overlay.find(str(place.folder)) == {}
    archived = sorted(path.name for path in (place.folder / "_derived/_archived").iterdir())
    assert [name.partition("-")[0] for name in archived] == ["annot", "infer"]
    assert overlays.joined(place.folder) == before


def test_chosen_namespaces_only(place):
    done = run(place, namespaces=["annot"], drop_overlays=True)
    assert done.columns_added == ("annot__label",)
    assert list(overlay.find(str(place.folder))) == ["infer"]


def test_a_value_that_was_materialized_shows_through_until_a_newer_one(place):
    run(place, drop_overlays=True)
    part("infer", 9, [{"id": IDS[0], "infer__score": 5.0}, {"id": IDS[1]}], TYPES).write(
        place.folder
    )
    first = overlays.joined(place.folder)[0]
    assert (first["infer__score"], first["infer__n"]) == (5.0, 7)
    assert run(place).columns_added == ()
    assert base(place).to_pylist()[0]["infer__score"] == 5.0


def test_an_overlay_that_was_not_chosen_does_not_change_a_column_of_the_base(place):
    run(place, drop_overlays=True)
    part("infer", 9, [{"id": IDS[0], "infer__score": 5.0}], TYPES).write(place.folder)
    part("annot", 9, [{"id": IDS[0], "annot__label": "y"}], {"annot__label": pa.string()}).write(
        place.folder
    )
    run(place, namespaces=["annot"])
    assert base(place).to_pylist()[0]["infer__score"] == 1.0


def test_deleted_rows_stay_until_they_are_dropped(place):
    tombs(place, 1, 3)
    seen = overlays.joined(place.folder)
    run(place)
    assert base(place).num_rows == 5
    done = run(place, drop_deleted=True)
    assert (done.rows, done.rows_dropped) == (3, 2)
    assert base(place).column("id").to_pylist() == [IDS[0], IDS[2], IDS[4]]
    assert overlays.joined(place.folder) == seen
    assert not [name for name in base(place).schema.names if name.startswith("usr__")]
    *_, event = overlays.events_of(place.folder)
    assert event["metrics"] == {"rows_written": 3, "rows_dropped": 2, "columns_added": 0}
    assert event["args"]["tombstone"]["rows"] == 2


def test_dropping_deleted_rows_needs_no_overlay(place):
    run(place, drop_overlays=True)
    tombs(place, 0)
    assert run(place, drop_deleted=True).rows == 4


def test_nothing_to_do_writes_nothing(place):
    run(place, drop_overlays=True)
    before = datasets.read(place.folder)
    done = run(place)
    assert (done.namespaces, done.rows, done.snapshots) == ((), 5, ())
    assert run(place, drop_deleted=True).namespaces == ()
    assert datasets.read(place.folder) == before
    assert not list(place.path.glob(".usr/stage/*/*"))


def test_the_base_is_kept_as_it_becomes_and_if_asked_as_it_was(place):
    old = (place.folder / "records.parquet").read_bytes()
    done = run(place, snapshot_before=True)
    before, after = done.snapshots
    assert (place.folder / before).read_bytes() == old
    assert (place.folder / after).read_bytes() == (place.folder / "records.parquet").read_bytes()
    assert len(run(place, drop_overlays=True).snapshots) == 1


def test_one_event_with_true_numbers_and_one_note(place):
    run(place, namespaces=["infer"])
    *_, event = overlays.events_of(place.folder)
    assert event["action"] == "materialize"
    assert event["args"]["namespaces"] == ["infer"]
    (listed,) = event["args"]["overlays"]
    assert (listed["namespace"], listed["key"], listed["fingerprint"]["rows"]) == ("infer", "id", 4)
    assert event["metrics"] == {"rows_written": 5, "rows_dropped": 0, "columns_added": 2}
    assert event["fingerprint"]["cols"] == 9
    assert "Materialized infer: 5 rows, 2 new columns" in (place.folder / "meta.md").read_text()


def refused(place, error, **options):
    before = datasets.read(place.folder)
    with pytest.raises(error) as caught:
        run(place, **options)
    assert datasets.read(place.folder) == before
    assert "nothing was changed" in caught.value.message
    return caught.value


def test_what_is_refused(place):
    refused(place, InvalidInputError, drop_overlays=True, archive_overlays=True)
    error = refused(place, NotFoundError, namespaces=["infer", "nope", "no"])
    assert "has no overlay nope, no" in error.message
    overlays.write_registry(place.path, {"annot": overlays.NAMESPACES["annot"]})
    assert "infer: the namespace is not registered" in refused(place, RegistryError).message


@pytest.mark.parametrize("key", ["sequence", "sequence_ci"])
def test_overlays_by_sequence(home, key):
    place = overlays.make_place(home / "root", ["ACGT", "ttga"])
    rows = [{key: "TTGA" if key == "sequence_ci" else " ttga", "infer__n": 3}]
    part("infer", 1, rows, {"infer__n": pa.int32()}, key=key).write(place.folder)
    run(place, drop_overlays=True)
    assert base(place).column("infer__n").to_pylist() == [None, 3]


# ── any sequence of what can be done ────────────────────────────────────────────────────
class Sequences(RuleBasedStateMachine):
    """Parts are written, overlays compacted, materialized, archived and removed in any order.

    The model is the base as dicts, and the layers over it; compacting and materializing must
    not change what is seen.
    """

    home = None
    count = 0

    @initialize()
    def begin(self):
        type(self).count += 1
        self.place = overlays.make_place(self.home / f"run-{self.count}")
        self.base = [overlays.row(sequence) for sequence in overlays.SEQUENCES]
        self.layers = []
        self.number = 0

    @rule(
        namespace=st.sampled_from(["infer", "annot"]),
        rows=st.dictionaries(
            st.sampled_from([*range(5), "nobody"]), st.none() | st.integers(0, 9), min_size=1
        ),
        column=st.integers(0, 1),
    )
    def write(self, namespace, rows, column):
        name = {"infer": ("infer__score", "infer__n"), "annot": ("annot__label", "annot__ok")}[
            namespace
        ][column]
        make = {"infer__score": float, "infer__n": int, "annot__label": str, "annot__ok": bool}[
            name
        ]
        kind = {
            "infer__score": pa.float64(),
            "infer__n": pa.int32(),
            "annot__label": pa.string(),
            "annot__ok": pa.bool_(),
        }[name]
        made = [
            {"id": IDS[n] if n != "nobody" else "nobody", name: None if v is None else make(v)}
            for n, v in rows.items()
        ]
        table = pa.Table.from_pylist(made, schema=pa.schema([("id", pa.string()), (name, kind)]))
        done = attach.write_overlay_part(self.place.site(), namespace, table, allow_missing=True)
        if done.path:
            self.number += 1
            self.layers.append(part(namespace, self.number, made, {name: kind}))
        self.check()

    @rule(namespace=st.sampled_from(["infer", "annot"]))
    def compact(self, namespace):
        if namespace in overlay.find(str(self.place.folder)):
            care.compact(self.place.site(), namespace)
        self.check()

    @rule(
        namespaces=st.none() | st.sets(st.sampled_from(["infer", "annot"]), min_size=1),
        fate=st.sampled_from([{}, {"drop_overlays": True}, {"archive_overlays": True}]),
    )
    def materialize(self, namespaces, fate):
        there = {layer.namespace for layer in self.layers}
        chosen = there if namespaces is None else namespaces & there
        if not chosen:
            return
        run(self.place, namespaces=None if namespaces is None else sorted(chosen), **fate)
        self.base = overlays.seen(self.base, [x for x in self.layers if x.namespace in chosen])
        if fate:
            self.layers = [x for x in self.layers if x.namespace not in chosen]
        self.check()

    @rule(
        namespace=st.sampled_from(["infer", "annot"]), mode=st.sampled_from(["delete", "archive"])
    )
    def remove(self, namespace, mode):
        care.remove(self.place.site(), namespace, mode=mode)
        self.layers = [x for x in self.layers if x.namespace != namespace]
        self.check()

    def check(self):
        assert by_name(overlays.joined(self.place.folder)) == by_name(
            overlays.seen(self.base, self.layers)
        )
        for namespace, found in overlay.load(str(self.place.folder)).items():
            for layer in overlays.read_layers(self.place.folder, namespace):
                keys = [row["id"] for row in layer.rows]
                assert len(keys) == len(set(keys)), found


def by_name(rows):
    return [dict(sorted(row.items())) for row in rows]


@pytest.mark.parametrize("examples", [6, pytest.param(80, marks=pytest.mark.slow)])
def test_no_sequence_of_commands_loses_or_invents_a_value(home, examples):
    class Here(Sequences):
        pass

    Here.home = home
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples, stateful_step_count=10, deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
