"""A disk that forgets: what may be left of a folder when the power goes between two changes.

A `Disk` watches a folder through `durable`'s tap while a command runs, and writes down what every
change did: which name came to mean which file, which bytes a file came to hold, what was synced.
Afterwards it can lay out, for any moment of that run, the folders that a machine might come up
with. It is as hard as POSIX lets a disk be:

- bytes that were not fsynced are there, or not, or in part, block by block, or as zeros;
- a name that came or went is durable only once its own folder was fsynced; until then it is
  there or not, whatever came before or after it;
- a rename is never half done in the bad direction: the new name is there before the old is gone,
  but both may be.

Files keep their inodes, for a journal knows them by these.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path

from support.pairs import Pair
from usrstore.odb import durable

BLOCK = 4096
CORNERS = ("nothing", "names", "bytes")
CHANGES_BYTES = frozenset({"write", "copy", "truncate", "open", "create"})


@dataclass(frozen=True)
class Name:
    """In folder `folder`, `name` comes to mean `what`; None: nothing."""

    folder: int
    name: str
    what: int | None


@dataclass(frozen=True)
class Bytes:
    """A file comes to hold these."""

    file: int
    data: bytes
    mtime_ns: int


@dataclass(frozen=True)
class Sync:
    """A file, a folder, or (None) everything is on the disk."""

    what: int | None


@dataclass
class Node:
    """A file or a folder; `held` is its last durable content, `pending` what came after."""

    is_folder: bool
    held: object
    pending: list = field(default_factory=list)


class Disk:
    """Watches everything below `top`. Use with `durable.tapped`; one thread at a time changes it.

    Args:
        top: the folder; what it holds now is durable.
        aside: a folder on the same file system, for every file that there ever was.
    """

    def __init__(self, top, aside) -> None:
        self.top, self.aside = str(top), str(aside)
        os.makedirs(self.aside)
        self.calls: list[tuple[str, str]] = []
        self.moments: list[int] = []
        self._log: list[object] = []
        self._nodes: dict[int, bool] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._bytes: dict[int, tuple[bytes, int]] = {}
        self._shown: dict[int, Bytes] = {}
        self._held: list[int] = []
        self.root = os.stat(self.top).st_ino
        self._look(None)
        self._log.append(Sync(None))
        self._begin = len(self._log)

    # ── watching ────────────────────────────────────────────────────────────────────────
    def __call__(self, when, op, path):
        if not path.startswith(self.top + os.sep) and path != self.top:
            return
        if when == "before":
            self.calls.append((op, path))
            self._keep(path)
            return
        self._look(path if op in CHANGES_BYTES else None)
        if op in ("fsync", "fsync-folder"):
            self._log.append(Sync(os.stat(path).st_ino))
        elif op == "syncfs":
            self._log.append(Sync(None))
        self.moments.append(len(self._log))

    def _keep(self, path):
        """What is about to change may have come to be without the tap (a lock, a foreign file)."""
        if os.path.isfile(path):
            self._look(path)

    def _look(self, written):
        """Write down how the tree differs from what it was."""
        names: dict[int, dict[str, int]] = {}
        self._walk(self.top, self.root, names, written)
        groups: dict[object, list[Name]] = {}
        for folder in self._names.keys() | names.keys():
            before, now = self._names.get(folder, {}), names.get(folder, {})
            for name in before.keys() | now.keys():
                was, is_ = before.get(name), now.get(name)
                if was != is_:
                    key = is_ if is_ is not None else was
                    groups.setdefault(key, []).append(Name(folder, name, is_))
        self._log += [
            tuple(sorted(group, key=lambda n: n.what is None)) for group in groups.values()
        ]
        self._names = names

    def _walk(self, at, folder, names, written):
        rows = names[folder] = {}
        if folder not in self._nodes:
            self._nodes[folder] = True
            self._held.append(os.open(at, os.O_PATH))  # its number is not given away
        for entry in os.scandir(at):
            found = entry.stat(follow_symlinks=False)
            node = rows[entry.name] = found.st_ino
            if stat.S_ISDIR(found.st_mode):
                self._walk(entry.path, node, names, written)
                continue
            if node not in self._nodes:
                self._nodes[node] = False
                os.link(entry.path, os.path.join(self.aside, str(node)))
            elif node in self._bytes and entry.path != written:
                continue
            value = Path(entry.path).read_bytes(), found.st_mtime_ns
            if self._bytes.get(node) != value:
                self._bytes[node] = value
                self._log.append(Bytes(node, *value))

    def close(self) -> None:
        for fd in self._held:
            os.close(fd)
        self._held.clear()

    # ── forgetting ──────────────────────────────────────────────────────────────────────
    def __len__(self) -> int:
        """How many moments there are; moment 0 is before the first change."""
        return len(self.moments) + 1

    def at(self, moment: int, *, sure: str | None = None) -> Moment:
        """What is known of the disk after `moment` changes.

        Args:
            moment: from 0 to len - 1.
            sure: a folder below `top` whose machine keeps its power.
        """
        end = self._begin if moment == 0 else self.moments[moment - 1]
        kept = self._below(sure) if sure else frozenset()
        nodes = {n: Node(is_folder, {} if is_folder else None)
                 for n, is_folder in self._nodes.items()}  # fmt: skip
        moves: list[list[Name]] = []
        for row in self._log[:end]:
            if isinstance(row, Bytes) and row.file in kept:
                nodes[row.file].held = row
            elif isinstance(row, Bytes):
                nodes[row.file].pending.append(row)
            elif isinstance(row, tuple) and row[0].folder in kept:
                for name in row:
                    _apply(nodes[name.folder].held, name)
            elif isinstance(row, tuple):
                moves.append(list(row))
            else:
                moves = _sync(nodes, moves, row.what)
        return Moment(self, nodes, moves)

    def _below(self, name) -> frozenset[int]:
        """Every file and folder that was ever below a folder of `top`."""
        inside: dict[int, set[int]] = {}
        for row in self._log:
            for move in row if isinstance(row, tuple) else ():
                if move.what is not None:
                    inside.setdefault(move.folder, set()).add(move.what)
                if (move.folder, move.name) == (self.root, name):
                    top = move.what
        found, left = {top}, [top]
        while left:
            new = inside.get(left.pop(), set()) - found
            found |= new
            left += new
        return frozenset(found)

    def show(self, tree, files, target) -> None:
        """Lay a folder out: names as in `tree`, bytes as in `files`; the files are shared."""
        target = str(target)
        os.mkdir(target)
        for name, what in tree.get(self.root, {}).items():
            self._show(tree, files, what, os.path.join(target, name))

    def _show(self, tree, files, node, path):
        if self._nodes[node]:
            os.mkdir(path)
            for name, what in tree.get(node, {}).items():
                self._show(tree, files, what, os.path.join(path, name))
            return
        kept, row = os.path.join(self.aside, str(node)), files[node]
        found = os.stat(kept)
        if self._shown.get(node) != row or (found.st_size, found.st_mtime_ns) != (
            len(row.data), row.mtime_ns,
        ):  # fmt: skip
            with open(kept, "r+b") as file:
                file.truncate(0)
                file.write(row.data)
            os.utime(kept, ns=(row.mtime_ns, row.mtime_ns))
            self._shown[node] = row
        os.link(kept, path)


def _sync(nodes, moves, what):
    """Make durable what an fsync of `what` makes so; gives the moves that are still in the air."""
    left = []
    for group in moves:
        due = [n for n in group if what is None or n.folder == what]
        if any(n.what is None for n in due):
            due = group  # the new name comes with the removal of the old
        for name in due:
            _apply(nodes[name.folder].held, name)
        rest = [name for name in group if name not in due]
        if rest:
            left.append(rest)
    for number in nodes if what is None else [what]:
        node = nodes.get(number)
        if node is not None and not node.is_folder and node.pending:
            node.held, node.pending = node.pending[-1], []
    return left


def _apply(names, row):
    if row.what is None:
        names.pop(row.name, None)
    else:
        names[row.name] = row.what


@dataclass
class Moment:
    """The disk at one moment: what is sure, and what is in the air."""

    disk: Disk
    nodes: dict[int, Node]
    moves: list[list[Name]]

    def survival(self, kind, seed=0):
        """One folder that may be left.

        Args:
            kind: `nothing` of what was in the air, `names` but no bytes, `bytes` but no
                names, `everything`, or `some`.
            seed: of the dice, for `some`.

        Returns:
            A tree and the files in it, for `Disk.show`; equal trees and files are equal folders.
        """
        dice = random.Random(seed)
        odds = {"nothing": 0.0, "bytes": 0.0, "names": 1.0, "everything": 1.0}.get(kind)
        share = dice.choice((0.15, 0.5, 0.85)) if odds is None else odds
        tree = {n: dict(node.held) for n, node in self.nodes.items() if node.is_folder}
        for group in self.moves:
            if dice.random() < share:
                whole = dice.random() < 0.5 or odds is not None
                for name in group:
                    if whole or name.what is not None or len(group) == 1:
                        _apply(tree[name.folder], name)
        files = {
            n: _bytes(node, kind, dice) for n, node in self.nodes.items() if not node.is_folder
        }
        return tree, files

    def key(self, tree, files):
        """What tells one survival from another."""
        seen = []

        def walk(node, path):
            for name, what in sorted(tree.get(node, {}).items()):
                if self.nodes[what].is_folder:
                    seen.append((path, name))
                    walk(what, f"{path}/{name}")
                else:
                    seen.append((path, name, what, files[what].data))

        walk(self.disk.root, "")
        return hash(tuple(seen))


def _bytes(node, kind, dice):
    """What a file holds: its durable bytes, its newest, or a mixture."""
    if not node.pending:
        return node.held or Bytes(0, b"", 0)
    newest = node.pending[-1]
    held = node.held or replace(newest, data=b"")
    if kind in ("everything", "bytes"):
        return newest
    if kind in ("nothing", "names"):
        return held
    choice = dice.randrange(4)
    if choice == 0:
        return held
    if choice == 1:
        return newest
    if choice == 2:  # as long as it should be, and nothing in it
        return replace(newest, data=held.data.ljust(len(newest.data), b"\0")[: len(newest.data)])
    versions = [held, *node.pending]
    size = len(dice.choice(versions).data)
    data = b"".join(
        dice.choice(versions).data[at : at + BLOCK].ljust(min(BLOCK, size - at), b"\0")
        for at in range(0, size, BLOCK)
    )
    return replace(newest, data=data[:size])


def survivals(moment, dice):
    """The corners, and some in between; each once."""
    seen = set()
    for kind, seed in [*((kind, 0) for kind in CORNERS), *(("some", seed) for seed in range(dice))]:
        tree, files = moment.survival(kind, seed)
        key = moment.key(tree, files)
        if key not in seen:
            seen.add(key)
            yield f"{kind} {seed}", tree, files


@dataclass(frozen=True)
class Blackout:
    """Two roots as a machine may come up with them.

    Attributes:
        pair: the roots.
        at: when the power went, and what was forgotten.
        done: whether the command had ended.
    """

    pair: Pair
    at: str
    done: bool


def blackouts(pair, act, home, *, stride, dice, falls=""):
    """Run `act` on a pair once, and lay out what its disk may have become at every stride-th moment.

    Args:
        pair: two roots below `home / "watched"`.
        act: of one argument, the pair.
        home: a folder of the test's own.
        stride: of the moments, from the last backwards.
        dice: how many mixtures are tried beside the corners.
        falls: `here` or `there` if only that machine's power goes.
    """
    disk = Disk(home / "watched", home / "aside")
    with durable.tapped(disk):
        act(pair)
    for number in range(len(disk) - 1, -1, -stride):
        moment = disk.at(number, sure=falls and ("there" if falls == "here" else "here"))
        for name, tree, files in survivals(moment, dice):
            last = disk.calls[number - 1] if number else None
            at = f"{name} after change {number} of {len(disk) - 1}: {last}"
            disk.show(tree, files, home / "trial")
            trial = Pair(
                replace(pair.here, path=home / "trial" / "here"),
                replace(pair.there, path=home / "trial" / "there"),
            )
            yield Blackout(trial, at, done=number == len(disk) - 1)
            shutil.rmtree(home / "trial")
    disk.close()
