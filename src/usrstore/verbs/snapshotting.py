"""snapshot: keep a copy of the base table inside the dataset; the newest five stay."""

from __future__ import annotations

from usrstore.objects.sections import PRIMARY_FILE
from usrstore.verbs.mutating import mutating
from usrstore.verbs.site import Site


def snapshot(site: Site) -> str:
    """Keep the base table as it is now; gives the path of the copy in the dataset."""
    with mutating(site) as act:
        path = act.snapshot()
        act.event("snapshot", artifacts={"snapshot": path}, table=PRIMARY_FILE)
        act.note(f"kept a snapshot, {path}")
    return path
