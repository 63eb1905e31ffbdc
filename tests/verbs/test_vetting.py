"""A bad overlay does not spread: what travels is held against the registry at both ends."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import datasets
from support.liars import Proxy, Saying
from support.overlays import NOON_US, Layer, part, row, row_id, write_base
from usrstore.dataset import registry
from usrstore.dataset.types import parse, to_arrow
from usrstore.errors import RegistryError
from usrstore.remote.peer import Checks
from usrstore.verbs import checkout, commit
from usrstore.verbs.receiving import Receiving
from usrstore.worktree import columns

ROWS = [row("ACGT"), row("AAAA")]
LAX = Checks(registry=False)


def overlay(types, **values):
    rows = [{"id": row_id("ACGT"), **values}]
    return part("infer", 1, rows, types)


GOOD = overlay({"infer__logits": pa.list_(pa.float32())})
BAD = {
    "a namespace that nobody registered": (
        part("other", 1, [{"id": "x", "other__a": 1}], {"other__a": pa.int8()}),
        "the namespace other is not registered",
    ),
    "a column that is not in the namespace": (
        overlay({"infer__logits": pa.list_(pa.float32()), "infer__more": pa.int8()}),
        "the column infer__more is not in the namespace infer",
    ),
    "a column of another type": (
        overlay({"infer__logits": pa.list_(pa.float64())}),
        "the column infer__logits is list<float64>, and is registered as list<float32>",
    ),
    "a column of another namespace": (
        overlay({"score": pa.int8()}),
        "the column score does not begin with infer__",
    ),
    "a tombstone of another type": (
        Layer("usr", NOON_US, None, [{"id": "x"}], {"usr__deleted": pa.string()}),
        "the column usr__deleted is string, and is registered as bool",
    ),
}


@pytest.fixture
def pair(make_pair):
    """Two roots that agree on a dataset of two rows and a good overlay."""
    made = make_pair()
    write_base(made.here.folder, ROWS)
    GOOD.write(made.here.folder)
    made.push()
    made.pull()
    return made


def refused(act, target, *words):
    before = target.everything()
    with pytest.raises(RegistryError) as caught:
        act()
    assert target.everything() == before
    assert caught.value.code == "registry"
    assert "registry" in caught.value.message
    for word in words:
        assert word in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("dry", [False, True], ids=["", "dry"])
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_bad_overlay_is_neither_pushed_nor_pulled(pair, way, case, dry):
    layer, words = BAD[case]
    source, target = (pair.here, pair.there) if way == "push" else (pair.there, pair.here)
    layer.write(source.folder)
    refused(lambda: getattr(pair, way)(dry_run=dry), target, layer.path, words)
    assert getattr(pair, way)(checks=LAX).state == "TRANSFERRED"
    assert target.read() == source.read()


@pytest.mark.parametrize("way", ["push", "pull"])
def test_all_that_is_wrong_is_named_at_once_and_counted(pair, way):
    source, target = (pair.here, pair.there) if way == "push" else (pair.there, pair.here)
    for number in range(14):
        rows = [{"id": row_id("ACGT"), "infer__x": 1}]
        part("infer", 10 + number, rows, {"infer__x": pa.int8()}).write(source.folder)
    message = refused(getattr(pair, way), target, "… and 4 more")
    assert message.count("infer__x is not in the namespace infer") == 10


@pytest.mark.parametrize("path", [GOOD.path, "_derived/infer.parquet"], ids=["part", "compact"])
@pytest.mark.parametrize("way", ["push", "pull"])
def test_an_overlay_that_is_no_table_does_not_spread(pair, way, path):
    source, target = (pair.here, pair.there) if way == "push" else (pair.there, pair.here)
    (source.folder / path).write_bytes(b"PAR1 and then nothing")
    refused(getattr(pair, way), target, path, "not a Parquet file")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"infer__logits": pa.array(["a", "b"])}, "registered as list<float32>"),
        ({"other__a": pa.array([1, 2])}, "the namespace other, which is not registered"),
        ({"length": pa.array([4, 4], pa.int64())}, "the column length is int64, and must be int32"),
    ],
    ids=["type", "namespace", "required"],
)
@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_primary_that_breaks_the_registry_does_not_travel(pair, way, change, words):
    source, target = (pair.here, pair.there) if way == "push" else (pair.there, pair.here)
    path = source.folder / "records.parquet"
    table = pq.read_table(path)
    for name, values in change.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, values)
        else:
            table = table.append_column(name, values)
    pq.write_table(table, path)
    refused(getattr(pair, way), target, "records.parquet: ", words)


@pytest.mark.spec("P-14")
@pytest.mark.parametrize("case", BAD)
def test_the_receiver_of_a_push_looks_for_itself(pair, case):
    layer, words = BAD[case]
    layer.write(pair.here.folder)
    strict = lambda p: replace(p, checks=Checks())
    liar = Saying(pair.there.host(), proposed=strict)  # the sender did not look
    refused(lambda: pair.push(liar, checks=LAX), pair.there, layer.path, words)


@pytest.mark.spec("P-14")
@pytest.mark.parametrize("case", BAD)
def test_the_receiver_of_a_pull_looks_for_itself(pair, case):
    class Careless(Proxy):
        def compare(self, ask):
            return self.peer.compare(replace(ask, verify_registry=False))

    layer, words = BAD[case]
    layer.write(pair.there.folder)
    liar = Careless(pair.there.host())
    refused(lambda: pair.pull(liar), pair.here, layer.path, words)


def test_what_does_not_travel_is_not_looked_at(pair, monkeypatch):
    """A dataset with an old sin can still be synced; files that are equal cost nothing."""
    layer, _ = BAD["a column of another type"]
    layer.write(pair.here.folder)
    pair.push(checks=LAX)
    opened = []
    real = columns.read_columns
    monkeypatch.setattr(columns, "read_columns", lambda *a: opened.append(a) or real(*a))
    (pair.here.folder / "meta.md").write_text("more")
    assert pair.push().state == "TRANSFERRED"
    assert opened == []
    part("infer", 7, [{"id": row_id("AAAA")}], {"infer__logits": pa.list_(pa.float32())}).write(
        pair.here.folder
    )
    assert pair.push().state == "TRANSFERRED"
    assert len(opened) == 2, "once by the sender, once by the receiver"


def test_a_namespace_that_comes_along_counts(pair):
    """The receiver's registry is the merged one: a namespace may arrive with its overlay."""
    known = registry.parse(datasets.REGISTRY, "it")
    new = {"other": {"columns": [{"name": "other__a", "type": "int8"}]}}
    (pair.here.path / "registry.yaml").write_bytes(registry.text({**known, **new}))
    BAD["a namespace that nobody registered"][0].write(pair.here.folder)
    assert pair.push().state == "TRANSFERRED"
    assert b"other__a" in pair.there.root.registry()


