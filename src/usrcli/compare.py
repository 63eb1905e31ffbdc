"""Comparisons that need no remote, and how any comparison is listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from usrcli.context import infer_dataset, make_who, now_us, print_json
from usrcli.render.text import human_bytes
from usrstore.errors import InvalidInputError, RevisionNotFoundError, UsrError
from usrstore.objects.compare import Comparison
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import DatasetId
from usrstore.objects.revision import split_range
from usrstore.objects.sections import Section, section_of
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs import history
from usrstore.verbs.history import Changes
from usrstore.verbs.site import Site


def is_revision(root: Root, text: str) -> bool:
    from usrstore.verbs.revisions import resolve

    try:
        resolve(root, text, now_us=now_us())
    except UsrError:
        return False
    return True


def local_diff(
    root: Root,
    this: str,
    other: str | None,
    values: dict[str, Any],
    *,
    paths: Sequence[str],
    as_json: bool,
) -> int:
    """`usr diff DATASET|REV` and `usr diff REV REV`: what changed from the older to the newer."""
    if other is None and (ends := split_range(this)):
        this, other = (end or dataset_of(root, ends[0] or ends[1]) for end in ends)
    if other is None:
        old, new, found = _folder_against(root, this)
    else:
        (old, before), (new, after) = state(root, this), state(root, other)
        found = history.between(after, before)
    found = found.limited(paths)
    if as_json:
        ends_data = {"from": old.hex() if old else None, "to": new.hex() if new else None}
        print_json({**ends_data, **data(found)})
    else:
        for text in stat_lines(found) if values["stat"] else name_status_lines(found.comparison):
            click.echo(text)
    return 1 if values["exit_code"] and found.comparison.changed else 0


def _folder_against(root: Root, this: str) -> tuple[ManifestId | None, None, Changes]:
    """The folder against its head, or against any state of its dataset."""
    from usrstore.verbs.revisions import resolve

    oid: ManifestId | None = None
    dataset = plain_dataset(root, this)
    plain = dataset is not None
    if dataset is None:
        oid, path = resolve(root, this, now_us=now_us())
        _whole(this, path)
        dataset = DatasetId(reach.manifest(root.database.get, oid).dataset)
    site = Site.open(root, dataset, make_who(root))
    if plain:
        status = history.status(site)
        old = reach.listing(site.overlay.get, status.manifest.tree) if status.manifest else {}
        return status.head, None, history.between(status.found.listing, old)
    root.check_dataset(dataset)
    folder = site.capture(record=root.has_store)
    assert oid is not None
    return oid, None, history.between(folder.listing, listing_of(root, oid))


def plain_dataset(root: Root, text: str) -> DatasetId | None:
    """The dataset that is so called, if it is no revision that is meant."""
    try:
        dataset = DatasetId(infer_dataset(root, text))
    except InvalidInputError:
        return None
    return dataset if dataset in root.datasets() else None


def state(root: Root, text: str) -> tuple[ManifestId, Listing]:
    """A state that was named, and its files."""
    from usrstore.verbs.revisions import resolve

    oid, path = resolve(root, text, now_us=now_us())
    _whole(text, path)
    return oid, listing_of(root, oid)


def listing_of(root: Root, oid: ManifestId) -> Listing:
    """The files of a state. Raises: RevisionNotFoundError if they were never here."""
    listing = history.find_listing(root, reach.manifest(root.database.get, oid))
    if listing is None:
        raise RevisionNotFoundError(
            f"state {oid.short} is known by name only: its files were never here",
            hint="fetch it from a remote that has it",
        )
    return listing


def _whole(text: str, path: str | None) -> None:
    if path is not None:
        raise InvalidInputError(
            f"{text!r} names a file of a state, and states are compared",
            hint=f"name the files behind a double dash: usr diff … -- {path}",
        )


def dataset_of(root: Root, text: str) -> str:
    """The dataset that a revision is a state of."""
    from usrstore.verbs.revisions import resolve

    oid, _ = resolve(root, text, now_us=now_us())
    return reach.manifest(root.database.get, oid).dataset


def data(found: Changes) -> dict[str, Any]:
    """A comparison by section, and file by file."""
    return {
        **comparison_data(found.comparison),
        "files": [
            {
                "status": letter,
                "path": path,
                "section": section_of(path).label,
                "before": _entry_data(found.old.get(path)),
                "after": _entry_data(found.new.get(path)),
            }
            for path, letter in name_status(found.comparison)
        ],
    }


def _entry_data(entry: FileEntry | None) -> dict[str, Any] | None:
    return None if entry is None else {"size": entry.size, "content": entry.content.hex()}


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    return {
        "changed": comparison.changed,
        "sections": {
            section.label: {
                "added": list(delta.local_only),
                "deleted": list(delta.remote_only),
                "modified": list(delta.differ),
            }
            for section, delta in comparison.sections.items()
        },
    }


def name_status(comparison: Comparison) -> list[tuple[str, str]]:
    """Path and git's letter: A only in the first, D only in the second, M differs; sorted."""
    rows = []
    for delta in comparison.sections.values():
        rows += [(path, "A") for path in delta.local_only]
        rows += [(path, "D") for path in delta.remote_only]
        rows += [(path, "M") for path in delta.differ]
    return sorted(rows)


_COLOURS = {"A": "green", "D": "red", "M": "yellow"}


def name_status_lines(comparison: Comparison, lone: str | None = None) -> list[str]:
    """A line a file; a file that stands alone goes by its own name."""
    return [
        f"{click.style(letter, fg=_COLOURS[letter])}\t{lone or path}"
        for path, letter in name_status(comparison)
    ]


def print_name_status(comparison: Comparison, lone: str | None = None) -> None:
    for text in name_status_lines(comparison, lone):
        click.echo(text)


def stat_lines(found: Changes) -> list[str]:
    """What changed in each section, in numbers."""
    new, old = found.new, found.old
    lines = []
    for section in Section:
        delta = found.comparison.sections[section]
        if not delta.changed:
            continue
        added = sum(new[p].size for p in delta.local_only)
        gone = sum(old[p].size for p in delta.remote_only)
        grown = sum(new[p].size - old[p].size for p in delta.differ)
        parts = []
        if delta.local_only:
            parts.append(f"{len(delta.local_only)} added ({human_bytes(added)})")
        if delta.remote_only:
            parts.append(f"{len(delta.remote_only)} deleted ({human_bytes(gone)})")
        if delta.differ:
            parts.append(f"{len(delta.differ)} modified ({grown:+d} bytes)")
        lines.append(f"{section.label:<11}: {', '.join(parts)}")
    return lines
