"""Does a key tell the rows apart, in every version of a table that is about to be merged?

Versions of one table share most of their row groups. The key column of such a group is read
once, whoever has it. Few keys are compared in memory, many at once and out of core.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import rowgroups, rowhashes
from usrstore.dataset.tablefile import TableFile
from usrstore.errors import IntegrityError, InvalidInputError

_JOIN_BYTES = 256 << 20
_HOLD_ROWS = 1 << 18
_NAMED = 5


class _Run(NamedTuple):
    """A row group, how many rows it has, and the bits of the versions that have it."""

    path: str
    number: int
    rows: int
    bits: int


def check(
    versions: Mapping[str, str], key: str, *, scratch: str, hold_rows: int = _HOLD_ROWS
) -> None:
    """See to it that no version has a key twice, or lacks one, wherever the rows stand.

    Args:
        versions: what each is called in messages → a Parquet file; three at most.
        key: the column that shall tell rows apart.
        scratch: an empty folder to spill into.
        hold_rows: so many keys are compared in memory.

    Raises:
        IntegrityError: `duplicate-keys`, some of them named; a damaged file.
        InvalidInputError: a version has no such column.
    """
    runs = list(_runs(list(versions.values()), key))

    def keys() -> Iterator[tuple[Any, int]]:
        for run in runs:
            for column in _column(run, key):
                if column.null_count:
                    _refuse(key, f"it is missing in {_named(versions, run.bits)}")
                yield column, run.bits

    if sum(run.rows for run in runs) <= hold_rows:
        found = _twice(list(keys()), len(versions))
    else:
        from usrstore.dataset import locate  # the engine takes longer to start than few keys

        found = locate.twice(keys, _NAMED, scratch=scratch, memory_bytes=_JOIN_BYTES)
    if found:
        listed = "; ".join(f"{text!r} in {_named(versions, bit)}" for text, bit in found)
        _refuse(key, f"more than one row has {listed}")


def _twice(columns: list[tuple[Any, int]], versions: int) -> list[tuple[str, int]]:
    """What `locate.twice` gives, of keys that are all in memory."""
    found: list[tuple[str, int]] = []
    for bit in (1 << number for number in range(versions)):
        held = pa.chunked_array([c for c, bits in columns if bits & bit], pa.large_string())
        counts = pc.value_counts(held)
        again = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        found += [(text, bit) for text in again.to_pylist()]
    return sorted(found)[:_NAMED]


def _runs(paths: list[str], key: str) -> Iterator[_Run]:
    """Every row group that some version has, as often as one of them has it."""
    places: dict[Any, list[_Run]] = {}
    for bit, path in enumerate(paths):
        seen: Counter[Any] = Counter()
        for number, (rows, name) in enumerate(_names(path, key)):
            known = places.setdefault(name, [])
            if seen[name] < len(known):
                old = known[seen[name]]
                known[seen[name]] = old._replace(bits=old.bits | 1 << bit)
            else:
                known.append(_Run(path, number, rows, 1 << bit))
            seen[name] += 1
    yield from itertools.chain.from_iterable(places.values())


def _names(path: str, key: str) -> list[tuple[int, Any]]:
    """Rows of each row group of a file, and what tells its key column apart from others."""
    file = TableFile.at(path)
    with rowgroups.open_table(file) as opened:
        if key not in opened.schema_arrow.names:
            raise InvalidInputError(
                f"{os.path.basename(path)} has no column {key!r} to tell rows apart by",
                hint=f"it has: {', '.join(opened.schema_arrow.names[:12])}",
                code="column-unknown",
            )
        groups = rowhashes.groups(file, opened.metadata, only=key)
        kind = opened.schema_arrow.field(key).type
        return [(group.rows, (str(kind), group.rows, group.hashes[key])) for group in groups]


def _column(run: _Run, key: str) -> Iterator[Any]:
    with rowgroups.open_table(TableFile.at(run.path)) as opened:
        try:
            for batch in opened.iter_batches(
                rowgroups.BATCH_ROWS, row_groups=[run.number], columns=[key]
            ):
                yield pc.cast(batch.column(0), pa.large_string())
        except (OSError, pa.ArrowException) as exc:
            raise rowgroups.unreadable(run.path, exc) from exc


def _named(versions: Mapping[str, str], bits: int) -> str:
    return " and ".join(name for bit, name in enumerate(versions) if bits & 1 << bit)


def _refuse(key: str, why: str) -> NoReturn:
    raise IntegrityError(
        f"the column {key} does not tell rows apart: {why}; nothing was changed",
        hint="usr maintenance dedupe DATASET --key id --keep keep-first; or take one side's file "
        "as it is: --ours PATH, --theirs PATH",
        code="duplicate-keys",
    )
