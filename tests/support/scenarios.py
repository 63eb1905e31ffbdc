"""Verbs from a prepared pair of roots to the state they end in, and what must hold in between.

A crash test runs a scenario's act, lets it die somewhere, and asks here whether exactly one state
is left and whether the same command then goes through.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from support import datasets
from support.datasets import DATASET
from support.faults import CRASHED, Crash, count_calls, in_child
from support.pairs import Pair
from usrstore.objects.ids import Kind, hash_object
from usrstore.odb import reach
from usrstore.worktree import journal as journals

OLD, NEW = datasets.old_files(), datasets.new_files()
OURS = {**OLD, "meta.md": b"# ours\n", "_derived/infer/part-9.parquet": b"only here"}


@dataclass(frozen=True)
class Scenario:
    """A verb, from a prepared pair of roots to the state that it ends in.

    Attributes:
        prepare: makes the pair.
        act: the verb.
        side: whose folder and refs change: `here` or `there`.
        crash: below which root calls are counted; empty for both.
        before: what the folder may hold when nothing has happened.
        after: what it holds in the end.
    """

    name: str
    prepare: object
    act: object
    side: str
    crash: str
    before: datasets.Files
    after: datasets.Files

    @property
    def linked(self):
        """A journal knows files by their inodes; recovery never writes into one."""
        return self.name.startswith("recover")


def synced(home, *, here, there):
    """A pair that agreed on OLD, then each side went its way."""
    pair = Pair.make(home, files=OLD)
    pair.push()
    pair.pull()
    pair.here.write(here)
    pair.there.write(there)
    return pair


def uncommitted(home):
    pair = Pair.make(home, files=OLD)
    pair.here.commit()
    pair.here.write(NEW)
    return pair


def fresh(home):
    return Pair.make(home, files=NEW)


def fresh_there(home):
    """A remote with a state, nothing here, not even a registry."""
    pair = Pair.make(home, files=NEW)
    pair.push()
    shutil.rmtree(pair.here.path)
    pair.here.path.mkdir()
    return pair


def interrupted(*, undoing):
    """A pull that was killed in the middle of its renames."""

    def prepare(home):
        whole = synced(home, here=OLD, there=NEW)
        calls = count_calls(whole.copy_to(home / "count").pull)
        renames = [
            n for n, (op, path) in enumerate(calls, 1) if op == "rename" and "/ns/x/" in path
        ]
        pair = whole.copy_to(home / "interrupted")
        tap = Crash(number=renames[len(renames) // 2])
        assert in_child(pair.pull, tap=tap, log=home / "log") == CRASHED
        assert pair.here.read() not in (OLD, NEW)
        if undoing:
            path = pair.here.root.journal_path(DATASET)
            journals.write(path, journals.find(path).turned_back())
        return pair

    return prepare


SCENARIOS = [
    Scenario(
        "commit", uncommitted, lambda p: p.here.commit(), "here", "here", NEW, NEW
    ),
    Scenario(
        "first commit", fresh, lambda p: p.here.commit(), "here", "here", NEW, NEW
    ),
    Scenario(
        "push, the client dies",
        lambda home: synced(home, here=NEW, there=OLD),
        lambda p: p.push(), "there", "here", OLD, NEW,
    ),
    Scenario(
        "push, the host dies",
        lambda home: synced(home, here=NEW, there=OLD),
        lambda p: p.push(), "there", "there", OLD, NEW,
    ),
    Scenario(
        "first push, the host dies", fresh, lambda p: p.push(), "there", "there", {}, NEW
    ),
    Scenario(
        "forced push, the host dies",
        lambda home: synced(home, here=NEW, there=OURS),
        lambda p: p.push(force=True), "there", "there", OURS, NEW,
    ),
    Scenario(
        "pull", lambda home: synced(home, here=OLD, there=NEW),
        lambda p: p.pull(), "here", "", OLD, NEW,
    ),
    Scenario(
        "first pull", fresh_there, lambda p: p.pull(), "here", "", {}, NEW
    ),
    Scenario(
        "forced pull", lambda home: synced(home, here=OURS, there=NEW),
        lambda p: p.pull(force=True), "here", "", OURS, NEW,
    ),
    Scenario(
        "recover forwards", interrupted(undoing=False),
        lambda p: p.here.recover(), "here", "", OLD, NEW,
    ),
    Scenario(
        "recover backwards", interrupted(undoing=True),
        lambda p: p.here.recover(), "here", "", NEW, OLD,
    ),
]  # fmt: skip


def check_one_state(scenario, pair):
    """After recovery: old or new, refs that agree, nothing left of the interruption."""
    for place in (pair.here, pair.there):
        if place.root.has_store:
            place.recover()
            assert place.root.journaled() == []
            check_chain(place)
    place = getattr(pair, scenario.side)
    found = place.read()
    assert found in (scenario.before, scenario.after), sorted(found)
    check_refs(place, found, scenario)
    other = pair.there if scenario.side == "here" else pair.here
    check_states_are_whole(other)


def check_refs(place, found, scenario):
    check_states_are_whole(place)
    head = place.head()
    if head is None:
        assert scenario.before in ({}, scenario.after), "the refs were lost"
    elif scenario.after == scenario.before or found == OURS:
        assert state_of(place, head) in (identities(OLD), identities(found))
    else:
        assert state_of(place, head) == identities(found), "the refs name another state"


def check_states_are_whole(place):
    """I2: whatever a ref reaches is present, down to its trees and recipes."""
    get, seen = place.root.database.get, set()
    for oid in place.refs().values():
        for known, manifest in reach.ancestry(get, oid):
            if manifest.tree not in seen:
                seen.add(manifest.tree)
                for kind, node in reach.metadata(get, known):
                    get(kind, node)


def check_chain(place):
    """Numbered without gaps, each naming the one before."""
    numbers = [state.number for state in place.root.states.history()]
    assert numbers == list(range(len(numbers), 0, -1))


def check_end(scenario, pair, *, tidy=True):
    """The same command, run again, has done what it was asked.

    Args:
        scenario: what was run.
        pair: where.
        tidy: nothing of it lies in quarantine. After a power cut names may come back that were
            removed; they are a collection's to clear.
    """
    place = getattr(pair, scenario.side)
    found = place.read()
    if scenario.name.startswith("recover"):
        assert found in (scenario.before, scenario.after)
    else:
        assert found == scenario.after
        assert not (tidy and list((place.path / ".usr").glob("quarantine/*/*/*")))
    if "commit" in scenario.name:
        assert place.kept() == scenario.after
    elif not scenario.name.startswith("recover"):
        assert state_of(place, place.head()) == identities(found)
    check_chain(pair.here)
    if pair.there.root.has_store:
        check_chain(pair.there)


def state_of(place, oid):
    listing = reach.listing(place.root.database.get, place.manifest(oid).tree)
    return {path: entry.content for path, entry in listing.items()}


def identities(files):
    return {path: hash_object(Kind.CHUNK, data) for path, data in files.items()}
