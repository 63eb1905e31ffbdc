"""Accepting what was refused: a remote is looked at, a person agrees, and its mark is set anew."""

from __future__ import annotations

from dataclasses import dataclass

from usrstore.errors import DatasetNotFoundError, IncompleteError
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import DatasetId
from usrstore.remote.peer import Ask, Peer, Seen
from usrstore.root import Root, Who
from usrstore.trust import policy
from usrstore.verbs import believing, memory


@dataclass(frozen=True, slots=True)
class Found:
    """A dataset at a remote, as it was seen last and as it is.

    Attributes:
        seen, seen_head: the newest that was seen there.
        state, head: what is there now.
        status: what the signature of that is worth.
        signer: the fingerprint of whoever signed it.
    """

    remote: str
    dataset: DatasetId
    seen: Seen | None
    seen_head: ManifestId | None
    state: Seen | None
    head: ManifestId | None
    status: policy.SigStatus
    signer: str | None


def look(root: Root, who: Who, peer: Peer, remote: str, dataset: DatasetId) -> Found:
    """What a remote has of a dataset now; nothing is believed and nothing changes.

    Raises:
        BadSignatureError, GraftError: what no acceptance makes good.
        DatasetNotFoundError: it has no such dataset.
    """
    answer = peer.compare(Ask(dataset, "diff"))
    status: policy.SigStatus = "absent"
    signer = None
    if not answer.exists and answer.head is None:
        raise DatasetNotFoundError(f"the remote {remote} has no dataset {dataset}")
    if answer.head is not None:
        if answer.head not in answer.manifests:
            raise IncompleteError(f"the remote {remote} did not send the state that it names")
        data = answer.manifests[answer.head]
        rules = believing.policy_for(root, who, remote, dataset, "none")
        verdict = policy.believe(data, dataset=dataset, policy=rules).verdict
        status, signer = verdict.status, verdict.key.fingerprint if verdict.key else None
    return Found(
        remote,
        dataset,
        *memory.mark(root, remote, dataset),
        answer.state,
        answer.head,
        status,
        signer,
    )


def accept(root: Root, found: Found, *, signer: bool, at_us: int) -> None:
    """Believe what was found from now on.

    Args:
        root: ours.
        found: what a person has looked at.
        signer: whether its signer is pinned.
        at_us: now.
    """
    root.create_store()
    memory.accept(root, found.remote, found.dataset, found.state, found.head, at_us=at_us)
    if signer and found.signer is not None:
        memory.pin(root, found.remote, found.dataset, found.signer, at_us=at_us)
