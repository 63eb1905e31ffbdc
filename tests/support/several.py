"""Two datasets that are pushed and pulled together."""

from __future__ import annotations

from dataclasses import dataclass

from support import datasets
from support.pairs import Pair
from usrstore.objects.ids import Kind, hash_object
from usrstore.objects.names import head_ref
from usrstore.odb import reach
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


@dataclass(frozen=True)
class Scenario:
    name: str
    action: str
    crash: str
    before: dict
    here: dict
    there: dict
    after: dict

    @property
    def side(self):
        return "there" if self.action == "push" else "here"

    def prepare(self, home):
        pair = Pair.make(home)
        write(pair.here, OLD)
        if self.before:
            run("push", pair)
            write(pair.here, self.here)
            write(pair.there, self.there)
        return pair


SCENARIOS = [
    Scenario("push, the client dies", "push", "here", OLD, NEW, OLD, NEW),
    Scenario("push, the host dies", "push", "there", OLD, NEW, OLD, NEW),
    Scenario("first push, the host dies", "push", "there", {}, OLD, {}, OLD),
    Scenario("pull", "pull", "", OLD, OLD, NEW, NEW),
]


def check_all_or_none(scenario, pair):
    for place in (pair.here, pair.there):
        if place.root.has_store:
            place.recover()
            assert place.root.journaled() == []
    place = getattr(pair, scenario.side)
    found = read(place)
    empty = {key: {} for key in NAMES}
    assert found in (scenario.before or empty, scenario.after)
    if found == scenario.after:
        heads_agree(place, found)
        return "after"
    heads = [place.refs().get(head_ref(name)) for name in NAMES]
    if scenario.before and all(heads):
        heads_agree(place, found)
    else:
        assert not any(heads)
    return "before"


def heads_agree(place, files):
    refs, get = place.refs(), place.root.database.get
    for name in NAMES:
        tree = reach.manifest(get, refs[head_ref(name)]).tree
        contents = {path: entry.content for path, entry in reach.listing(get, tree).items()}
        assert contents == {p: hash_object(Kind.CHUNK, data) for p, data in files[name].items()}
