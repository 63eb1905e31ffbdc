"""What a staged file says of itself: the footer of its table, the lines of its log."""

from __future__ import annotations

import os

from usrstore.worktree import parquet


def read_footer(path: str, size: int) -> parquet.Footer | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return parquet.read_footer(lambda offset, length: os.pread(fd, length, offset), size)
    finally:
        os.close(fd)


def count_lines(path: str) -> int:
    with open(path, "rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))
