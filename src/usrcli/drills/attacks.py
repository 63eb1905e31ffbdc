"""Drill 3: what breaks the registry is neither attached, nor pushed, nor pulled.

Each attack is a file that a person or a tool could really bring. It must be refused with what is
wrong and what to do about it, and nothing may be written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from usrcli.drills import dataset as data

if TYPE_CHECKING:
    from usrcli.drills.runbook import Runbook
    from usrcli.drills.stage import Run

_NAME = "drill 3"
_REFUSED = (3, 4, 5, 6)


class Attack(NamedTuple):
    """A bad overlay: how it is called, the rows of its CSV, what attach is told, what it answers."""

    name: str
    columns: tuple[str, ...]
    values: tuple[str, ...]
    options: tuple[str, ...]
    says: str


_BY_SEQUENCE = ("--key", "sequence", "--key-col", "sequence")
_ATTACKS = (
    Attack("a column that is not registered", ("sequence", "bad_field"), ("1",),
           ("--namespace", "infer", *_BY_SEQUENCE, "--columns", "bad_field"), "infer__bad_field"),
    Attack("a namespace that is not registered", ("sequence", "score"), ("1",),
           ("--namespace", "guess", *_BY_SEQUENCE, "--columns", "score"), "guess"),
    Attack("a value of the wrong type", ("sequence", "ll_mean"), ("high",),
           ("--namespace", "infer", *_BY_SEQUENCE, "--allow-overwrite"), "'high'"),
    Attack("a namespace that is reserved", ("sequence", "deleted"), ("true",),
           ("--namespace", "usr", *_BY_SEQUENCE), "reserved"),
    Attack("a key that the file has not", ("sequence", "ll_mean"), ("1.0",),
           ("--namespace", "infer", "--key", "id", "--allow-overwrite"), "id"),
)  # fmt: skip


def drill_3(book: Runbook) -> None:
    """The attack surface of the schema."""
    sequence = data.a_sequence(book.local)
    for attack in _ATTACKS:
        _attach(book, attack, [[sequence, *attack.values]])
    twice = Attack("a key that comes twice", ("sequence", "ll_mean"), (),
                   ("--namespace", "infer", *_BY_SEQUENCE, "--allow-overwrite"), "row 2")  # fmt: skip
    _attach(book, twice, [[sequence, "1.0"], [sequence, "2.0"]])
    unknown = twice._replace(name="a key that no row has", says="row 1")
    _attach(book, unknown, [["A" * 9, "1.0"]])
    _spread(book, "push", "bad_field", "an unregistered column")
    _spread(book, "pull", "ll_mean", "a column of another type")
    run = book.diff()
    good = run.status == 0 and run.last_line == "Status     : up-to-date"
    book.expect(_NAME, "diff: ends with up-to-date", good, run.err or run.out)


def _attach(book: Runbook, attack: Attack, rows: list[list[str]]) -> None:
    path = os.path.join(book.stage.work, "bad_overlay.csv")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(",".join(row) + "\n" for row in [list(attack.columns), *rows])
    before = book.files()
    run = book.stage.usr("attach", book.dataset, "--path", path, *attack.options)
    _judge(book, f"attach: {attack.name}", run, attack.says, before=before)


def _spread(book: Runbook, verb: str, column: str, what: str) -> None:
    """A part that another tool wrote past the registry must not travel."""
    label = f"{verb}: a part with {what}"
    folder = book.local if verb == "push" else book.remote
    if folder is None:
        book.expect(_NAME, f"{label} is refused", None, "its folder is not on this machine")
        return
    path = os.path.join(folder, data.write_bad_part(folder, column))
    before = book.files()
    run, audit = book.sync(verb)
    _judge(book, label, run, f"infer__{column}", before=before)
    state = str(audit.get("transfer_state"))
    book.expect(_NAME, f"{label}: the audit says REFUSED", state == "REFUSED", state)
    os.remove(path)


def _judge(book: Runbook, label: str, run: Run, says: str, *, before: object) -> None:
    """Refused, with what is wrong and what to do, and nothing written anywhere."""
    told = run.status in _REFUSED and says in run.err and "\nhint: " in run.err
    why = f"exit {run.status}: {run.err.strip() or 'no error was printed'}"
    book.expect(_NAME, f"{label} is refused, with what to do", told, why)
    book.expect(_NAME, f"{label}: nothing was written", before == book.files())
