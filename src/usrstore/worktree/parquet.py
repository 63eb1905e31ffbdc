"""What a Parquet file says of itself: its facts, and where its column chunks and pages lie.

Read with our own few lines, because commit and status must not pay for importing pyarrow.
Whatever is not understood (an encrypted footer, damage, data in other files) is no Parquet
file to us: that may cost deduplication, never correctness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from usrstore.objects.ids import ContentHash, ContentHasher
from usrstore.worktree.thrift import Shape, ThriftError, Value, read_struct

Read: TypeAlias = Callable[[int, int], bytes]
"""`read(offset, length)`: that many bytes, or fewer at the end of the file."""

MAGIC = b"PAR1"
MAX_FOOTER_BYTES = 64 << 20
MAX_PAGE_HEADER_BYTES = 1 << 20

_TAIL_BYTES = 32 << 10  # most footers come with the first read
_HEADER_READS = (256, 16 << 10, MAX_PAGE_HEADER_BYTES)
_LAST_PAGE_TYPE = 3  # data, index, dictionary, data v2

_FOOTER: Shape = {
    2: {1: None, 2: None, 3: None, 4: None, 5: None, 6: None, 7: None, 8: None, 10: None},
    3: None,  # num_rows
    4: {1: {1: None, 3: {7: None, 9: None, 11: None}}},  # row groups: columns: metadata
}
_PAGE_HEADER: Shape = {1: None, 3: None}  # type, compressed_page_size

# The fields of a schema element in the order in which the canonical text names them; its
# name (4) comes last, where it can hold spaces.
_TYPE_FIELDS = (1, 2, 3, 5, 6, 7, 8, 10)
_NAME, _CHILDREN = 4, 5


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """The bytes of one column in one row group, dictionary page included."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Footer:
    r"""The facts of a Parquet file.

    Attributes:
        rows: as the file's metadata count them.
        columns: the top-level fields; a struct or a list is one.
        schema: the BLAKE3 hash of the schema's canonical text, which has a line for each
            schema element but the root, depth first as in the file: `type type_length
            repetition num_children converted_type scale precision logical_type name`,
            separated by single spaces and ended by a newline. Enumerations are the numbers
            of parquet.thrift; what is absent is `-`; a logical type is `{field:value,…}`
            with rising field numbers, nested likewise, with `true`, `false`, decimal
            integers and hexadecimal strings; in a name, backslash and newline are written
            `\\` and `\n`. Field ids and key-value metadata are no part of it, so Arrow types
            that Parquet stores alike (string, large_string, dictionary of string) agree.
        column_chunks: as the footer lists them, without the empty ones; all lie before it.
        offset: where the footer's metadata begins.
    """

    rows: int
    columns: int
    schema: ContentHash
    column_chunks: tuple[ColumnChunk, ...]
    offset: int


def read_footer(read: Read, size: int) -> Footer | None:
    """The facts of the file of `size` bytes behind `read`; None if it is not Parquet to us.

    Raises:
        OSError: if `read` does.
    """
    found = find_metadata(read, size)
    if found is None:
        return None
    metadata, offset = found
    try:
        fields, _ = read_struct(metadata, 0, _FOOTER)
        return _footer(fields, offset)
    except ThriftError:
        return None


def find_metadata(read: Read, size: int) -> tuple[bytes, int] | None:
    """The bytes of the footer's metadata and where they begin; None without a footer.

    Raises:
        OSError: if `read` does.
    """
    if size < 12 or read(0, 4) != MAGIC:
        return None
    tail = read(max(0, size - _TAIL_BYTES), min(size, _TAIL_BYTES))
    if len(tail) != min(size, _TAIL_BYTES) or tail[-4:] != MAGIC:
        return None
    length = int.from_bytes(tail[-8:-4], "little")
    offset = size - 8 - length
    if offset < 4 or length > MAX_FOOTER_BYTES:
        return None
    metadata = tail[-8 - length : -8] if length + 8 <= len(tail) else read(offset, length)
    return metadata, offset


def pages(read: Read, chunk: ColumnChunk) -> Iterator[tuple[int, int]]:
    """Where each page of a column chunk begins and ends, its header included.

    The spans tile the column chunk whatever it holds: what cannot be walked (an encrypted
    column, damage) is the last span.
    """
    start = chunk.start
    while start < chunk.end:
        end = _page_end(read, start, chunk.end)
        yield start, end
        start = end


def _page_end(read: Read, start: int, limit: int) -> int:
    for length in _HEADER_READS:
        window = read(start, min(length, limit - start))
        try:
            header, header_bytes = read_struct(window, 0, _PAGE_HEADER)
        except ThriftError:
            if length >= limit - start:
                break
            continue  # a header longer than this read, perhaps: look again with a longer one
        match header:
            case {1: int(kind), 3: int(body)} if 0 <= kind <= _LAST_PAGE_TYPE and body >= 0:
                end = start + header_bytes + body
                return min(end, limit)
        break
    return limit


def _footer(fields: dict[int, Value], offset: int) -> Footer:
    match fields:
        case {2: [dict(root), *elements], 3: int(rows), 4: list(groups)} if rows >= 0:
            return Footer(
                rows=rows,
                columns=_columns(root, elements),
                schema=_fingerprint(elements),
                column_chunks=tuple(_column_chunks(groups, offset)),
                offset=offset,
            )
    raise ThriftError("not the metadata of a Parquet file")


def _columns(root: dict[int, Value], elements: list[Value]) -> int:
    """The number of top-level fields, once the elements are seen to make one tree."""
    missing = columns = _count(root)
    for element in elements:
        if not missing or not isinstance(element, dict):
            raise ThriftError("the schema is not a tree")
        missing += _count(element) - 1
    if missing:
        raise ThriftError("the schema's tree is not complete")
    return columns


def _count(element: dict[int, Value]) -> int:
    match element.get(_CHILDREN, 0):
        case int(count) if count >= 0:
            return count
    raise ThriftError("a schema element with an impossible number of children")


def _fingerprint(elements: list[Value]) -> ContentHash:
    hasher = ContentHasher()
    for element in elements:
        name = element.get(_NAME) if isinstance(element, dict) else None
        if not isinstance(element, dict) or not isinstance(name, bytes):
            raise ThriftError("a schema element without a name")
        types = " ".join(_text(element.get(field)) for field in _TYPE_FIELDS)
        escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
        hasher.update(b"%b %b\n" % (types.encode(), escaped))
    return hasher.digest()


def _text(value: Value | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return f"{{{','.join(f'{field}:{_text(value[field])}' for field in sorted(value))}}}"


def _column_chunks(groups: list[Value], limit: int) -> Iterator[ColumnChunk]:
    for group in groups:
        match group:
            case {1: list(columns)}:
                for column in columns:
                    chunk = _column_chunk(column)
                    if chunk.end == chunk.start:
                        continue
                    if chunk.start < len(MAGIC) or chunk.end > limit:
                        raise ThriftError("a column chunk outside the data")
                    yield chunk
            case _:
                raise ThriftError("a row group without columns")


def _column_chunk(column: Value) -> ColumnChunk:
    match column:
        case {1: bytes(path)} if path:
            raise ThriftError("a column chunk that lies in another file")
        case {3: {7: int(length), 9: int(data), **optional}} if length >= 0:
            dictionary = optional.get(11)
            # 0 stands for "none" of either: a column without a row may be a dictionary alone.
            places = [at for at in (data, dictionary) if isinstance(at, int) and at > 0]
            start = min(places, default=0)
            return ColumnChunk(start, start + length)
    raise ThriftError("a column chunk without a place")
