"""Together: transfers that end as one. All folders, all refs, or nothing of it.

Every dataset is received, verified and made durable first; what is left then is one swap of
folders and one state for all refs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from usrstore.errors import ProtocolError
from usrstore.objects.names import DatasetId, RefName
from usrstore.objects.progress import Emit, silent
from usrstore.odb.states import Change
from usrstore.remote.peer import Outcome, Peer
from usrstore.root import Root, Who
from usrstore.verbs.promoting import Settled, promote


class Together:
    """What one or several datasets of one root came to, until all of it happens.

    Args:
        root: where.
        who: who does it.

    Attributes:
        outcome: what the other end made of what was sent there.
        reason: for the operation log, where it is one transfer that knows better.
    """

    def __init__(self, root: Root, who: Who) -> None:
        self._root = root
        self._who = who
        self._held = contextlib.ExitStack()
        self._settled: dict[DatasetId, Settled] = {}
        self._refs: dict[RefName, Change] = {}
        self._notes: list[Callable[[], object]] = []
        self._peer: Peer | None = None
        self.outcome: Outcome | None = None
        self.reason = ""

    def hold(self, lock: contextlib.AbstractContextManager[object]) -> None:
        """Hold a lock until the end."""
        self._held.enter_context(lock)

    def add(self, settled: Settled, refs: Mapping[RefName, Change]) -> None:
        """A folder that will change, and refs with it."""
        dataset = settled.site.dataset
        if dataset in self._settled:
            raise ProtocolError(f"{dataset} came twice; nothing was changed")
        self._settled[dataset] = settled
        self.move(refs)

    def move(self, refs: Mapping[RefName, Change]) -> None:
        """Refs that will move."""
        self._refs.update(refs)

    def deliver(self, peer: Peer) -> None:
        """The other end holds something that it will promote before anything happens here."""
        self._peer = peer

    def then(self, note: Callable[[], object]) -> None:
        """What will be remembered once all of it has happened."""
        self._notes.append(note)

    def promote(self, reason: str = "", *, emit: Emit = silent) -> None:
        """Let it happen.

        Raises:
            ChangedWhileReadError, VerificationError, ConflictError, StorageError: nothing has.
        """
        if self._peer is not None:
            self.outcome = self._peer.promote()
        if self._settled:
            promote(list(self._settled.values()), self._refs, reason=reason, emit=emit)
        elif any(change.expected != change.new for change in self._refs.values()):
            self._root.states.advance(self._refs, self._who.act(reason))
        for note in self._notes:
            note()

    def close(self) -> None:
        """Let go of the locks. What did not happen stays staged, for a later run."""
        self._held.close()


@contextlib.contextmanager
def ending(
    together: Together | None, root: Root, who: Who, reason: str, *, emit: Emit = silent
) -> Iterator[Together]:
    """What others will end; without them, an end of one's own, right after the block."""
    if together is not None:
        yield together
        return
    own = Together(root, who)
    try:
        yield own
        own.promote(own.reason or reason, emit=emit)
    finally:
        own.close()
