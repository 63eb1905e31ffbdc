"""Is records.parquet a base table? Its columns, and every row of it, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import keys, locate, rowgroups, schema
from usrstore.dataset.flaws import Flaws
from usrstore.errors import IntegrityError
from usrstore.objects.sections import PRIMARY_FILE

_JOIN_BYTES = 512 << 20


def check(folder: str, flaws: Flaws, *, scratch: str) -> Any:
    """Look at all of the base table; gives its schema, or None if it cannot be read.

    Args:
        folder: the dataset.
        flaws: takes what is found.
        scratch: an empty folder to spill into.
    """
    try:
        with rowgroups.open_file(folder, PRIMARY_FILE) as file:
            found = file.schema_arrow
        for problem in schema.schema_problems(found):
            flaws.add("base-columns", PRIMARY_FILE, problem)
        usable = all(
            name in found.names and found.field(name).type == pa.string()
            for name in ("id", "bio_type", "sequence", "alphabet")
        )
        start = 0
        for batch in rowgroups.batches(folder, PRIMARY_FILE, found.names):
            if usable:
                _rows(batch, start, flaws)
            start += len(batch)
    except IntegrityError as exc:
        flaws.add("parquet-unreadable", PRIMARY_FILE, exc.message)
        return None
    if usable:
        _uniqueness(folder, flaws, scratch)
    return found


def _rows(batch: Any, start: int, flaws: Flaws) -> None:
    for name in ("id", "bio_type", "sequence", "alphabet", "length", "created_at"):
        column = batch.column(name) if name in batch.schema.names else None
        if column is not None and column.null_count:
            for at in pc.indices_nonzero(column.is_null()).to_pylist():
                flaws.add(
                    "base-null", PRIMARY_FILE, "a value is missing",
                    row=start + at, column=name, value=None,
                )  # fmt: skip
    sequences = batch.column("sequence")
    trimmed = pc.utf8_trim_whitespace(sequences)
    _mark(
        "base-untrimmed", "white space around it is stored",
        pc.not_equal(sequences, trimmed), sequences, "sequence", start, flaws,
    )  # fmt: skip
    lengths = batch.column("length") if "length" in batch.schema.names else None
    if lengths is not None and pa.types.is_integer(lengths.type):
        wrong = pc.not_equal(pc.utf8_length(trimmed), lengths.cast(pa.int64()))
        _mark("base-length", "not the sequence's length", wrong, lengths, "length", start, flaws)
    _letters(batch, trimmed, start, flaws)
    _ids(batch, start, flaws)


def _mark(
    code: str, message: str, wrong: Any, column: Any, name: str, start: int, flaws: Flaws
) -> None:
    for at in pc.indices_nonzero(pc.fill_null(wrong, fill_value=False)).to_pylist():
        value = column[at].as_py()
        flaws.add(code, PRIMARY_FILE, message, row=start + at, column=name, value=value)


def _letters(batch: Any, trimmed: Any, start: int, flaws: Flaws) -> None:
    """Kinds, alphabets and letters; Python looks only at rows that Arrow has doubts about."""
    kinds, alphabets = batch.column("bio_type"), batch.column("alphabet")
    fine = None
    for alphabet, (kind, letters) in schema.ALPHABETS.items():
        of_it = pc.and_(pc.equal(alphabets, alphabet), pc.equal(kinds, kind))
        if not pc.any(of_it).as_py():
            continue
        matches = pc.match_substring_regex(trimmed, f"^[{letters}{letters.lower()}]+$")
        good = pc.and_(of_it, matches)
        fine = good if fine is None else pc.or_(fine, good)
    doubtful = (
        pa.array([True] * len(batch))
        if fine is None
        else pc.invert(pc.fill_null(fine, fill_value=False))
    )
    for at in pc.indices_nonzero(doubtful).to_pylist():
        values = trimmed[at].as_py(), kinds[at].as_py(), alphabets[at].as_py()
        problem = None if None in values else schema.sequence_problem(*values)
        if problem:
            column, value, reason = problem
            flaws.add(
                "base-letters", PRIMARY_FILE, reason, row=start + at, column=column, value=value
            )


def _ids(batch: Any, start: int, flaws: Flaws) -> None:
    columns = (batch.column(name).to_pylist() for name in ("id", "bio_type", "sequence"))
    for at, (oid, kind, sequence) in enumerate(zip(*columns, strict=True)):
        if None not in (oid, kind, sequence) and oid != schema.record_id(kind, sequence):
            flaws.add(
                "base-id", PRIMARY_FILE, "not the SHA-1 of bio_type|sequence",
                row=start + at, column="id", value=oid,
            )  # fmt: skip


def _uniqueness(folder: str, flaws: Flaws, scratch: str) -> None:
    def ids() -> Iterator[Any]:
        for batch in rowgroups.batches(folder, PRIMARY_FILE, ["id"]):
            yield keys.normalize(batch.column(0), "id")

    for key, rows, first in locate.repeats([ids()], scratch=scratch, memory_bytes=_JOIN_BYTES):
        flaws.add(
            "base-duplicate", PRIMARY_FILE, f"{rows} rows have this id",
            row=first, column="id", value=key,
        )  # fmt: skip
