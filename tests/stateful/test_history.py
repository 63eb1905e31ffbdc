"""A dataset's history beside plain dicts: commit, checkout, tag, undo, gc, crashes in any order.

The model knows what every state holds, what refs and folder were after every operation, and what
each command leads to, step by step. A command that ends must have made all of its steps; one that
is killed anywhere and recovered must have stopped between two of them. After every command the
refs and the folder are those of the model, and every state that was ever made, and that no
collection was told to forget, comes back bit for bit, from packs alone.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support import datasets
from support.datasets import DATASET
from support.faults import CRASHED, FINISHED, Crash, in_child
from support.memory import memory
from support.pairs import LOCK_TIMEOUT_S, Place
from support.people import make_who
from usrstore.dataset import registry
from usrstore.errors import NotFoundError, RevisionNotFoundError
from usrstore.odb import reach
from usrstore.verbs import checkout, gc, tags, undo
from usrstore.verbs.retention import Retention
from usrstore.verbs.revisions import peel, resolve

HEAD, FOLDER = f"heads/{DATASET}", f"folders/{DATASET}"
PATHS = ["records.parquet", "meta.md", "_derived/ns/part-1", "_derived/ns/part-2", "x/y/z"]
BODIES = st.sampled_from(
    [b"", b"a", b"b\n", datasets.noise("one", 5000), datasets.noise("two", 300_000)]
)
NAMES = st.sampled_from(["v1", "v2"])
PICK = st.integers(0, 1 << 16)


@dataclass(frozen=True)
class New:
    """The id of an object that a command will make; the model knows what it holds."""

    files: tuple


def frozen(files):
    return tuple(sorted(files.items()))


class HistoryMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        home = Path(tempfile.mkdtemp(dir=memory()))
        self.place = Place(home, make_who("ada"))
        (home / "registry.yaml").write_bytes(registry.initial())
        self.folder = {"records.parquet": b"first"}
        self.place.write(self.folder)
        self.refs = {}
        self.holds = {}  # every state and tag that was made → its files
        self.tags = set()  # those of them that are tags
        self.oldest = 1  # the first operation that is not forgotten
        self.log = [{}]  # the refs after each operation; before the first there were none

    def teardown(self):
        for oid, files in self.holds.items():
            if oid not in self.tags:
                checkout.checkout(self._site(), oid)
                assert self.place.read() == dict(files)
        shutil.rmtree(self.place.path)

    def _site(self):
        return self.place.site(lock_timeout_s=LOCK_TIMEOUT_S)

    # ── what commands lead to ───────────────────────────────────────────────────────────
    def _position(self, refs):
        return refs.get(FOLDER, refs.get(HEAD))

    def _keeping(self):
        """Before the folder is taken elsewhere: what it holds is kept where it was."""
        at = self._position(self.refs)
        if at is not None and self.holds[at] == frozen(self.folder):
            return []
        return [({**self.refs, FOLDER: New(frozen(self.folder))}, self.folder)]

    def _at(self, refs, target):
        """Refs once the folder is at a state."""
        return _without(refs, FOLDER) if target == refs.get(HEAD) else {**refs, FOLDER: target}

    def _commit(self):
        head = self.refs.get(HEAD)
        if head is not None and self.holds[head] == frozen(self.folder):
            return [(_without(self.refs, FOLDER), self.folder)]
        refs = {**_without(self.refs, FOLDER), HEAD: New(frozen(self.folder))}
        return [(refs, self.folder)]

    def _checkout(self, oid):
        files = dict(self.holds[oid])
        kept = self._keeping() if files != self.folder else []
        refs = self._at(self.refs, oid) if HEAD in self.refs else {**self.refs, HEAD: oid}
        if HEAD not in self.refs:
            refs = _without(refs, FOLDER)
        return [*kept, (refs, files)]

    def _checkout_path(self, oid, stem):
        there = dict(self.holds[oid])
        files = {p: data for p, data in self.folder.items() if not _below(p, stem)}
        files |= {p: data for p, data in there.items() if _below(p, stem)}
        if files == self.folder:
            return []
        known = [self.refs.get(HEAD), self._position(self.refs), oid]
        target = next(
            (k for k in known if k is not None and self.holds[k] == frozen(files)),
            New(frozen(files)),
        )
        return [*self._keeping(), (self._at(self.refs, target), files)]

    def _undo(self, to):
        then = self.log[to]
        goal, now = self._position(then), self._position(self.refs)
        if goal is None or goal == now:
            return [(then, self.folder)]
        files = dict(self.holds[goal])
        return [*(self._keeping() if files != self.folder else []), (then, files)]

    # ── commands, whole and killed ──────────────────────────────────────────────────────
    def _run(self, act, steps, crash):
        if crash is None:
            act()
            self._follow(steps, len(steps))
            return
        when, number = crash
        log = self.place.path.parent / f"{self.place.path.name}.log"
        tap = Crash(within=str(self.place.path), when=when, number=number)
        ended = in_child(act, tap=tap, log=log)
        assert ended in (CRASHED, FINISHED), log.read_text()
        self.place.recover()
        assert self.place.root.journaled() == []
        if ended == FINISHED:
            self._follow(steps, len(steps))
            return
        found = self._refs(), self.place.read()
        for count in range(len(steps), -1, -1):
            refs, files = steps[count - 1] if count else (self.refs, self.folder)
            if files == found[1] and self._agree(refs, found[0]):
                self._follow(steps, count)
                return
        raise AssertionError(f"killed {when} change {number}, it is between no two steps")

    def _follow(self, steps, count):
        """The model makes the first steps, and learns the ids of what they made."""
        real = self._refs()
        for refs, files in steps[:count]:
            names = {name: oid for name, oid in refs.items() if isinstance(oid, New)}
            made = {}
            last = refs is steps[count - 1][0]
            for name, new in names.items():
                state = real if last else self._past_refs(len(self.log))
                oid = state[name]
                assert oid not in self.holds, "it is new"
                self.holds[oid] = new.files
                made[name] = oid
                self.tags |= {oid} if name.startswith("tags/") else set()
            if {**refs, **made} != self.refs:
                self.refs = {**refs, **made}
                self.log.append(self.refs)
            self.folder = files

    def _past_refs(self, number):
        return dict(self.place.root.states.read(number).refs)

    def _agree(self, refs, real):
        """Whether refs may be those of the model, with new ids where it expects them."""
        if refs.keys() != real.keys():
            return False
        return all(
            (real[name] not in self.holds and frozen(self._files(real[name])) == oid.files)
            if isinstance(oid, New)
            else real[name] == oid
            for name, oid in refs.items()
        )

    def _files(self, oid):
        root = self.place.root
        return self.place.kept(peel(root, oid))

    def _refs(self):
        return self.place.refs()

    # ── rules ───────────────────────────────────────────────────────────────────────────
    @initialize()
    def first(self):
        self._run(lambda: self.place.commit("first"), self._commit(), None)

    @rule(path=st.sampled_from(PATHS), body=BODIES)
    def write(self, path, body):
        self.folder = {**self.folder, path: body}
        self.place.write(self.folder)

    @rule(path=st.sampled_from(PATHS[1:]))
    def remove(self, path):
        self.folder = _without(self.folder, path)
        self.place.write(self.folder)

    crashes = (
        st.none()
        | st.none()
        | st.tuples(st.sampled_from(["before", "torn", "after"]), st.integers(1, 70))
    )

    @rule(crash=crashes)
    def commit(self, crash):
        self._run(lambda: self.place.commit("kept"), self._commit(), crash)

    def _some_state(self, pick):
        """One that is known; the first one may be forgotten, the newest never."""
        states = self._states()
        return states[pick % len(states)]

    def _states(self):
        """Those that are left: a collection may have forgotten the first, when nothing names it."""
        return [oid for oid in self.holds if oid not in self.tags]

    @precondition(lambda self: self._states())
    @rule(pick=PICK, crash=crashes)
    def check_out(self, pick, crash):
        oid = self._some_state(pick)
        self._run(lambda: checkout.checkout(self._site(), oid), self._checkout(oid), crash)

    @precondition(lambda self: self._states())
    @rule(pick=PICK, stem=st.sampled_from([*PATHS, "_derived", "x"]), crash=crashes)
    def check_out_a_path(self, pick, stem, crash):
        oid = self._some_state(pick)
        if not any(_below(path, stem) for path, _ in self.holds[oid]):
            with pytest.raises(RevisionNotFoundError):
                checkout.checkout(self._site(), oid, paths=[stem])
            return
        steps = self._checkout_path(oid, stem)
        self._run(lambda: checkout.checkout(self._site(), oid, paths=[stem]), steps, crash)

    @precondition(lambda self: self._states())
    @rule(name=NAMES, pick=PICK, crash=crashes)
    def tag(self, name, pick, crash):
        oid = self._some_state(pick)
        steps = [({**self.refs, f"tags/{DATASET}/{name}": New(self.holds[oid])}, self.folder)]

        def act():
            tags.create(self.place.root, self.place.who, DATASET, name, oid, force=True)

        self._run(act, steps, crash)
        if f"tags/{DATASET}/{name}" in self.refs and crash is None:
            found, _ = resolve(self.place.root, f"{DATASET}@{name}", now_us=0)
            assert found == oid

    @rule(name=NAMES)
    def delete_tag(self, name):
        ref = f"tags/{DATASET}/{name}"

        def act():
            tags.delete(self.place.root, self.place.who, DATASET, name)

        if ref not in self.refs:
            with pytest.raises(RevisionNotFoundError):
                act()
            return
        self._run(act, [(_without(self.refs, ref), self.folder)], None)

    @rule(forget=st.booleans(), crash=crashes)
    def collect(self, forget, crash):
        """With no grace at all: whatever nothing names goes at once."""
        rules = Retention(grace=0.0, keep_ops=0.0 if forget else None)

        def act():
            gc.collect(self.place.root, self.place.who, rules)

        self._run(act, [], crash)
        newest = self.place.root.states.newest().number
        while len(self.log) <= newest:  # a collection is an operation that moves nothing
            assert self._past_refs(len(self.log)) == self.refs
            self.log.append(self.refs)
        if forget:
            self._forget()

    def _forget(self):
        """What only forgotten operations named may be gone."""
        numbers = [state.number for state in self.place.root.states.history()]
        assert self.oldest <= numbers[-1]
        assert numbers[0] == len(self.log) - 1
        self.oldest = numbers[-1]
        get = self.place.root.database.get
        named = {oid for refs in self.log[self.oldest :] for oid in refs.values()}
        reached = {
            oid for tip in named for oid in dict(reach.ancestry(get, peel(self.place.root, tip)))
        }
        self.holds = {o: files for o, files in self.holds.items() if o in reached | named}

    def _last(self):
        """The operation to which an undo without a number goes back; None if it is forgotten."""
        for number in range(len(self.log) - 1, self.oldest, -1):
            if self.log[number] != self.log[number - 1]:
                return number - 1
        return 0 if self.oldest == 1 else None

    @rule(crash=crashes)
    def undo(self, crash):
        def act():
            undo.undo(self.place.root, self.place.who, lock_timeout_s=LOCK_TIMEOUT_S)

        if self._last() is None:
            with pytest.raises(NotFoundError, match="not kept any more"):
                act()
            return
        self._run(act, self._undo(self._last()), crash)

    @rule(pick=PICK, crash=crashes)
    def undo_to(self, pick, crash):
        to = pick % len(self.log)
        if 0 < to < self.oldest:
            with pytest.raises(NotFoundError, match="not kept any more"):
                undo.undo(self.place.root, self.place.who, to=to)
            return

        def act():
            undo.undo(self.place.root, self.place.who, to=to, lock_timeout_s=LOCK_TIMEOUT_S)

        self._run(act, self._undo(to), crash)

    @precondition(lambda self: self._last() and self._position(self.log[self._last()]))
    @rule()
    def an_undo_and_an_undo_of_it_change_nothing(self):
        before, refs = self.folder, _without(self.refs, FOLDER)
        at, goal = self._position(self.refs), self._position(self.log[self._last()])
        if at not in (None, goal) and self.holds[goal] == frozen(before):
            # Work that is what the undo leads to: the folder is not touched, and nothing is kept;
            # the undo of it leads to what the work was done on.
            before = dict(self.holds[at])
        for _ in range(2):
            steps = self._undo(self._last())
            self._run(lambda: undo.undo(self.place.root, self.place.who), steps, None)
        assert self.folder == before
        assert _without(self.refs, FOLDER) == refs

    # ── invariants ──────────────────────────────────────────────────────────────────────
    @invariant()
    def refs_and_folder_are_those_of_the_model(self):
        assert self._refs() == self.refs
        assert self.place.read() == self.folder

    @invariant()
    def the_operation_log_is_that_of_the_model(self):
        numbers = [s.number for s in self.place.root.states.history()] if len(self.log) > 1 else []
        assert numbers[: len(self.log) - self.oldest] == list(
            range(len(self.log) - 1, self.oldest - 1, -1)
        )

    @invariant()
    def every_state_comes_back_bit_for_bit_from_packs_alone(self):
        for oid, files in self.holds.items():
            assert frozen(self._files(oid)) == files


def _without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


def _below(path, stem):
    return path == stem or path.startswith(f"{stem}/")


HistoryMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestHistory = HistoryMachine.TestCase
