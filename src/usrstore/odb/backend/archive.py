"""A store rolled into one file, or into a run of parts: a plain tar of its keys, only read.

Anybody's `tar` lists it and takes it apart. A value is found once and then read where it
lies; nothing is unpacked.
"""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from usrstore.errors import DecodeError, ObjectNotFoundError, ReadOnlyError
from usrstore.odb import durable
from usrstore.odb.backend.backend import Stat, check_key, is_word

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 512
_MAX_MEMBERS = 1 << 16
_PART = re.compile(r"(?P<stem>.+)\.(?P<number>\d{3,4})-of-(?P<total>\d{3,4})")


class _Member(NamedTuple):
    start: int
    size: int
    mtime_s: float


class ArchiveBackend:
    """Keys of a tar; reads from any part of it, and never writes.

    Args:
        paths: the parts in order; one path is a whole archive.

    Raises:
        DecodeError: no tar of a store, or one that is cut off.
        StorageError: a part cannot be read.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._parts = list(paths)
        self._files: list[int] = []
        self._starts: list[int] = []
        self.size = 0
        try:
            for path in paths:
                self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                self._starts.append(self.size)
                self.size += os.fstat(self._files[-1]).st_size
            self._members = dict(self._scan())
        except OSError as exc:
            self.close()
            raise durable.storage_error(exc, f"cannot read {exc.filename or paths[0]}") from exc
        except BaseException:
            self.close()
            raise

    def _scan(self) -> Iterator[tuple[str, _Member]]:
        at = 0
        for _ in range(_MAX_MEMBERS):
            head = self._bytes(at, _BLOCK)
            if head == bytes(_BLOCK):
                return
            name, size, mtime_s = _header(head, self._parts[0])
            if at + _BLOCK + size > self.size:
                raise self._cut_off()
            yield name, _Member(at + _BLOCK, size, mtime_s)
            at += _BLOCK + -(-size // _BLOCK) * _BLOCK
        raise DecodeError(f"{self._parts[0]} has more members than a store in one file has")

    def _bytes(self, start: int, size: int) -> bytes:
        """A range of the parts as if they were one file."""
        pieces: list[bytes] = []
        number = bisect.bisect_right(self._starts, start) - 1
        while size:
            if number >= len(self._files):
                raise self._cut_off()
            piece = os.pread(self._files[number], size, start - self._starts[number])
            if not piece:
                number += 1
                continue
            pieces.append(piece)
            start, size = start + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _cut_off(self) -> DecodeError:
        return DecodeError(
            f"{self._parts[-1]} is cut off: the archive goes on where it ends",
            hint="copy it again, whole, or add the part that is missing",
        )

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        member = self._members.get(check_key(key))
        if member is None:
            raise ObjectNotFoundError(f"no {key} in {self._parts[0]}")
        start = max(0, member.size + start) if start < 0 else min(start, member.size)
        end = member.size if length is None else min(member.size, start + length)
        try:
            return self._bytes(member.start + start, end - start)
        except OSError as exc:
            raise durable.storage_error(exc, f"cannot read {self._parts[0]}") from exc

    def create(self, key: str, data: bytes | Path) -> bool:
        del data
        raise ReadOnlyError(f"{key} cannot be added to {self._parts[0]}: an archive is only read")

    def stat(self, key: str) -> Stat | None:
        member = self._members.get(check_key(key))
        return None if member is None else Stat(key, member.size, member.mtime_s)

    def list(self, prefix: str) -> Iterator[Stat]:
        for key in sorted(self._members):
            if key.startswith(prefix):
                yield Stat(key, self._members[key].size, self._members[key].mtime_s)

    def delete(self, key: str) -> None:
        raise ReadOnlyError(f"{key} cannot be removed from {self._parts[0]}")

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())


def parts_of(path: str) -> list[str]:
    """The parts of an archive, any one of which was named.

    Raises:
        DecodeError: parts are missing; all of them are named.
    """
    found = _PART.fullmatch(os.path.basename(path))
    if found is None:
        return [path]
    total, width = int(found["total"]), len(found["total"])
    folder = os.path.dirname(path)
    names = [f"{found['stem']}.{n:0{width}}-of-{found['total']}" for n in range(1, total + 1)]
    paths = [os.path.join(folder, name) for name in names]
    if missing := [name for name, at in zip(names, paths, strict=True) if not os.path.exists(at)]:
        raise DecodeError(
            f"{len(missing)} of {total} parts are missing: {', '.join(missing[:5])}",
            hint="copy them beside the others",
        )
    return paths


def part_name(path: str, number: int, total: int) -> str:
    """What part `number` (from 1) of an archive is called."""
    width = max(3, len(str(total)))
    return f"{path}.{number:0{width}}-of-{total:0{width}}"


def header(key: str, size: int) -> bytes:
    """The tar header of a member, the same bytes on every machine."""
    fields = (
        check_key(key).encode().ljust(100, b"\0"),
        b"0000644\0",
        b"0000000\0",
        b"0000000\0",
        b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big"),
        b"00000000000\0",
        b" " * 8,
        b"0",
        bytes(100),
        b"ustar\x0000",
        bytes(32),
        bytes(32),
        bytes(8),
        bytes(8),
        bytes(155),
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> bytes:
    """What follows a member of `size` bytes, up to the next header."""
    return bytes(-size % _BLOCK)


END = bytes(2 * _BLOCK)


def _header(block: bytes, path: str) -> tuple[str, int, float]:
    """Name, size and time of a member.

    Raises:
        DecodeError: no header that we would write.
    """
    try:
        stated = int(block[148:156].rstrip(b"\0 "), 8)
        if sum(block[:148]) + 8 * 32 + sum(block[156:]) != stated or block[156:157] != b"0":
            raise ValueError("checksum")
        name = block[:100].rstrip(b"\0").decode("ascii")
        if not all(map(is_word, name.split("/"))):
            raise ValueError("name")
        field = block[124:136]
        size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field[:11], 8)
        if size >= 1 << 62:
            raise ValueError("size")
    except ValueError as exc:
        raise DecodeError(
            f"{path} is no store in one file, or it is damaged",
            hint="copy it again from where it was made",
        ) from exc
    return name, size, 0.0
