"""import: rows from a file into the base table, all of them or none.

file ─read→ batches ─judge→ rows ─append→ staged base → snapshot, note, event → one act
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from usrstore.dataset import intake, parquetfile, schema
from usrstore.dataset.intake import Columns, Judge
from usrstore.dataset.metafile import counted
from usrstore.dataset.schema import RowProblems
from usrstore.errors import IntegrityError, InvalidInputError, NotFoundError
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.verbs.mutating import Mutation, mutating
from usrstore.verbs.site import Site


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did.

    Attributes:
        rows_read, rows_written, rows_skipped: of the input; skipped were there already.
        rows: of the dataset now.
        ignored: columns of the input that belong to no column of the base table.
        snapshot: the copy of the base table that was kept; None if nothing was written.
    """

    rows_read: int
    rows_written: int
    rows_skipped: int
    rows: int
    ignored: tuple[str, ...]
    snapshot: str | None


def import_rows(
    site: Site,
    path: str,
    *,
    form: str,
    bio_type: str = "dna",
    alphabet: str = "dna_4",
    skip: bool = False,
    emit: Emit = silent,
) -> ImportResult:
    """Append the rows of a file to the base table; old row groups stay as they are.

    Args:
        site: the dataset.
        path: the input; it needs a column `sequence`, and may have the other base columns.
        form: `csv`, `jsonl` or `parquet`.
        bio_type, alphabet: of rows that do not say.
        skip: pass over records that are there already, instead of refusing the file.
        emit: progress.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: all that is wrong with its rows; nothing was changed.
    """
    if not os.path.isfile(path):
        raise NotFoundError(f"there is no file {path}; nothing was changed")
    return append_rows(
        site,
        lambda problems: intake.read(path, form, problems),
        name=path,
        bio_type=bio_type,
        alphabet=alphabet,
        skip=skip,
        emit=emit,
    )


def append_rows(
    site: Site,
    read: Callable[[RowProblems], Iterator[tuple[int, Columns]]],
    *,
    name: str,
    bio_type: str = "dna",
    alphabet: str = "dna_4",
    skip: bool = False,
    emit: Emit = silent,
) -> ImportResult:
    """Append rows, wherever they come from; `import_rows` brings those of a file.

    Args:
        site, bio_type, alphabet, skip, emit: as `import_rows` takes them.
        read: gives the rows as `intake.read` does, once, while the dataset is locked.
        name: what errors, the event and the notes call their source.

    Raises:
        InvalidInputError: all that is wrong with the rows; nothing was changed.
    """
    check_alphabet(bio_type, alphabet)
    with mutating(site) as act:
        target = act.replace(PRIMARY_FILE)
        source = act.folder_path(PRIMARY_FILE)
        base = parquetfile.facts(source)
        check_base(source, base)
        judge = Judge(
            base.schema,
            {"bio_type": bio_type, "alphabet": alphabet, "source": os.path.basename(name)},
            dt.datetime.fromtimestamp(site.who.now_us() / 1e6, dt.UTC),
            known_ids(source),
            skip=skip,
        )
        with parquetfile.appending(source, target, restamped(base, act)) as writer:
            for first, columns in read(judge.problems):
                rows = judge.judge(first, columns)
                if not judge.problems.count:
                    writer.write(rows)
                emit(Event("scan", judge.read, None, name))
            judge.problems.check(name, hint=_hint(judge))
        written = writer.rows
        if not written:
            act.forget()
            ignored = tuple(judge.ignored)
            return ImportResult(judge.read, 0, judge.skipped, base.rows, ignored, None)
        snapshot = act.snapshot()
        act.event(
            "import_rows",
            args={
                "n": judge.read,
                "source_param": name,
                "on_conflict": "skip" if skip else "error",
            },
            metrics={"rows_written": written, "rows_skipped": judge.skipped},
            artifacts={"snapshot": snapshot},
            table=PRIMARY_FILE,
        )
        act.note(f"imported {counted(written, 'row')} from {os.path.basename(name)}")
    return ImportResult(
        judge.read, written, judge.skipped, base.rows + written, tuple(judge.ignored), snapshot
    )


def _hint(judge: Judge) -> str | None:
    if not judge.repeated:
        return None
    return "--on-conflict skip passes over records that are there already"


def check_alphabet(bio_type: str, alphabet: str) -> None:
    """Raises: InvalidInputError: no such bio_type or alphabet, or they do not fit."""
    letters = schema.ALPHABETS.get(alphabet, ("", ""))[1]
    problem = schema.sequence_problem(letters, bio_type, alphabet)
    if problem:
        column, value, reason = problem
        raise InvalidInputError(f"{column} {value!r}: {reason}; nothing was changed")


def check_base(path: str, base: parquetfile.TableFacts) -> None:
    """Raises: IntegrityError: a table that is no base table cannot grow."""
    problems = schema.schema_problems(base.schema)
    if problems:
        raise IntegrityError(
            f"{path} is no base table; nothing was changed:"
            + "".join(f"\n  {problem}" for problem in problems),
            hint="`usr validate` lists all that is wrong with a dataset",
            code="not-a-base",
        )


def restamped(base: parquetfile.TableFacts, act: Mutation) -> dict[str, str]:
    """The metadata of a base table that is written anew: its own, under today's registry."""
    return {
        **base.metadata,
        schema.META_SCHEMA_VERSION: schema.SCHEMA_VERSION,
        schema.META_ID_HASH: schema.ID_HASH,
        **({schema.META_REGISTRY_HASH: act.registry_hash} if act.registry_hash else {}),
    }


def known_ids(path: str) -> set[bytes]:
    """The ids of a base table, 20 bytes each.

    Raises:
        IntegrityError: one is no id.
    """
    known: set[bytes] = set()
    for table in parquetfile.batches(path, ["id"]):
        try:
            known.update(map(bytes.fromhex, table.column("id").to_pylist()))
        except (TypeError, ValueError) as exc:
            raise IntegrityError(
                f"{path} holds an id that is none: {exc}; nothing was changed",
                hint="`usr validate` names the rows",
                code="not-a-base",
            ) from exc
    return known
