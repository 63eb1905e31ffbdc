"""The end of a promotion, written so that it can be done again after a crash.

What a sync promotes ends with its registry and its refs, what a command changes with its
lines in the event log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from usrstore.dataset import events, registry
from usrstore.errors import IncompleteError, OutcomeUnknownError, UsrError
from usrstore.objects.ids import Kind, ManifestId
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import DatasetId, RefName
from usrstore.odb import reach
from usrstore.odb.reach import Get
from usrstore.odb.states import Act, Change
from usrstore.root import Root, Who
from usrstore.worktree.journal import Journal

_PATIENCE_S = 30.0  # nobody keeps the registry longer than it takes to write it


def check_registry(root: Root, arriving: Iterable[tuple[Manifest, Get]]) -> bytes | None:
    """The registry that this root will have; None if nothing needs to be written.

    Args:
        root: where.
        arriving: the states that come to it together, and what reads the registry of each.

    Raises:
        RegistryError: the root and the manifests give one namespace two meanings.
        IncompleteError: a manifest's registry is not here.
    """
    before = root.registry()
    merged, name = before, root.registry_path
    for manifest, get in arriving:
        if manifest.registry is None:
            continue
        try:
            theirs = get(Kind.CHUNK, manifest.registry.content)
        except UsrError as exc:
            raise IncompleteError(f"the registry of {manifest.dataset} did not arrive") from exc
        theirs_name = f"the registry that came with {manifest.dataset}"
        if merged is None:
            registry.parse(theirs, theirs_name)
            merged, name = theirs, theirs_name
        else:
            merged = registry.merge(merged, theirs, ours_name=name, theirs_name=theirs_name)
    return merged if merged != before else None


def commit(root: Root, who: Who, journal: Journal) -> None:
    """Install the registry and move the refs, or neither; a second time changes nothing.

    Raises:
        OutcomeUnknownError: the refs may have moved; the registry is installed.
    """
    if not journal.refs:
        return
    changes = _changes(journal)
    with root.changing_registry(timeout_s=_PATIENCE_S):
        _commit(root, who, journal, changes)


def _commit(root: Root, who: Who, journal: Journal, changes: dict[RefName, Change]) -> None:
    get, before = root.database.get, root.registry()
    heads = [
        reach.manifest(get, ManifestId(change.new))
        for name, change in changes.items()
        if name.startswith("heads/") and change.new is not None
    ]
    merged = check_registry(root, ((manifest, get) for manifest in heads))
    if merged is not None:
        root.write_registry(merged)
    moved = _moved(root, changes)
    left = {name: change for name, change in changes.items() if name not in moved}
    act = Act(journal.actor, journal.command, who.now_us(), journal.reason)
    try:
        root.states.advance(left, act)
    except OutcomeUnknownError:
        raise  # whoever recovers looks again
    except Exception:
        if merged is not None:
            root.write_registry(before)
        raise


def is_committed(root: Root, journal: Journal) -> bool:
    """Whether the refs of a group moved before it was interrupted: they move together."""
    changes = {name: c for name, c in _changes(journal).items() if c.expected != c.new}
    return bool(_moved(root, changes))


def append(root: Root, journal: Journal) -> None:
    """Add the journal's lines to the event log; a second time changes nothing."""
    if journal.lines is not None:
        events.append_once(root.folder(_dataset(journal)), journal.lines.data, journal.lines.size)


def take_back(root: Root, journal: Journal) -> None:
    """Undo what `append` may have begun to write; a second time changes nothing."""
    if journal.lines is not None:
        events.take_back(root.folder(_dataset(journal)), journal.lines.data, journal.lines.size)


def _dataset(journal: Journal) -> DatasetId:
    return DatasetId(journal.dataset)


def _changes(journal: Journal) -> dict[RefName, Change]:
    return {RefName(c.name): Change(c.expected, c.new) for c in journal.refs}


def _moved(root: Root, changes: Mapping[RefName, Change]) -> set[RefName]:
    """The refs that took their new values before a crash; they may have gone on from there.

    The chain of states says so: of old and new, what a ref had last. Whether one manifest
    descends from the other does not: an undo goes back to an ancestor, and what another command
    has kept meanwhile descends from that, too.
    """
    moved, unknown = set(), dict(changes)
    for state in root.states.history() if unknown else ():
        for name, change in list(unknown.items()):
            now = state.refs.get(name)
            if now in (change.new, change.expected):
                del unknown[name]
                if now == change.new:
                    moved.add(name)
        if not unknown:
            break
    return moved
