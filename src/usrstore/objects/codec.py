"""Canonical msgpack, bounded: the only room that knows the encoding ([F-6]…[F-9]).

`encode` writes shortest forms with map keys sorted. `decode` gives plain values and raises
only `DecodeError`; the object rooms check every field and then that their own encoding
gives the same bytes back, so two spellings of one value cannot both be accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgpack

from usrstore.errors import DecodeError, InvalidInputError

FORMAT = 1
MAX_OBJECT_BYTES = 16 << 20  # metadata objects; chunks have their own bound
MAX_CHUNK_BYTES = 1 << 20
MAX_U64 = (1 << 64) - 1
T = TypeVar("T")


def encode(value: Any) -> bytes:
    """Plain values (None, bool, int, str, bytes, list, tuple, str-keyed dict) to bytes."""
    return bytes(msgpack.packb(_sorted(value), use_bin_type=True))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value


def decode(
    data: bytes | memoryview,
    *,
    limit: int = MAX_OBJECT_BYTES,
    longest: int | None = None,
    maps: int | None = None,
    containers: int | None = None,
) -> Any:
    """Bytes to plain values; lists come back as lists, maps with string keys only.

    Args:
        data: one whole msgpack value.
        limit: the most bytes it may have.
        longest: the most items that a list in it may have.
        maps: the most entries of a map; as many as of a list if it is not given.
        containers: the most lists and maps in all; an empty list is one byte that becomes
            sixty, so what comes from a stranger is counted.

    Raises:
        DecodeError: for anything else.
    """
    if len(data) > limit:
        raise DecodeError(f"an object of {len(data)} bytes is over the limit of {limit}")
    most = len(data) if longest is None else longest
    count = None if containers is None else _Counter(containers)
    try:
        # A first pass that builds nothing: lists nested in lists, each of which claims more
        # items than there are bytes, end here, before room is made for any of them.
        scanner = msgpack.Unpacker(max_buffer_size=len(data))
        scanner.feed(data)
        scanner.skip()
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            use_list=True,
            max_array_len=most,
            max_map_len=most if maps is None else maps,
            list_hook=count,
            object_hook=count,
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as exc:
        raise DecodeError(f"not a msgpack value: {exc}") from exc


def span(data: bytes | memoryview) -> int:
    """How many bytes the value takes that `data` begins with; 0 if it begins with none."""
    try:
        scanner = msgpack.Unpacker(max_buffer_size=len(data))
        scanner.feed(data)
        scanner.skip()
        return int(scanner.tell())
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
        return 0


class _Counter:
    """Lets a bounded number of lists and maps pass."""

    __slots__ = ("_left",)

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, value: T) -> T:
        self._left -= 1
        if self._left < 0:
            raise ValueError("too many lists and maps")
        return value


class Fields:
    """Reads the fields of a decoded map, each with its type, and refuses leftovers."""

    __slots__ = ("_left", "_what")

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise DecodeError(f"a {what} is a map")
        self._left = dict(value)
        self._what = what

    def _take(self, name: str) -> Any:
        try:
            return self._left.pop(name)
        except KeyError:
            raise DecodeError(f"a {self._what} without {name!r}") from None

    def integer(self, name: str, *, most: int = MAX_U64) -> int:
        return integer(self._take(name), f"{self._what}.{name}", most=most)

    def text(self, name: str, *, most: int) -> str:
        return text(self._take(name), f"{self._what}.{name}", most=most)

    def data(self, name: str, *, most: int) -> bytes:
        return data(self._take(name), f"{self._what}.{name}", most=most)

    def sequence(self, name: str, *, most: int) -> list[Any]:
        return sequence(self._take(name), f"{self._what}.{name}", most=most)

    def mapping(self, name: str, *, most: int) -> dict[str, Any]:
        value = self._take(name)
        if not isinstance(value, dict) or len(value) > most:
            raise DecodeError(f"{self._what}.{name} is not a map of at most {most} entries")
        return value

    def flag(self, name: str) -> bool:
        value = self._take(name)
        if not isinstance(value, bool):
            raise DecodeError(f"{self._what}.{name} is not a boolean")
        return value

    def is_nil(self, name: str) -> bool:
        """Consume `name` if it is nil; otherwise leave it for the next call."""
        if name in self._left and self._left[name] is None:
            del self._left[name]
            return True
        return False

    def peek(self, name: str) -> Any:
        """A field as it stands, unchecked, which is still to be taken."""
        return self._left.get(name)

    def done(self) -> None:
        if self._left:
            unknown = ", ".join(sorted(map(repr, self._left)))
            raise DecodeError(f"a {self._what} with unknown fields: {unknown}")


def integer(value: Any, what: str, *, most: int = MAX_U64) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise DecodeError(f"{what} is not an integer from 0 to {most}")
    return value


def text(value: Any, what: str, *, most: int) -> str:
    if not isinstance(value, str) or len(value.encode("utf-8", "surrogatepass")) > most:
        raise DecodeError(f"{what} is not a text of at most {most} bytes")
    return value


def data(value: Any, what: str, *, most: int) -> bytes:
    if not isinstance(value, bytes) or len(value) > most:
        raise DecodeError(f"{what} is not a byte string of at most {most} bytes")
    return value


def sequence(value: Any, what: str, *, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise DecodeError(f"{what} is not a list of at most {most} items")
    return value


def readable(make: Callable[[], bytes], parse: Callable[[bytes], object], what: str) -> bytes:
    """What `make` encodes, if `parse` takes it: what no reader accepts is never written.

    Raises:
        InvalidInputError: naming the field.
    """
    try:
        data = make()
        parse(data)
    except (DecodeError, UnicodeEncodeError, OverflowError) as exc:
        raise InvalidInputError(f"a {what} that nobody could read: {exc}") from exc
    return data


def refused(value: Any, what: str) -> DecodeError:
    """The error for a value that is no `what` of this format; a later format is named ([F-8])."""
    version = value.get("format") if isinstance(value, dict) else None
    if isinstance(value, list) and value:
        version = value[0]
    if isinstance(version, int) and version > FORMAT:
        return DecodeError(
            f"a {what} of format {version}; this program reads format {FORMAT}",
            hint="a later version wrote it: upgrade usrstore",
        )
    return DecodeError(f"not a {what} of format {FORMAT}")


def same(value: T, encoded: bytes, original: bytes | memoryview, what: str) -> T:
    """`value`, if its own encoding is exactly the bytes it was read from ([F-7])."""
    if encoded != original:
        raise DecodeError(f"a {what} that is not canonically encoded")
    return value
