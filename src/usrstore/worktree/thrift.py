"""The part of Thrift's compact protocol that Parquet footers and page headers are written in.

A *shape* names the fields a caller wants, by number, at every depth; what it does not name
is read over and dropped, so a page header costs microseconds whatever its statistics hold.
The bytes are not to be trusted: depth, list lengths and integers are bounded before anything
is built from them, and whatever is malformed raises `ThriftError` and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Value: TypeAlias = "int | bytes | list[Value] | dict[int, Value]"
Shape: TypeAlias = "Mapping[int, Shape | None]"

MAX_DEPTH = 16  # a Parquet footer needs eight
MAX_ITEMS = 1 << 22  # in all lists of one message together; a 20 MB footer has about a million

_STOP, _TRUE, _FALSE, _I8, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET = range(11)
_STRUCT = 12  # 11 is a map, which Parquet does not write

_NOTHING: Shape = {}


class ThriftError(ValueError):
    """Bytes that are not the message they should be."""


def read_struct(
    data: bytes | memoryview, at: int, shape: Shape | None
) -> tuple[dict[int, Value], int]:
    """Read the struct that begins at `at`; returns its fields by number, and where it ends.

    A shape of None keeps everything; a field's shape of None keeps everything beneath it.
    The shape of a list is that of its items. A double is kept as its eight bytes, an i8 as
    its byte.

    Raises:
        ThriftError: for anything malformed, and for data that end too early.
    """
    message = _Message(data, at)
    try:
        fields = message.struct(shape, MAX_DEPTH)
    except IndexError:
        raise ThriftError("the data end inside a message") from None
    return fields, message.at


class _Message:
    """A place in a message, moved along by reading."""

    __slots__ = ("at", "data", "items_left")

    def __init__(self, data: bytes | memoryview, at: int) -> None:
        self.data = data
        self.at = at
        self.items_left = MAX_ITEMS

    def struct(self, shape: Shape | None, depth: int) -> dict[int, Value]:
        if not depth:
            raise ThriftError(f"nested more than {MAX_DEPTH} deep")
        data = self.data
        fields: dict[int, Value] = {}
        number = 0
        while head := data[self.at]:
            self.at += 1
            step = head >> 4
            number = number + step if step else self.integer()
            kind = head & 15
            if shape is None:
                fields[number] = self.value(kind, None, depth)
            elif number in shape:
                fields[number] = self.value(kind, shape[number], depth)
            else:
                self.value(kind, _NOTHING, depth)
        self.at += 1
        return fields

    def value(self, kind: int, shape: Shape | None, depth: int) -> Value:
        if _I16 <= kind <= _I64:
            return self.integer()
        if kind == _BINARY:
            return self.take(self.varint())
        if kind == _STRUCT:
            return self.struct(shape, depth - 1)
        if kind in (_LIST, _SET):
            return self.list(shape, depth - 1)
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _DOUBLE:
            return self.take(8)
        if kind == _I8:
            return self.take(1)[0]
        raise ThriftError(f"a value of unknown kind {kind}")

    def list(self, shape: Shape | None, depth: int) -> list[Value]:
        if not depth:
            raise ThriftError(f"nested more than {MAX_DEPTH} deep")
        head = self.take(1)[0]
        count = head >> 4
        if count == 15:
            count = self.varint()
        # Every item has a byte at least, so a length that lies is found before a loop begins.
        if count > min(self.items_left, len(self.data) - self.at):
            raise ThriftError(f"a list of {count} items where there is no room for them")
        self.items_left -= count
        kind = head & 15
        if kind in (_TRUE, _FALSE):  # within a list a boolean is a byte; within a struct it is none
            return [byte == _TRUE for byte in self.take(count)]
        return [self.value(kind, shape, depth) for _ in range(count)]

    def take(self, length: int) -> bytes:
        start = self.at
        self.at = start + length
        if self.at > len(self.data):
            raise ThriftError("the data end inside a value")
        return bytes(self.data[start : self.at])

    def varint(self) -> int:
        data = self.data
        at = self.at
        value = data[at]
        shift = 0
        while value >> shift >= 0x80:
            # The continuation bit stands just where the next seven bits go; taking it away and
            # adding them is one subtraction.
            at += 1
            shift += 7
            value += (data[at] - 1) << shift
            if shift == 63 and data[at] > 1:
                raise ThriftError("an integer of more than 64 bits")
        self.at = at + 1
        return value

    def integer(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)
