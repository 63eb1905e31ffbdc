"""attach: one part and one event, or a list of everything that is wrong and nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import datasets, overlays
from support.datasets import DATASET
from usrstore.dataset import incoming, offer, overlay
from usrstore.dataset.offer import Wish
from usrstore.errors import InvalidInputError, LockedError, RegistryError, UsrError
from usrstore.verbs import attach as attaching
from usrstore.verbs.attach import attach, write_overlay_part

IDS = [overlays.row_id(sequence) for sequence in overlays.SEQUENCES]
BY_ID = Wish("infer", "id", "id")


@pytest.fixture
def place(home):
    return overlays.make_place(home / "root")


def csv(place, text, name="t.csv"):
    path = place.path.parent / name
    path.write_text(text)
    return str(path)


def scores(place, *pairs, header="id,score"):
    rows = "".join(f"{key},{value}\n" for key, value in pairs)
    return csv(place, f"{header}\n{rows}")


def outside_the_store(place):
    found = datasets.read(place.path)
    return {path: data for path, data in found.items() if not path.startswith(".usr/")}


def check_tidy(place):
    """No scratch file stays."""
    assert not list(place.path.glob(".usr/.tmp-*"))
    assert not list(place.path.glob(".usr/stage/*/*"))


def refused(place, path, wish=BY_ID, error=UsrError, **options):
    """The error of an attach; nothing at all has changed."""
    before = outside_the_store(place)
    with pytest.raises(error) as caught:
        attach(place.site(), path, wish, **options)
    assert outside_the_store(place) == before
    check_tidy(place)
    assert "nothing was" in caught.value.message
    return caught.value


# ── what is written ─────────────────────────────────────────────────────────────────────
def test_an_attach_is_one_part_one_event_and_one_note(place):
    path = scores(place, (IDS[1], 0.5), (IDS[0], 1))
    done = attach(place.site(), path, BY_ID, note="a first try")
    assert (done.rows_incoming, done.rows_matched, done.rows_missing) == (2, 2, 0)
    assert done.columns == ("infer__score",)
    (layer,) = overlays.read_layers(place.folder, "infer")
    assert layer.path == done.path
    assert layer.rows == [
        {"id": IDS[1], "infer__score": 0.5},
        {"id": IDS[0], "infer__score": 1.0},
    ]
    *_, event = overlays.events_of(place.folder)
    assert event["action"] == "attach"
    assert event["args"] == {
        "namespace": "infer", "key": "id", "columns": ["infer__score"],
        "rows_incoming": 2, "rows_matched": 2, "rows_missing": 0,
        "allow_overwrite": False, "note": "a first try",
    }  # fmt: skip
    assert event["metrics"] == {"rows_written": 2, "rows_skipped": 0}
    assert event["artifacts"] == {"overlay": {"namespace": "infer", "path": done.path}}
    assert event["fingerprint"]["rows"] == 2
    assert "Attached 2 rows to infer by id; a first try" in (place.folder / "meta.md").read_text()


def test_a_part_says_under_which_registry_it_was_written(place):
    done = attach(place.site(), scores(place, (IDS[0], 1)), BY_ID)
    file = overlay.inspect(str(place.folder), done.path)
    *_, event = overlays.events_of(place.folder)
    assert file.registry_hash == event["registry_hash"]
    assert len(file.contract_hash) == 64
    stamp = overlay.part_name(file.created_us, done.path[-40:-8])
    assert done.path == f"_derived/infer/{stamp}"


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
def test_every_format_attaches_the_same(place, form):
    rows = [{"id": IDS[0], "vector": [1.0, 0.5], "n": 3}, {"id": IDS[2], "vector": None, "n": 4}]
    path = place.path.parent / f"t.{form}"
    match form:
        case "csv":
            path.write_text(f'id,vector,n\n{IDS[0]},"[1, 0.5]",3\n{IDS[2]},,4\n')
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "json":
            path.write_text(json.dumps(rows))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
    done = attach(place.site(), str(path), BY_ID)
    table = pq.read_table(place.folder / done.path)
    assert table.to_pylist() == [
        {"id": IDS[0], "infer__vector": [1.0, 0.5], "infer__n": 3},
        {"id": IDS[2], "infer__vector": None, "infer__n": 4},
    ]
    assert [str(kind) for kind in table.schema.types] == [
        "string", "list<element: float>", "int32",
    ]  # fmt: skip


def test_chosen_columns_only_with_or_without_their_prefix(place):
    path = csv(place, f"name,score,infer__n,other\n{IDS[0]},1,2,x\n")
    done = attach(place.site(), path, Wish("infer", "id", "name", ("infer__n", "score")))
    assert done.columns == ("infer__score", "infer__n"), "in the registry's order"


@pytest.mark.parametrize("key", ["sequence", "sequence_norm"])
def test_attach_by_sequence(place, key):
    path = csv(place, "sequence,score\n ACGT ,1\nacgt,2\n")
    done = attach(place.site(), path, Wish("infer", key, "sequence"))
    table = pq.read_table(place.folder / done.path)
    assert table.to_pylist() == [
        {key: "ACGT", "infer__score": 1.0},
        {key: "acgt", "infer__score": 2.0},
    ]


def test_attach_by_sequence_without_case(home):
    place = overlays.make_place(home / "root", ["ACGT", "ttga"])
    path = csv(place, "seq,score\nacgt,1\nTTga,2\n")
    done = attach(place.site(), path, Wish("infer", "sequence_ci", "seq"))
    assert done.rows_matched == 2
    assert pq.read_table(place.folder / done.path).column(0).to_pylist() == ["ACGT", "TTGA"]


def test_rows_that_the_dataset_lacks_are_passed_over_if_allowed(place):
    path = scores(place, ("nobody", 1), (IDS[3], 2))
    done = attach(place.site(), path, BY_ID, allow_missing=True)
    assert (done.rows_matched, done.rows_missing) == (1, 1)
    assert pq.read_table(place.folder / done.path).column("id").to_pylist() == [IDS[3]]


def test_w19_an_attach_that_matches_nothing_writes_nothing(place):
    """W19: it wrote an empty overlay that then blocked the next attach."""
    before = datasets.read(place.folder)
    done = attach(place.site(), scores(place, ("nobody", 1)), BY_ID, allow_missing=True)
    assert (done.path, done.rows_matched, done.rows_missing) == (None, 0, 1)
    assert datasets.read(place.folder) == before
    assert attach(place.site(), scores(place, (IDS[0], 1)), BY_ID).path


def test_w19_an_empty_overlay_of_another_tool_blocks_nothing(place):
    empty = overlays.Layer("infer", 1, None, [], {"infer__score": pa.float64()})
    empty.write(place.folder)
    assert attach(place.site(), scores(place, (IDS[0], 1)), BY_ID).moved
    assert len(overlays.read_layers(place.folder, "infer")) == 2


def test_a_file_without_rows_writes_nothing(place):
    done = attach(place.site(), csv(place, "id,score\n"), BY_ID)
    assert (done.path, done.rows_incoming) == (None, 0)


def test_columns_that_hold_values_want_allow_overwrite_and_the_newer_value_wins(place):
    attach(place.site(), scores(place, (IDS[0], 1), (IDS[1], 2)), BY_ID)
    again = scores(place, (IDS[0], 9), (IDS[1], ""))
    error = refused(place, again, error=InvalidInputError)
    assert "columns already exist: infer__score (--allow-overwrite" in error.message
    attach(place.site(), again, BY_ID, allow_overwrite=True)
    layers = overlays.read_layers(place.folder, "infer")
    seen = overlays.seen([overlays.row(s) for s in overlays.SEQUENCES], layers)
    assert [row["infer__score"] for row in seen[:3]] == [9.0, 2.0, None], "a null hides nothing"


def test_other_columns_need_no_allow_overwrite(place):
    attach(place.site(), scores(place, (IDS[0], 1)), BY_ID)
    attach(place.site(), scores(place, (IDS[0], 1), header="id,n"), BY_ID)
    assert len(overlays.read_layers(place.folder, "infer")) == 2


def test_a_compact_file_becomes_the_first_part_and_keeps_its_bytes(place):
    compact = overlays.Layer(
        "infer", overlays.NOON_US, None, [{"id": IDS[0], "infer__score": 1.0}],
        {"infer__score": pa.float64()},
    )  # fmt: skip
    data = compact.write(place.folder).read_bytes()
    path = scores(place, (IDS[0], 2))
    done = attach(place.site(), path, BY_ID, allow_overwrite=True)
    assert (place.folder / done.moved).read_bytes() == data
    assert not (place.folder / compact.path).exists()
    first, second = overlays.read_layers(place.folder, "infer")
    assert [first.path, second.path] == [done.moved, done.path]
    assert overlays.events_of(place.folder)[-1]["artifacts"]["overlay"]["moved_to"] == done.moved


def test_a_part_is_newer_than_one_that_a_faster_clock_wrote(place):
    ahead = overlays.part(
        "infer", 1, [{"id": IDS[0], "infer__score": 1.0}], {"infer__score": pa.float64()},
        created_us=4_000_000_000_000_000,
    )  # fmt: skip
    ahead.write(place.folder)
    attach(place.site(), scores(place, (IDS[0], 2)), BY_ID, allow_overwrite=True)
    *_, newest = overlays.read_layers(place.folder, "infer")
    assert newest.rows[0]["infer__score"] == 2.0


def test_a_large_file_waits_on_disk_and_comes_out_the_same(place, monkeypatch):
    monkeypatch.setattr(offer, "HOLD_BYTES", 50)
    monkeypatch.setattr(incoming, "BATCH_ROWS", 2)
    path = scores(place, *[(key, n) for n, key in enumerate(IDS)], ("nobody", 9))
    done = attach(place.site(), path, BY_ID, allow_missing=True)
    table = pq.read_table(place.folder / done.path)
    assert table.column("infer__score").to_pylist() == [0, 1, 2, 3, 4]
    check_tidy(place)
    refused(place, path, allow_overwrite=True)


# ── what is refused: everything at once, and nothing written ────────────────────────────
def test_a_namespace_that_is_not_registered_comes_with_the_command_that_registers_it(place):
    """Drill 3: fails fast, with an error that says what to do; `_derived` is untouched."""
    path = csv(place, 'sequence,bad_field,vec\nACGT,0.5,"[1.5]"\nTTGA,,\n')
    wish = Wish("evo", "sequence", "sequence", ("bad_field", "vec"))
    error = refused(place, path, wish, RegistryError)
    assert error.code == "registry"
    assert error.message.splitlines() == [
        f"{path} cannot be attached to {DATASET}: 1 problem; nothing was written:",
        "  registry: the namespace evo is not registered",
    ]
    assert error.hint == (
        "usr namespace register evo --columns 'evo__bad_field:float64,evo__vec:list<float64>'"
    )
    assert not (place.folder / "_derived").exists()


def test_a_column_that_the_namespace_lacks_comes_with_the_command_too(place):
    path = csv(place, f"id,score,extra\n{IDS[0]},1,abc\n")
    error = refused(place, path, error=RegistryError)
    assert error.message.splitlines()[1] == (
        "  registry: the namespace infer has no column infer__extra "
        "(it has infer__score, infer__vector, infer__n)"
    )
    assert error.hint == (
        "usr namespace register infer --columns 'infer__score:float64,"
        "infer__vector:list<float32>,infer__n:int32,infer__extra:string' --overwrite"
    )


def test_a_value_of_another_type_is_named_with_its_row_and_column(place):
    path = scores(place, (IDS[0], 1), (IDS[1], "abc"), (IDS[2], "1e"))
    error = refused(place, path, error=InvalidInputError)
    assert error.code == "attach-input"
    assert error.message.splitlines() == [
        f"{path} cannot be attached to {DATASET}: 2 problems; nothing was written:",
        "  row 2, score = 'abc': not a number",
        "  row 3, score = '1e': not a number",
    ]


def test_a_parquet_column_of_another_type_is_named_with_its_first_rows(place):
    path = place.path.parent / "t.parquet"
    pq.write_table(pa.table({"id": IDS[:2], "score": ["x", "y"], "n": [2**31, 1]}), path)
    error = refused(place, str(path), error=InvalidInputError)
    assert error.message.splitlines()[1:] == [
        "  row 1, score = 'x': text, not float64",
        "  row 2, score = 'y': text, not float64",
        "  row 1, n = 2147483648: outside int32 (-2147483648 to 2147483647)",
    ]


def test_keys_that_no_row_has_are_named(place):
    error = refused(place, scores(place, (IDS[0], 1), ("nobody", 2)), error=InvalidInputError)
    assert error.message.splitlines()[1] == (
        "  row 2, id = 'nobody': no row of the dataset has this key "
        "(--allow-missing passes over such rows)"
    )


def test_duplicate_and_missing_keys_are_named_even_if_missing_rows_are_allowed(place):
    path = scores(place, (IDS[0], 1), ("x", 2), (f" {IDS[0]} ", 3), ("", 4), ("None", 5), ("x", 6))
    error = refused(place, path, error=InvalidInputError, allow_missing=True)
    assert error.message.splitlines()[1:] == [
        "  row 4, id = '': a key is missing",
        "  row 5, id = 'None': a key is missing",
        f"  row 3, id = {IDS[0]!r}: a duplicate key (rows 1, 3)",
        "  row 6, id = 'x': a duplicate key (rows 2, 6)",
    ]


def test_an_unknown_key_column_is_named_with_what_there_is(place):
    error = refused(place, csv(place, "name,score\na,1\n"), error=InvalidInputError)
    assert "  the file has no column id for the key; it has name, score" in error.message
    path = csv(place, '{"name": "a", "score": 1}\n', "t.jsonl")
    error = refused(place, path, error=UsrError)
    assert "  no row of the file has a column id for the key" in error.message


def test_columns_that_the_file_lacks_and_columns_of_others_are_named(place):
    wish = Wish("infer", "id", "id", ("score", "nope", "annot__label", "infer__score"))
    error = refused(place, scores(place, (IDS[0], 1)), wish)
    assert "  the file has no column nope" in error.message
    assert "  the column annot__label does not belong to the namespace infer" in error.message
    assert "  two columns of the file would become infer__score" in error.message


def test_everything_is_told_at_once_and_capped(place):
    rows = "".join(f"nobody-{n},x,\n" for n in range(40))
    path = csv(place, f"id,score,extra\n{rows}{IDS[0]}\n")
    error = refused(place, path, error=RegistryError)
    lines = error.message.splitlines()
    assert ": 82 problems; nothing was written:" in lines[0]
    assert "infer__extra" in lines[1]
    assert len(lines) == 1 + 1 + 20 + 1
    assert lines[-1] == "  … and 61 more"


def test_a_file_that_cannot_be_read_is_refused(place):
    assert refused(place, str(place.path / "nope.csv")).code == "input-unreadable"
    assert refused(place, csv(place, 'id,score\na,"1')).code == "input-unreadable"


def test_without_a_registry_nothing_is_attached(place):
    (place.path / "registry.yaml").unlink()
    error = refused(place, scores(place, (IDS[0], 1)), error=RegistryError)
    assert error.message.startswith("registry: there is no ")
    assert "usr init" in error.hint


def test_reserved_namespaces_are_written_by_their_own_commands(place):
    for namespace, command in (("usr", "usr delete"), ("usr_state", "usr state set")):
        error = refused(place, scores(place, (IDS[0], 1)), Wish(namespace, "id", "id"))
        assert error.code == "namespace-reserved"
        assert command in error.hint


def test_another_key_than_the_overlay_has_is_refused(place):
    attach(place.site(), scores(place, (IDS[0], 1)), BY_ID)
    path = csv(place, "sequence,n\nACGT,1\n")
    error = refused(place, path, Wish("infer", "sequence", "sequence"))
    assert "  the overlay infer is keyed by id, not by sequence" in error.message


def test_a_base_that_the_key_does_not_fit_is_told_with_the_rest(home):
    place = overlays.make_place(home / "root", ["ACGT", "acgt"])
    path = csv(place, "sequence,score\nACGT,x\n")
    error = refused(place, path, Wish("infer", "sequence_ci", "sequence"))
    assert "row 1, score = 'x': not a number" in error.message
    assert "overlays cannot be keyed by sequence_ci here" in error.message


def test_a_dataset_that_another_program_holds_is_left_alone(place):
    import fcntl

    (place.folder / ".usr.lock").touch()
    with (place.folder / ".usr.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(place, scores(place, (IDS[0], 1)), error=LockedError)


def test_rows_that_went_away_while_the_file_was_read_are_noticed(place, monkeypatch):
    """The base is looked at again once the lock is held."""
    path = scores(place, (IDS[0], 1), (IDS[1], 2))
    real = attaching.mutating

    def later(site, **options):
        overlays.write_base(place.folder, [overlays.row(s) for s in overlays.SEQUENCES[1:]])
        return real(site, **options)

    monkeypatch.setattr(attaching, "mutating", later)
    with pytest.raises(InvalidInputError, match="no row of the dataset has this key"):
        attach(place.site(), path, BY_ID)
    assert not (place.folder / "_derived").exists()


# ── for programs ────────────────────────────────────────────────────────────────────────
def test_a_program_writes_a_table_as_a_part(place):
    table = pa.table({"name": IDS[:2], "infer__score": pa.array([1, None], pa.float32())})
    done = write_overlay_part(place.site(), "infer", table, key_column="name")
    assert (done.rows_matched, done.columns) == (2, ("infer__score",))
    *_, event = overlays.events_of(place.folder)
    assert event["action"] == "write_overlay_part"
    assert event["args"]["allow_missing"] is False
    assert not (place.folder / "meta.md").exists(), "people's notes are for people's commands"
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
    again = write_overlay_part(place.site(), "infer", reader, key_column="name")
    assert again.path > done.path


def test_what_is_no_table_is_refused(place):
    with pytest.raises(InvalidInputError, match="a list is no Arrow table"):
        write_overlay_part(place.site(), "infer", [1, 2])


PROGRAM = """
import os, sys, traceback
import pyarrow as pa
from support.overlays import SEQUENCES, Place, row_id
from support.people import make_who
from pathlib import Path
from usrstore.verbs.attach import write_overlay_part
import usrstore.dataset.parquetfile, pyarrow.parquet, pyarrow.compute, yaml

