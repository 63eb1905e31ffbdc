"""What a merge will do, path by path, before anything is done: sides, bases, choices, conflicts."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from usrstore.dataset.mergelog import MergedLog
from usrstore.objects.ids import ManifestId
from usrstore.objects.manifest import Manifest
from usrstore.objects.sections import (
    DERIVED_FOLDER,
    EVENTS_FILE,
    META_FILE,
    PRIMARY_FILE,
    Section,
    section_of,
)
from usrstore.objects.threeway import Clash, Split
from usrstore.objects.tree import Listing

Side = Literal["ours", "theirs"]
Kind = Literal["table", "log", "text", "file"]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person decided.

    Attributes:
        ours, theirs: paths, or patterns of paths, that one side wins whole.
        rows: whose rows and cells win in tables where both changed them.
    """

    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    rows: Side | None = None

    def side(self, path: str) -> Side | None:
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in self.ours):
            return "ours"
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in self.theirs):
            return "theirs"
        return None

    def with_more(self, more: Choices) -> Choices:
        """These, and those that were made later, which win."""
        return Choices(
            (*self.ours, *more.ours), (*self.theirs, *more.theirs), more.rows or self.rows
        )


class Conflict(NamedTuple):
    """One thing that both sides changed to something else.

    Attributes:
        path: of the file.
        key, column: of the cell in a table; of a text, `line N`; empty for the whole file.
        base, ours, theirs: what stands there, as text; None: nothing.
    """

    path: str
    key: str = ""
    column: str = ""
    base: str | None = None
    ours: str | None = None
    theirs: str | None = None

    def data(self) -> dict[str, Any]:
        return self._asdict()


@dataclass
class Report:
    """What came from where.

    Attributes:
        ours, theirs: paths that one side alone changed.
        chosen: paths that a person gave to a side.
        rows: by path of a table: numbers of rows and cells of each side.
        log: lines of the event log behind what both had.
        texts: paths merged line by line.
        notes: what a person should know.
    """

    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    chosen: dict[str, Side] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: MergedLog | None = None
    texts: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """As JSON has it: per section what was taken from whom."""
        value: dict[str, Any] = {}
        for section in Section:
            value[section.label.lower()] = {
                "ours": sum(section_of(path) is section for path in self.ours),
                "theirs": sum(section_of(path) is section for path in self.theirs),
            }
        value["tables"] = self.rows
        value["events"] = None if self.log is None else self.log._asdict()
        value["texts"] = list(self.texts)
        value["chosen"] = self.chosen
        value["notes"] = self.notes
        return value


def merge_bases(
    ours: Mapping[ManifestId, Manifest], theirs: Mapping[ManifestId, Manifest]
) -> list[ManifestId]:
    """The nearest states that two histories have in common, newest first.

    More than one where histories crossed: two merges of the same two states, made on both
    sides at once.

    Args:
        ours, theirs: both ancestries, newest first.
    """
    common = [oid for oid in ours if oid in theirs]
    below: set[ManifestId] = set()
    found = []
    for oid in common:  # newest first: a state comes before all that it descends from
        if oid not in below:
            found.append(oid)
        below.update(ours[oid].parents)
    return found


def kind_of(clash: Clash) -> Kind:
    """How a clash can be settled by what is inside; a file that one side removed cannot."""
    path = clash.path
    if clash.ours is None or clash.theirs is None:
        return "file"
    if path == EVENTS_FILE:
        return "log"
    if path == META_FILE:
        return "text"
    if path == PRIMARY_FILE or namespace_of_compact(path):
        return "table"
    return "file"


def namespace_of_compact(path: str) -> str | None:
    """The namespace of `_derived/<namespace>.parquet`."""
    folder, _, name = path.rpartition("/")
    if folder == DERIVED_FOLDER and name.endswith(".parquet"):
        return name.removesuffix(".parquet")
    return None


def both_forms(listing: Listing) -> list[Conflict]:
    """Namespaces that would have a compact overlay and parts at once, which no reader takes."""
    parts = {
        path.split("/")[1]
        for path in listing
        if path.startswith(f"{DERIVED_FOLDER}/") and path.count("/") == 2
    }
    found = []
    for path in listing:
        namespace = namespace_of_compact(path)
        if namespace in parts:
            found.append(Conflict(path, ours="a compact overlay", theirs=f"parts in {namespace}/"))
    return found


def settle(split: Split, choices: Choices) -> tuple[Listing, dict[str, Side], list[Clash]]:
    """Apply a person's choices: the files that are settled, who won which, what is left."""
    listing: Listing = dict(split.settled)
    chosen: dict[str, Side] = {}
    left: list[Clash] = []
    for clash in split.clashes:
        side = choices.side(clash.path)
        if side is None:
            left.append(clash)
            continue
        chosen[clash.path] = side
        entry = clash.ours if side == "ours" else clash.theirs
        if entry is not None:
            listing[clash.path] = entry
    return listing, chosen, left


def file_conflict(clash: Clash) -> Conflict:
    def shown(entry: Any) -> str | None:
        return None if entry is None else f"{entry.content.short} ({entry.size} B)"

    return Conflict(clash.path, "", "", shown(clash.base), shown(clash.ours), shown(clash.theirs))


_SHOWN = 20


def table_of(conflicts: Sequence[Conflict]) -> str:
    """Conflicts for people: where, and what the base, we and they have."""
    rows = [("where", "base", "ours", "theirs")]
    for conflict in conflicts[:_SHOWN]:
        where = " ".join(filter(None, (conflict.path, conflict.key, conflict.column)))
        base, ours, theirs = (
            _cut(value, 28) for value in (conflict.base, conflict.ours, conflict.theirs)
        )
        rows.append((_cut(where, 60), base, ours, theirs))
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    if len(conflicts) > _SHOWN:
        lines.append(f"… and {len(conflicts) - _SHOWN} more")
    return "\n".join(f"  {line}" for line in lines)


def _cut(value: str | None, width: int) -> str:
    if value is None:
        return "-"
    line = "⏎".join(value.splitlines())
    line = "".join(c if c.isprintable() else "�" for c in line)
    return line if len(line) <= width else f"{line[: width - 1]}…"
