"""Writers, readers and collections in any order, at any age: what a ref names can be had.

Writers look at the store, store what they think it lacks, and move a ref much later, or never.
Collections, by whatever rules, run at any moment in between; time passes in leaps. A writer may
be told that something was collected, and then no ref has moved; whatever did move is whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from support import datasets
from support.memory import memory
from support.people import make_who
from usrstore.errors import ConflictError
from usrstore.objects import recipe, tree
from usrstore.objects.ids import ContentHash, Kind, RecipeId, hash_object
from usrstore.objects.manifest import Manifest, Signed, manifest_id
from usrstore.objects.names import head_ref
from usrstore.objects.tree import FileEntry
from usrstore.odb import reach
from usrstore.odb.states import Change
from usrstore.root import Root
from usrstore.verbs import gc
from usrstore.verbs.retention import Retention

HOUR = Retention(grace=3600.0)
DATASETS = ["ns/a", "ns/b"]
BODIES = {number: datasets.noise(f"body {number}", 100 + number) for number in range(8)}
CONTENTS = st.lists(st.sampled_from(sorted(BODIES)), min_size=1, max_size=3)


class Writer:
    """A process that looked at the store long ago."""

    def __init__(self, path, dataset, numbers):
        self.root = Root(path)
        self.dataset = dataset
        self.content = b"".join(BODIES[number] for number in numbers)
        self.head = self.root.states.refs().get(head_ref(dataset))
        with self.root.database.batch() as batch:
            chunks = []
            for number in numbers:
                oid = hash_object(Kind.CHUNK, BODIES[number])
                batch.put(Kind.CHUNK, oid, BODIES[number])
                chunks.append((oid, len(BODIES[number])))
            stored = None
            if len(chunks) > 1:
                stored = RecipeId(
                    recipe.build(chunks, lambda oid, data: batch.put(Kind.RECIPE, oid, data))
                )
            content = ContentHash(hash_object(Kind.CHUNK, self.content))
            entry = FileEntry("records.parquet", len(self.content), content, stored)
            listing = {"records.parquet": entry}
            top = tree.build(listing, lambda oid, data: batch.put(Kind.TREE, oid, data))
            parents = (self.head,) if self.head else ()
            sequence = 1
            if self.head:
                sequence = reach.manifest(self.root.database.get, self.head).sequence + 1
            manifest = Manifest(
                dataset=dataset, sequence=sequence, tree=top.tree, parents=parents, author="ada",
                host="lab", tool="test", time_us=sequence * 86_400_000_000, message="",
                registry=None, rows=None, columns=None, schema=None, events=None, policy=(),
            )  # fmt: skip
            data = Signed(manifest.payload(), None).encode()
            self.oid = manifest_id(data)
            batch.put(Kind.MANIFEST, self.oid, data)

    def finish(self, who):
        change = Change(self.head, self.oid)
        self.root.states.advance({head_ref(self.dataset): change}, who.act())


class CollectionMachine(RuleBasedStateMachine):
    writers = Bundle("writers")

    def __init__(self):
        super().__init__()
        self.home = tempfile.mkdtemp(dir=memory())
        self.who = make_who()
        Root(self.home).create_store()
        self.made = {}  # what each state that a ref ever named holds
        self.whole = set()  # those that no rule has given up
        self.old_reader = Root(self.home)

    def teardown(self):
        shutil.rmtree(self.home)

    @rule(target=writers, dataset=st.sampled_from(DATASETS), numbers=CONTENTS)
    def a_writer_stores_what_it_thinks_is_lacking(self, dataset, numbers):
        return Writer(self.home, dataset, numbers)

    @rule(writer=consumes(writers))
    def a_writer_moves_its_ref(self, writer):
        before = Root(self.home).states.refs()
        try:
            writer.finish(self.who)
        except ConflictError as exc:
            assert exc.code in ("ref-moved", "collected")
            assert Root(self.home).states.refs() == before
        else:
            self.made[writer.oid] = writer.content
            self.whole.add(writer.oid)

    @rule(writer=consumes(writers))
    def a_writer_dies(self, writer):
        pass

    @rule(hours=st.sampled_from([0.5, 2, 100]), place=st.sampled_from(["packs", "gc", "states"]))
    def time_passes_for_some(self, hours, place):
        folder = os.path.join(self.home, ".usr", place)
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            then = os.stat(path).st_mtime - hours * 3600
            os.utime(path, (then, then))

    @rule(retention=st.sampled_from([HOUR, HOUR, Retention(grace=0.0)]))
    def a_collection_without_rules(self, retention):
        gc.collect(Root(self.home), self.who, retention)

    @rule(grace=st.sampled_from([3600.0, 0.0]), keep_last=st.integers(1, 2))
    def a_collection_that_forgets(self, grace, keep_last):
        rules = Retention(grace=grace, keep_last=keep_last, keep_ops=0.0)
        result = gc.collect(Root(self.home), self.who, rules)
        self.whole -= {row.oid for row in result.lighter}
        newest = Root(self.home).states.refs()
        self.whole &= self._reached(newest.values())
        self.made = {oid: self.made[oid] for oid in self._reached(newest.values())}

    @rule()
    def a_repack(self):
        gc.repack(Root(self.home), self.who)

    @rule()
    def a_reader_looks_again(self):
        self.old_reader = Root(self.home)

    def _reached(self, heads):
        get = Root(self.home).database.get
        return {oid for head in heads for oid, _ in reach.ancestry(get, head)}

    def _read(self, root, oid):
        get = root.database.get
        listing = reach.listing(get, reach.manifest(get, oid).tree)
        chunks = reach.chunks(get, listing["records.parquet"])
        return b"".join(get(Kind.CHUNK, chunk) for chunk, _ in chunks)

    @invariant()
    def whatever_was_not_given_up_can_be_had(self):
        fresh = Root(self.home)
        for oid in self.whole:
            assert self._read(fresh, oid) == self.made[oid]
            assert self._read(self.old_reader, oid) == self.made[oid]
        assert not fresh.database.damaged

    @invariant()
    def every_state_says_still_what_it_was(self):
        get = Root(self.home).database.get
        for oid in self.made:
            listing = reach.listing(get, reach.manifest(get, oid).tree)
            assert listing["records.parquet"].content == hash_object(Kind.CHUNK, self.made[oid])

    @invariant()
    def the_refs_are_whole(self):
        root = Root(self.home)
        for oid in root.states.refs().values():
            assert self._read(root, oid) == self.made[oid]


CollectionMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestCollection = CollectionMachine.TestCase
