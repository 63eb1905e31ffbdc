"""What the footer of a Parquet file says of its columns: names, types, key-value metadata.

Types are spelled as registries spell them, as far as Parquet itself knows: it does not tell
a fixed_size_list from a list, nor one time zone from another (a zone is always UTC here), and
it has no seconds. What registries have no word for keeps Parquet's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from usrstore.worktree.parquet import Read, find_metadata
from usrstore.worktree.thrift import Shape, ThriftError, read_struct

_SHAPE: Shape = {
    2: {1: None, 3: None, 4: None, 5: None, 6: None, 10: None},
    5: {1: None, 2: None},
}
_PHYSICAL = {
    0: "bool", 1: "int32", 2: "int64", 3: "int96", 4: "float32", 5: "float64",
    6: "binary", 7: "fixed_size_binary",
}  # fmt: skip
_CONVERTED = {
    0: "string", 1: "map", 3: "list", 4: "string", 5: "decimal", 6: "date32",
    7: "time[ms]", 8: "time[us]", 9: "timestamp[ms, UTC]", 10: "timestamp[us, UTC]",
    11: "uint8", 12: "uint16", 13: "uint32", 14: "uint64",
    15: "int8", 16: "int16", 17: "int32", 18: "int64", 19: "json",
}  # fmt: skip
_LOGICAL = {
    1: "string", 2: "map", 3: "list", 4: "string", 5: "decimal", 6: "date32",
    7: "time", 11: "null", 12: "json", 13: "bson", 14: "uuid", 15: "float16",
}  # fmt: skip
_UNITS = {1: "ms", 2: "us", 3: "ns"}
_REPEATED = 2
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file.

    Attributes:
        types: name → type, in the order of the file.
        metadata: as text; what is no UTF-8 is replaced.
    """

    types: Mapping[str, str]
    metadata: Mapping[str, str]


@dataclass(slots=True)
class _Node:
    name: str
    element: dict[int, Any]
    kids: list[_Node] = field(default_factory=list)


def read_columns(read: Read, size: int) -> Columns | None:
    """The columns of the file of `size` bytes behind `read`; None if it is not Parquet to us.

    Raises:
        OSError: if `read` does.
    """
    found = find_metadata(read, size)
    if found is None:
        return None
    try:
        fields, _ = read_struct(found[0], 0, _SHAPE)
        elements = fields.get(2)
        if not isinstance(elements, list) or not elements:
            return None
        root, end = _tree(elements, 0, 0)
        if end != len(elements):
            return None
        return Columns({kid.name: _spelled(kid) for kid in root.kids}, _metadata(fields.get(5)))
    except ThriftError:
        return None


def _tree(elements: list[Any], at: int, depth: int) -> tuple[_Node, int]:
    if at >= len(elements) or not isinstance(elements[at], dict) or depth > _MAX_DEPTH:
        raise ThriftError("the schema is not a tree")
    element = elements[at]
    name, count = element.get(4), element.get(5, 0)
    if not isinstance(name, bytes) or not isinstance(count, int) or count < 0:
        raise ThriftError("a schema element without a name, or with impossible children")
    node = _Node(name.decode(errors="replace"), element)
    at += 1
    for _ in range(count):
        kid, at = _tree(elements, at, depth + 1)
        node.kids.append(kid)
    return node, at


def _spelled(node: _Node) -> str:
    """The type of a column."""
    kind = _annotated(node.element)
    if not node.kids:
        plain = kind or _PHYSICAL.get(node.element.get(1, -1), "unknown")
        return f"list<{plain}>" if node.element.get(3) == _REPEATED else plain
    if kind == "list" and len(node.kids) == 1:
        return f"list<{_spelled(_item(node.kids[0]))}>"
    if kind is not None:
        return kind
    return f"struct<{','.join(f'{kid.name}:{_spelled(kid)}' for kid in node.kids)}>"


def _item(repeated: _Node) -> _Node:
    """What a list holds: its repeated group is a wrapper, unless an old writer left it out."""
    if len(repeated.kids) == 1 and repeated.name not in ("array", "element"):
        return repeated.kids[0]
    bare = {key: value for key, value in repeated.element.items() if key != 3}
    return _Node(repeated.name, bare, repeated.kids)


def _annotated(element: dict[int, Any]) -> str | None:
    """What the logical type says, else the older converted type."""
    match element.get(10):
        case {8: {1: bool(utc), 2: dict(unit)}} if unit:
            return f"timestamp[{_UNITS.get(next(iter(unit)), '?')}{', UTC' if utc else ''}]"
        case {10: {1: int(bits), 2: bool(signed)}}:
            return f"{'' if signed else 'u'}int{bits}"
        case dict(known) if known:
            return _LOGICAL.get(int(next(iter(known))), "unknown")
    return _CONVERTED.get(element.get(6, -1))


def _metadata(pairs: Any) -> dict[str, str]:
    found = {}
    for pair in pairs if isinstance(pairs, list) else ():
        match pair:
            case {1: bytes(key), 2: bytes(value)}:
                found[key.decode(errors="replace")] = value.decode(errors="replace")
    return found
