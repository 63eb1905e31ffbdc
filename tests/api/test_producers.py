"""The tools of examples/: what they write is computed, and a run that was killed goes on."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

import usrstore.dataset as usr

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAME = "densegen/p"
INFER = ("run", "--usr", NAME, "--field", "sequence", "--device", "cpu")


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / name / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


densegen, infer = load("densegen"), load("infer")


@pytest.fixture
def root(home, monkeypatch):
    monkeypatch.setenv("USR_ROOT", str(home))
    monkeypatch.setenv("USR_ACTOR_RUN_ID", "night-7")
    monkeypatch.delenv("USR_ACTOR_TOOL", raising=False)
    return home


def make(*words, status=0):
    assert densegen.main(["run", "--usr", NAME, "--create", "--batch", "20", *words]) == status


def table(root):
    return usr.open(root, NAME, {"tool": "test"})


# ── densegen ────────────────────────────────────────────────────────────────────────────
def test_every_sequence_holds_its_motifs_where_it_says_and_the_rules(root):
    make("--count", "60", "--seed", "3")
    rows = table(root).to_arrow().to_pylist()
    assert len({row["id"] for row in rows}) == 60
    for row in rows:
        sequence = row["sequence"]
        end = 0
        for name, start in zip(row["densegen__motifs"], row["densegen__starts"], strict=True):
            pattern = densegen.MOTIFS[name.removesuffix("-")]
            pattern = densegen.turned(pattern) if name.endswith("-") else pattern
            assert re.match(pattern.replace("N", "."), sequence[start:])
            assert start >= end
            end = start + len(pattern)
        assert len(sequence) == 80
        share = sum(letter in "GC" for letter in sequence) / 80
        assert row["densegen__gc"] == share
        assert 0.35 <= share <= 0.65
        assert not re.search(r"(.)\1{6}|GAATTC|GGTCTC|GAGACC", sequence)


def test_the_same_seed_makes_the_same_sequences_and_another_one_others(root):
    def drawn(seed):
        rules = densegen.Rules(80, 3, 0.35, 0.65, 6, densegen.FORBIDDEN)
        return [densegen.design(seed, number, densegen.MOTIFS, rules) for number in range(5)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_run_that_was_killed_between_its_rows_and_their_part_goes_on(root, monkeypatch, capsys):
    def dies(*_args, **_words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("usrstore.tables.Dataset.write_overlay_part", dies)
        make("--count", "50")
    assert table(root).to_arrow(["id"]).num_rows == 20
    make("--count", "50")
    make("--count", "50")
    assert " 0 new of 50" in capsys.readouterr().out.splitlines()[-1]
    numbers = table(root).to_arrow(["densegen__number"]).column(0).to_pylist()
    assert sorted(numbers) == list(range(50))


def test_rules_that_cannot_hold_end_with_the_one_that_refuses_most(root, capsys):
    make("--count", "1", "--gc-min", "0.99", "--gc-max", "1", status=3)
    assert "share of G and C" in capsys.readouterr().err
    make("--count", "1", "--length", "10", status=3)
    assert "longer than the sequence" in capsys.readouterr().err
    assert table(root).to_arrow(["id"]).num_rows == 0


def test_motifs_of_ones_own(root, home, capsys):
    path = home / "motifs.json"
    path.write_text('{"box": "AANNTTCC"}')
    make("--count", "3", "--motifs", str(path), "--sites", "1")
    assert table(root).to_arrow(["densegen__motifs"]).num_rows == 3
    path.write_text('{"box": "XYZ"}')
    with pytest.raises(SystemExit):
        make("--motifs", str(path))
    assert "A C G T N" in capsys.readouterr().err


# ── infer ───────────────────────────────────────────────────────────────────────────────
def likelihood(sequences, sequence, order):
    """The same by its definition: p(x | the k before it) = (n(kx) + 1) / (n(k·) + letters)."""
    letters = len(set("".join(sequences)))
    total = 0.0
    for at in range(order, len(sequence)):
        context, letter = sequence[at - order : at], sequence[at]
        after = [
            text[place + order]
            for text in sequences
            for place in range(len(text) - order)
            if text[place : place + order] == context
        ]
        total += math.log((after.count(letter) + 1) / (len(after) + letters))
    return total


@pytest.mark.parametrize("order", [0, 2])
def test_the_scores_are_those_of_a_markov_chain_over_the_dataset(root, order):
    made = usr.create(root, NAME, {"tool": "test"})
    sequences = ["ACGTACGGT", "GGGTTTACA", "TTTTTTTTTT", "A"]
    made.add_sequences(sequences)
    words = ["--preset", "kmer/log_likelihood", "--order", str(order), "--write-back"]
    assert infer.main([*INFER, *words]) == 0
    rows = made.to_arrow(["sequence", "infer__ll_sum", "infer__ll_mean"]).to_pylist()
    for row in rows[:3]:
        text = row["sequence"]
        wanted = likelihood(sequences, text, order)
        assert row["infer__ll_sum"] == pytest.approx(wanted)
        assert row["infer__ll_mean"] == pytest.approx(wanted / (len(text) - order))
    assert (rows[3]["infer__ll_mean"] is None) == (order > 0)
    (event,) = made.events(1)
    assert (event["actor"]["tool"], event["actor"]["run_id"]) == ("infer", "night-7")


def test_only_rows_without_a_score_are_scored_unless_told_otherwise(root, capsys):
    make("--count", "30")
    words = [*INFER, "--preset", "kmer/log_likelihood", "--write-back", "--batch", "8"]
    for more, said in (([], "30"), ([], "0"), (["--overwrite"], "30")):
        assert infer.main([*words, *more]) == 0
        assert f"{said} sequences scored with" in capsys.readouterr().out
    make("--count", "35")
    assert infer.main(words) == 0
    assert "5 sequences scored with" in capsys.readouterr().out
    assert table(root).to_arrow(["infer__ll_mean"]).column(0).null_count == 0


def test_without_write_back_scores_are_printed_and_nothing_is_written(root, capsys):
    make("--count", "3")
    before = sorted((root / NAME).rglob("*"))
    capsys.readouterr()
    assert infer.main([*INFER, "--preset", "kmer/log_likelihood"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [sorted(row) for row in lines] == [["id", "ll_mean", "ll_sum"]] * 3
    assert sorted((root / NAME).rglob("*")) == before


@pytest.mark.skipif(importlib.util.find_spec("evo2") is not None, reason="Evo 2 is installed")
def test_a_model_that_is_not_installed_says_how_to_get_it_and_makes_up_nothing(root):
    make("--count", "3")
    before = sorted((root / NAME).rglob("*"))
    words = [*INFER, "--preset", "evo2/extract_logits_ll", "--write-back"]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "infer" / "infer.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert "pip install evo2" in done.stderr
    assert "nothing was written" in done.stderr
    assert sorted((root / NAME).rglob("*")) == before


def test_what_is_missing_has_a_status_of_its_own(root, monkeypatch, capsys):
    words = ["--preset", "kmer/log_likelihood", "--write-back"]
    assert infer.main([*INFER, *words]) == 4
    assert "there is no dataset" in capsys.readouterr().err
    monkeypatch.delenv("USR_ROOT")
    with pytest.raises(SystemExit) as caught:
        infer.main([*INFER, *words])
    assert caught.value.code == 2
