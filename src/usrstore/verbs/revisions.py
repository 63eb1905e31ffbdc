"""Look revisions up: from what a person typed to a manifest."""

from __future__ import annotations

import datetime as dt
import re

from usrstore.errors import (
    AmbiguousRevisionError,
    InvalidInputError,
    InvalidNameError,
    RevisionNotFoundError,
)
from usrstore.objects import revision
from usrstore.objects.ids import MIN_PREFIX_DIGITS, Kind, ManifestId, ObjectId
from usrstore.objects.manifest import Signed, Tag
from usrstore.objects.names import (
    DatasetId,
    RefName,
    check_dataset,
    dataset_of,
    head_ref,
    tag_ref,
)
from usrstore.objects.revision import Ancestor, At, Parent, Revision, Step, Tagged
from usrstore.odb import reach
from usrstore.root import Root

_AGO = re.compile(r"(\d+|an?)\s+(second|minute|hour|day|week|month|year)s?\s+ago")
_UNIT_S = {
    "second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604_800,
    "month": 2_629_746, "year": 31_556_952,
}  # fmt: skip


def resolve(root: Root, text: str, *, now_us: int) -> tuple[ManifestId, str | None]:
    """The manifest that a revision names, and the path after its colon.

    Raises:
        InvalidInputError, RevisionNotFoundError, AmbiguousRevisionError.
    """
    parsed = revision.parse(text)
    dataset, oid = _base(root, parsed, text)
    for step in parsed.steps:
        oid = _step(root, text, dataset, oid, step, now_us)
    if oid is None:
        raise _unknown(root, text)
    return oid, parsed.path


def _base(root: Root, parsed: Revision, text: str) -> tuple[DatasetId | None, ManifestId | None]:
    refs = root.states.refs() if root.has_store else {}
    for name in (parsed.base, f"heads/{parsed.base}", f"remotes/{parsed.base}"):
        if RefName(name) in refs:
            return dataset_of(RefName(name)), peel(root, refs[RefName(name)])
    base = parsed.base
    if re.fullmatch(r"[0-9a-f]{8,64}", base) and root.has_store:
        found = [
            (oid, kind)
            for oid, kind in root.database.matching(base)
            if kind in (Kind.MANIFEST, Kind.TAG)
        ]
        if len(found) > 1:
            listed = ", ".join(oid.short for oid, _ in found[:5])
            raise AmbiguousRevisionError(f"{base} could be {listed}", hint="give more digits")
        if found:
            manifest = peel(root, found[0][0])
            return DatasetId(reach.manifest(root.database.get, manifest).dataset), manifest
    named = [name for name in refs if name.startswith("heads/") and name.endswith(f"/{base}")]
    if len(named) == 1:  # a unique last name, as where a dataset is asked for
        return dataset_of(named[0]), peel(root, refs[named[0]])
    try:
        return check_dataset(base), None
    except InvalidNameError:
        raise _unknown(root, text) from None


def peel(root: Root, oid: ObjectId) -> ManifestId:
    """A tag's manifest, or the manifest itself."""
    found = root.database.find(oid)
    if found is not None and found.row.kind == Kind.TAG:
        return Tag.parse(Signed.decode(root.database.get(Kind.TAG, oid)).payload).manifest
    return ManifestId(oid)


def _step(
    root: Root,
    text: str,
    dataset: DatasetId | None,
    oid: ManifestId | None,
    step: Step,
    now_us: int,
) -> ManifestId | None:
    if isinstance(step, Tagged) and dataset is not None:
        refs = root.states.refs()
        tag = refs.get(tag_ref(dataset, step.name))
        if tag is None:
            raise RevisionNotFoundError(f"{text!r}: {dataset} has no tag {step.name!r}")
        return peel(root, tag)
    if isinstance(step, At) and dataset is not None:
        return _at(root, text, dataset, step.text, now_us)
    if oid is None:
        raise _unknown(root, text)
    manifest = reach.manifest(root.database.get, oid)
    if isinstance(step, Parent):
        if step.nth == 0:
            return oid
        if step.nth > len(manifest.parents):
            parents = len(manifest.parents)
            word = "parent" if parents == 1 else "parents"
            raise RevisionNotFoundError(f"{text!r}: that state has {parents} {word}")
        return manifest.parents[step.nth - 1]
    for _ in range(step.steps if isinstance(step, Ancestor) else 0):
        if not manifest.parents:
            raise RevisionNotFoundError(f"{text!r}: its history has no state that old")
        oid = manifest.parents[0]
        manifest = reach.manifest(root.database.get, oid)
    return oid


def _at(root: Root, text: str, dataset: DatasetId, when: str, now_us: int) -> ManifestId:
    """`@{u}`, `@{n}`, `@{a date}`: from the chain of states."""
    head = head_ref(dataset)
    if when in ("u", "upstream"):
        refs = root.states.refs()
        synced = [n for n in refs if n.startswith("remotes/") and dataset_of(n) == dataset]
        if len(synced) != 1:
            names = ", ".join(n.split("/")[1] for n in synced) or "none"
            raise RevisionNotFoundError(
                f"{text!r}: {dataset} was synced with {names}, not with one"
            )
        return ManifestId(refs[synced[0]])
    back = int(when) if when.isdigit() else None
    moment = None if back is not None else parse_moment(when, now_us)
    values: list[ManifestId] = []
    for state in root.states.history():
        value = state.refs.get(head)
        if value is None:
            continue
        if moment is not None and state.time_us <= moment:
            return ManifestId(value)
        if not values or values[-1] != value:
            values.append(ManifestId(value))
        if back is not None and len(values) > back:
            return values[back]
    raise RevisionNotFoundError(f"{text!r}: the operation log of {dataset} does not go back there")


def parse_moment(text: str, now_us: int) -> int:
    """A date, a date and time, or `N units ago`, as UTC microseconds.

    Raises:
        InvalidInputError.
    """
    if text == "now":
        return now_us
    if text == "yesterday":
        return now_us - 86_400_000_000
    if match := _AGO.fullmatch(text):
        count = 1 if match[1].startswith("a") else int(match[1])
        return now_us - count * _UNIT_S[match[2]] * 1_000_000
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(
            f"{text!r} is no moment", hint="for example 2026-11-01, 2026-11-01T12:00, 2 days ago"
        ) from None
    if len(text) == 10:  # a whole day counts to its end
        moment += dt.timedelta(days=1, microseconds=-1)
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return int(moment.timestamp() * 1_000_000)


def _unknown(root: Root, text: str) -> RevisionNotFoundError:
    hint = "usr log DATASET lists its states; an id needs at least "
    return RevisionNotFoundError(
        f"{text!r} names no state in {root.path}", hint=f"{hint}{MIN_PREFIX_DIGITS} digits"
    )
