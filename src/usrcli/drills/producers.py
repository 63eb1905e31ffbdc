"""The tools of the chained loop: densegen appends, infer scores, both through the Python API.

They are the programs of examples/, run as they are. Where only usr itself is installed they are
not there; the drill then writes as tools do, and says so.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from usrcli.drills import dataset as data

if TYPE_CHECKING:
    from usrcli.drills.runbook import Runbook

_EXAMPLES = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..", "examples"))
_COUNT = 60


def find(name: str) -> str | None:
    """The program of a tool, or None."""
    path = os.path.join(_EXAMPLES, name, f"{name}.py")
    return path if os.path.isfile(path) else None


def write_back(book: Runbook, drill: str) -> None:
    """Step 4 of the loop: new sequences, and scores for what has none."""
    densegen, infer = find("densegen"), find("infer")
    if densegen is None or infer is None:
        why = "examples/ is not installed here; parts were written as tools write them"
        book.expect(drill, "write-back: by densegen and infer", None, why)
        data.write_back(book.local, seed=11)
        return
    words: tuple[str, ...] = ("run", "--usr", book.dataset, "--count", str(_COUNT), "--seed", "11")
    run = book.stage.tool(densegen, *words)
    made = run.status == 0 and f"{_COUNT} new of {_COUNT} sequences" in run.out
    book.expect(drill, "write-back: densegen appends sequences that hold its rules", made, run.err)
    run = book.stage.tool(densegen, *words)
    again = run.status == 0 and f" 0 new of {_COUNT} sequences" in run.out
    book.expect(drill, "write-back: densegen run again makes none twice", again, run.err)
    _no_fake(book, drill, infer)
    words = _infer(book, "kmer/log_likelihood")
    run = book.stage.tool(infer, *words)
    scored = run.status == 0 and " 0 sequences scored" not in run.out
    book.expect(drill, "write-back: infer scores the new sequences", scored, run.err or run.out)
    run = book.stage.tool(infer, *words)
    done = run.status == 0 and " 0 sequences scored" in run.out
    book.expect(
        drill, "write-back: afterwards every sequence has a score", done, run.err or run.out
    )


def _infer(book: Runbook, preset: str) -> tuple[str, ...]:
    """The runbook's own command line."""
    return (
        "run", "--preset", preset, "--usr", book.dataset, "--field", "sequence",
        "--device", "cpu", "--write-back",
    )  # fmt: skip


def _no_fake(book: Runbook, drill: str, infer: str) -> None:
    """A model that is not installed says so, and writes nothing."""
    import importlib.util

    name = "write-back: a model that is not installed writes no scores and says how to get it"
    if importlib.util.find_spec("evo2") is not None:
        book.expect(drill, name, None, "the package evo2 is installed here")
        return
    before = book.files()
    run = book.stage.tool(infer, *_infer(book, "evo2/extract_logits_ll"))
    told = run.status == 4 and "pip install evo2" in run.err
    book.expect(drill, name, told and before == book.files(), f"exit {run.status}: {run.error}")
