"""Comparisons that need no remote, and how any comparison is listed."""

from __future__ import annotations

from typing import Any

import click

from usrcli.context import infer_dataset, make_who, now_us, print_json
from usrcli.render.text import human_bytes
from usrstore.errors import UsrError
from usrstore.objects.compare import Comparison, compare
from usrstore.objects.names import DatasetId
from usrstore.objects.sections import Section
from usrstore.objects.tree import Listing
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs import history
from usrstore.verbs.site import Site


def is_revision(root: Root, text: str) -> bool:
    from usrstore.verbs.revisions import resolve

    try:
        resolve(root, text, now_us=now_us())
    except UsrError:
        return False
    return True


def _state(root: Root, text: str) -> Listing:
    from usrstore.verbs.revisions import resolve

    oid, _ = resolve(root, text, now_us=now_us())
    manifest = reach.manifest(root.database.get, oid)
    return reach.listing(root.database.get, manifest.tree)


def local_diff(
    root: Root, this: str, other: str | None, values: dict[str, Any], *, as_json: bool
) -> int:
    """`usr diff DATASET` and `usr diff REV REV`: what changed from the older to the newer."""
    if other is None:
        dataset = DatasetId(infer_dataset(root, this))
        site = Site.open(root, dataset, make_who(root))
        found = history.status(site)
        new = found.found.listing
        old = reach.listing(site.overlay.get, found.manifest.tree) if found.manifest else Listing()
    else:
        old, new = _state(root, this), _state(root, other)
    comparison = compare(new, old)
    if as_json:
        print_json(comparison_data(comparison))
    elif values["stat"]:
        print_stat(comparison, new, old)
    else:
        print_name_status(comparison)
    return 1 if values["exit_code"] and comparison.changed else 0


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


def print_name_status(comparison: Comparison) -> None:
    """Git's letters: A only in the first, D only in the second, M differs."""
    rows = []
    for delta in comparison.sections.values():
        rows += [(path, "A") for path in delta.local_only]
        rows += [(path, "D") for path in delta.remote_only]
        rows += [(path, "M") for path in delta.differ]
    for path, letter in sorted(rows):
        click.echo(f"{letter}\t{path}")


def print_stat(comparison: Comparison, new: Listing, old: Listing) -> None:
    for section in Section:
        delta = comparison.sections[section]
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
        click.echo(f"{section.label:<11}: {', '.join(parts)}")
