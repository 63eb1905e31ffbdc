"""A scout: a second process that looks at half of a large folder while we look at the other half.

Asking the kernel for two hundred thousand files keeps a processor busy for half a second, and
threads make it slower, for they share one interpreter. So a child looks at folders that are
known, and reports only those that it found exactly as they are known. Whatever it does not
report, because it changed or because the child came to grief, is looked at by us.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from typing import Self

FEWEST_FILES = 20_000  # below, a process costs what it saves

Look = Callable[[str], list[str] | None]
"""Looks at a folder: the names of the folders in it, or None if it is not as it is known."""


class Scout:
    """A child on its way; `report` waits for it, and leaving the context in any way ends it."""

    def __init__(self, pid: int, pipe: int) -> None:
        self._pid = pid
        self._pipe = pipe

    @classmethod
    def send(cls, folders: Iterable[str], look: Look) -> Self:
        """Start looking at `folders`, given by their paths below the dataset.

        Raises:
            OSError: no process could be started.
        """
        pipe, answer = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(pipe)
            os.close(answer)
            raise
        if not pid:
            _look_and_exit(folders, look, answer)
        os.close(answer)
        return cls(pid, pipe)

    def report(self) -> dict[str, list[str]]:
        """The folders that are as they are known, with the names of the folders in each."""
        with open(self._pipe, "rb", closefd=False) as file:
            lines = file.read().decode().split("\n")
        if lines.pop() != _END:
            return {}
        return {
            folder: below.split("/") if below else []
            for folder, _, below in (line.partition("\t") for line in lines)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._pipe)  # a child that is still writing ends here
        with contextlib.suppress(ChildProcessError):  # a program that ignores its children
            os.waitpid(self._pid, 0)


_END = "."


def _look_and_exit(folders: Iterable[str], look: Look, answer: int) -> None:
    """The child's whole life: it changes nothing, and nothing of the parent's runs in it."""
    try:
        lines = []
        for folder in folders:
            below = look(folder)
            # No name that a state can hold has a control character in it.
            if below is not None:
                lines.append(f"{folder}\t{'/'.join(below)}\n")
        with open(answer, "wb") as file:
            file.write("".join([*lines, _END]).encode())
    finally:
        os._exit(0)


def worth_sending(files: int) -> bool:
    """Whether a second process would find a processor of its own, and enough to do."""
    if files < FEWEST_FILES or not hasattr(os, "fork"):
        return False
    # A child of a program with threads may find a lock held by one that it does not have.
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        return False
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) > 1
    return (os.cpu_count() or 1) > 1
