"""A root as a peer: what `usr serve` answers, and what a `folder` remote is in-process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from usrstore.errors import (
    ChangedWhileReadError,
    GraftError,
    ObjectNotFoundError,
    ProtocolError,
    ReadOnlyError,
    RefConflictError,
)
from usrstore.objects import names, recipe, tree
from usrstore.objects.ids import ChunkId, ContentHash, Kind, ManifestId, RecipeId
from usrstore.objects.names import head_ref, heads_of
from usrstore.objects.progress import Emit, silent
from usrstore.objects.tree import FileEntry
from usrstore.odb.states import Change
from usrstore.remote.messages import MAX_METADATA_BYTES, NAME_BYTES
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
from usrstore.root import Root, Who
from usrstore.trust.policy import Mode, Verified
from usrstore.verbs import answering, believing, commit, memory, tagging, vetting
from usrstore.verbs.gauging import weigh
from usrstore.verbs.probing import probe
from usrstore.verbs.problems import too_much
from usrstore.verbs.receiving import Receiving
from usrstore.verbs.recover import recover
from usrstore.verbs.sending import Sending
from usrstore.verbs.site import Site
from usrstore.verbs.together import Together
from usrstore.worktree.capture import Capture
from usrstore.worktree.promote import check_writable
from usrstore.worktree.stage import Stage

_FILE_BYTES = 512  # what a file of a state costs us


class _Accepted(NamedTuple):
    """A proposal that was believed, and the head that it will replace."""

    proposal: Proposal
    verified: Verified
    head: ManifestId | None


class Host:
    """Answers for one root; remembers one dataset between questions, and what it holds.

    Args:
        root: where the datasets are.
        who: who acts here.
        trust: which manifests a push may bring.
        read_only: never write, whatever is asked.
        confined: datasets that a link leads to elsewhere than below the root are not served.
        sealed: of packs, only what belongs to the files that were asked for is sent: not all
            of the root may be read.
        max_metadata: what the files and chunks of one push may cost in memory, with all that is
            held for the same promotion.
    """

    def __init__(
        self,
        root: Root,
        who: Who,
        *,
        trust: Mode = "tofu",
        read_only: bool = False,
        confined: bool = False,
        sealed: bool = False,
        max_metadata: int = MAX_METADATA_BYTES,
        emit: Emit = silent,
    ) -> None:
        self._root = root
        self._confined = confined
        self._sealed = sealed
        self._max_metadata = max_metadata
        self._who = who
        self._trust = trust
        self._read_only = read_only
        self._emit = emit
        self._site: Site | None = None
        self._found: Capture | None = None
        self._sending: Sending | None = None
        self._receiving: Receiving | None = None
        self._accepted: _Accepted | None = None
        self._vets = False
        self._together = Together(root, who)
        self._reason: str | None = None
        self._held_files = self._held_chunks = 0

    def ready(self) -> None:
        """There is nothing on the way to us."""

    def probe(self) -> Probe:
        return probe(self._root, self._who, may_write=not self._read_only)

    def weigh(self, size: int, *, may_write: bool = True) -> Weight:
        return weigh(self._root, size, may_write=may_write and not self._read_only)

    def datasets(self) -> list[Held]:
        heads = heads_of(self._root.states.refs()) if self._root.has_store else {}
        names = sorted({*self._root.datasets(), *heads})
        return [Held(name, heads.get(name)) for name in names]

    # ── both directions ─────────────────────────────────────────────────────────────────
    def compare(self, ask: Ask) -> Compared:
        dataset = names.check_dataset(ask.dataset)
        site = Site.open(self._root, dataset, self._who, lock_timeout_s=ask.lock_timeout_s)
        if self._confined:
            _check_below(self._root, site.folder)
        self._site = site
        self._vets = ask.verify_registry
        may_write = self._root.writable and not self._read_only
        if ask.intent == "push" and not may_write:
            raise ReadOnlyError(
                f"{self._root.path} may only be read; nothing was changed",
                hint="diff and pull work; for a push, ask for write access to that folder",
            )
        if may_write and self._root.has_store and ask.intent != "diff":
            recover(self._root, self._who, only=dataset)
        notes = []
        self._found = None
        head = site.head() if self._root.has_store else None  # before the folder is read
        if site.exists:
            record = may_write and ask.intent != "diff"
            self._found = site.capture(record=record, emit=self._emit)
            if not self._found.listing:
                self._found = None
        if self._found and ask.intent == "pull" and may_write and self._root.has_store:
            head = self._snapshot(site, self._found, head)
        elif self._found and head is None:
            notes.append("the remote folder has no signed state yet")
        if self._found:
            self._found.store(site.overlay.put)
            self._sending = Sending(
                site.folder,
                self._found.listing,
                site.overlay.get,
                hashed=self._found.hashed,
                lone=self._root.lone,
            )
        newest = self._root.states.newest() if self._root.has_store else None
        return Compared(
            exists=self._found is not None,
            has_store=self._root.has_store,
            writable=may_write,
            root=self._found.root if self._found else None,
            rows=self._found.facts.rows if self._found else None,
            columns=self._found.facts.columns if self._found else None,
            schema=self._found.facts.schema if self._found else None,
            events=self._found.facts.events if self._found else None,
            nodes={**self._tree_nodes(site, ask), **tagging.offered(site, head)},
            registry=self._root.registry(),
            state=Seen(newest.number, newest.oid) if newest else None,
            seen=answering.remembers(self._root.states, ask.seen),
            head=head,
            manifests=answering.chain(site.overlay.get, head, ask.known),
            notes=tuple(notes),
            now_us=self._who.now_us(),
        )

    def _snapshot(self, site: Site, found: Capture, head: ManifestId | None) -> ManifestId:
        """A signed, light state of the folder as it is, so that what is pulled has a name."""
        oid = site.snapshot(found, message="snapshot for a pull", parents=[head])
        if oid != head:
            site.overlay.flush()
            self._root.states.advance(
                {head_ref(site.dataset): Change(head, oid)}, self._who.act("light snapshot")
            )
        return oid

    def _tree_nodes(self, site: Site, ask: Ask) -> Nodes:
        if self._found is None or self._found.tree == ask.root:
            return {}
        return answering.tree_nodes(site.overlay.get, self._found.tree, ask.have)

    def _asked(self) -> Site:
        if self._site is None:
            raise ProtocolError("a question before `compare`")
        return self._site

    # ── pull: we send ───────────────────────────────────────────────────────────────────
    def want(
        self, contents: Sequence[ContentHash], have: frozenset[RecipeId]
    ) -> Iterable[tuple[RecipeId, bytes]]:
        sender = self._sender()
        if self._vets and self._found is not None:
            site, wanted = self._asked(), set(contents)
            paths = [path for path, e in self._found.listing.items() if e.content in wanted]
            vetting.vet_folder(site, paths, what=f"what {site.dataset} would send")
        return sender.nodes(contents, have)

    def send(self, oids: Sequence[ChunkId]) -> Iterator[Piece]:
        return self._sender().pieces(oids, announced=self._sealed)

    def _sender(self) -> Sending:
        self._asked()
        if self._sending is None:
            raise ProtocolError("there is no dataset to send")
        return self._sending

    # ── push: we receive ────────────────────────────────────────────────────────────────
    def offer(self, recipes: Sequence[RecipeId]) -> list[RecipeId]:
        """The nodes that do not occur in any file that this folder holds now."""
        site = self._asked()
        wanted = set(recipes)
        here: set[RecipeId] = set()
        for entry in self._found.listing.values() if self._found else ():
            if entry.recipe is not None and not wanted <= here:
                here |= wanted & set(_recipe_nodes(site, entry))
        return [oid for oid in recipes if oid not in here]

    def plan(self, proposal: Proposal) -> Planned:
        site = self._asked()
        if proposal.dataset != site.dataset:
            raise GraftError(f"a push of {proposal.dataset} after a question about {site.dataset}")
        if not self._root.writable or self._read_only:
            raise ReadOnlyError(f"{self._root.path} may only be read; nothing was changed")
        self._root.create_store()
        check_writable(site.folder)
        self._end_receiving()
        self._together.hold(site.transfer_lock())
        head = site.head()
        if head != proposal.expected_head:
            raise RefConflictError(
                f"{site.dataset} moved at the remote since it was compared; nothing was changed",
                hint="pull first, then push again",
            )
        if (self._found.tree if self._found else None) != proposal.expected_root:
            raise _changed(site.folder)
        for oid, (kind, data) in proposal.nodes.items():
            site.overlay.put(kind, oid, data)
        site.registry_entry(proposal.registry)
        verified = believing.check_incoming(
            site, proposal.manifests, proposal.manifest, head, place="push", mode=self._trust
        )
        if self._found is not None and proposal.keep_replaced:
            own = Site.open(self._root, site.dataset, self._who)  # I5: nothing foreign in it
            head = commit.commit(own, message="kept before a forced push replaced it").manifest
            self._found = site.capture(record=True)
        self._accepted = _Accepted(proposal, verified, head)
        self._check_files(site, verified)
        self._receiving = Receiving(
            site,
            site.manifest(proposal.manifest),
            self._found,
            proposal.checks,
            "post-push",
            most_chunks=max(0, self._max_metadata // NAME_BYTES - self._held_chunks),
        )
        wanted = self._receiving.plan(self._emit)
        assert self._receiving.stage is not None
        return Planned(wanted, self._receiving.stage.bytes_resumed)

    def _check_files(self, site: Site, verified: Verified) -> None:
        """Few nodes can name very many files: what they add up to is said by the first."""
        oid = verified.manifest.tree
        if site.overlay.has(oid):
            files = tree.Tree.decode(site.overlay.get(Kind.TREE, oid)).files
            if files + self._held_files > self._max_metadata // _FILE_BYTES:
                raise too_much(f"the new state of {site.dataset} has {files} files, more")

    def publish(self, pieces: Iterable[Piece]) -> Outcome:
        self.hold(pieces)
        return self.promote()

    def hold(self, pieces: Iterable[Piece]) -> None:
        site = self._asked()
        if self._receiving is None or self._accepted is None:
            raise ProtocolError("a push without a plan")
        proposal, verified, head = self._accepted
        self._receiving.take(pieces, self._emit)
        settled = self._receiving.settle(
            guard=self._guard(site, proposal) if proposal.checks.registry else None,
            emit=self._emit,
        )
        self._together.add(settled, {head_ref(site.dataset): Change(head, proposal.manifest)})
        self._together.then(
            lambda: memory.remember_signer(
                self._root, "push", site.dataset, verified, at_us=self._who.now_us()
            )
        )
        oid, nodes = proposal.manifest, proposal.nodes
        self._together.then(lambda: tagging.take(site, nodes, oid, place="push", mode=self._trust))
        self._reason = " ".join(("push", *proposal.checks.policy))
        self._held_files += len(settled.listing)
        self._held_chunks += sum(len(target.chunks) for target in settled.stage.targets)
        self._receiving = self._accepted = None

    def promote(self) -> Outcome:
        if self._reason is None:
            raise ProtocolError("nothing is held that could be promoted")
        self._together.promote(self._reason, emit=self._emit)
        self._together.close()
        self._together, self._reason = Together(self._root, self._who), None
        self._held_files = self._held_chunks = 0
        newest = self._root.states.newest()
        assert newest is not None
        return Outcome(Seen(newest.number, newest.oid))

    def _guard(self, site: Site, proposal: Proposal) -> Callable[[Stage], None]:
        manifest = site.manifest(proposal.manifest)
        what = f"what was pushed as {site.dataset}"
        return lambda stage: vetting.vet_stage(site, manifest, stage, what=what)

    def tag(self, dataset: str, nodes: Nodes) -> Tagged:
        site = self._asked()
        if dataset != site.dataset:
            raise GraftError(f"tags of {dataset} after a question about {site.dataset}")
        if not self._root.writable or self._read_only:
            raise ReadOnlyError(f"{self._root.path} may only be read; nothing was changed")
        head = site.head() if self._root.has_store else None
        if head is None or self._found is None or site.manifest(head).tree != self._found.tree:
            raise _changed(site.folder)  # the state that they name is not what lies there
        return tagging.take(site, nodes, head, place="push", mode=self._trust)

    def traffic(self) -> tuple[int, int, int]:
        return 0, 0, 0

    def close(self) -> None:
        if self._sending is not None:
            self._sending.close()
        self._end_receiving()
        self._together.close()

    def _end_receiving(self) -> None:
        if self._receiving is not None:
            self._receiving.close()
        self._receiving = self._accepted = None


def _check_below(root: Root, folder: str) -> None:
    """Raises: ReadOnlyError: a link leads out of the root."""
    base, found = os.path.realpath(root.path), os.path.realpath(folder)
    if os.path.commonpath([base, found]) != base:
        raise ReadOnlyError(
            f"{os.path.relpath(folder, root.path)} is a link out of what is served here; "
            "nothing was changed",
            hint="whoever set up `usr serve` can serve the root where it really lies",
            code="refused",
        )


def _recipe_nodes(site: Site, entry: FileEntry) -> Iterator[RecipeId]:
    assert entry.recipe is not None
    try:
        for oid, _ in recipe.walk(
            entry.recipe, entry.size, lambda node: site.overlay.get(Kind.RECIPE, node)
        ):
            yield oid
    except ObjectNotFoundError:
        return


def _changed(folder: str) -> ChangedWhileReadError:
    return ChangedWhileReadError(
        f"{folder} changed since it was compared; nothing was changed",
        hint="run the same command again",
    )
