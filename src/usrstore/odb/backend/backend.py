"""The five verbs of a backend, as a contract ([F-1], [F-2]); one suite tests every backend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from usrstore.errors import InvalidNameError

_WORD = re.compile(r"[a-z0-9][a-z0-9.-]*")
if TYPE_CHECKING:
    from pathlib import Path

_KEY = re.compile(rf"{_WORD.pattern}(/{_WORD.pattern})*")


class Stat(NamedTuple):
    key: str
    size: int
    mtime_s: float


class Backend(Protocol):
    """Immutable values under keys. Nothing is ever overwritten.

    Keys are '/'-separated lower-case words; a bad key raises InvalidNameError on the way in.
    A backend may fail inside as it likes; its callers see StorageError (or a subclass) and
    `ObjectNotFoundError` only.
    """

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes `start` to `start + length` (to the end without a length).

        A negative `start` counts from the end. A range that reaches past the end gives what
        there is.

        Raises:
            ObjectNotFoundError: there is no such key.
        """
        ...

    def create(self, key: str, data: bytes | Path) -> bool:
        """Store a value under a key that must be free.

        Atomic (no reader sees a part), durable on return, and exclusive: of any number of
        callers exactly one gets True. `data` may be the path of a complete, synced file of
        ours, which the backend may adopt by linking; the caller removes it afterwards.
        """
        ...

    def stat(self, key: str) -> Stat | None:
        """Size and age, or None."""
        ...

    def list(self, prefix: str) -> Iterator[Stat]:
        """Every key that starts with `prefix` (which ends with '/'), sorted.

        Whatever else lies in the same place and is no key is passed over.
        """
        ...

    def delete(self, key: str) -> None:
        """Forget a key; one that is not there is no error."""
        ...


@runtime_checkable
class Mapping(Protocol):
    """An ability that a backend may have beside the five verbs: values as mapped memory.

    What is mapped stays readable while the view lives, even if the key is deleted meanwhile.
    Nobody writes to values, so a view never changes. Only what is large and read here and
    there is worth it; a disk that fails under a view ends the process, where `read` raises.
    """

    def map(self, key: str, start: int, length: int) -> memoryview:
        """Bytes `start` to `start + length` of a value that has as many.

        Raises:
            ObjectNotFoundError: there is no such key.
            StorageError: it is shorter than that, or cannot be mapped.
        """
        ...


MAP_BYTES = 1 << 18


def view(backend: Backend, key: str, start: int, length: int) -> memoryview:
    """A range of a value: mapped if it is large and the backend can, else read."""
    if length >= MAP_BYTES and isinstance(backend, Mapping):
        return backend.map(key, start, length)
    return memoryview(backend.read(key, start, length))


def is_word(name: str) -> bool:
    """Whether `name` can stand between the slashes of a key."""
    return _WORD.fullmatch(name) is not None


def check_key(key: str) -> str:
    if not _KEY.fullmatch(key) or len(key) > 512:
        raise InvalidNameError(f"{key!r} is no backend key")
    return key
