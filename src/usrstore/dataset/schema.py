"""The base table of a dataset, `records.parquet`: its columns, its alphabets, its rules.

    id = sha1("<bio_type>|<sequence, trimmed>") in lower hexadecimal

The case of a sequence counts: ACGT and acgt are two records. Rows are checked all at once;
a caller gets every problem with its row, column and value, as many as fit on a screen.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usrstore.dataset import types
from usrstore.dataset.types import Type
from usrstore.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

REQUIRED: dict[str, Type] = {
    "id": types.STRING,
    "bio_type": types.STRING,
    "sequence": types.STRING,
    "alphabet": types.STRING,
    "length": Type("int32"),
    "source": types.STRING,
    "created_at": Type("timestamp", unit="us", zone="UTC"),
}
"""The columns every base table begins with, in this order."""

BIO_TYPES = ("dna", "rna", "protein")
_AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
ALPHABETS: dict[str, tuple[str, str]] = {
    "dna_4": ("dna", "ACGT"),
    "dna_5": ("dna", "ACGTN"),
    "rna_4": ("rna", "ACGU"),
    "rna_5": ("rna", "ACGUN"),
    "protein_20": ("protein", _AMINO_ACIDS),
    "protein_21": ("protein", f"{_AMINO_ACIDS}X"),
}
"""Alphabet → the bio_type it belongs to, and its letters; lower case is accepted as well."""

SCHEMA_VERSION = "1"
ID_HASH = "sha1_utf8_pipe"
META_SCHEMA_VERSION = "usr:schema_version"
META_ID_HASH = "usr:id_hash"
META_CREATED_AT = "usr:dataset_created_at"
META_REGISTRY_HASH = "usr:registry_hash"

_STRAY = {
    name: re.compile(f"[^{letters}{letters.lower()}]") for name, (_, letters) in ALPHABETS.items()
}
_SHOWN = 20
_VALUE_LETTERS = 60  # an id fits


def normalize(sequence: str) -> str:
    """A sequence as it is stored: trimmed, its case kept."""
    return sequence.strip()


def record_id(bio_type: str, sequence: str) -> str:
    """The id of a record."""
    text = f"{bio_type}|{sequence.strip()}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def base_metadata(*, created_at: str, registry_hash: str | None) -> dict[str, str]:
    """The key-value metadata of a base table.

    Args:
        created_at: when the dataset was made, kept by every later write.
        registry_hash: of the registry in force, if there is one.
    """
    return {
        META_SCHEMA_VERSION: SCHEMA_VERSION,
        META_ID_HASH: ID_HASH,
        META_CREATED_AT: created_at,
        **({META_REGISTRY_HASH: registry_hash} if registry_hash else {}),
    }


def base_schema(metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """The Arrow schema of a base table without columns of namespaces."""
    import pyarrow as pa

    fields = [(name, types.to_arrow(kind)) for name, kind in REQUIRED.items()]
    return pa.schema(fields, metadata=dict(metadata) if metadata else None)


def schema_problems(schema: pa.Schema) -> list[str]:
    """What keeps a table from being a base table; empty if it is one."""
    from usrstore.errors import RegistryError

    problems = []
    names = list(schema.names)
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        problems.append(f"required columns are missing: {', '.join(missing)}")
    elif names[: len(REQUIRED)] != list(REQUIRED):
        problems.append(f"the first columns are not {', '.join(REQUIRED)}, in this order")
    problems += [
        f"the column {name} comes twice" for name in sorted({*names}) if names.count(name) > 1
    ]
    for name, wanted in REQUIRED.items():
        if names.count(name) != 1:
            continue
        try:
            found = str(types.of_arrow(schema.field(name).type))
        except RegistryError:
            found = str(schema.field(name).type)
        if found != str(wanted):
            problems.append(f"the column {name} is {found}, not {wanted}")
    problems += [
        f"the column {name} belongs to no namespace (<namespace>__<column>)"
        for name in names
        if name not in REQUIRED and not name.partition("__")[2]
    ]
    return problems


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with one value.

    Attributes:
        row: 1 is the first row of the input.
        column: its column.
        value: as it was found, cut to a few letters.
        reason: what is wrong with it.
    """

    row: int
    column: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.column} = {self.value}: {self.reason}"


@dataclass
class RowProblems:
    """Every problem of an input: all are counted, the first are kept."""

    found: list[RowProblem] = field(default_factory=list)
    count: int = 0

    def add(self, row: int, column: str, value: Any, reason: str) -> None:
        self.count += 1
        if len(self.found) < _SHOWN:
            self.found.append(RowProblem(row, column, _shown(value), reason))

    def check(self, what: str, *, hint: str | None = None) -> None:
        """Raises: InvalidInputError: there are some; it names them."""
        if not self.count:
            return
        lines = "".join(f"\n  {problem}" for problem in self.found)
        more = self.count - len(self.found)
        word = "problem" if self.count == 1 else "problems"
        raise InvalidInputError(
            f"{what} has {self.count} {word}; nothing was changed:{lines}"
            + (f"\n  … and {more} more" if more else ""),
            hint=hint or "correct these rows, then run the same command again",
            code="bad-rows",
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _VALUE_LETTERS else f"{text[: _VALUE_LETTERS - 1]}…"


def sequence_problem(sequence: Any, bio_type: Any, alphabet: Any) -> tuple[str, Any, str] | None:
    """(column, value, reason) of the first thing wrong with a record; None if it is well.

    Args:
        sequence: trimmed.
        bio_type, alphabet: as they will be stored.
    """
    if bio_type not in BIO_TYPES:
        return "bio_type", bio_type, f"one of {', '.join(BIO_TYPES)}"
    if alphabet not in ALPHABETS:
        return "alphabet", alphabet, f"one of {', '.join(ALPHABETS)}"
    if ALPHABETS[alphabet][0] != bio_type:
        return "alphabet", alphabet, f"an alphabet of {ALPHABETS[alphabet][0]}, not of {bio_type}"
    if not isinstance(sequence, str) or not sequence:
        return "sequence", sequence, "a sequence is missing"
    stray = _STRAY[alphabet].search(sequence)
    if stray:
        place = stray.start() + 1
        return "sequence", sequence, f"{stray[0]!r} at letter {place} is not in {alphabet}"
    return None
