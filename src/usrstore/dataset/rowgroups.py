"""Parquet files read a few columns and rows at a time, without holding a row group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usrstore.dataset import tablefile
from usrstore.dataset.tablefile import Folder, TableFile
from usrstore.errors import IntegrityError, UsrError

BATCH_ROWS = 1 << 16


def open_file(folder: Folder, path: str) -> Any:
    """A `pyarrow.parquet.ParquetFile`, to be used in a `with` block.

    Raises:
        IntegrityError: it is missing or no Parquet file.
    """
    return open_table(tablefile.find(folder, path))


def open_table(file: TableFile) -> Any:
    """The same of a file wherever its bytes are."""
    try:
        return pq.ParquetFile(file.open(), buffer_size=1 << 20, pre_buffer=False)
    except UsrError:
        raise
    except (OSError, pa.ArrowException) as exc:
        raise unreadable(file.name, exc) from exc


def unreadable(path: str, exc: Exception) -> IntegrityError:
    """The error of a file that is no Parquet file, or whose pages are damaged."""
    said = str(exc).partition("\n")[0]
    return IntegrityError(
        f"{path} cannot be read as Parquet: {said}; nothing was changed",
        hint="restore it from a state (`usr checkout`) or from the remote",
        code="parquet-unreadable",
    )


def batches(folder: Folder, path: str, columns: Sequence[str]) -> Iterator[Any]:
    """All rows of a file as record batches of these columns, in this order.

    Raises:
        IntegrityError: it is damaged.
    """
    with open_file(folder, path) as file:
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                yield batch.select(list(columns))
        except (OSError, pa.ArrowException) as exc:
            raise unreadable(tablefile.find(folder, path).name, exc) from exc


def runs(folder: Folder, path: str, columns: Sequence[str], size: int) -> Iterator[Any]:
    """The same as tables of exactly `size` rows; the last may be shorter."""
    return regular(batches(folder, path, columns), size)


def regular(found: Iterable[Any], size: int) -> Iterator[Any]:
    """Record batches as tables of exactly `size` rows; the last may be shorter."""
    waiting: list[Any] = []
    held = 0
    for batch in found:
        rest = batch
        while held + len(rest) >= size:
            waiting.append(rest.slice(0, size - held))
            rest = rest.slice(size - held)
            yield pa.Table.from_batches(waiting)
            waiting, held = [], 0
        if len(rest):
            waiting.append(rest)
            held += len(rest)
    if held:
        yield pa.Table.from_batches(waiting)


def pick(folder: Folder, path: str, rows: Any, columns: Sequence[str]) -> Any:
    """Some rows of a file by their rising numbers (an int64 array), as one table.

    Row groups that have none of them are not read.
    """
    found: list[Any] = []
    last = rows[-1].as_py() if len(rows) else -1
    with open_file(folder, path) as file:
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
        start = 0
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if len(_between(rows, start, start + count)):
                at = start
                for batch in file.iter_batches(
                    BATCH_ROWS, row_groups=[group], columns=list(columns)
                ):
                    here = _between(rows, at, at + len(batch))
                    if len(here):
                        table = pa.Table.from_batches([batch.select(list(columns))])
                        found.append(table.take(pc.subtract(here, at)))
                    at += len(batch)
                    if at > last:
                        break
            start += count
    return pa.concat_tables(found) if found else schema.empty_table()


def _between(rows: Any, start: int, end: int) -> Any:
    return rows.filter(pc.and_(pc.greater_equal(rows, start), pc.less(rows, end)))


def bare(rows: int) -> Any:
    """A table of rows without columns, which are rows all the same."""
    return pa.table({"": pa.nulls(rows)}).select([])


def decoded_bytes(folder: Folder, path: str, columns: Iterable[str]) -> int:
    """About what these columns come to in memory."""
    wanted = set(columns)
    with open_file(folder, path) as file:
        footer = file.metadata
        return sum(
            column.total_uncompressed_size
            for group in range(footer.num_row_groups)
            for column in map(footer.row_group(group).column, range(footer.num_columns))
            if column.path_in_schema.partition(".")[0] in wanted
        )
