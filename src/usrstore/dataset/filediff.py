"""One table file in two versions, or in one: whatever kind of table it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from usrstore.dataset import changes, overlay, rowgroups, tablediff
from usrstore.dataset.changes import Delta
from usrstore.dataset.tablediff import Schemas
from usrstore.dataset.tablefile import Folder, TableFile, find
from usrstore.errors import InvalidInputError

KEY = "id"


@dataclass(frozen=True)
class FileDiff:
    """How a file differs.

    Attributes:
        key: the column that tells rows apart.
        before, after: how many rows; None where there is no such file.
        schemas: how the columns differ; None if only one side has the file.
    """

    key: str
    before: int | None
    after: int | None
    schemas: Schemas | None
    _files: tuple[TableFile | None, TableFile | None]
    _columns: tuple[str, ...]

    def deltas(self, scratch: str) -> Iterator[Delta]:
        """What changed, a part at a time.

        Args:
            scratch: an empty folder.
        """
        a, b = self._files
        if a is not None and b is not None:
            yield from tablediff.deltas(
                a, b, self.key, scratch=scratch, columns=self._columns, unique=False
            )
            return
        for file, is_new in ((b, True), (a, False)):
            for rows in _rows(file, [self.key, *self._columns]) if file else ():
                yield Delta(rows, rows.slice(0, 0)) if is_new else Delta(rows.slice(0, 0), rows)


def _rows(file: TableFile, columns: Sequence[str]) -> Iterator[Any]:
    with rowgroups.open_table(file) as opened:
        names = [name for name in opened.schema_arrow.names if len(columns) == 1 or name in columns]
        start = 0
        batches = opened.iter_batches(rowgroups.BATCH_ROWS, columns=names)
        for rows in rowgroups.regular(batches, rowgroups.BATCH_ROWS):
            yield changes.numbered(rows.replace_schema_metadata(None), start)
            start += len(rows)


def compare(
    before: Folder | None,
    after: Folder | None,
    path: str,
    *,
    key: str | None = None,
    columns: Sequence[str] = (),
) -> FileDiff:
    """Look at the footers of a file.

    Args:
        before, after: where it is; None for a side that does not have it.
        path: which.
        key: the column that tells rows apart; by default an overlay's key, else `id`.
        columns: which are compared; none stands for all.

    Raises:
        IntegrityError: it is no Parquet file.
        InvalidInputError: it has no such column.
    """
    files = [find(side, path) if side is not None else None for side in (before, after)]
    opened = [_look(file) for file in files]
    known = [found for found in opened if found is not None]
    if key is None:
        key = _key_of(known[-1][1])
    for schema, _ in known:
        if key not in schema.names:
            raise InvalidInputError(
                f"{path} has no column {key!r} to tell rows apart by",
                hint=f"it has: {', '.join(schema.names[:12])}",
                code="column-unknown",
            )
    one, two = opened
    return FileDiff(
        key,
        one[1].num_rows if one else None,
        two[1].num_rows if two else None,
        tablediff.compare_schemas(one[0], two[0], key, columns) if one and two else None,
        (files[0], files[1]),
        tuple(columns),
    )


def _look(file: TableFile | None) -> tuple[Any, Any] | None:
    if file is None:
        return None
    with rowgroups.open_table(file) as opened:
        return opened.schema_arrow.remove_metadata(), opened.metadata


def _key_of(footer: Any) -> str:
    """The key that an overlay's footer names; its first column, if none is so called."""
    said = (footer.metadata or {}).get(overlay.META_KEY.encode())
    if said is None:
        return KEY
    names = footer.schema.to_arrow_schema().names
    word = said.decode(errors="replace")
    return word if word in names or not names else str(names[0])
