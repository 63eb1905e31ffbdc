"""Every verb that changes one root, ready to be interrupted: what is there before, what it does.

A test that interrupts one asks `look` for what a person can see of the root, with whatever is drawn
anew by every run (tokens, times) made equal, and compares with how it was before and after.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from support import datasets, overlays
from support.damage import data_packs, flip, remember
from support.overlays import Layer, part
from support.pairs import Place
from support.people import Clock, make_who
from usrstore.dataset import namespaces
from usrstore.dataset.offer import Wish
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import DatasetId, RefName
from usrstore.remote import profiles
from usrstore.verbs import (
    bundle,
    checkout,
    creating,
    deduping,
    fetch,
    gardening,
    gc,
    importing,
    interruption,
    marking,
    merge,
    projecting,
    pull,
    refs,
    registering,
    snapshotting,
    tags,
    undo,
    uniting,
)
from usrstore.verbs import overlays as care
from usrstore.verbs.attach import attach
from usrstore.verbs.fsck import fsck
from usrstore.verbs.materialize import materialize
from usrstore.verbs.options import Options
from usrstore.verbs.repair import repair
from usrstore.verbs.retention import Retention

NAME = DatasetId("ns/x")
OTHER = DatasetId("ns/y")
IDS = [overlays.row_id(sequence) for sequence in overlays.SEQUENCES]
SCORE = {"infer__score": pa.float64()}
CUT_OFF = frozenset(
    {"index-copy-missing"}  # between a data pack and its metadata pack
)
"""What a check may find after a process died."""
POWERLESS = CUT_OFF | {
    "cache-damaged",  # it is not synced, and made anew by the next look
    "quarantine-damaged",  # what waits there is not synced, and hashed before it is believed
}
"""What a check may find after the power went."""
HOME = re.compile(r'/[^"\s]*/(made|whole|watched|trial)\b')
ACTOR = {"tool": "test", "run_id": "1"}
RULES = Retention(grace=0.0, keep_last=1, keep_ops=0.0)
DRAWN = re.compile(
    r"[0-9a-f]{32,64}|20\d{6}T\d{6,}Z?|20\d\d-\d\d-\d\dT[0-9:.]+(Z|\+00:00)|\.tmp-\w+"
)


@dataclass(frozen=True)
class Act:
    """A verb and what it needs.

    Attributes:
        prepare: brings a root with one small dataset to where the verb can run.
        run: the verb.
        commands: the words of `usr` that it stands for.
        keeps_first: whether it names what the folder holds before it changes anything.
    """

    prepare: Callable[[Place], object]
    run: Callable[[Place], object]
    commands: tuple[str, ...]
    keeps_first: bool = False


def nothing(_place):
    """The root as it is."""


def beside(place, name):
    """A path beside the root, copied with it."""
    return str(place.path.parent / name)


def other_root(place):
    """Another root beside this one, with a dataset that was committed."""
    path = place.path.parent / "there"
    other = overlays.make_place(path, ["AAAA", "CCCC"])
    other.commit()
    return other


# ── datasets ────────────────────────────────────────────────────────────────────────────
def parts(place):
    """Two parts that overlap."""
    rows = [{"id": IDS[0], "infer__score": 1.0}, {"id": IDS[1], "infer__score": 2.0}]
    part("infer", 1, rows, SCORE).write(place.folder)
    part("infer", 2, [{"id": IDS[0], "infer__score": 3.0}], SCORE).write(place.folder)


def compact(place):
    Layer("infer", 1, None, [{"id": IDS[1], "infer__score": 2.0}], SCORE).write(place.folder)


def archived(place):
    """An archive that a newer one will replace."""
    parts(place)
    care.remove(place.site(), "infer", mode="archive")
    parts(place)


def stale(place):
    parts(place)
    care.refresh_metadata(place.site(), "infer")
    overlays.write_registry(place.path, {**overlays.NAMESPACES, "more": {"more__x": "bool"}})


def deleted(place):
    parts(place)
    marking.delete(place.site(), [IDS[4]], reason="why")


def marked(place):
    marking.set_state(place.site(), IDS[:2], {"usr_state__split": "val"})


def attach_one(place):
    path = place.path.parent / "t.csv"
    path.write_text(f"id,score\n{IDS[0]},9\n")
    wish = Wish("infer", "id", "id")
    attach(place.site(), str(path), wish, allow_overwrite=True)


def import_two(place):
    path = place.path.parent / "rows.csv"
    path.write_text("sequence\nACGTACGTAA\nTTTTGGGGCC\n")
    importing.import_rows(place.site(), str(path), form="csv")


def doubled(place):
    rows = [overlays.row(sequence) for sequence in ("AAAA", "CCCC", "AAAA")]
    overlays.write_base(place.folder, rows)


def logged(place):
    for _ in range(3):
        snapshotting.snapshot(place.site())


def torn(place):
    logged(place)
    with open(place.folder / ".events.log", "ab") as log:
        log.write(b'{"half a line')


def two(place):
    """A second dataset in this root, with one row more."""
    rows = [overlays.row(sequence) for sequence in ("GATTACA", "CATCAT")]
    overlays.write_base(place.path / OTHER, rows)


def scored(place):
    """A second dataset with the same rows, which an overlay scores."""
    overlays.write_base(place.path / OTHER, [overlays.row(s) for s in overlays.SEQUENCES])
    part("infer", 1, [{"id": IDS[0], "infer__score": 1.0}], SCORE).write(place.path / OTHER)


# ── history ─────────────────────────────────────────────────────────────────────────────
def kept(place):
    """Two states that are kept, the first of them tagged, and work on top."""
    place.commit("one")
    (place.folder / "meta.md").write_text("# two\n")
    place.commit("two")
    tags.create(place.root, place.who, NAME, "first", first(place))
    (place.folder / "meta.md").write_text("# work\n")


def first(place):
    return ManifestId(place.manifest().parents[0])


def diverged(place):
    """Two states on top of one, each with a file that the other has not."""
    place.commit("one")
    oid = place.head()
    (place.folder / "_artifacts").mkdir()
    (place.folder / "_artifacts" / "ours").write_text("ours\n")
    place.commit("two")
    tags.create(place.root, place.who, NAME, "other", place.head())
    refs.move(place.root, place.who, RefName(f"heads/{NAME}"), place.head(), oid, reason="test")
    (place.folder / "_artifacts" / "ours").unlink()
    (place.folder / "_artifacts" / "theirs").write_text("theirs\n")
    place.commit("three")


def merge_other(place):
    tag = tags.find(place.root, place.who, NAME, "other")
    merge.merge(place.site(), tag.manifest, name="x@other")


def littered(place):
    for number in range(3):
        (place.folder / "meta.md").write_text(f"# {number}\n")
        place.commit()


def damaged(place):
    """A kept state, of which one object in a pack is damaged; the folder has its bytes."""
    place.commit("one")
    remember(place)
    path, pack = next(iter(data_packs(place)))
    flip(path, pack.index.row(0).offset)


def ours(place):
    """Something that another root is to have."""
    place.commit("one")


def to_bundle(place):
    oid = place.head()
    bundle.create(place.root, place.who, beside(place, "x.usrb"), [(NAME, oid)])


def bundled(place):
    other = other_root(place)
    path = beside(place, "there.usrb")
    bundle.create(other.root, other.who, path, [(NAME, other.head())])
    shutil.rmtree(place.folder)


def from_bundle(place):
    with bundle.Bundle(beside(place, "there.usrb")) as opened:
        pull.pull(place.site(), opened.peer(place.root, place.who), "bundle", Options())


def elsewhere(place):
    other_root(place)
    shutil.rmtree(place.folder)


def with_peer(verb):
    def run(place):
        peer = Place(place.path.parent / "there", place.who).host()
        try:
            verb(place, peer)
        finally:
            peer.close()

    return run


def cloned(place, peer):
    """As `usr clone` does: a store, its remote, a pull."""
    place.root.create_store()
    where = str(place.path / ".usr" / "remotes.yaml")
    body = {"type": "folder", "base_dir": beside(place, "there")}
    profiles.add(where, profiles.parse("origin", body, where), overwrite=True)
    pull.pull(place.site(), peer, "origin", Options())


def remote(place, name="lab"):
    where = beside(place, "remotes.yaml")
    profile = profiles.parse(name, {"type": "folder", "base_dir": "/data"}, where)
    profiles.add(where, profile, overwrite=True)


def move_tag(place):
    name = RefName(f"tags/{NAME}/mine")
    refs.move(place.root, place.who, name, None, place.refs()[f"tags/{NAME}/first"], reason="test")


ACTS = {
    "init": Act(
        lambda place: shutil.rmtree(place.folder), lambda p: creating.create(p.site()), ("init",)
    ),
    "import": Act(nothing, import_two, ("import",)),
    "attach": Act(parts, attach_one, ("attach",)),
    "attach beside a compact file": Act(compact, attach_one, ("attach",)),
    "materialize": Act(
        deleted,
        lambda p: materialize(
            p.site(), archive_overlays=True, drop_deleted=True, snapshot_before=True
        ),
        ("materialize",),
    ),
    "snapshot": Act(nothing, lambda p: snapshotting.snapshot(p.site()), ("snapshot",)),
    "delete": Act(parts, lambda p: marking.delete(p.site(), IDS[:2]), ("delete",)),
    "restore": Act(deleted, lambda p: marking.restore(p.site(), [IDS[4]]), ("restore",)),
    "state set": Act(
        parts, lambda p: marking.set_state(p.site(), IDS, {"usr_state__split": "val"}), ("state",)
    ),
    "state clear": Act(marked, lambda p: marking.clear_state(p.site(), IDS[:1]), ("state",)),
    "dedupe": Act(doubled, lambda p: deduping.dedupe(p.site(), key="id"), ("maintenance dedupe",)),
    "garden": Act(
        logged, lambda p: gardening.garden(p.site(), retain=1), ("maintenance event-log-garden",)
    ),
    "events-repair": Act(
        torn, lambda p: gardening.repair(p.site()), ("maintenance events-repair",)
    ),
    "freeze": Act(
        nothing, lambda p: gardening.freeze(p.site()), ("maintenance registry-freeze",)
    ),
    "merge": Act(
        two,
        lambda p: uniting.merge(p.site(), OTHER, uniting.MergeOptions(union=True)),
        ("maintenance merge",),
    ),
    "overlay-compact": Act(
        parts, lambda p: care.compact(p.site(), "infer"), ("maintenance overlay-compact",)
    ),
    "overlay-remove": Act(
        parts, lambda p: care.remove(p.site(), "infer"), ("maintenance overlay-remove",)
    ),
    "overlay-remove to the archive": Act(
        archived,
        lambda p: care.remove(p.site(), "infer", mode="archive"),
        ("maintenance overlay-remove",),
    ),
    "overlay-refresh-metadata": Act(
        stale,
        lambda p: care.refresh_metadata(p.site(), "infer"),
        ("maintenance overlay-refresh-metadata",),
    ),
    "overlay-project": Act(
        scored,
        lambda p: projecting.project(p.site(), OTHER, "infer", columns=["infer__score"]),
        ("maintenance overlay-project",),
    ),
    "namespace register": Act(
        nothing,
        lambda p: registering.register(
            p.root, namespaces.make("new", "new__x:bool"), overwrite=False
        ),
        ("namespace register",),
    ),
    "commit": Act(nothing, lambda p: p.commit(), ("commit",)),
    "tag": Act(
        kept, lambda p: tags.create(p.root, p.who, NAME, "second", p.head()), ("tag",)
    ),
    "tag, replaced": Act(
        kept, lambda p: tags.create(p.root, p.who, NAME, "first", p.head(), force=True), ("tag",)
    ),
    "tag, deleted": Act(kept, lambda p: tags.delete(p.root, p.who, NAME, "first"), ("tag",)),
    "update-ref": Act(kept, move_tag, ("update-ref",)),
    "checkout": Act(kept, lambda p: checkout.checkout(p.site(), first(p)), ("checkout",), True),
    "checkout of a file": Act(
        kept, lambda p: checkout.checkout(p.site(), p.head(), paths=["meta.md"]), ("checkout",), True
    ),
    "undo": Act(kept, lambda p: undo.undo(p.root, p.who, to=1), ("undo",), True),
    "merge of two states": Act(diverged, merge_other, ("merge",), True),
    "gc": Act(littered, lambda p: gc.collect(p.root, p.who, RULES), ("gc",)),
    "repack": Act(littered, lambda p: gc.repack(p.root, p.who), ("repack",)),
    "fsck --repair": Act(damaged, lambda p: repair(p.root, p.who), ("fsck",)),
    "bundle create": Act(ours, to_bundle, ("bundle create",)),
    "bundle import": Act(bundled, from_bundle, ("bundle import",)),
    "fetch": Act(
        elsewhere, with_peer(lambda p, peer: fetch.fetch(p.site(), peer, "r")), ("fetch",)
    ),
    "clone": Act(elsewhere, with_peer(cloned), ("clone",)),
    "remotes add": Act(nothing, remote, ("remotes add",)),
    "remotes set": Act(remote, remote, ("remotes set",)),
    "remotes remove": Act(
        remote,
        lambda p: profiles.remove(beside(p, "remotes.yaml"), "lab"),
        ("remotes remove",),
    ),
}  # fmt: skip


def make_who_again():
    """Someone whose clock begins at the same moment every time."""
    return replace(make_who(clock=Clock()), actor=ACTOR)


def prepare(act, home) -> Place:
    place = Place(home / "made" / "root", make_who_again())
    overlays.make_place(place.path)
    act.prepare(place)
    return place


def copy(made, home) -> Place:
    """The same root, and what is beside it, elsewhere; times included."""
    shutil.copytree(made.path.parent, home, copy_function=shutil.copy2)
    return Place(home / "root", make_who_again())


def look(place):
    """What a person can see: files, what is beside them, and the states that refs name."""

    def same(data):
        return DRAWN.sub("DRAWN", HOME.sub("HOME", data.decode("latin-1")))

    found = datasets.read(place.folder)
    inside = sorted([DRAWN.sub("DRAWN", path), same(data)] for path, data in found.items())
    outside = {path: same(data) for path, data in place.outside().items()}
    near = place.path.parent
    for name in ("remotes.yaml", "x.usrb"):
        if (near / name).exists():
            outside[name] = same((near / name).read_bytes()) if name.endswith("yaml") else ""
    names = {}
    for ref, oid in place.refs().items():
        tree = None if ref.startswith("tags/") else place.manifest(oid).tree
        names[ref] = str(tree or oid)
    return json.dumps([inside, outside, names], sort_keys=True)


def is_first(act, place, found, before):
    """Whether a root is as before, but that what its folder holds has been kept and named."""
    if not act.keeps_first:
        return False
    now, was = json.loads(found), json.loads(before)
    name = f"folders/{NAME}"
    others = [{ref: oid for ref, oid in refs.items() if ref != name} for refs in (now[2], was[2])]
    if now[:2] != was[:2] or others[0] != others[1] or now[2].get(name) == was[2].get(name):
        return False
    return place.kept(place.refs()[name]) == place.read()


def check_sound(place, *, forgiven=CUT_OFF):
    """After recovery: nothing left of the interruption, a chain without gaps, a store in order.

    Args:
        place: the root.
        forgiven: findings that do no harm after what happened to it.
    """
    if not place.root.has_store:
        return
    place.recover()
    assert interruption.interrupted(place.root) == []
    numbers = [state.number for state in place.root.states.history()]
    newest = numbers[0] if numbers else 0  # a collection may have dropped the oldest
    assert numbers == list(range(newest, newest - len(numbers), -1)), numbers
    found = [row for row in fsck(place.root, place.who).findings if row.code not in forgiven]
    assert found == [], found
