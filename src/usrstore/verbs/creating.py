"""init DATASET: a new, empty dataset that every tool of the family can read."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from usrstore.dataset import metafile, parquetfile, registry, schema
from usrstore.objects.sections import META_FILE, PRIMARY_FILE
from usrstore.verbs.mutating import mutating
from usrstore.verbs.site import Site


@dataclass(frozen=True, slots=True)
class CreateResult:
    """What was made.

    Attributes:
        path: the folder.
        registry_made: whether the root had no registry, and has the initial one now.
    """

    path: str
    registry_made: bool


def create(site: Site, *, source: str = "", notes: str = "") -> CreateResult:
    """Make the dataset: an empty base table, notes, the frozen registry, an event.

    Raises:
        ConflictError: there is a dataset of this name.
        RegistryError: the root's registry cannot be read.
    """
    made = ensure_registry(site)
    time_us = site.who.now_us()
    with mutating(site, create=True) as act:
        moment = dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC)
        metadata = schema.base_metadata(
            created_at=moment.isoformat(), registry_hash=act.registry_hash
        )
        empty = schema.base_schema().empty_table()
        parquetfile.write(act.create(PRIMARY_FILE), empty, metadata)
        act.put(
            META_FILE,
            metafile.begin(site.dataset, created_us=time_us, source=source, notes=notes),
        )
        act.note("made this dataset")
        act.event("init", args={"source": source, "notes": notes}, table=PRIMARY_FILE)
    return CreateResult(site.folder, made)


def ensure_registry(site: Site) -> bool:
    """Give the root the initial registry if it has none; True if it had none."""
    if site.root.registry() is not None:
        return False
    with site.root.changing_registry(timeout_s=site.lock_timeout_s):
        if site.root.registry() is not None:
            return False
        site.root.write_registry(registry.initial())
        return True
