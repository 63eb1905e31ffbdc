"""The five sections of a dataset, and which section a path belongs to ([F-20], [F-21]).

Paths inside a dataset are '/'-separated and relative to its folder; inside a root tree the
same file stands below its section's name.
"""

from __future__ import annotations

from enum import StrEnum

from usrstore.errors import UnsafeFileError

PRIMARY_FILE = "records.parquet"
EVENTS_FILE = ".events.log"
META_FILE = "meta.md"
SNAPSHOTS_FOLDER = "_snapshots"
DERIVED_FOLDER = "_derived"
REGISTRY_FILE = "registry.yaml"

# Runtime files of ours and of the tools that share the folder; never part of a state.
_RUNTIME_NAMES = frozenset({".usr.lock", ".usr.transfer.lock", ".events.lock", ".usr"})
_RUNTIME_PREFIX = ".usr.lease."


class Section(StrEnum):
    PRIMARY = "primary"
    EVENTS = "events"
    SNAPSHOTS = "snapshots"
    DERIVED = "derived"
    AUXILIARY = "auxiliary"

    @property
    def label(self) -> str:
        """The word that audits and errors use."""
        return _LABEL[self]


_LABEL = {
    Section.PRIMARY: "Primary",
    Section.EVENTS: ".events.log",
    Section.SNAPSHOTS: "_snapshots",
    Section.DERIVED: "_derived",
    Section.AUXILIARY: "_auxiliary",
}
SIDECARS = (Section.EVENTS, Section.SNAPSHOTS, Section.DERIVED, Section.AUXILIARY)


def is_runtime(name: str, *, top: bool) -> bool:
    """Whether an entry is a lock, lease or staging name rather than data.

    `top` says that it lies directly in the dataset folder: only there are these names ours.
    """
    return top and (name in _RUNTIME_NAMES or name.startswith(_RUNTIME_PREFIX))


def section_of(path: str) -> Section:
    if path == PRIMARY_FILE:
        return Section.PRIMARY
    if path == EVENTS_FILE:
        return Section.EVENTS
    head, slash, _ = path.partition("/")
    if slash and head == SNAPSHOTS_FOLDER:
        return Section.SNAPSHOTS
    if slash and head == DERIVED_FOLDER:
        return Section.DERIVED
    return Section.AUXILIARY


def _misplaced(path: str) -> bool:
    """Whether no section can hold a file at `path`.

    A folder under the name of a section's file, or a file under that of a section's folder,
    could stand in a tree beside what that name is for, but never in a folder on a disk.
    """
    head, slash, _ = path.partition("/")
    files_only, folders_only = (PRIMARY_FILE, EVENTS_FILE), (SNAPSHOTS_FOLDER, DERIVED_FOLDER)
    return head in (files_only if slash else folders_only) or is_runtime(head, top=True)


def to_tree_path(path: str) -> str:
    """`_derived/infer/part.parquet` → `derived/infer/part.parquet`.

    Raises:
        UnsafeFileError: no section can hold a file at `path`.
    """
    if _misplaced(path):
        raise UnsafeFileError(f"{path!r} cannot be part of a state: its name is reserved")
    section = section_of(path)
    if section in (Section.SNAPSHOTS, Section.DERIVED):
        path = path.partition("/")[2]
    return f"{section}/{path}"


def from_tree_path(tree_path: str) -> str:
    """The inverse of `to_tree_path`.

    Raises:
        UnsafeFileError: a tree that puts a file into a section it does not belong to.
    """
    section, _, rest = tree_path.partition("/")
    prefix = {Section.SNAPSHOTS: "_snapshots/", Section.DERIVED: "_derived/"}.get(
        Section(section) if section in _SECTION_NAMES else Section.PRIMARY, ""
    )
    path = prefix + rest
    known = section in _SECTION_NAMES and rest
    if not known or _misplaced(path) or section_of(path) != section:
        raise UnsafeFileError(f"a state that puts {rest!r} into the section {section!r}")
    return path


_SECTION_NAMES = frozenset(str(section) for section in Section)
