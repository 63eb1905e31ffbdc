"""A store without folders as a peer: what a bucket is. A dataset there is its newest state.

There is nobody at the other end, so the asker's own process answers: it checks what goes up
as a serving end would, and whoever pulls checks all of it again. What is pushed is kept in
packs; the head moves last, by an exclusive creation, once all that it reaches is there (I2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from usrstore.errors import (
    ConflictError,
    GraftError,
    ObjectNotFoundError,
    ProtocolError,
    RefConflictError,
    UnsupportedError,
)
from usrstore.objects import names
from usrstore.objects.ids import (
    ChunkId,
    ContentHash,
    Kind,
    ManifestId,
    ObjectId,
    RecipeId,
    TreeId,
)
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import DatasetId, RefName, dataset_of, head_ref, heads_of
from usrstore.objects.tree import FileEntry, FolderEntry, Listing, Tree
from usrstore.odb import exclusive, guard, reach
from usrstore.odb.backend.backend import Backend
from usrstore.odb.backend.readahead import ReadAhead
from usrstore.odb.database import Database, Overlay
from usrstore.odb.ends import Ends
from usrstore.odb.runs import read_runs
from usrstore.odb.states import Change, States
from usrstore.remote.peer import (
    Ask,
    Compared,
    Held,
    Nodes,
    Outcome,
    Piece,
    Planned,
    Probe,
    Proposal,
    Seen,
    Tagged,
    Weight,
)
from usrstore.root import TOOL, Who
from usrstore.trust.policy import Policy
from usrstore.verbs import answering, tagging
from usrstore.verbs.depositing import Depositing

ROLL_BYTES = 64 << 20
_OPENERS = 16


def database_of(backend: Backend, scratch: str | None, ends: Ends | None = None) -> Database:
    """The objects of a store that is far away, and that several collect at once."""
    return Database(
        ReadAhead(backend),
        scratch,
        roll_bytes=ROLL_BYTES,
        at_once=_OPENERS,
        unique=True,
        ends=ends,
    )


class Bare:
    """Answers for one store; remembers one dataset between questions.

    Args:
        backend: where it is.
        where: its name for people.
        who: who acts.
        policy: whom to believe of a dataset that is pushed there.
        scratch: a folder for packs on their way up; None for a store that is only read.
        traffic: bytes sent and received so far, and questions asked.
        ends: what is remembered of its packs.
    """

    def __init__(
        self,
        backend: Backend,
        where: str,
        who: Who,
        *,
        policy: Callable[[DatasetId], Policy] = lambda _dataset: Policy(),
        scratch: str | None = None,
        traffic: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0),
        ends: Ends | None = None,
    ) -> None:
        self.backend = backend
        self._where = where
        self._who = who
        self._policy = policy
        self._traffic = traffic
        self._states = States(backend, lambda changes: guard.assure(self._database, changes))
        self._database = database_of(backend, scratch, ends)
        self._overlay = Overlay(self._database)
        self._dataset: DatasetId | None = None
        self._refs: Mapping[RefName, ObjectId] = {}
        self._head: ManifestId | None = None
        self._listing: Listing = {}
        self._contents: dict[ContentHash, FileEntry] = {}
        self._depositing: Depositing | None = None
        self._tagged: dict[RefName, Change] = {}
        self._changes: dict[RefName, Change] = {}
        self._reason = ""

    def ready(self) -> None:
        """Whoever made us has reached the bucket."""

    def probe(self) -> Probe:
        """Look at the place: creating twice is tried out, and every trace is removed.

        Raises:
            UnsupportedError: it does not create exclusively.
        """
        found = exclusive.probe_create(self.backend, self._where)
        return Probe(
            tool=TOOL,
            base_dir=self._where,
            writable=True,
            has_store=self._states.newest() is not None,
            exclusive_create=True,
            flock=False,
            free_bytes=0,
            free_inodes=None,
            now_us=int(found.mtime_s * 1e6) if found else 0,
            registry=False,
        )

    def weigh(self, size: int, *, may_write: bool = True) -> Weight:  # noqa: ARG002
        raise UnsupportedError(
            f"{self._where} has nobody to measure {size} bytes; nothing was changed",
            hint="only remotes over ssh and folders can be measured",
        )

    def datasets(self) -> list[Held]:
        newest = self._states.newest()
        heads = heads_of(newest.refs) if newest else {}
        return [Held(name, head) for name, head in sorted(heads.items())]

    # ── both directions ─────────────────────────────────────────────────────────────────
    def compare(self, ask: Ask) -> Compared:
        self._dataset = names.check_dataset(ask.dataset)
        newest = self._states.newest()
        oid = newest.refs.get(head_ref(self._dataset)) if newest else None
        self._refs = newest.refs if newest else {}
        self._head = None if oid is None else ManifestId(oid)
        self._listing, self._contents = {}, {}
        self._overlay = Overlay(self._database)  # what is held is in packs already
        manifest = root = None
        if self._head is not None:
            manifest = reach.manifest(self._get, self._head)
            root = self._folder(manifest.tree)
            self._listing = reach.listing(self._get, manifest.tree)
            self._contents = {entry.content: entry for entry in self._listing.values()}
        return Compared(
            exists=manifest is not None,
            has_store=newest is not None,
            writable=True,
            root=root,
            rows=manifest.rows if manifest else None,
            columns=manifest.columns if manifest else None,
            schema=manifest.schema if manifest else None,
            events=manifest.events if manifest else None,
            nodes={**self._tree_nodes(root, ask), **self._tags()},
            registry=self._registry(manifest),
            state=Seen(newest.number, newest.oid) if newest else None,
            seen=answering.remembers(self._states, ask.seen),
            head=self._head,
            manifests=answering.chain(self._get, self._head, ask.known),
            now_us=self._who.now_us(),
        )

    def _tree_nodes(self, root: FolderEntry | None, ask: Ask) -> Nodes:
        if root is None or root.tree == ask.root:
            return {}
        return answering.tree_nodes(self._get, root.tree, ask.have)

    def _tags(self) -> Nodes:
        if self._head is None:
            return {}
        return tagging.of_state(self._database, self._refs, self._asked(), self._head)

    def _get(self, kind: Kind, oid: ObjectId) -> bytes:
        return self._overlay.get(kind, oid)

    def _folder(self, oid: TreeId) -> FolderEntry:
        found = Tree.decode(self._get(Kind.TREE, oid))
        return FolderEntry("", oid, found.files, found.size)

    def _registry(self, manifest: Manifest | None) -> bytes | None:
        if manifest is None or manifest.registry is None:
            return None
        return self._get(Kind.CHUNK, manifest.registry.content)

    def _asked(self) -> DatasetId:
        if self._dataset is None:
            raise ProtocolError("a question before `compare`")
        return self._dataset

    # ── pull: what is there comes down ──────────────────────────────────────────────────
    def want(
        self, contents: Sequence[ContentHash], have: frozenset[RecipeId]
    ) -> Iterator[tuple[RecipeId, bytes]]:
        self._asked()
        return reach.recipes(self._get, map(self._compared, contents), have)

    def _compared(self, content: ContentHash) -> FileEntry:
        entry = self._contents.get(content)
        if entry is None:
            raise ObjectNotFoundError(f"no file with content {content.short} was compared")
        return entry

    def send(self, oids: Sequence[ChunkId]) -> Iterator[Piece]:
        """These chunks as they lie; whoever asked hashes them."""
        self._asked()
        for oid, row, data in read_runs(self._database, self.backend, oids):
            yield Piece(oid, row.encoding, row.size, data)

    # ── push: ours goes up ──────────────────────────────────────────────────────────────
    def offer(self, recipes: Sequence[RecipeId]) -> list[RecipeId]:
        self._asked()
        return [oid for oid in recipes if not self._database.keeps(oid)]

    def plan(self, proposal: Proposal) -> Planned:
        if proposal.dataset != self._asked():
            raise GraftError(f"a push of {proposal.dataset} after a question about {self._dataset}")
        there = reach.manifest(self._get, self._head).tree if self._head else None
        if self._head != proposal.expected_head or there != proposal.expected_root:
            raise self._moved(self._asked())
        exclusive.probe_create(self.backend, self._where)
        policy = self._policy(self._asked())
        tags, _ = tagging.judged(
            self._asked(), self._refs, proposal.nodes, proposal.manifest, policy
        )
        taken = {change.new for change in tags.values()}
        nodes = {
            oid: node
            for oid, node in proposal.nodes.items()
            if node[0] is not Kind.TAG or oid in taken
        }
        self._depositing = Depositing(
            self._overlay,
            replace(proposal, nodes=nodes),
            self._head,
            policy=policy,
            where=self._where,
        )
        self._tagged = tags
        return self._depositing.plan(self._listing)

    def publish(self, pieces: Iterable[Piece]) -> Outcome:
        self.hold(pieces)
        return self.promote()

    def hold(self, pieces: Iterable[Piece]) -> None:
        if self._depositing is None:
            raise ProtocolError("a push without a plan")
        self._depositing.take(pieces)
        proposal = self._depositing.proposal
        self._changes[head_ref(self._asked())] = Change(self._head, proposal.manifest)
        self._changes.update(self._tagged)
        self._reason = " ".join(("push", *proposal.checks.policy))
        self._depositing = None

    def promote(self) -> Outcome:
        changes, self._changes = self._changes, {}
        if not changes:
            raise ProtocolError("nothing is held that could be promoted")
        try:
            state = self._states.advance(changes, self._who.act(self._reason))
        except RefConflictError as exc:
            raise self._moved(*sorted(set(map(dataset_of, changes)))) from exc
        return Outcome(Seen(state.number, state.oid))

    def tag(self, dataset: str, nodes: Nodes) -> Tagged:
        name = self._asked()
        if dataset != name or self._head is None:
            raise GraftError(f"tags of {dataset} after a question about {name}")
        changes, notes = tagging.judged(name, self._refs, nodes, self._head, self._policy(name))
        taken = tagging.names(changes)
        if changes:
            exclusive.probe_create(self.backend, self._where)
            with self._database.batch() as batch:  # I3: the tags before the refs
                for change in changes.values():
                    assert change.new is not None
                    batch.put(Kind.TAG, change.new, nodes[change.new][1])
            act = self._who.act(f"tags that came: {' '.join(taken)}")
            try:
                self._states.advance(changes, act)
            except RefConflictError as exc:
                raise self._moved(name) from exc
        return Tagged(taken, tuple(notes))

    def _moved(self, *datasets: DatasetId) -> ConflictError:
        names = " or ".join(datasets)
        return RefConflictError(
            f"{names} moved at {self._where} since it was compared; nothing was changed",
            hint="pull first, then push again",
        )

    def traffic(self) -> tuple[int, int, int]:
        return self._traffic()

    def close(self) -> None:
        self._database.remember()