place = Place(Path(sys.argv[1]), make_who())
ready, go = os.pipe()
children = []
for number in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            os.read(ready, 1)  # all at once
            key = row_id(SEQUENCES[number % len(SEQUENCES)])
            table = pa.table({"id": [key], "infer__n": pa.array([number], pa.int32())})
            write_overlay_part(place.site(lock_timeout_s=400), "infer", table)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    children.append(pid)
os.close(go)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in children))
"""


@pytest.mark.parametrize("writers", [30, pytest.param(200, marks=pytest.mark.deep)])
def test_many_processes_write_parts_at_once_and_none_is_lost(place, writers):
    before = replace(overlays.Layer("infer", 1, None, [{"id": IDS[0], "infer__n": -1}]))
    before.types = {"infer__n": pa.int32()}
    before.write(place.folder)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(place.path), str(writers)],
        capture_output=True, text=True, check=False, timeout=500,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    layers = overlays.read_layers(place.folder, "infer")
    assert [layer.rows[0]["infer__n"] for layer in layers[:1]] == [-1]
    assert sorted(layer.rows[0]["infer__n"] for layer in layers[1:]) == list(range(writers))
    assert len({layer.created_us for layer in layers}) == writers + 1, "an order without ties"
    written = [e for e in overlays.events_of(place.folder) if e["action"] == "write_overlay_part"]
    assert len(written) == writers
    assert [event["artifacts"]["overlay"]["path"] for event in written] == [
        layer.path for layer in layers[1:]
    ], "the log tells them in the order in which they count"
    check_tidy(place)
