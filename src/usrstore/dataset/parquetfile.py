"""Parquet as we write it: so that equal rows become equal bytes, and an append keeps the rest.

Pages are cut by content at 64–256 KiB, which is where our chunks are cut, too; dictionaries
are kept for columns with few values; nothing depends on a clock or a host. An append copies
the old row groups as bytes, and writes one more behind them. Every byte goes through
`durable`, so what is written here can be crashed and failed like everything else.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usrstore.errors import IntegrityError
from usrstore.odb import durable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP_ROWS = 65_536
_SMALL_ROWS = 8192
_MAX_SMALL_GROUPS = 64  # more small row groups than this, and an append tidies up
_PAGES = {"min_chunk_size": 64 << 10, "max_chunk_size": 256 << 10, "norm_level": 0}
_COPY_BYTES = 64 << 20
_BLANK_BYTES = 1 << 20
_MAX_PASSED_BYTES = 8 << 30  # a second or two
_FEW_VALUES = 64  # of a column that a dictionary serves …
_PER_VALUE = 16  # … if each comes this often on average
_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a Parquet file says of itself.

    Attributes:
        rows, columns: its size; a struct or a list is one column.
        groups: the rows of each row group.
        schema: the Arrow schema, without metadata.
        metadata: its key-value metadata, without Arrow's and pandas' own.
        size: bytes.
    """

    rows: int
    columns: int
    groups: tuple[int, ...]
    schema: pa.Schema
    metadata: dict[str, str]
    size: int


_OWN_KEYS = ("ARROW:schema", "pandas")


