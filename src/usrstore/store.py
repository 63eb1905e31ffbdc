"""The front door for programs: a store, and a handle on each of its datasets.

    store = usrstore.open("/data/usr", who)
    x = store["densegen/x"]
    x.commit("before the night run")
    with usrstore.connect(profile, os.environ) as peer:
        x.push(peer, "cluster")

Every method is a short way to one verb; results are values, errors are `UsrError`s, and
progress comes through `emit`. Nothing here prints or reads the environment.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from usrstore.objects.ids import ManifestId
from usrstore.objects.names import DatasetId
from usrstore.objects.progress import Emit, silent
from usrstore.odb import reach
from usrstore.remote import ssh
from usrstore.remote.peer import Peer
from usrstore.remote.profiles import Profile
from usrstore.root import Root, Who
from usrstore.trust.keys import Signer
from usrstore.verbs import (
    believing,
    checkout,
    commit,
    diff,
    fetch,
    fsck,
    history,
    pull,
    push,
    tags,
    undo,
)
from usrstore.verbs.audit import SyncResult
from usrstore.verbs.checkout import CheckoutResult
from usrstore.verbs.commit import CommitResult
from usrstore.verbs.fetch import FetchResult
from usrstore.verbs.findings import FsckResult
from usrstore.verbs.history import LogEntry, Status
from usrstore.verbs.host import Host
from usrstore.verbs.operations import Operation, operations
from usrstore.verbs.options import Options
from usrstore.verbs.recover import recover
from usrstore.verbs.revisions import resolve
from usrstore.verbs.site import Site
from usrstore.verbs.tags import TagRow
from usrstore.verbs.undo import UndoResult


def who(
    author: str,
    *,
    host: str = "",
    signer: Signer | None = None,
    command: str = "usrstore",
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Who:
    """Who acts: the name in manifests, and the key that signs them (None: unsigned)."""
    own = frozenset({signer.public_key.fingerprint}) if signer else frozenset()
    return Who(author, host, command, now_us, lambda: signer, lambda: own)


def open(root: str, actor: Who) -> Store:  # noqa: A001  the word for it
    """The store of a root.

    Raises:
        NotFoundError: there is no such folder.
    """
    return Store(Root(root), actor)


@contextlib.contextmanager
def connect(
    profile: Profile,
    environment: Mapping[str, str],
    actor: Who | None = None,
    *,
    root: str | None = None,
) -> Iterator[Peer]:
    """A peer at a remote, for as long as the block runs.

    Args:
        profile: where it is.
        environment: for `ssh_key_env`, USR_SSH_COMMAND, a bucket's keys; pass os.environ.
        actor: who acts at a `folder` or `bucket` remote, which are served in-process.
        root: ours; a push into a bucket needs it, for packs on their way up.

    Raises:
        RemoteError: it cannot be reached.
    """
    peer: Peer
    if profile.type == "folder":
        there = Root(profile.base_dir)
        peer = Host(there, actor or who(""), trust=believing.mode_of(there, None))
    elif profile.type == "bucket":
        from usrstore.verbs import bucket

        ours = None if root is None else Root(root)
        peer = bucket.connect(profile, environment, actor or who(""), ours)
    else:
        peer = ssh.connect(profile, environment)
    try:
        yield peer
    finally:
        peer.close()


class Store:
    """All datasets of one root."""

    def __init__(self, root: Root, actor: Who) -> None:
        self.root = root
        self._who = actor

    def datasets(self) -> list[DatasetId]:
        """Ids of the datasets in this root, sorted."""
        return self.root.datasets()

    def __getitem__(self, dataset: str) -> DatasetHandle:
        return DatasetHandle(self.root, self.root.find_dataset(dataset), self._who)

    def recover(self) -> list[tuple[DatasetId, str]]:
        """Finish or undo interrupted promotions; gives each dataset and its outcome."""
        return recover(self.root, self._who)

    def operations(self) -> Iterator[Operation]:
        """What was done here, newest first."""
        return operations(self.root)

    def undo(
        self, datasets: Sequence[str] = (), *, to: int | None = None, emit: Emit = silent
    ) -> UndoResult:
        """Go back to how refs and folders were after an earlier operation."""
        names = [self.root.find_dataset(name) for name in datasets]
        return undo.undo(self.root, self._who, names, to=to, emit=emit)

    def fsck(
        self, *, deep: bool = False, max_duration_s: float | None = None, emit: Emit = silent
    ) -> FsckResult:
        """Check what is stored; nothing is mended."""
        return fsck.fsck(self.root, self._who, deep=deep, max_duration_s=max_duration_s, emit=emit)

    def resolve(self, revision: str) -> ManifestId:
        """The manifest that a revision names. Raises: RevisionNotFoundError."""
        return resolve(self.root, revision, now_us=self._who.now_us())[0]


class DatasetHandle:
    """One dataset: its folder, its history, and how it moves."""

    def __init__(self, root: Root, dataset: DatasetId, actor: Who) -> None:
        self.root = root
        self.dataset = dataset
        self._who = actor

    def _site(self) -> Site:
        return Site.open(self.root, self.dataset, self._who)

    @property
    def folder(self) -> str:
        """The working folder, as an absolute path."""
        return self.root.folder(self.dataset)

    def status(self, *, emit: Emit = silent) -> Status:
        """The folder against its head."""
        return history.status(self._site(), emit=emit)

    def commit(self, message: str, *, emit: Emit = silent) -> CommitResult:
        """Keep the folder as it is, for ever."""
        return commit.commit(self._site(), message=message, emit=emit)

    def log(self, *, limit: int = 1 << 30) -> Iterator[LogEntry]:
        """The states of this dataset, newest first; none without a head."""
        head = self._site().head() if self.root.has_store else None
        if head is not None:
            policy = believing.policy_for(self.root, self._who, "", self.dataset, "none")
            wanted = history.Wanted(limit=limit)
            yield from history.log(self.root, [head], policy, wanted)

    def files(self, revision: str) -> dict[str, int]:
        """Paths and sizes (bytes) of a state."""
        oid, _ = resolve(self.root, revision, now_us=self._who.now_us())
        manifest = reach.manifest(self.root.database.get, oid)
        listing = reach.listing(self.root.database.get, manifest.tree)
        return {path: entry.size for path, entry in listing.items()}

    def checkout(
        self, revision: str, paths: Sequence[str] = (), *, emit: Emit = silent
    ) -> CheckoutResult:
        """Take the folder to a state; what no state holds is kept first."""
        oid, _ = resolve(self.root, revision, now_us=self._who.now_us())
        return checkout.checkout(self._site(), oid, paths=paths, emit=emit)

    def tag(self, name: str, revision: str | None = None, message: str = "") -> TagRow:
        """Name a state, signed: the newest, or the one that a revision names."""
        oid, _ = resolve(self.root, revision or self.dataset, now_us=self._who.now_us())
        return tags.create(self.root, self._who, self.dataset, name, oid, message=message)

    def diff(self, peer: Peer, remote: str, options: Options | None = None) -> SyncResult:
        """This folder against the peer's."""
        chosen = options or Options()
        return diff.diff(self._site(), peer, remote, checks=chosen.checks)

    def pull(
        self, peer: Peer, remote: str, options: Options | None = None, *, emit: Emit = silent
    ) -> SyncResult | None:
        """Take the peer's state, whole and verified."""
        return pull.pull(self._site(), peer, remote, options or Options(), emit=emit)

    def push(
        self, peer: Peer, remote: str, options: Options | None = None, *, emit: Emit = silent
    ) -> SyncResult | None:
        """Give the peer our state, whole and verified."""
        return push.push(self._site(), peer, remote, options or Options(), emit=emit)

    def fetch(self, peer: Peer, remote: str, *, emit: Emit = silent) -> FetchResult:
        """Bring the peer's state into the store only."""
        return fetch.fetch(self._site(), peer, remote, emit=emit)
