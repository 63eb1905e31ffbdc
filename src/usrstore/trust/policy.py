"""What to believe: a verification machine without I/O. Only it makes a `Verified`.

Bad, unknown and absent signatures are three different answers:
    bad      never believed, in any mode: the bytes are not what was signed
    unknown  signed by a key that nobody listed: believed only by `none`, or the first time by
             `tofu`, which then pins the key
    absent   believed by `none`, and by `tofu` only where nothing signed was ever seen
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from usrstore.errors import (
    BadSignatureError,
    DecodeError,
    GraftError,
    UnknownSignerError,
    UnsignedError,
)
from usrstore.objects.ids import ManifestId
from usrstore.objects.manifest import Manifest, Signed, manifest_id
from usrstore.trust import sshsig
from usrstore.trust.keys import Signer
from usrstore.trust.signers import AllowedSigners
from usrstore.trust.sshsig import NAMESPACE, PublicKey, Signature

Mode = Literal["strict", "tofu", "none"]
SigStatus = Literal["good", "unknown", "bad", "absent"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom to believe.

    Attributes:
        mode: `strict`, `tofu` or `none`.
        allowed: the signers that a person listed.
        own: fingerprints of our own keys.
        pinned: fingerprints seen first for this dataset at this place.
        signed: a signed state of it was seen at this place, be it by our own key.
    """

    mode: Mode = "tofu"
    allowed: AllowedSigners = field(default_factory=lambda: AllowedSigners.parse(""))
    own: frozenset[str] = frozenset()
    pinned: frozenset[str] = frozenset()
    signed: bool = False


class Verdict(NamedTuple):
    status: SigStatus
    key: PublicKey | None
    principal: str | None


@dataclass(frozen=True, slots=True)
class Verified:
    """Proof that a manifest was checked: its id, its dataset, its signature, the policy.

    Attributes:
        verdict: what the signature was worth.
        pin: the fingerprint that `tofu` believed for the first time; else None.
    """

    oid: ManifestId
    manifest: Manifest
    verdict: Verdict
    pin: str | None = None


def judge(signed: Signed, policy: Policy, *, at_s: int | None = None) -> Verdict:
    """What the signature of an object is worth, without deciding anything.

    Args:
        signed: the object.
        policy: whom to believe.
        at_s: when it says it was made, for signers that are listed for a time only.
    """
    if signed.signature is None:
        return Verdict("absent", None, None)
    try:
        signature = Signature.decode(signed.signature)
    except DecodeError:
        return Verdict("bad", None, None)
    key = signature.public_key
    if not sshsig.check(signature, signed.payload, namespace=NAMESPACE):
        return Verdict("bad", key, None)
    principal = policy.allowed.find(key, namespace=NAMESPACE, at_s=at_s)
    if principal is None and key.fingerprint in policy.own:
        principal = "you"
    if principal is None and key.fingerprint in policy.pinned:
        principal = "pinned"
    return Verdict("good" if principal else "unknown", key, principal)


def believe(data: bytes, *, dataset: str, policy: Policy) -> Verified:
    """Check a manifest that came from elsewhere.

    Raises:
        DecodeError: it is no manifest.
        GraftError: it is a state of another dataset.
        BadSignatureError, UnknownSignerError, UnsignedError: see the module.
    """
    signed = Signed.decode(data)
    manifest = Manifest.parse(signed.payload)
    oid = manifest_id(data)
    if manifest.dataset != dataset:
        raise GraftError(
            f"the manifest {oid.short} that was sent for {dataset} belongs to "
            f"{manifest.dataset}; nothing was changed",
            hint="check the remote's base_dir and who may write there",
        )
    verdict = judge(signed, policy, at_s=manifest.time_us // 1_000_000)
    return Verified(oid, manifest, verdict, _decide(verdict, oid, dataset, policy))


def _decide(verdict: Verdict, oid: ManifestId, dataset: str, policy: Policy) -> str | None:
    """The fingerprint to pin, if any; raises if the verdict is not good enough."""
    what = f"manifest {oid.short} of {dataset}"
    if verdict.status == "bad":
        raise BadSignatureError(
            f"the signature of {what} is bad: its bytes are not what was signed; "
            "nothing was changed",
            hint="treat the sender as damaged or hostile; ask whoever runs it",
        )
    if verdict.status == "good" or policy.mode == "none":
        return None
    if verdict.key is None:
        _refuse_unsigned(what, policy, signed=policy.signed)
        return None
    if policy.mode == "strict" or policy.pinned:
        raise UnknownSignerError(
            f"{what} is signed by {verdict.key.fingerprint}, a key that is not "
            f"{'listed' if policy.mode == 'strict' else 'the one seen before'}; "
            "nothing was changed",
            hint="once you know whose it is: "
            f"usr trust add --name SOMEBODY --key '{verdict.key.line()}'",
        )
    return verdict.key.fingerprint


def check_unsigned(dataset: str, place: str, policy: Policy) -> None:
    """Whether a state that nobody signed may be taken from a place.

    Raises:
        UnsignedError: not under this policy.
    """
    _refuse_unsigned(f"the state of {dataset} at {place}", policy)


def _refuse_unsigned(what: str, policy: Policy, *, signed: bool = False) -> None:
    if policy.mode == "none" or (policy.mode == "tofu" and not (policy.pinned or signed)):
        return
    why = "this store demands it" if policy.mode == "strict" else "it was signed until now"
    raise UnsignedError(
        f"{what} is not signed, but {why}; nothing was changed",
        hint="ask whoever made it to sign it; `--trust none` accepts it, on record",
    )


def sign(payload: bytes, signer: Signer | None) -> Signed:
    """A payload with its signature; without a signer it stays unsigned."""
    return Signed(payload, None if signer is None else signer.sign(payload))
