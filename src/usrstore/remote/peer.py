"""What a peer can be asked. The same promise is kept in-process and behind `usr serve`.

A pull asks compare → want → send; a push asks compare → offer → plan → publish: at most four
questions, however large the dataset. Several datasets are pushed with `hold` in place of
`publish`, and one `promote` at the end. Where only tags are new, compare → tag. A peer believes nothing it is told, and changes nothing
that a reader can see before the end of `publish`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from usrstore.objects.ids import (
    ChunkId,
    ContentHash,
    Kind,
    ManifestId,
    ObjectId,
    RecipeId,
    StateId,
    TreeId,
)
from usrstore.objects.names import DatasetId
from usrstore.objects.tree import FolderEntry

Intent = Literal["diff", "pull", "push"]
Nodes = dict[ObjectId, tuple[Kind, bytes]]


class Piece(NamedTuple):
    """One chunk on its way: how it is encoded, its true size, the bytes that travel."""

    oid: ChunkId
    encoding: int
    size: int
    stored: bytes | memoryview


class Seen(NamedTuple):
    number: int
    oid: StateId


@dataclass(frozen=True, slots=True)
class Ask:
    """What one end tells the other when it asks how they compare.

    Attributes:
        root: the asker's tree; None if it has no such dataset.
        have: tree nodes that need not be sent.
        known: manifests that need not be sent.
        seen: the newest state that the asker remembers of this peer.
        verify_registry: files that break the registry shall not be sent.
    """

    dataset: str
    intent: Intent
    root: TreeId | None = None
    have: frozenset[TreeId] = frozenset()
    known: frozenset[ManifestId] = frozenset()
    seen: Seen | None = None
    lock_timeout_s: float = 30.0
    verify_registry: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """The peer's side of a comparison.

    Attributes:
        exists: there is such a dataset.
        has_store, writable: what may be done there.
        root: its tree now; None if there is no dataset.
        rows, columns, schema, events: facts of its files.
        nodes: tree nodes that the asker lacks.
        registry: its registry.yaml.
        state: its newest state.
        seen: whether its chain holds the state that the asker remembers; None if not asked.
        head: the manifest its head names.
        manifests: that manifest and its ancestors, as far as the asker lacks them.
        notes: warnings for the asker's person.
        now_us: its clock.
    """

    exists: bool
    has_store: bool
    writable: bool
    root: FolderEntry | None
    rows: int | None = None
    columns: int | None = None
    schema: ContentHash | None = None
    events: int | None = None
    nodes: Nodes = field(default_factory=dict)
    registry: bytes | None = None
    state: Seen | None = None
    seen: bool | None = None
    head: ManifestId | None = None
    manifests: Mapping[ManifestId, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    now_us: int = 0


@dataclass(frozen=True, slots=True)
class Checks:
    """What is verified beyond what always is, and therefore what was opted out of."""

    primary: Literal["hash", "auto", "size", "parquet"] = "hash"
    sidecars: bool = True
    content_hashes: bool = True
    registry: bool = True

    @property
    def policy(self) -> tuple[str, ...]:
        """The opt-outs in force, as manifests and operation logs record them."""
        outs = []
        if not self.content_hashes or not self.sidecars:
            outs.append("no-verify-derived-hashes")
        if not self.registry:
            outs.append("no-verify-registry")
        if not self.sidecars:
            outs.append("no-verify-sidecars")
        return tuple(outs)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A state that one end wants the other to take.

    Attributes:
        manifest: its id; `manifests` holds it and whatever of its ancestors the peer lacks.
        nodes: tree and recipe nodes that the peer lacks.
        registry: the registry.yaml that the manifest names.
        expected_root: the peer's tree as it was compared: the lease on its folder.
        expected_head: the peer's head as it was compared.
        keep_replaced: first keep what is replaced, in full (a forced push).
    """

    dataset: str
    manifest: ManifestId
    manifests: Mapping[ManifestId, bytes]
    nodes: Nodes
    registry: bytes | None
    expected_root: TreeId | None
    expected_head: ManifestId | None
    checks: Checks = field(default_factory=Checks)
    keep_replaced: bool = False
    lock_timeout_s: float = 30.0


class Planned(NamedTuple):
    """What the receiver still needs, in the order it wants it; `resumed` bytes are there."""

    wanted: Sequence[ChunkId]
    resumed: int


