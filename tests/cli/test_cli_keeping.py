"""gc, repack and du as a person meets them."""

from __future__ import annotations

import pytest

from support import datasets
from support.datasets import DATASET


@pytest.fixture
def kept(lab):
    """Four states in the store."""
    for number in range(4):
        lab.write({**datasets.old_files(), "records.parquet": datasets.noise(number, 50_000)})
        lab.usr("commit", DATASET, "-m", f"state {number}").ok()
    return lab


def test_gc_without_rules_keeps_every_state_and_says_so(kept):
    kept.usr("gc").ok()
    assert kept.usr("gc").ok().lines[-1] == "nothing to collect"
    assert kept.usr("log", DATASET, "--oneline").out.count("kept ") == 4
    data = kept.usr("gc", "--json").ok().data
    assert (data["swept"], data["lighter"], data["dry_run"]) == ([], [], False)


def test_gc_by_rules_names_what_becomes_light_and_a_dry_run_only_says_it(kept):
    words = ("gc", "--keep-last", "2", "--keep-ops", "0", "--grace", "0")
    said = kept.usr(*words, "--dry-run").ok()
    assert "state 0" in said.out
    assert "2 states would be light from now on" in said.out
    assert kept.usr("log", DATASET, "--oneline").out.count("kept ") == 4
    said = kept.usr(*words).ok()
    assert "2 states light from now on" in said.out
    assert "deleted" in said.out
    lines = kept.usr("log", DATASET, "--oneline").lines
    assert [line.split()[1] for line in lines] == ["kept", "kept", "light", "light"]
    kept.usr("checkout", f"{DATASET}~3", "-y").failed("not-kept", 6)
    kept.usr("fsck", "--deep").ok()


def test_rules_come_from_the_config_of_the_root_too(kept):
    (kept.root / ".usr" / "config").write_text(
        '[gc]\ngrace = "0s"\nkeep-last = 1\nkeep-ops = "0s"\n'
    )
    assert len(kept.usr("gc", "--json").ok().data["lighter"]) == 3
    (kept.root / ".usr" / "config").write_text('[gc]\ngrace = "soon"\n')
    kept.usr("gc").failed("config", 3)
    (kept.root / ".usr" / "config").write_text("[gc]\nkeep-lots = 1\n")
    kept.usr("gc").failed("config", 3)


@pytest.mark.parametrize("words", [("--grace", "soon"), ("--keep-within", "3"), ("--keep-ops", "")])
def test_what_is_no_duration_is_named(kept, words):
    said = kept.usr("gc", *words).failed("config", 3)
    assert "is no duration" in said.err


def test_repack_merges_and_leaves_the_rest_to_gc(kept):
    data = kept.usr("repack", "--json").ok().data
    assert data["repacked"] >= 8
    assert data["swept"] == []
    assert kept.usr("repack").ok().lines[-1] == "nothing to collect"
    assert len(kept.usr("gc", "--grace", "0", "--json").ok().data["swept"]) >= 8
    kept.usr("fsck", "--deep").ok()


def test_du_says_what_each_state_costs_alone_and_what_is_saved(kept):
    data = kept.usr("du", "--json").ok().data
    assert [state["message"] for state in data["states"]] == [f"state {n}" for n in (3, 2, 1, 0)]
    for state in data["states"]:
        assert state["kept"]
        assert 50_000 <= state["alone"] < 51_000  # its records; all else is shared
    assert data["logical"] == sum(state["bytes"] for state in data["states"])
    assert data["logical"] - data["saved"]["dedup"] == data["distinct"]
    assert (
        data["stored"] + data["saved"]["compression"] + data["saved"]["light"] == data["distinct"]
    )
    assert data["folders"] == {DATASET: sum(map(len, datasets.read(kept.folder).values()))}
    assert data["places"]["data"] >= data["stored"]
    text = kept.usr("du", DATASET).ok().out
    assert "state 0" in text
    assert "in packs" in text


def test_du_of_light_states_counts_what_rests_in_the_folder(lab):
    lab.write()
    lab.usr("push", DATASET, "lab", "-y").ok()
    data = lab.usr("du", "--json").ok().data
    assert not any(state["kept"] for state in data["states"])
    assert data["saved"]["light"] > 0
    assert data["places"]["data"] < 5000  # the registry


def test_an_empty_store_has_nothing_to_collect(lab):
    lab.write()
    assert lab.usr("gc").ok().lines == [
        "0 packs, 0 B: 0 objects reached, 0 not",
        "nothing to collect",
    ]
    assert lab.usr("repack", "--json").ok().data["packs"] == 0
    assert lab.usr("du").ok().lines[0].endswith(f"{DATASET}/")
