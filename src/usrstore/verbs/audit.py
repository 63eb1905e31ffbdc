"""The operator's decision summary, as data: one shape for diff, pull and push."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from usrstore.objects.ids import Kind, ManifestId
from usrstore.objects.manifest import Signed
from usrstore.objects.sections import EVENTS_FILE, META_FILE, Section, section_of
from usrstore.objects.tree import Listing
from usrstore.remote.peer import Checks, Peer
from usrstore.trust.policy import Verdict, judge
from usrstore.verbs import believing
from usrstore.verbs.meeting import Meeting
from usrstore.verbs.mergeplan import Report
from usrstore.verbs.scope import WHOLE, LeftOut, Scope

Action = Literal["diff", "pull", "push"]
TransferState = Literal["TRANSFERRED", "NO-OP", "DRY-RUN", "DIFF-ONLY", "MERGED", "REFUSED"]


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transfer cost: bytes on the wire each way, questions asked, payload, seconds."""

    sent: int = 0
    received: int = 0
    round_trips: int = 0
    payload: int = 0
    resumed: int = 0
    seconds: float = 0.0

    @classmethod
    def since(
        cls,
        before: tuple[int, int, int],
        peer: Peer,
        *,
        seconds: float,
        payload: int = 0,
        resumed: int = 0,
    ) -> Moved:
        """What a peer counted since `before`: one connection may serve several datasets."""
        sent, received, asked = (
            now - then for now, then in zip(peer.traffic(), before, strict=True)
        )
        return cls(sent, received, asked, payload, resumed, seconds)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What diff, pull or push found and did."""

    action: Action
    state: TransferState
    meeting: Meeting
    checks: Checks
    manifest: ManifestId | None = None
    verdict: Verdict | None = None
    moved: Moved = field(default_factory=Moved)
    merge: Report | None = None
    scope: Scope = WHOLE

    @property
    def changed(self) -> bool:
        return self.meeting.comparison.changed

    @property
    def left_out(self) -> LeftOut | None:
        """What was neither moved nor verified; None if that is nothing."""
        return self.scope.left_out(self.meeting.local, self.meeting.there)


def data(result: SyncResult) -> dict[str, Any]:
    """The `data` of the audit JSON, exactly as scripts parse it, with our keys beside."""
    met = result.meeting
    sections = met.comparison.sections
    events = sections[Section.EVENTS]
    snapshots = sections[Section.SNAPSHOTS]
    meta = section_paths(met, META_FILE)
    value: dict[str, Any] = {
        "action": result.action,
        "transfer_state": result.state,
        "dataset": met.site.dataset,
        "verify": verify_words(result),
        "primary": {"changed": sections[Section.PRIMARY].changed},
        "meta": {"changed": meta},
        EVENTS_FILE: {
            "changed": events.changed,
            "local": (met.found.facts.events if met.found else 0) or 0,
            "remote": met.answer.events or 0,
        },
        "_snapshots": {
            "changed": snapshots.changed,
            "remote_count": count(met.there, Section.SNAPSHOTS),
            "newer_than_local": newer_snapshots(met),
            **_lists(met, Section.SNAPSHOTS),
        },
        "_derived": _inventory(met, Section.DERIVED),
        "_auxiliary": _inventory(met, Section.AUXILIARY),
        "left_out": result.left_out.data() if result.left_out else None,
        "relation": str(met.relation),
        "policy": list(result.checks.policy),
        "manifest": _manifest(result),
        "moved": {
            "sent": result.moved.sent,
            "received": result.moved.received,
            "payload": result.moved.payload,
            "resumed": result.moved.resumed,
            "seconds": round(result.moved.seconds, 3),
            "round_trips": result.moved.round_trips,
        },
    }
    if result.merge is not None:
        value["merge"] = result.merge.data()
    return value


def verify_words(result: SyncResult) -> dict[str, str]:
    """`content_hashes` says what was compared: with us a diff always compares content."""
    checks = result.checks
    return {
        "primary": checks.primary,
        "sidecars": "strict" if checks.sidecars else "off",
        "content_hashes": "on" if checks.content_hashes and checks.sidecars else "off",
    }


def section_paths(met: Meeting, path: str) -> bool:
    """Whether one file of the auxiliary section differs."""
    return path in set(met.comparison.sections[section_of(path)].paths())


def count(listing: Listing, section: Section) -> int:
    return sum(section_of(path) is section for path in listing)


def newer_snapshots(met: Meeting) -> int:
    """Remote snapshots whose names sort after our newest."""
    ours = max((p for p in met.local if section_of(p) is Section.SNAPSHOTS), default="")
    return sum(path > ours for path in met.there if section_of(path) is Section.SNAPSHOTS)


def _lists(met: Meeting, section: Section) -> dict[str, list[str]]:
    delta = met.comparison.sections[section]
    return {
        "local_only": list(delta.local_only),
        "remote_only": list(delta.remote_only),
        "differ": list(delta.differ),
    }


def _inventory(met: Meeting, section: Section) -> dict[str, Any]:
    return {
        "changed": met.comparison.sections[section].changed,
        "local_files": count(met.local, section),
        "remote_files": count(met.there, section),
        **_lists(met, section),
    }


def _manifest(result: SyncResult) -> dict[str, Any]:
    met = result.meeting
    signer, signature = _signed(result)
    return {
        "local": met.head.hex() if met.head else None,
        "remote": met.answer.head.hex() if met.answer.head else None,
        "result": result.manifest.hex() if result.manifest else None,
        "signer": signer,
        "signature": signature,
    }


def _signed(result: SyncResult) -> tuple[str | None, str | None]:
    """Who signed the state that was dealt with, and what the signature is worth."""
    met, verdict = result.meeting, result.verdict
    if verdict is None and result.state == "TRANSFERRED" and result.manifest is not None:
        if result.action == "pull":
            return None, "absent"  # the remote's folder had no signed state
        data = met.site.overlay.get(Kind.MANIFEST, result.manifest)
        policy = believing.policy_for(
            met.site.root, met.site.who, met.remote, met.site.dataset, "none"
        )
        verdict = judge(Signed.decode(data), policy)
    if verdict is None:
        return None, None
    return verdict.key.fingerprint if verdict.key else None, verdict.status
