"""infer: scores the sequences of a dataset with a model, and writes the scores back.

scan → rows without a score → model → overlay part, a batch at a time

A model is made from the command line's words and the dataset, and maps sequences to scores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import usrstore
import usrstore.dataset

NAMESPACE = "infer"
COLUMNS = "ll_mean:float64,ll_sum:float64"
DONE = f"{NAMESPACE}__ll_mean"
STATUS = {
    usrstore.InvalidInputError: 3,
    usrstore.NotFoundError: 4,
    usrstore.UnsupportedError: 4,
    usrstore.ConflictError: 5,
}


class Score(NamedTuple):
    """The log-likelihood of a sequence in nats: over all its letters that have a context."""

    ll_sum: float
    letters: int


Model = Callable[[Sequence[str]], list[Score | None]]
"""Scores sequences; None for one that is too short to have any context."""


# ── models ──────────────────────────────────────────────────────────────────────────────
def kmer_model(table: usrstore.dataset.Dataset, words: argparse.Namespace) -> Model:
    """A Markov chain of order k over the dataset's own sequences, one added to every count.

    p(letter | the k before it) = (count of the k+1 letters + 1) / (count of the k + letters)
    """
    order = words.order
    whole: Counter[str] = Counter()
    letters: set[str] = set()
    for batch in table.scan([words.field]):
        for sequence in batch.column(0).to_pylist():
            text = (sequence or "").upper()
            letters.update(text)
            whole.update(text[at : at + order + 1] for at in range(len(text) - order))
    context: Counter[str] = Counter()
    for kmer, count in whole.items():
        context[kmer[:order]] += count

    def one(sequence: str) -> Score | None:
        text = sequence.upper()
        count = len(text) - order
        if count < 1:
            return None
        total = 0.0
        for at in range(count):
            kmer = text[at : at + order + 1]
            total += math.log((whole[kmer] + 1) / (context[kmer[:order]] + len(letters)))
        return Score(total, count)

    return lambda sequences: [one(sequence) for sequence in sequences]


def evo2_model(table: usrstore.dataset.Dataset, words: argparse.Namespace) -> Model:
    """Evo 2: the log-probability that its logits give each letter after those before it."""
    del table  # it was trained elsewhere
    try:
        import torch
        from evo2 import Evo2
    except ImportError as exc:
        raise usrstore.UnsupportedError(
            f"the preset {words.preset} needs the package evo2, which cannot be imported ({exc}); "
            "nothing was scored and nothing was written",
            hint="on a machine with a CUDA GPU: pip install evo2 "
            "(https://github.com/ArcInstitute/evo2), then run this again with --device cuda:0; "
            "on any machine: --preset kmer/log_likelihood",
        ) from exc
    net = Evo2(words.model)

    def one(sequence: str) -> Score | None:
        if len(sequence) < 2:
            return None
        ids = torch.tensor(net.tokenizer.tokenize(sequence), dtype=torch.int)
        ids = ids.unsqueeze(0).to(words.device)
        with torch.inference_mode():
            outputs, _ = net(ids)
        logs = torch.log_softmax(outputs[0].float(), dim=-1)[0, :-1]
        taken = logs.gather(-1, ids[0, 1:].long().unsqueeze(-1))
        return Score(float(taken.sum()), len(sequence) - 1)

    return lambda sequences: [one(sequence) for sequence in sequences]


PRESETS = {"kmer/log_likelihood": kmer_model, "evo2/extract_logits_ll": evo2_model}


# ── the run ─────────────────────────────────────────────────────────────────────────────
def waiting(
    table: usrstore.dataset.Dataset, field: str, *, batch: int, overwrite: bool
) -> Iterator[list[dict[str, Any]]]:
    """Rows that have no score yet, some at a time: {id, text}."""
    columns = ["id", field]
    if not overwrite and DONE in table.schema.names:
        columns.append(DONE)
    held: list[dict[str, Any]] = []
    for rows in table.scan(columns):
        for row in rows.to_pylist():
            if row[field] and (overwrite or row.get(DONE) is None):
                held.append({"id": row["id"], "text": row[field]})
            if len(held) == batch:
                yield held
                held = []
    if held:
        yield held


def run(words: argparse.Namespace) -> int:
    actor = {
        "tool": os.environ.get("USR_ACTOR_TOOL") or "infer",
        "run_id": os.environ.get("USR_ACTOR_RUN_ID") or f"infer-pid-{os.getpid()}",
        "host": os.uname().nodename,
    }
    table = usrstore.dataset.open(words.root, words.usr, actor)
    model = PRESETS[words.preset](table, words)
    if words.write_back:
        table.register(NAMESPACE, COLUMNS, why="log-likelihoods of sequences, in nats")
    scored = 0
    for rows in waiting(table, words.field, batch=words.batch, overwrite=words.overwrite):
        found = [
            {"id": row["id"], "ll_mean": score.ll_sum / score.letters, "ll_sum": score.ll_sum}
            for row, score in zip(rows, model([row["text"] for row in rows]), strict=True)
            if score is not None
        ]
        scored += len(found)
        if words.write_back and found:
            table.write_overlay_part(found, NAMESPACE)
            print(f"infer: {scored} sequences scored", file=sys.stderr)
        elif not words.write_back:
            for row in found:
                print(json.dumps(row))
    if words.write_back:
        print(f"{table.name}: {scored} sequences scored with {words.preset}")
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="infer", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("run", help="score the sequences of a dataset")
    verb.add_argument("--preset", choices=sorted(PRESETS), required=True)
    verb.add_argument("--usr", metavar="DATASET", required=True, help="the dataset")
    verb.add_argument("--root", default=os.environ.get("USR_ROOT"), help="or USR_ROOT")
    verb.add_argument("--field", default="sequence", help="the column to score")
    verb.add_argument("--device", default="cpu", help="for models that know devices")
    verb.add_argument("--model", default="evo2_7b", help="which Evo 2")
    verb.add_argument("--order", type=int, default=3, help="of the Markov chain")
    verb.add_argument("--batch", type=int, default=4096, help="sequences a part")
    verb.add_argument("--overwrite", action="store_true", help="score again what has a score")
    verb.add_argument("--write-back", action="store_true", help="write an overlay; else print")
    words = parser.parse_args(argv)
    if not words.root:
        parser.error("no root: give --root DIR, or set USR_ROOT")
    if words.order < 0 or words.batch < 1:
        parser.error("--order must be 0 or more, --batch 1 or more")
    return words


def main(argv: Sequence[str] | None = None) -> int:
    words = parse(sys.argv[1:] if argv is None else argv)
    try:
        return run(words)
    except usrstore.UsrError as error:
        print(f"error: {error.message}\ncode: {error.code}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 1)


if __name__ == "__main__":
    sys.exit(main())
