"""The keys that overlays are laid by, and how they are compared.

`id` is the row's id. The others are its sequence: `sequence` and `sequence_norm` as it is,
`sequence_ci` without case. White space around a key never counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from usrstore.errors import OverlayError
from usrstore.objects.sections import PRIMARY_FILE

KEYS = ("id", "sequence", "sequence_norm", "sequence_ci")


def source(key: str) -> str:
    """The column of the base table that a key is compared with."""
    return "id" if key == "id" else "sequence"


def normalize(values: Any, key: str) -> Any:
    """Keys as they are compared, as `pyarrow.large_string`.

    Args:
        values: an Arrow array of strings (or of what reads as strings).
        key: one of KEYS.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(pc.cast(values, pa.large_string()))
    return pc.utf8_upper(trimmed) if key == "sequence_ci" else trimmed


def of_base(folder: str, key: str) -> Any:
    """The keys of the base rows, in their order, as they are compared.

    Raises:
        OverlayError: a key by sequence needs one bio_type and sequences that are unique;
            `sequence_ci` needs the alphabet dna_4, too.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = os.path.join(folder, PRIMARY_FILE)
    needed = ["id"] if key == "id" else ["sequence", "bio_type", "alphabet"]
    try:
        table = pq.read_table(path, columns=needed, memory_map=True)
    except (OSError, pa.ArrowException) as exc:
        raise OverlayError(
            f"{path} cannot be read: {exc}; nothing was changed", code="overlay-unreadable"
        ) from exc
    if key != "id":
        kinds = pc.unique(table.column("bio_type")).to_pylist()
        if len(kinds) > 1:
            raise _no_key(key, f"the rows have several bio_types ({_some(kinds)})")
        alphabets = pc.unique(table.column("alphabet")).to_pylist()
        if key == "sequence_ci" and alphabets not in ([], ["dna_4"]):
            raise _no_key(key, f"it is for the alphabet dna_4 only, not {_some(alphabets)}")
    keys = normalize(table.column(source(key)), key)
    if key != "id" and (twice := repeated(keys)):
        raise _no_key(key, f"rows of records.parquet share a key ({_some(twice)})")
    return keys


def repeated(keys: Any, *, limit: int = 5) -> list[str]:
    """Keys that occur more than once, the first few in order; nulls do not count."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.count_distinct(keys).as_py() == len(keys) - keys.null_count:
        return []
    counted = (
        pa.table({"key": keys}).group_by("key", use_threads=False).aggregate([([], "count_all")])
    )
    chosen = counted.filter((pc.field("count_all") > 1) & pc.field("key").is_valid())
    found: list[str] = chosen.column("key").slice(0, limit).to_pylist()
    return found


def _no_key(key: str, why: str) -> OverlayError:
    return OverlayError(
        f"overlays cannot be keyed by {key} here: {why}; nothing was changed",
        hint="use --key id",
        code="overlay-key-unfit",
    )


def _some(values: Iterable[Any]) -> str:
    listed = [str(value)[:60] for value in values]
    return ", ".join(listed[:5]) + (" …" if len(listed) > 5 else "")
