"""Two datasets that are pushed and pulled together."""

from __future__ import annotations

from support import datasets
from usrstore.verbs import many
from usrstore.verbs.options import Options

NAMES = ("ns/x", "other")
_OLD = {
    "records.parquet": datasets.noise("base", 9000),
    ".events.log": datasets.events(1),
    "_derived/infer/part-1.parquet": datasets.noise("part 1", 500),
}
_NEW = {
    "records.parquet": datasets.noise("base, again", 9000),
    ".events.log": datasets.events(1, 2),
    "_derived/infer/part-2.parquet": datasets.noise("part 2", 500),
}
# No two datasets hold the same.
OLD = {name: {**_OLD, "meta.md": name.encode()} for name in NAMES}
NEW = {name: {**_NEW, "meta.md": f"{name} again".encode()} for name in NAMES}


def write(place, files):
    for name, data in files.items():
        datasets.write(place.path / name, data)


def read(place):
    return {name: datasets.read(place.path / name) for name in NAMES}


def everything(place):
    """What must not change when a transfer into here fails."""
    registry = place.path / "registry.yaml"
    return read(place), registry.exists() and registry.read_bytes(), place.refs()


def run(action, pair, peer=None, *, lock_timeout_s=0.3, agree=lambda _plans: True, **options):
    """Push or pull both, as one."""
    peer = peer or pair.there.host()
    sites = [pair.here.site(dataset=name, lock_timeout_s=lock_timeout_s) for name in NAMES]
    try:
        return many.transfer(action, sites, peer, "r", Options(**options), agree=agree)
    finally:
        peer.close()
