"""Tags: signed names for states. A second person's tag of a state is their countersignature."""

from __future__ import annotations

from typing import NamedTuple

from usrstore.errors import (
    BadSignatureError,
    ConflictError,
    GraftError,
    InvalidInputError,
    RevisionNotFoundError,
    UnknownSignerError,
    UnsignedError,
)
from usrstore.objects.ids import Kind, ManifestId, ObjectId
from usrstore.objects.manifest import Signed, Tag, tag_id
from usrstore.objects.names import DatasetId, RefName, check_ref, dataset_of, tag_ref
from usrstore.odb import reach
from usrstore.odb.states import Change
from usrstore.root import Root, Who
from usrstore.trust import policy as trust
from usrstore.trust.policy import Verdict, judge
from usrstore.verbs import believing


class TagRow(NamedTuple):
    """A tag as it stands in the refs.

    Attributes:
        oid: what the ref names: a tag object, or a manifest itself.
        manifest: the state.
        tag: the tag object; None for a ref that names a manifest.
        verdict: what the tag's signature is worth; that of the state without a tag object.
    """

    dataset: DatasetId
    name: str
    oid: ObjectId
    manifest: ManifestId
    tag: Tag | None
    verdict: Verdict


def create(
    root: Root,
    who: Who,
    dataset: DatasetId,
    name: str,
    manifest: ManifestId,
    *,
    message: str = "",
    force: bool = False,
) -> TagRow:
    """Name a state, with a signature.

    Raises:
        InvalidNameError: no name for a tag.
        InvalidInputError: the state is one of another dataset.
        ConflictError: there is such a tag (`tag-exists`); with `force` it is replaced.
    """
    ref = check_ref(tag_ref(dataset, name))
    found = reach.manifest(root.database.get, manifest)
    if found.dataset != dataset:
        raise InvalidInputError(
            f"state {manifest.short} is one of {found.dataset}, not of {dataset}; "
            "nothing was tagged"
        )
    before = root.states.refs().get(ref)
    if before is not None and not force:
        at = row_of(root, who, ref, before).manifest
        raise ConflictError(
            f"{dataset} has a tag {name!r} already, at {at.short}; nothing was changed",
            hint="take another name; or --force, if nobody relies on it yet",
            code="tag-exists",
        )
    tag = Tag(
        dataset=dataset,
        name=name,
        manifest=manifest,
        tagger=f"{who.author}@{who.host}",
        time_us=who.now_us(),
        message=message,
    )
    data = trust.sign(tag.payload(), who.signer()).encode()
    oid = tag_id(data)
    with root.database.batch() as batch:  # I3: the tag before the ref
        batch.put(Kind.TAG, oid, data)
    root.states.advance({ref: Change(before, oid)}, who.act(f"tag {name}"))
    return row_of(root, who, ref, oid)


def delete(root: Root, who: Who, dataset: DatasetId, name: str) -> ObjectId:
    """Take a tag away; gives what it named. The operation log still knows it.

    Raises:
        RevisionNotFoundError: there is no such tag.
    """
    found = find(root, who, dataset, name)
    ref = tag_ref(dataset, name)
    root.states.advance({ref: Change(found.oid, None)}, who.act(f"delete tag {name}"))
    return found.oid


def tags(root: Root, who: Who, dataset: DatasetId | None = None) -> list[TagRow]:
    """All tags, or those of one dataset, sorted by ref."""
    refs = root.states.refs() if root.has_store else {}
    return [
        row_of(root, who, ref, oid)
        for ref, oid in sorted(refs.items())
        if ref.startswith("tags/") and dataset in (None, dataset_of(ref))
    ]


def find(root: Root, who: Who, dataset: DatasetId, name: str) -> TagRow:
    """Raises: RevisionNotFoundError, naming the tags that there are."""
    ref = tag_ref(dataset, name)
    refs = root.states.refs() if root.has_store else {}
    if ref not in refs:
        stem = f"tags/{dataset}/"
        known = sorted(known.removeprefix(stem) for known in refs if known.startswith(stem))
        raise RevisionNotFoundError(
            f"{dataset} has no tag {name!r}",
            hint=f"its tags: {', '.join(known[:8])}" if known else "it has no tags",
        )
    return row_of(root, who, ref, refs[ref])


def row_of(root: Root, who: Who, ref: RefName, oid: ObjectId) -> TagRow:
    dataset, name = dataset_of(ref), ref.rpartition("/")[2]
    found = root.database.find(oid)
    policy = believing.policy_for(root, who, "", dataset, "none")
    if found is not None and found.row.kind == Kind.TAG:
        signed = Signed.decode(root.database.get(Kind.TAG, oid))
        tag = Tag.parse(signed.payload)
        verdict = judge(signed, policy, at_s=tag.time_us // 1_000_000)
        return TagRow(dataset, name, oid, tag.manifest, tag, verdict)
    signed = Signed.decode(root.database.get(Kind.MANIFEST, oid))
    return TagRow(dataset, name, oid, ManifestId(oid), None, judge(signed, policy))


def verify(row: TagRow) -> None:
    """Whether a tag says what its ref says, signed by somebody who is believed here.

    Raises:
        GraftError: it is the tag of another dataset, or another tag.
        BadSignatureError, UnsignedError, UnknownSignerError.
    """
    what = f"tag {row.name} of {row.dataset}"
    if row.tag is None:
        raise UnsignedError(
            f"{what} is a plain name for {row.manifest.short}: nobody signed it",
            hint=f"usr tag --force {row.dataset}@{row.name} {row.manifest.short} signs it",
        )
    if (row.tag.dataset, row.tag.name) != (row.dataset, row.name):
        raise GraftError(f"{what} is really tag {row.tag.name} of {row.tag.dataset}")
    check_verdict(row.verdict, what)


def check_verdict(verdict: Verdict, what: str) -> None:
    """Raises: BadSignatureError, UnsignedError, UnknownSignerError unless it is good."""
    if verdict.status == "bad":
        raise BadSignatureError(
            f"the signature of {what} is bad: its bytes are not what was signed",
            hint="treat the store as damaged; fetch it from a remote, or restore a copy",
        )
    if verdict.status == "absent":
        raise UnsignedError(f"{what} is not signed")
    if verdict.status == "unknown" and verdict.key is not None:
        raise UnknownSignerError(
            f"{what} is signed by {verdict.key.fingerprint}, a key that is not listed here",
            hint="once you know whose it is: "
            f"usr trust add --name SOMEBODY --key '{verdict.key.line()}'",
        )
