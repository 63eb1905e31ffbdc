"""How a dataset grew: rows, columns, events and overlay files of a state, and since its parent.

All of it is in manifests and trees; no file is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from usrstore.dataset import overlaypaths
from usrstore.objects.manifest import Manifest
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs.history import find_listing

MEASURES = ("rows", "columns", "events", "overlays")


@dataclass(frozen=True, slots=True)
class Growth:
    """What a state has, and how much more than its first parent (a first state: than nothing).

    Attributes:
        now: measure → number; None where the state does not say.
        since: measure → difference; None where one of both does not say.
    """

    now: dict[str, int | None]
    since: dict[str, int | None]


def growth(root: Root, manifest: Manifest) -> Growth:
    """Measure one state."""
    now = _measure(root, manifest)
    if not manifest.parents:
        return Growth(now, dict(now))
    before = _measure(root, reach.manifest(root.database.get, manifest.parents[0]))
    since: dict[str, int | None] = {}
    for name in MEASURES:
        new, old = now[name], before[name]
        since[name] = None if new is None or old is None else new - old
    return Growth(now, since)


def _measure(root: Root, manifest: Manifest) -> dict[str, int | None]:
    listing = find_listing(root, manifest)
    return {
        "rows": manifest.rows,
        "columns": manifest.columns,
        "events": manifest.events,
        "overlays": None if listing is None else overlaypaths.count(listing),
    }