def open_file(path: str) -> pq.ParquetFile:
    """A Parquet file, opened for reading; close it, or use `with`.

    Raises:
        IntegrityError: it is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as exc:
        raise IntegrityError(
            f"{path} does not open as Parquet: {exc}; nothing was changed",
            hint="bring it back with `usr checkout`, from `_snapshots/`, or from a remote",
            code="not-parquet",
        ) from exc


def facts(path: str) -> TableFacts:
    """What a file says of itself.

    Raises:
        IntegrityError: it does not open as Parquet.
    """
    import os

    with open_file(path) as file:
        footer, schema = file.metadata, file.schema_arrow
        return TableFacts(
            footer.num_rows,
            len(schema.names),
            tuple(footer.row_group(n).num_rows for n in range(footer.num_row_groups)),
            schema.remove_metadata(),
            _texts(footer.metadata or {}),
            os.path.getsize(path),
        )


def _texts(metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    pairs = {key.decode(errors="replace"): value for key, value in metadata.items()}
    return {k: v.decode(errors="replace") for k, v in pairs.items() if k not in _OWN_KEYS}


class _Sink(io.RawIOBase):
    """A Spool as the file that pyarrow writes to. What stands there already is not written."""

    def __init__(self, spool: durable.Spool) -> None:
        super().__init__()
        self._spool = spool
        self._known = spool.size

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        known = min(self._known, view.nbytes)
        self._known -= known
        if known < view.nbytes:
            self._spool.write(view[known:])
        return view.nbytes


class TableWriter:
    """Writes tables into row groups of `ROW_GROUP_ROWS`; what is left over is the last one."""

    def __init__(self, spool: durable.Spool, schema: pa.Schema) -> None:
        self._spool = spool
        self._schema = schema
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._ended: list[pq.FileMetaData] = []
        self._passed = 0
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Take some rows; their columns must be the schema's."""
        self.rows += table.num_rows
        self._pending.append(table.cast(self._schema))
        self._pending_rows += table.num_rows
        while self._pending_rows >= ROW_GROUP_ROWS:
            whole = self._take()
            self._put(whole.slice(0, ROW_GROUP_ROWS))
            self._pending = [whole.slice(ROW_GROUP_ROWS)]
            self._pending_rows = whole.num_rows - ROW_GROUP_ROWS

    def end_group(self) -> None:
        """Make a row group of what is pending, however small: one part, one row group."""
        if self._pending_rows:
            self._put(self._take())
        self._pending, self._pending_rows = [], 0

    def end_part(self) -> None:
        """End a row group, and write the next one as if it stood in a file of its own.

        Where pages are cut depends on what one writer has seen; a new one cuts equal rows
        equally, wherever they stand. That costs a look at the bytes so far; a file that has
        become long goes on with the writer that it has.
        """
        self.end_group()
        if self._writer is not None and self._passed < _MAX_PASSED_BYTES:
            self._writer.close()
            self._writer = None
            self._ended.append(_take_footer(self._spool))

    def close(self) -> None:
        self.end_group()
        if self._writer is None and not self._ended:
            self._put(self._schema.empty_table())  # without rows it has a schema all the same
        if self._writer is not None:
            self._writer.close()
        if self._ended:
            last = [] if self._writer is None else [_take_footer(self._spool)]
            self._spool.write(
                _footer(self._schema, self._schema.metadata or {}, [*self._ended, *last])
            )

    def _take(self) -> pa.Table:
        import pyarrow as pa

        return pa.concat_tables(self._pending).combine_chunks()

    def _put(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = self._begin(table)
        if table.num_rows:
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def _begin(self, table: pa.Table) -> pq.ParquetWriter:
        import pyarrow as pa
        import pyarrow.parquet as pq

        left = self._spool.size - len(_MAGIC)
        self._passed += max(0, left)
        stream = pa.PythonFile(_Sink(self._spool), mode="w")
        writer = pq.ParquetWriter(
            stream,
            self._schema,
            version="2.6",
            compression="zstd",
            use_dictionary=_few_valued(table),
            write_statistics=True,
            use_content_defined_chunking=_PAGES,
        )
        # The writer takes its offsets from the stream, which counts from where it began; so
        # what the file holds already goes through it once more, unseen.
        blank = memoryview(bytes(max(0, min(left, _BLANK_BYTES))))
        while left > 0:
            left -= stream.write(blank[: min(left, _BLANK_BYTES)])
        return writer


def _few_valued(table: pa.Table) -> list[str]:
    """The text columns whose values come again and again."""
    import pyarrow.compute as pc
    import pyarrow.types as at

    found = []
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        if at.is_string(kind) and table.num_rows:
            few = pc.count_distinct(table.column(name)).as_py()
            if few <= _FEW_VALUES and few * _PER_VALUE <= max(table.num_rows, _PER_VALUE):
                found.append(name)
    return found


@contextlib.contextmanager
def writing(
    path: str, schema: pa.Schema, metadata: Mapping[str, str] | None = None
) -> Iterator[TableWriter]:
    """A new Parquet file at `path`, complete when the block ends; whoever stages it syncs it.

    Args:
        path: must be free; if the block raises, what is there is no Parquet file.
        schema: the columns.
        metadata: the key-value metadata; what the schema carries itself is dropped.
    """
    with durable.Spool.create(path) as spool:
        writer = TableWriter(spool, schema.with_metadata(dict(metadata or {})))
        yield writer
        writer.close()


def write(path: str, table: pa.Table, metadata: Mapping[str, str] | None = None) -> None:
    """Write one table as a new file."""
    with writing(path, table.schema, metadata) as writer:
        writer.write(table)


@contextlib.contextmanager
def appending(
    source: str, path: str, metadata: Mapping[str, str] | None = None
) -> Iterator[TableWriter]:
    """A new file at `path`: the rows of `source`, and behind them those that the block writes.

    The old row groups are copied as bytes, not decoded. Only a file that has gathered many
    small row groups, or whose writer laid out its columns in a way that ours does not (other
    names inside lists, other physical types), is written anew.

    Args:
        source: an existing Parquet file, left as it is.
        path: must be free.
        metadata: replaces the key-value metadata; None keeps it.

    Raises:
        IntegrityError: `source` is no Parquet file.
    """
    old = facts(source)
    metadata = old.metadata if metadata is None else metadata
    small = sum(rows < _SMALL_ROWS for rows in old.groups)
    if small >= _MAX_SMALL_GROUPS or not _is_our_layout(source, old.schema):
        with writing(path, old.schema, metadata) as writer:
            for batch in batches(source):
                writer.write(batch)
            yield writer
        return
    with open(source, "rb", buffering=0) as file, durable.Spool.create(path) as spool:
        end = _footer_offset(file, old.size)
        for start in range(0, end, _COPY_BYTES):
            spool.copy_from(file.fileno(), start, start, min(_COPY_BYTES, end - start))
        writer = TableWriter(spool, old.schema.with_metadata(dict(metadata)))
        yield writer
        writer.close()
        spool.write(_joined_footer(source, spool, metadata))


def _is_our_layout(path: str, schema: pa.Schema) -> bool:
    """Whether row groups of ours can stand in one file with those of this one."""
    import pyarrow.parquet as pq

    layout = pq.read_metadata(path).schema
    return bool(_carrier(schema, {}).schema.equals(layout))


def _footer_offset(file: io.RawIOBase, size: int) -> int:
    file.seek(size - 8)
    length = int.from_bytes(file.read(8)[:4], "little")
    return size - 8 - length


def _joined_footer(source: str, spool: durable.Spool, metadata: Mapping[str, str]) -> bytes:
    """Take the new footer off the file, and give one that lists old and new row groups.

    The new row groups were written behind the old ones, so their offsets are right already.
    """
    import pyarrow.parquet as pq

    parts = [pq.read_metadata(source), _take_footer(spool)]
    return _footer(pq.read_schema(source), metadata, parts)


def _take_footer(spool: durable.Spool) -> pq.FileMetaData:
    """Take the footer off a file that was just written."""
    import pyarrow.parquet as pq

    tail = spool.read_at(spool.size - 8, 8)
    found = pq.read_metadata(spool.path)
    spool.truncate(spool.size - 8 - int.from_bytes(tail[:4], "little"))
    return found


def _footer(schema: pa.Schema, metadata: Mapping[str, str], parts: list[pq.FileMetaData]) -> bytes:
    """The end of a file that has the row groups of all these footers, in their order."""
    joined = _carrier(schema, metadata)
    for part in parts:
        joined.append_row_groups(part)
    text = io.BytesIO()
    joined.write_metadata_file(text)
    return text.getvalue()[len(_MAGIC) :]


def _carrier(schema: pa.Schema, metadata: Mapping[str, str]) -> pq.FileMetaData:
    """The footer of a file of these columns without a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    empty = io.BytesIO()
    pq.ParquetWriter(empty, schema.with_metadata(dict(metadata)), version="2.6").close()
    return pq.read_metadata(pa.BufferReader(empty.getvalue()))


def batches(
    path: str, columns: list[str] | None = None, *, rows: int = ROW_GROUP_ROWS
) -> Iterator[pa.Table]:
    """The rows of a file in order, a bounded number at a time.

    Raises:
        IntegrityError: it does not open as Parquet.
    """
    import pyarrow as pa

    with open_file(path) as file:
        for batch in file.iter_batches(batch_size=rows, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch])


def groups(path: str) -> Iterator[Iterator[pa.Table]]:
    """The row groups of a file in order, each as tables of a bounded number of rows.

    Raises:
        IntegrityError: it does not open as Parquet.
    """
    import pyarrow as pa

    with open_file(path) as file:
        for number in range(file.metadata.num_row_groups):
            yield (
                pa.Table.from_batches([batch])
                for batch in file.iter_batches(
                    batch_size=ROW_GROUP_ROWS, row_groups=[number], use_threads=False
                )
            )
