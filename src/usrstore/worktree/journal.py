"""The journal of one promotion: enough to finish it or to undo it, whatever happened (I6).

Datasets that change together have a journal each; every one of them names the whole group and
all of its refs, so that any of them tells what the others are about.

Where old files are moved aside, the stage gets a copy of the journal as soon as that is durable,
and loses it before the journal goes: a copy without a journal says that it was lost too soon.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

from usrstore.errors import DecodeError
from usrstore.objects import codec
from usrstore.objects.ids import ObjectId, TreeId, seal, unseal
from usrstore.odb import durable

COPY = "journal"
"""What the copy of a journal is called in its stage."""
Mark = tuple[int, int, int]
"""(size, mtime_ns, inode): what renaming and linking leave alone."""


class Op(NamedTuple):
    """One path that changes.

    Attributes:
        path: in the dataset folder.
        staged: the number of the staged file that goes there; None to remove the path.
        old: the file that is there; None if there is none.
        new: the staged file.
    """

    path: str
    staged: int | None
    old: Mark | None
    new: Mark | None


class Lines(NamedTuple):
    """Event lines that become part of the log once the folder is right.

    Attributes:
        size: of the log before, in bytes.
        data: whole lines.
    """

    size: int
    data: bytes


class RefChange(NamedTuple):
    name: str
    expected: ObjectId | None
    new: ObjectId | None


@dataclass(frozen=True, slots=True)
class Journal:
    """What a promotion is going to do.

    Attributes:
        dataset: its id.
        undoing: whether it is being taken back.
        tree: the root tree the folder will hold; None where a command changed a few files.
        stage: the folder of the staged files, relative to the store.
        ops: the paths that change, in order.
        made: folders that did not exist before, deepest last.
        refs: the refs that move once the folder is right.
        actor, command, reason: for the operation log.
        lines: what the event log grows by; it is no op, for others append to it as well.
        group: the datasets that change together, this one among them; empty for one alone.
    """

    dataset: str
    undoing: bool
    tree: TreeId | None
    stage: str
    ops: tuple[Op, ...]
    made: tuple[str, ...]
    refs: tuple[RefChange, ...]
    actor: str
    command: str
    reason: str
    lines: Lines | None = None
    group: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return seal(
            codec.encode(
                [
                    codec.FORMAT,
                    self.dataset,
                    self.undoing,
                    self.tree,
                    self.stage,
                    self.ops,
                    self.made,
                    self.refs,
                    [self.actor, self.command, self.reason],
                    self.lines,
                    *([self.group] if self.group else []),
                ]
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Journal:
        """Raises: DecodeError."""
        try:
            version, dataset, undoing, tree, stage, ops, made, refs, act, *rest = codec.decode(
                unseal(data, "journal"), limit=1 << 32
            )
            if version != codec.FORMAT:
                raise DecodeError(f"a journal of format {version}")
            actor, command, reason = act
            return cls(
                dataset,
                undoing,
                None if tree is None else TreeId(ObjectId(tree)),
                stage,
                tuple(Op(path, staged, _mark(old), _mark(new)) for path, staged, old, new in ops),
                tuple(made),
                tuple(RefChange(name, _oid(old), _oid(new)) for name, old, new in refs),
                actor,
                command,
                reason,
                Lines(*rest[0]) if rest and rest[0] is not None else None,
                tuple(rest[1]) if len(rest) > 1 else (),
            )
        except DecodeError:
            raise
        except Exception as exc:
            raise DecodeError(f"a damaged journal: {exc}") from exc

    def turned_back(self) -> Journal:
        return replace(self, undoing=True)


def _mark(value: list[int] | None) -> Mark | None:
    if value is None:
        return None
    size, mtime_ns, inode = value
    return (size, mtime_ns, inode)


def _oid(value: bytes | None) -> ObjectId | None:
    return None if value is None else ObjectId(value)


def write(path: str, journal: Journal, *, along: Collection[str] = ()) -> None:
    """Make a journal durable; the files `along` before it."""
    durable.replace(path, journal.encode(), along=along)


def copy(path: str, journal: Journal, *, lasting: bool = False) -> None:
    """Write a copy of a journal that is durable already; `lasting`: durable, too."""
    durable.replace(path, journal.encode(), sync=lasting)


def find(path: str) -> Journal | None:
    """Raises: DecodeError, saying that a person must look."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    try:
        return Journal.decode(data)
    except DecodeError as exc:
        raise DecodeError(
            f"the journal {path} of an interrupted promotion cannot be read: {exc.message}",
            hint="the files it was moving are below .usr/quarantine; restore the folder from "
            "them or from the remote, then remove the journal",
        ) from exc


def remove(path: str, *, sync: bool = True) -> None:
    durable.remove(path)
    if sync:
        durable.sync_folder(os.path.dirname(path))