def test_types_that_parquet_cannot_tell_apart_are_let_through(pair):
    known = registry.parse(datasets.REGISTRY, "it")
    types = {
        "other__a": "timestamp[s, Europe/Rome]",
        "other__b": "fixed_size_list<float32>[2]",
        "other__c": "struct<x:uint32,y:list<string>>",
    }
    rows = [{"name": name, "type": kind} for name, kind in types.items()]
    new = {"other": {"columns": rows}}
    (pair.here.path / "registry.yaml").write_bytes(registry.text({**known, **new}))
    kinds = {name: to_arrow(parse(kind)) for name, kind in types.items()}
    part("other", 1, [{"id": row_id("ACGT")}], kinds).write(pair.here.folder)
    assert pair.push().state == "TRANSFERRED"


def test_the_opt_out_is_in_the_manifest_and_the_operation_log(pair):
    BAD["a column of another type"][0].write(pair.here.folder)
    result = pair.push(checks=LAX)
    for place in (pair.here, pair.there):
        manifest = place.site().manifest(result.manifest)
        assert manifest.policy == ("no-verify-registry",)
        newest = next(iter(place.root.states.history()))
        assert newest.reason == "push no-verify-registry"


def test_a_checkout_takes_any_state_back(pair, monkeypatch):
    """Whatever the registry says by now: history is not judged anew."""
    seen = []
    real = Receiving.settle
    monkeypatch.setattr(
        Receiving,
        "settle",
        lambda self, *a, **k: seen.append(k.get("guard")) or real(self, *a, **k),
    )
    layer, _ = BAD["a column of another type"]
    path = layer.write(pair.here.folder)
    bad = commit.commit(pair.here.site(), message="with a sin").manifest
    path.unlink()
    checkout.checkout(pair.here.site(), bad)
    assert path.exists()
    assert seen[-1] is None
