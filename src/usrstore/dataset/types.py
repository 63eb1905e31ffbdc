"""The type language of registries: what a column of a namespace may hold.

    string  bool  int8 … int64  uint8 … uint64  float16  float32  float64
    timestamp[unit]  timestamp[unit, zone]      unit is one of s ms us ns
    list<T>  fixed_size_list<T>[n]  struct<name:T,…>

Types nest. `parse` reads what people and other tools write, blanks and all; `str` gives the
one canonical spelling. Arrow knows the same types; only here the two are told of each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usrstore.errors import RegistryError

if TYPE_CHECKING:
    import pyarrow as pa

_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
SCALARS = ("string", "bool", *_INTEGERS, "float16", "float32", "float64")
UNITS = ("s", "ms", "us", "ns")
_ALIASES = {"float": "float32", "double": "float64", "halffloat": "float16"}  # Arrow's own words
_OPENING, _CLOSING = "<[", ">]"
_MAX_DEPTH = 16
_NAME = re.compile(r"[^<>\[\],:\s](?:[^<>\[\],:]*[^<>\[\],:\s])?")
_ZONE = re.compile(r"[A-Za-z0-9_+\-/:]+")


@dataclass(frozen=True, slots=True)
class Type:
    """A type of the language.

    Attributes:
        kind: a scalar's name, or `timestamp`, `list`, `fixed_size_list`, `struct`.
        inner: the types inside, in order.
        names: of a struct's fields, in order.
        size: of a fixed_size_list.
        unit, zone: of a timestamp; zone is '' where it has none.
    """

    kind: str
    inner: tuple[Type, ...] = ()
    names: tuple[str, ...] = ()
    size: int = 0
    unit: str = ""
    zone: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "timestamp":
                return f"timestamp[{self.unit}{f', {self.zone}' if self.zone else ''}]"
            case "list":
                return f"list<{self.inner[0]}>"
            case "fixed_size_list":
                return f"fixed_size_list<{self.inner[0]}>[{self.size}]"
            case "struct":
                fields = zip(self.names, self.inner, strict=True)
                return f"struct<{','.join(f'{name}:{kind}' for name, kind in fields)}>"
        return self.kind


STRING = Type("string")


def parse(text: str) -> Type:
    """The type that `text` spells.

    Raises:
        RegistryError: it spells none; says what was expected where.
    """
    try:
        return _parse(text.strip(), 0)
    except _UnreadableError as exc:
        raise RegistryError(
            f"{text.strip()!r} is no type: {exc}",
            hint="types are string, bool, int8…int64, uint8…uint64, float16/32/64, "
            "timestamp[us, UTC], list<T>, fixed_size_list<T>[n], struct<a:T,…>",
        ) from None


class _UnreadableError(Exception):
    """What is wrong, for the message of the whole."""


def _parse(text: str, depth: int) -> Type:
    if depth > _MAX_DEPTH:
        raise _UnreadableError(f"it is nested deeper than {_MAX_DEPTH}")
    name = _ALIASES.get(text, text)
    if name in SCALARS:
        return Type(name)
    kind, bracket, _ = text.partition("[" if text.startswith("timestamp") else "<")
    kind = kind.strip()
    if kind == "timestamp":
        return _timestamp(text)
    if not bracket or kind not in ("list", "fixed_size_list", "struct"):
        raise _UnreadableError(f"{text!r} is unknown" if text else "a type is missing")
    start = text.index("<")
    end = _closing(text, start)
    body, rest = text[start + 1 : end].strip(), text[end + 1 :].strip()
    if kind == "fixed_size_list":
        found = re.fullmatch(r"\[\s*([1-9][0-9]{0,8})\s*\]", rest)
        if not found:
            raise _UnreadableError("fixed_size_list<T> is followed by [n], n from 1 on")
        return Type(kind, (_parse(body, depth + 1),), size=int(found[1]))
    if rest:
        raise _UnreadableError(f"{rest!r} follows its end")
    if kind == "list":
        return Type(kind, (_parse(body, depth + 1),))
    fields = [_field(piece) for piece in _split(body)]
    names = tuple(name for name, _ in fields)
    if len(set(names)) != len(names):
        raise _UnreadableError("two fields of a struct have one name")
    return Type(kind, tuple(_parse(inner, depth + 1) for _, inner in fields), names)


def _timestamp(text: str) -> Type:
    found = re.fullmatch(r"timestamp\s*\[([^\]]*)\]", text)
    unit, comma, zone = (found[1] if found else "").partition(",")
    unit, zone = unit.strip(), zone.strip().removeprefix("tz=").strip()
    if unit not in UNITS or (comma and not _ZONE.fullmatch(zone)):
        raise _UnreadableError("a timestamp is timestamp[unit] or timestamp[unit, zone]")
    return Type("timestamp", unit=unit, zone=zone)


def _field(piece: str) -> tuple[str, str]:
    name, colon, inner = piece.partition(":")
    name = name.strip()
    if not colon or not _NAME.fullmatch(name):
        raise _UnreadableError(f"{piece.strip()!r} is not name:type")
    return name, inner.strip()


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes."""
    open_: list[str] = []
    for place in range(start, len(text)):
        letter = text[place]
        if letter in _OPENING:
            open_.append(_CLOSING[_OPENING.index(letter)])
        elif letter in _CLOSING:
            if not open_ or open_.pop() != letter:
                break
            if not open_:
                return place
    raise _UnreadableError("its brackets do not match")