class Outcome(NamedTuple):
    """A promoted push."""

    state: Seen


@dataclass(frozen=True, slots=True)
class Probe:
    """What a peer found out about the place where it runs.

    Attributes:
        tool: name and version of the program there.
        base_dir: the root, as an absolute path.
        writable, has_store: of the root.
        exclusive_create, flock: whether its file system does what a store needs.
        free_bytes, free_inodes: room left; None where the file system does not say.
        now_us: its clock.
        registry: whether there is a registry.yaml.
    """

    tool: str
    base_dir: str
    writable: bool
    has_store: bool
    exclusive_create: bool
    flock: bool
    free_bytes: int
    free_inodes: int | None
    now_us: int
    registry: bool


class Weight(NamedTuple):
    """How long a place took for so many bytes of no meaning.

    Attributes:
        size: bytes; at most what was asked for.
        hash_us: hashing them in memory, microseconds.
        read_us: reading them from the disk and hashing them; None where nothing may be written.
        write_us: writing and syncing them; None likewise.
    """

    size: int
    hash_us: int
    read_us: int | None
    write_us: int | None


class Carried(NamedTuple):
    """How long a link took for so many bytes each way, microseconds.

    Attributes:
        there_busy_us, back_busy_us: how much of it ssh on this side was at work, or ready to
            be, and not waiting for the network; None where that cannot be known.
    """

    size: int
    there_us: int
    back_us: int
    there_busy_us: int | None = None
    back_busy_us: int | None = None


class Tagged(NamedTuple):
    """What became of tags that were sent: names of those taken, and what to say of the others."""

    taken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Held(NamedTuple):
    """A dataset at a peer.

    Attributes:
        dataset: its id.
        head: the manifest its head names; None before its first signed state.
    """

    dataset: DatasetId
    head: ManifestId | None


class Peer(Protocol):
    """One end, for one dataset at a time. Every call may raise any UsrError."""

    def ready(self) -> None:
        """Raise what is known by now to be wrong with the connection; never waits."""
        ...

    def probe(self) -> Probe:
        """Look at the place itself; leaves nothing behind."""
        ...

    def weigh(self, size: int, *, may_write: bool = True) -> Weight:
        """Measure how fast this place hashes, reads and writes; leaves nothing behind.

        Args:
            size: bytes to measure with; the answer says how many it were.
            may_write: else only hashing is measured.

        Raises:
            UnsupportedError: a place without a processor of its own.
        """
        ...

    def datasets(self) -> Sequence[Held]:
        """Every dataset that may be asked for, sorted by id. Nothing is captured."""
        ...

    def compare(self, ask: Ask) -> Compared:
        """Capture the dataset and say how it looks. Creates nothing for a diff or a push."""
        ...

    def want(
        self, contents: Sequence[ContentHash], have: frozenset[RecipeId]
    ) -> Iterable[tuple[RecipeId, bytes]]:
        """Recipe nodes of the files with these contents, except those the asker has."""
        ...

    def send(self, oids: Sequence[ChunkId]) -> Iterator[Piece]:
        """These chunks in this order, read and checked as they go.

        Raises:
            ChangedWhileReadError: the dataset is no longer what was compared.
        """
        ...

    def offer(self, recipes: Sequence[RecipeId]) -> Sequence[RecipeId]:
        """Which of these recipe nodes the peer cannot already rebuild."""
        ...

    def plan(self, proposal: Proposal) -> Planned:
        """Check a proposal as a whole, before any of its bytes move."""
        ...

    def publish(self, pieces: Iterable[Piece]) -> Outcome:
        """Take the planned chunks, verify everything, promote, advance: all or nothing."""
        ...

    def hold(self, pieces: Iterable[Piece]) -> None:
        """Take the planned chunks and verify everything; promote it later, with others."""
        ...

    def promote(self) -> Outcome:
        """Promote what is held, every dataset of it, and advance once: all or nothing."""
        ...

    def tag(self, dataset: str, nodes: Nodes) -> Tagged:
        """Name the state that was compared, and that is whole there, by these tags."""
        ...

    def traffic(self) -> tuple[int, int, int]:
        """Bytes sent and received so far, and questions asked; zeros in-process."""
        ...

    def close(self) -> None: ...
