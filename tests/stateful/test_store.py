"""A store beside a plain dict: whatever is done to both, in whatever order, they agree.

One machine puts objects, lets batches fail, lets the disk fail, moves refs with right and with
wrong expectations, loses replies, crashes (everything in memory is forgotten, temporary files
stay) and opens again. After every step: stored bytes hash to their name (I1), whatever a ref
names is there (I2), and refs moved only from the value that was expected (I4).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from support.memory import memory
from usrstore.errors import RefConflictError, StorageError
from usrstore.objects.ids import Kind, hash_object
from usrstore.objects.names import check_ref
from usrstore.odb import durable
from usrstore.odb.backend.folder import FolderBackend
from usrstore.odb.database import Batch, Database
from usrstore.odb.states import Act, Change, States

REFS = [check_ref(f"heads/ns/{name}") for name in "abc"]
KINDS = st.sampled_from([Kind.CHUNK, Kind.CHUNK, Kind.TREE, Kind.RECIPE, Kind.MANIFEST])
BODIES = st.integers(0, 30).map(lambda number: b"body %d " % number * (number * 40 + 1))
ERRNO = st.sampled_from([errno.ENOSPC, errno.EIO, errno.EROFS])


class FailAt:
    """The change number `left` to the disk fails."""

    def __init__(self, left, error):
        self.left = left
        self.error = error

    def __call__(self, when, _op, _path):
        if when == "before":
            self.left -= 1
            if self.left == -1:
                raise OSError(self.error, os.strerror(self.error))


class LostReply(FolderBackend):
    """Creates, and then says that it did not."""

    def create(self, key, data):
        super().create(key, data)
        return False


class StoreMachine(RuleBasedStateMachine):
    named = Bundle("named")  # objects that some batch was given: (kind, id, bytes)

    def __init__(self):
        super().__init__()
        self.home = tempfile.mkdtemp(dir=memory())
        self.packs = os.path.join(self.home, "packs")
        os.mkdir(self.packs)
        self.stored = {}  # what must be there: id → (kind, bytes)
        self.maybe = {}  # what a disk that failed may have kept
        self.elsewhere = set()  # what other processes wrote since the store was opened
        self.refs = {}
        self.moves = 0  # states made
        self.pending = None  # a batch, and what it was given
        self.clock = 0

    def teardown(self):
        if self.pending is not None:
            self._abandon()
        shutil.rmtree(self.home)

    @initialize()
    def open(self):
        self.elsewhere.clear()
        self.backend = FolderBackend(self.home)
        self.database = Database(self.backend, self.packs)
        self.states = States(self.backend)

    # ── objects ─────────────────────────────────────────────────────────────────────────
    @rule(target=named, kind=KINDS, body=BODIES)
    def think_of_an_object(self, kind, body):
        return kind, hash_object(kind, body), body

    @precondition(lambda self: self.pending is None)
    @rule()
    def begin_a_batch(self):
        self.pending = Batch(self.database), {}

    @precondition(lambda self: self.pending is not None)
    @rule(what=named)
    def put(self, what):
        kind, oid, body = what
        batch, given = self.pending
        fresh = batch.put(kind, oid, body)
        # What another process stored a moment ago may be stored twice: a batch knows the packs
        # that were there when it looked, and a second copy under the same name does no harm.
        known = oid in self.stored and oid not in self.elsewhere
        assert not (fresh and (known or oid in given))
        assert fresh or oid in self.stored or oid in given or oid in self.maybe
        given[oid] = kind, body
        assert batch.get(kind, oid) == body

    @precondition(lambda self: self.pending is not None)
    @rule()
    def finish_the_batch(self):
        batch, given = self.pending
        self.pending = None
        batch.__exit__(None, None, None)
        self.stored |= given

    @precondition(lambda self: self.pending is not None)
    @rule()
    def fail_the_batch(self):
        before = self._files()
        self._abandon()
        assert not any(name.startswith(".tmp-") for name in self._files() - before)

    def _abandon(self):
        batch, _ = self.pending
        self.pending = None
        batch.__exit__(KeyError, KeyError(), None)

    @precondition(lambda self: self.pending is not None)
    @rule(at=st.integers(0, 14), error=ERRNO)
    def finish_the_batch_on_a_disk_that_fails(self, at, error):
        batch, given = self.pending
        self.pending = None
        try:
            with durable.tapped(FailAt(at, error)):
                batch.__exit__(None, None, None)
        except StorageError:
            self.maybe |= given
        else:
            self.stored |= given

    # ── crash, and others ───────────────────────────────────────────────────────────────
    @rule()
    def crash_and_open_again(self):
        if self.pending is not None:
            batch, _ = self.pending
            for writer in (batch._data, batch._meta):
                if writer:
                    os.close(writer._spool.fileno())  # as the kernel does for the dead
                    writer._spool._fd = -1
            self.pending = None
        self.open()

    @rule(what=named, at=st.integers(0, 30), after=st.booleans())
    def another_process_dies_while_it_writes(self, what, at, after):
        kind, oid, body = what

        def die(when, _op, _path):
            die.left -= when == "before"
            if die.left < 0 and (when == "after") == after:
                os._exit(1)

        die.left = at
        pid = os.fork()
        if pid == 0:
            try:
                with durable.tapped(die), Database(self.backend, self.packs).batch() as batch:
                    batch.put(kind, oid, body)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        (self.maybe if status else self.stored)[oid] = kind, body
        self.elsewhere.add(oid)

    @rule(what=consumes(named), target=named)
    def another_process_writes_the_same_store(self, what):
        kind, oid, body = what
        with Database(FolderBackend(self.home), self.packs).batch() as batch:
            batch.put(kind, oid, body)
        self.stored[oid] = kind, body
        self.elsewhere.add(oid)
        return multiple(what)

    # ── refs ────────────────────────────────────────────────────────────────────────────
    def _act(self):
        self.clock += 1
        return Act("ada", "usr test", self.clock)

    def _known(self, data):
        """An object that a ref may name: I2 is the writer's to keep."""
        return data.draw(st.sampled_from(sorted(self.stored)))

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), names=st.sets(st.sampled_from(REFS), min_size=1), lost=st.booleans())
    def move_refs_from_where_they_are(self, data, names, lost):
        changes = {}
        for name in sorted(names):
            new = None if data.draw(st.integers(0, 5)) == 0 else self._known(data)
            changes[name] = Change(self.refs.get(name), new)
        states = States(LostReply(self.home)) if lost else self.states
        before = states.newest()
        state = states.advance(changes, self._act())
        moved = {name for name, change in changes.items() if change.new != change.expected}
        if moved or before is None:
            self.moves += 1
        for name in moved:
            if changes[name].new is None:
                del self.refs[name]
            else:
                self.refs[name] = changes[name].new
        assert state.number == self.moves
        assert dict(state.refs) == self.refs

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), name=st.sampled_from(REFS))
    def move_a_ref_from_where_it_is_not(self, data, name):
        wrong = data.draw(
            st.sampled_from([None, *sorted(self.stored), hash_object(Kind.TREE, b"?")])
        )
        if wrong == self.refs.get(name):
            return
        before = self.states.newest()
        with pytest.raises(RefConflictError):
            self.states.advance({name: Change(wrong, self._known(data))}, self._act())
        assert self.states.newest() == before

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), name=st.sampled_from(REFS), at=st.integers(0, 8), error=ERRNO)
    def move_a_ref_on_a_disk_that_fails(self, data, name, at, error):
        new = self._known(data)
        if self.refs.get(name) == new:
            return
        done = False
        with contextlib.suppress(StorageError), durable.tapped(FailAt(at, error)):
            self.states.advance({name: Change(self.refs.get(name), new)}, self._act())
            done = True
        number = len(os.listdir(os.path.join(self.home, "states"))) if self.moves or done else 0
        now = States(self.backend).newest()
        if now is not None and now.number > self.moves:
            self.moves += 1
            self.refs[name] = new
        assert number >= self.moves  # a temporary file may have stayed
        assert done == (now is not None and now.refs.get(name) == new)

    # ── what holds after every step ─────────────────────────────────────────────────────
    def _files(self):
        return set(os.listdir(self.packs))

    @invariant()
    def the_refs_are_those_of_the_model(self):
        fresh = States(FolderBackend(self.home))
        assert dict(fresh.refs()) == self.refs
        chain = list(fresh.history())
        assert [state.number for state in chain] == list(range(self.moves, 0, -1))

    @invariant()
    def whatever_was_stored_is_there_and_hashes_to_its_name(self):
        fresh = Database(FolderBackend(self.home), None)
        for oid, (kind, body) in self.stored.items():
            assert fresh.get(kind, oid) == body
        assert not fresh.damaged
        for pack in fresh.packs():
            for oid, row in pack.index.items():
                data = bytes(pack.read(oid, row))
                expected = self.stored.get(oid) or self.maybe.get(oid)
                assert row.kind == Kind.INDEX or expected == (row.kind, data)

    @invariant()
    def whatever_a_ref_names_is_there(self):
        fresh = Database(FolderBackend(self.home), None)
        assert not fresh.missing(self.refs.values())


StoreMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestStore = StoreMachine.TestCase
TestStore.pytestmark = [pytest.mark.spec("F-32"), pytest.mark.spec("F-45")]
