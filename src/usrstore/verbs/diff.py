"""diff with a remote: both folders as they are, compared by content. Nothing is written there."""

from __future__ import annotations

from usrstore.objects.progress import Emit, silent
from usrstore.remote.peer import Checks, Peer
from usrstore.verbs.audit import SyncResult
from usrstore.verbs.meeting import meet
from usrstore.verbs.site import Site


def diff(
    site: Site,
    peer: Peer,
    remote: str,
    *,
    checks: Checks,
    accept_rollback: bool = False,
    emit: Emit = silent,
) -> SyncResult:
    """How our folder and the remote's differ.

    Raises:
        DatasetNotFoundError: neither side has the dataset.
    """
    met = meet(site, peer, remote, "diff", accept_rollback=accept_rollback, emit=emit)
    return SyncResult("diff", "DIFF-ONLY", met, checks)
