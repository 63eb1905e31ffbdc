"""maintenance dedupe: rows of the base table that say the same thing become one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from usrstore.dataset import parquetfile
from usrstore.dataset.metafile import counted
from usrstore.errors import InvalidInputError
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.verbs.importing import check_base, restamped
from usrstore.verbs.mutating import mutating
from usrstore.verbs.site import Site

KEYS = ("id", "sequence", "sequence_norm", "sequence_ci")
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class DedupeResult:
    """What was dropped, or would be.

    Attributes:
        rows, dropped: of the base table before, and of those that went.
        examples: ids of the first that went.
        snapshot: the copy of the new base table; None if nothing was written.
    """

    rows: int
    dropped: int
    examples: tuple[str, ...]
    snapshot: str | None


def dedupe(
    site: Site,
    *,
    key: str,
    keep_last: bool = False,
    batch_rows: int = 65_536,
    dry_run: bool = False,
) -> DedupeResult:
    """Keep one row of those that agree in `key`; the order of the rest stays.

    Args:
        site: the dataset.
        key: `id`, `sequence`, `sequence_norm` (trimmed) or `sequence_ci` (trimmed, upper case;
            dna_4 only).
        keep_last: keep the last of them, instead of the first.
        batch_rows: how many rows are looked at together.
        dry_run: only count.

    Raises:
        InvalidInputError: `sequence_ci` where there are other alphabets than dna_4.
    """
    if dry_run:
        site.root.check_dataset(site.dataset)
        doomed, examples = _doomed(site.root.folder(site.dataset), key, keep_last, batch_rows)
        return DedupeResult(len(doomed), sum(doomed), examples, None)
    with mutating(site) as act:
        target = act.replace(PRIMARY_FILE)
        source = act.folder_path(PRIMARY_FILE)
        base = parquetfile.facts(source)
        check_base(source, base)
        doomed, examples = _doomed(site.folder, key, keep_last, batch_rows)
        dropped = sum(doomed)
        if not dropped:
            act.forget()
            return DedupeResult(len(doomed), 0, (), None)
        with parquetfile.writing(target, base.schema, restamped(base, act)) as writer:
            place = 0
            for group in parquetfile.groups(source):
                for table in group:
                    kept = [not gone for gone in doomed[place : place + table.num_rows]]
                    place += table.num_rows
                    writer.write(table.filter(kept))
                writer.end_group()  # groups that lost nothing are written as they were
        snapshot = act.snapshot()
        args = {"key": key, "keep": "keep-last" if keep_last else "keep-first"}
        metrics = {"rows_before": len(doomed), "rows_dropped": dropped}
        act.event(
            "dedupe",
            args=args,
            metrics=metrics,
            artifacts={"snapshot": snapshot},
            table=PRIMARY_FILE,
        )
        act.note(f"dropped {counted(dropped, 'row')} that others repeat by {key}")
    return DedupeResult(len(doomed), dropped, examples, snapshot)


def _doomed(
    folder: str, key: str, keep_last: bool, batch_rows: int
) -> tuple[bytearray, tuple[str, ...]]:
    """A flag for each row, 1 if it goes; and the first ids that do."""
    path = f"{folder}/{PRIMARY_FILE}"
    column = "id" if key == "id" else "sequence"
    form = _form(key)
    doomed, seen = bytearray(), dict[bytes, int]()
    for table in parquetfile.batches(path, ["bio_type", "alphabet", column], rows=batch_rows):
        if key == "sequence_ci" and set(table.column("alphabet").to_pylist()) - {"dna_4"}:
            raise InvalidInputError(
                "sequence_ci compares dna_4 only, and there are other alphabets; "
                "nothing was changed",
                hint="use --key sequence_norm",
            )
        kinds = table.column("bio_type").to_pylist()
        for kind, value in zip(kinds, table.column(column).to_pylist(), strict=True):
            text = f"{kind}|{form(value)}"
            digest = hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
            row = len(doomed)
            doomed.append(0)
            before = seen.setdefault(digest, row)
            if before != row:
                doomed[before if keep_last else row] = 1
                seen[digest] = row if keep_last else before
    return doomed, _examples(path, doomed)


def _form(key: str) -> Callable[[Any], str]:
    if key == "sequence_ci":
        return lambda value: str(value).strip().upper()
    if key == "sequence_norm":
        return lambda value: str(value).strip()
    return str


def _examples(path: str, doomed: bytearray) -> tuple[str, ...]:
    found: list[str] = []
    place = 0
    for table in parquetfile.batches(path, ["id"]):
        flags = doomed[place : place + table.num_rows]
        if any(flags):
            ids = table.column("id").to_pylist()
            found += [oid for oid, gone in zip(ids, flags, strict=True) if gone]
        place += table.num_rows
        if len(found) >= 5:
            break
    return tuple(found[:5])
