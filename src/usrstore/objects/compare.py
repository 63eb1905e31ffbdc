"""Compare two listings: which paths only one side has, and which hold other bytes.

Equality is content, never a name, a size or a time: a touched file is no change, and a
rewritten one with the same size is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from usrstore.objects.sections import Section, section_of
from usrstore.objects.tree import FileEntry, Listing


@dataclass(frozen=True, slots=True)
class Delta:
    """How one section differs; paths are sorted."""

    local_only: tuple[str, ...] = ()
    remote_only: tuple[str, ...] = ()
    differ: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.local_only or self.remote_only or self.differ)

    def paths(self) -> Iterator[str]:
        yield from self.local_only
        yield from self.remote_only
        yield from self.differ


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two states differ, section by section."""

    sections: dict[Section, Delta]

    @property
    def changed(self) -> bool:
        return any(delta.changed for delta in self.sections.values())

    def paths(self) -> Iterator[str]:
        for delta in self.sections.values():
            yield from delta.paths()


def same(a: FileEntry | None, b: FileEntry | None) -> bool:
    """Whether two entries are the same file, however they are stored."""
    if a is None or b is None:
        return a is b
    return a.content == b.content and a.size == b.size


def compare(local: Listing, remote: Listing) -> Comparison:
    found: dict[Section, tuple[list[str], list[str], list[str]]] = {
        section: ([], [], []) for section in Section
    }
    for path in sorted(local.keys() | remote.keys()):
        here, there = local.get(path), remote.get(path)
        if not same(here, there):
            which = 0 if there is None else 1 if here is None else 2
            found[section_of(path)][which].append(path)
    return Comparison({s: Delta(*map(tuple, lists)) for s, lists in found.items()})