def _split(text: str) -> list[str]:
    """The pieces between the commas that stand in no bracket."""
    pieces, depth, begin = [], 0, 0
    for place, letter in enumerate(text):
        if letter in _OPENING:
            depth += 1
        elif letter in _CLOSING:
            depth -= 1
        elif letter == "," and not depth:
            pieces.append(text[begin:place])
            begin = place + 1
    return [*pieces, text[begin:]]


def parse_columns(text: str) -> list[tuple[str, Type]]:
    """`a:list<int8>,b:timestamp[us, UTC]` → names and types, in order.

    Raises:
        RegistryError: naming the first piece that is not `name:type`, or a name that comes twice.
    """
    columns: list[tuple[str, Type]] = []
    for piece in _split(text):
        name, colon, kind = piece.partition(":")
        name = name.strip()
        if not colon or not _NAME.fullmatch(name):
            raise RegistryError(
                f"{piece.strip()!r} is not column:type",
                hint="write --columns 'first:string,second:list<float32>'",
            )
        if name in {known for known, _ in columns}:
            raise RegistryError(f"the column {name} is named twice")
        columns.append((name, parse(kind)))
    return columns


def to_arrow(kind: Type) -> pa.DataType:
    """The Arrow type that holds such values."""
    import pyarrow as pa

    match kind.kind:
        case "timestamp":
            return pa.timestamp(kind.unit, tz=kind.zone or None)
        case "list":
            return pa.list_(to_arrow(kind.inner[0]))
        case "fixed_size_list":
            return pa.list_(to_arrow(kind.inner[0]), kind.size)
        case "struct":
            pairs = zip(kind.names, kind.inner, strict=True)
            return pa.struct([pa.field(name, to_arrow(inner)) for name, inner in pairs])
        case "bool":
            return pa.bool_()
    return getattr(pa, kind.kind)()


def of_arrow(kind: pa.DataType) -> Type:
    """The type of a column that a file brings.

    Several ways in which Arrow holds the same values (large, view, dictionary-encoded) are
    one type; so are lists whose item has another name.

    Raises:
        RegistryError: the language has no word for it.
    """
    import pyarrow.types as at

    if at.is_dictionary(kind):
        return of_arrow(kind.value_type)
    if at.is_string(kind) or at.is_large_string(kind) or at.is_string_view(kind):
        return STRING
    if at.is_timestamp(kind):
        return Type("timestamp", unit=kind.unit, zone=kind.tz or "")
    if at.is_fixed_size_list(kind):
        return Type("fixed_size_list", (of_arrow(kind.value_type),), size=kind.list_size)
    if at.is_list(kind) or at.is_large_list(kind):
        return Type("list", (of_arrow(kind.value_type),))
    if at.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return Type(
            "struct",
            tuple(of_arrow(field.type) for field in fields),
            tuple(field.name for field in fields),
        )
    name = str(kind)
    name = _ALIASES.get(name, name)
    if name not in SCALARS:
        raise RegistryError(f"a column of type {kind} cannot be registered")
    return Type(name)
