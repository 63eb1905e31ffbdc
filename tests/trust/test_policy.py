"""Whom to believe: bad, unknown and absent are three answers, and every mode gives its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from usrstore.errors import (
    BadSignatureError,
    DecodeError,
    GraftError,
    TrustError,
    UnknownSignerError,
    UnsignedError,
)
from usrstore.objects.ids import Kind, ManifestId, TreeId, hash_object
from usrstore.objects.manifest import Manifest, Signed, Tag, manifest_id
from usrstore.trust import policy as trust
from usrstore.trust import sshsig
from usrstore.trust.keys import KeySigner, generate, load_private_key
from usrstore.trust.policy import Policy, believe, check_unsigned, judge, sign
from usrstore.trust.signers import AllowedSigners
from usrstore.trust.sshsig import Signature

ADA, BOB = (load_private_key(generate()[0]) for _ in range(2))
AT_US = 1_750_000_000_000_000
MANIFEST = Manifest(
    dataset="ns/x",
    sequence=1,
    tree=TreeId(hash_object(Kind.TREE, b"tree")),
    parents=(),
    author="ada",
    host="lab",
    tool="t",
    time_us=AT_US,
    message="m",
)


@dataclass(frozen=True)
class Other:
    """Signs for another purpose."""

    signer: KeySigner
    namespace: str = "git"

    @property
    def public_key(self):
        return self.signer.public_key

    def sign(self, message, *, namespace="usrstore"):
        return self.signer.sign(message, namespace=self.namespace)


def made(signer, **fields):
    return sign(replace(MANIFEST, **fields).payload(), signer).encode()


def listed(*signers, options=""):
    return AllowedSigners.parse(
        "".join(f"{name} {options} {s.public_key.line()}\n" for name, s in signers)
    )


def spoiled(data, how):
    """A signed manifest that somebody has been at."""
    signed = Signed.decode(data)
    other = replace(MANIFEST, message="other")
    match how:
        case "another payload":
            return Signed(other.payload(), signed.signature).encode()
        case "another signature":
            return Signed(signed.payload, ADA.sign(other.payload())).encode()
        case "a bit of the signature":
            raw = signed.signature
            return Signed(signed.payload, raw[:-1] + bytes([raw[-1] ^ 1])).encode()
        case "no SSH signature":
            return Signed(signed.payload, b"signed, ada").encode()
        case "an empty signature":
            return Signed(signed.payload, b"").encode()
        case "more behind it":
            return Signed(signed.payload, signed.signature + b"\0").encode()
        case "another purpose":
            return Signed(signed.payload, Other(ADA).sign(signed.payload)).encode()
        case "somebody else's key":
            mine, theirs = Signature.decode(signed.signature), BOB.public_key
            return Signed(signed.payload, replace(mine, public_key=theirs).encode()).encode()
        case _:
            tag = Tag("ns/x", "v1", ManifestId(bytes(32)), "ada", 1, "m").payload()
            return Signed(signed.payload, ADA.sign(tag)).encode()


SPOILED = [
    "another payload", "another signature", "a bit of the signature", "no SSH signature", "an empty signature",
    "more behind it", "another purpose", "somebody else's key", "a tag's signature",
]  # fmt: skip
LISTED = Policy(allowed=listed(("ada@lab", ADA), ("bob@lab", BOB)))


@pytest.mark.spec("F-29")
@pytest.mark.parametrize("mode", ["strict", "tofu", "none"])
@pytest.mark.parametrize("how", SPOILED)
def test_a_bad_signature_is_never_believed(mode, how):
    data = spoiled(made(ADA), how)
    everything = replace(
        LISTED,
        mode=mode,
        own=frozenset({ADA.public_key.fingerprint}),
        pinned=frozenset({ADA.public_key.fingerprint}),
    )
    assert judge(Signed.decode(data), everything).status == "bad"
    for policy in (everything, Policy(mode=mode)):
        with pytest.raises(BadSignatureError) as caught:
            believe(data, dataset="ns/x", policy=policy)
        assert "nothing was changed" in caught.value.message
        assert caught.value.hint


FINGERPRINT = ADA.public_key.fingerprint
PINNED_ADA = frozenset({FINGERPRINT})
PINNED_BOB = frozenset({BOB.public_key.fingerprint})


@dataclass(frozen=True)
class Case:
    """What a policy makes of a manifest of Ada's, or of nobody's."""

    mode: str
    signed: bool
    outcome: object  # an error, "believed", or "pinned now"
    policy: dict = field(default_factory=dict)


CASES = [
    # listed, own or pinned before: good everywhere
    *(Case(mode, True, "believed", {"allowed": listed(("ada", ADA))}) for mode in ("strict", "tofu", "none")),
    *(Case(mode, True, "believed", {"own": PINNED_ADA}) for mode in ("strict", "tofu", "none")),
    *(Case(mode, True, "believed", {"pinned": PINNED_ADA}) for mode in ("strict", "tofu", "none")),
    # nobody named the key
    Case("strict", True, UnknownSignerError),
    Case("tofu", True, "pinned now"),
    Case("none", True, "believed"),
    # another one was seen before
    Case("strict", True, UnknownSignerError, {"pinned": PINNED_BOB}),
    Case("tofu", True, UnknownSignerError, {"pinned": PINNED_BOB}),
    Case("none", True, "believed", {"pinned": PINNED_BOB}),
    # others are listed
    Case("strict", True, UnknownSignerError, {"allowed": listed(("bob", BOB))}),
    Case("tofu", True, "pinned now", {"allowed": listed(("bob", BOB))}),
    # nobody signed
    Case("strict", False, UnsignedError),
    Case("tofu", False, "believed"),
    Case("none", False, "believed"),
    Case("strict", False, UnsignedError, {"pinned": PINNED_ADA}),
    Case("tofu", False, UnsignedError, {"pinned": PINNED_ADA}),
    Case("none", False, "believed", {"pinned": PINNED_ADA}),
    Case("strict", False, UnsignedError, {"allowed": listed(("ada", ADA))}),
    Case("tofu", False, "believed", {"allowed": listed(("ada", ADA))}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.mode}-{'signed' if c.signed else 'unsigned'}-{'+'.join(c.policy) or 'nothing'}-{getattr(c.outcome, '__name__', c.outcome)}")  # fmt: skip
def test_every_mode_has_its_answer_to_every_signature(case):
    data = made(ADA if case.signed else None)
    policy = Policy(mode=case.mode, **case.policy)
    if not isinstance(case.outcome, str):
        with pytest.raises(case.outcome) as caught:
            believe(data, dataset="ns/x", policy=policy)
        assert isinstance(caught.value, TrustError)
        assert "nothing was changed" in caught.value.message
        assert caught.value.hint
        return
    found = believe(data, dataset="ns/x", policy=policy)
    assert found.pin == (FINGERPRINT if case.outcome == "pinned now" else None)
    assert found.oid == manifest_id(data)
    assert found.manifest == MANIFEST


def test_the_three_refusals_are_three_errors():
    codes = {error.code for error in (BadSignatureError, UnknownSignerError, UnsignedError)}
    assert codes == {"signature-bad", "signer-unknown", "signature-absent"}


def test_a_verdict_says_who_it_was():
    signed = Signed.decode(made(ADA))
    fingerprint = frozenset({FINGERPRINT})
    assert judge(signed, LISTED) == ("good", ADA.public_key, "ada@lab")
    assert judge(signed, Policy(own=fingerprint)) == ("good", ADA.public_key, "you")
    assert judge(signed, Policy(pinned=fingerprint)) == ("good", ADA.public_key, "pinned")
    assert judge(signed, replace(LISTED, own=fingerprint)).principal == "ada@lab"
    assert judge(signed, Policy()) == ("unknown", ADA.public_key, None)
    assert judge(Signed.decode(made(None)), LISTED) == ("absent", None, None)


def test_an_unknown_signer_is_named_with_the_command_that_lists_it():
    with pytest.raises(UnknownSignerError) as caught:
        believe(made(ADA), dataset="ns/x", policy=Policy(mode="strict"))
    assert FINGERPRINT in caught.value.message
    assert ADA.public_key.line() in caught.value.hint


def test_a_signer_is_believed_for_its_time_and_its_purpose_only():
    def policy(options):
        return Policy(mode="strict", allowed=listed(("ada", ADA), options=options))

    for options in ('namespaces="usrstore"', 'valid-after="20200101Z"', 'valid-before="20300101Z"'):
        assert believe(made(ADA), dataset="ns/x", policy=policy(options)).verdict.principal == "ada"
    for options in ('namespaces="git"', 'valid-after="20300101Z"', 'valid-before="20200101Z"'):
        with pytest.raises(UnknownSignerError):
            believe(made(ADA), dataset="ns/x", policy=policy(options))


@pytest.mark.spec("F-25")
@pytest.mark.parametrize("mode", ["strict", "tofu", "none"])
@pytest.mark.parametrize("signer", [ADA, None], ids=["signed", "unsigned"])
def test_a_state_of_another_dataset_is_a_graft_in_every_mode(mode, signer):
    for other in ("ns/y", "x", "ns/xx"):
        with pytest.raises(GraftError, match="belongs to"):
            believe(made(signer, dataset=other), dataset="ns/x", policy=replace(LISTED, mode=mode))


@pytest.mark.parametrize("mode", ["strict", "tofu", "none"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        made(ADA)[:-1],
        made(ADA) + b"\0",
        sign(Tag("ns/x", "v1", ManifestId(bytes(32)), "ada", 1, "m").payload(), ADA).encode(),
        Signed(b"not a payload", None).encode(),
    ],
    ids=range(6),
)
def test_what_is_no_manifest_is_refused_before_it_is_judged(mode, data):
    with pytest.raises(DecodeError):
        believe(data, dataset="ns/x", policy=replace(LISTED, mode=mode))


@pytest.mark.parametrize(
    ("mode", "pinned", "refused"),
    [
        ("strict", frozenset(), True),
        ("tofu", frozenset(), False),
        ("none", frozenset(), False),
        ("strict", PINNED_ADA, True),
        ("tofu", PINNED_ADA, True),
        ("none", PINNED_ADA, False),
    ],
)
def test_a_place_without_any_manifest_is_as_one_that_is_not_signed(mode, pinned, refused):
    policy = Policy(mode=mode, pinned=pinned)
    if refused:
        with pytest.raises(UnsignedError, match="the lab"):
            check_unsigned("ns/x", "the lab", policy)
    else:
        check_unsigned("ns/x", "the lab", policy)


@pytest.mark.spec("F-23")
def test_what_is_signed_is_the_payload_as_it_is_stored():
    signed = Signed.decode(made(ADA))
    assert signed.payload == MANIFEST.payload()
    signature = Signature.decode(signed.signature)
    assert sshsig.check(signature, MANIFEST.payload(), namespace="usrstore")
    assert sign(MANIFEST.payload(), None) == Signed(MANIFEST.payload(), None)


def test_only_believing_makes_a_proof():
    found = believe(made(ADA), dataset="ns/x", policy=LISTED)
    assert isinstance(found, trust.Verified)
    with pytest.raises(AttributeError):
        found.manifest = None
