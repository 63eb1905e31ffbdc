"""Look revisions up: from what a person typed to a manifest."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import NamedTuple

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
    folder_ref,
    head_ref,
    tag_ref,
)
from usrstore.objects.revision import Ancestor, At, Parent, Revision, Step, Tagged
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs.operations import position

_AGO = re.compile(r"(\d+|an?)\s+(second|minute|hour|day|week|month|year)s?\s+ago")
_UNIT_S = {
    "second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604_800,
    "month": 2_629_746, "year": 31_556_952,
}  # fmt: skip


class _Base(NamedTuple):
    """What the name of a revision stands for.

    Attributes:
        ref: the ref whose past `@{…}` asks for; None for an id.
        oid: None for a dataset without a head.
    """

    dataset: DatasetId
    ref: RefName | None
    oid: ManifestId | None


def resolve(root: Root, text: str, *, now_us: int) -> tuple[ManifestId, str | None]:
    """The manifest that a revision names, and the path after its colon.

    Raises:
        InvalidInputError, RevisionNotFoundError, AmbiguousRevisionError.
    """
    parsed = revision.parse(text)
    base = _base(root, parsed, text)
    oid = base.oid
    for number, step in enumerate(parsed.steps):
        if isinstance(step, Tagged | At):
            if number or base.ref is None:
                what = f"@{step.name}" if isinstance(step, Tagged) else f"@{{{step.text}}}"
                raise InvalidInputError(
                    f"{text!r} is no revision: {what} belongs right behind the name of a dataset",
                    hint="for example densegen/x@v1~2 or densegen/x@{2 days ago}",
                )
            oid = _look_up(root, text, base, step, now_us)
        elif oid is None:
            raise _unknown(root, text)
        else:
            oid = _climb(root, text, oid, step)
    if oid is None:
        raise _unknown(root, text)
    return oid, parsed.path


def _base(root: Root, parsed: Revision, text: str) -> _Base:
    refs = root.states.refs() if root.has_store else {}
    base = parsed.base
    named = [RefName(n) for n in (base, f"heads/{base}", f"remotes/{base}") if RefName(n) in refs]
    if len(named) > 1 and len({refs[name] for name in named}) > 1:
        raise AmbiguousRevisionError(
            f"{base} could be {' or '.join(named)}", hint=f"write {named[0]} or {named[-1]}"
        )
    if not named:
        if re.fullmatch(r"[0-9a-fA-F]{8,64}", base) and root.has_store:
            found = _by_prefix(root, base.lower())
            if found is not None:
                return found
        # A unique last name, as where a dataset is asked for.
        named = [name for name in refs if name.startswith("heads/") and name.endswith(f"/{base}")]
        if len(named) > 1:
            listed = ", ".join(dataset_of(name) for name in named[:5])
            raise AmbiguousRevisionError(f"{base} could be {listed}", hint="give the whole id")
    if named:
        return _Base(dataset_of(named[0]), named[0], peel(root, refs[named[0]]))
    try:
        dataset = check_dataset(base)
    except InvalidNameError:
        raise _unknown(root, text) from None
    return _Base(dataset, head_ref(dataset), None)


def _by_prefix(root: Root, base: str) -> _Base | None:
    found = [
        (oid, kind)
        for oid, kind in root.database.matching(base)
        if kind in (Kind.MANIFEST, Kind.TAG)
    ]
    if len(found) > 1:
        listed = ", ".join(oid.short for oid, _ in found[:5])
        raise AmbiguousRevisionError(f"{base} could be {listed}", hint="give more digits")
    if not found:
        return None
    manifest = peel(root, found[0][0])
    return _Base(DatasetId(reach.manifest(root.database.get, manifest).dataset), None, manifest)


def peel(root: Root, oid: ObjectId) -> ManifestId:
    """A tag's manifest, or the manifest itself."""
    found = root.database.find(oid)
    if found is not None and found.row.kind == Kind.TAG:
        return Tag.parse(Signed.decode(root.database.get(Kind.TAG, oid)).payload).manifest
    return ManifestId(oid)


def _climb(root: Root, text: str, oid: ManifestId, step: Step) -> ManifestId:
    """`~n` and `^n`."""
    manifest = reach.manifest(root.database.get, oid)
    if isinstance(step, Parent):
        if step.nth == 0:
            return oid
        if step.nth > len(manifest.parents):
            raise RevisionNotFoundError(
                f"{text!r}: state {oid.short} has {_count(len(manifest.parents), 'parent')}",
                hint="`usr log --graph` shows where histories were merged",
            )
        return manifest.parents[step.nth - 1]
    for back in range(step.steps if isinstance(step, Ancestor) else 0):
        if not manifest.parents:
            raise RevisionNotFoundError(
                f"{text!r}: its history has no state that old",
                hint=f"the first one is {oid.short}, {_count(back, 'state')} back",
            )
        oid = manifest.parents[0]
        manifest = reach.manifest(root.database.get, oid)
    return oid


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"


def _look_up(root: Root, text: str, base: _Base, step: Tagged | At, now_us: int) -> ManifestId:
    """`@tag` and `@{…}`: from the refs, and from the chain of states."""
    refs = root.states.refs() if root.has_store else {}
    dataset = base.dataset
    if isinstance(step, Tagged):
        tag = refs.get(tag_ref(dataset, step.name))
        if tag is None:
            stem = f"tags/{dataset}/"
            known = sorted(name.removeprefix(stem) for name in refs if name.startswith(stem))
            raise RevisionNotFoundError(
                f"{text!r}: {dataset} has no tag {step.name!r}",
                hint=f"its tags: {', '.join(known[:8])}" if known else "`usr tag` makes one",
            )
        return peel(root, tag)
    if step.text in ("u", "upstream"):
        return _upstream(text, dataset, refs)
    if step.text == "-1":
        return _before_checkout(root, text, dataset)
    assert base.ref is not None
    return _past(root, text, base.ref, step.text, now_us)


def _upstream(text: str, dataset: DatasetId, refs: Mapping[RefName, ObjectId]) -> ManifestId:
    synced = [n for n in refs if n.startswith("remotes/") and dataset_of(n) == dataset]
    if len(synced) != 1:
        names = ", ".join(name.split("/")[1] for name in synced) or "none"
        choice = " or ".join(name.removeprefix("remotes/") for name in synced)
        raise RevisionNotFoundError(
            f"{text!r}: {dataset} was synced with {names}, not with one",
            hint=f"write {choice}" if choice else f"usr fetch {dataset} REMOTE",
        )
    return ManifestId(refs[synced[0]])


def _before_checkout(root: Root, text: str, dataset: DatasetId) -> ManifestId:
    """Where the folder was before it was last taken elsewhere."""
    head, folder = head_ref(dataset), folder_ref(dataset)
    newer: Mapping[RefName, ObjectId] | None = None
    for state in root.states.history() if root.has_store else ():
        refs = state.refs
        if (
            newer is not None
            and newer.get(folder) != refs.get(folder)
            and newer.get(head) == refs.get(head)  # else it was a commit or a pull
        ):
            there = position(refs, dataset)
            if there is not None:
                return there
        newer = refs
    raise RevisionNotFoundError(
        f"{text!r}: no checkout has taken the folder of {dataset} anywhere",
        hint=f"`usr op log {dataset}` says where it was",
    )


def _past(root: Root, text: str, ref: RefName, when: str, now_us: int) -> ManifestId:
    """`@{n}` and `@{a date}`: what a ref was."""
    back = int(when) if when.isdecimal() and when.isascii() else None
    moment = None if back is not None else parse_moment(when, now_us)
    values: list[ObjectId] = []
    oldest = None
    for state in root.states.history() if root.has_store else ():
        value = state.refs.get(ref)
        if moment is not None and state.time_us <= moment:
            if value is None:
                break
            return peel(root, value)
        if value is None:
            continue
        oldest = state.time_us
        if not values or values[-1] != value:
            values.append(value)
        if back is not None and len(values) > back:
            return peel(root, values[back])
    if oldest is None:
        hint = f"`usr op log {dataset_of(ref)}` shows what there is"
    elif back is not None:
        hint = f"the oldest is @{{{len(values) - 1}}}"
    else:
        since = dt.datetime.fromtimestamp(oldest / 1e6).astimezone().isoformat(" ", "seconds")
        hint = f"its first is of {since}"
    raise RevisionNotFoundError(
        f"{text!r}: the operation log of {dataset_of(ref)} does not go back there", hint=hint
    )


def parse_moment(text: str, now_us: int, *, end: bool = True) -> int:
    """A date, a date and time, or `N units ago`, as UTC microseconds.

    Args:
        text: what was typed.
        now_us: the clock.
        end: whether a date without a time means the end of that day.

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
        if end and len(text) == 10:  # a whole day counts to its end
            moment += dt.timedelta(days=1, microseconds=-1)
        if moment.tzinfo is None:
            moment = moment.astimezone()
        return int(moment.timestamp() * 1_000_000)
    except (ValueError, OverflowError, OSError):
        raise InvalidInputError(
            f"{text!r} is no moment", hint="for example 2026-11-01, 2026-11-01T12:00, 2 days ago"
        ) from None


def _unknown(root: Root, text: str) -> RevisionNotFoundError:
    hint = "usr log DATASET lists its states; an id needs at least "
    return RevisionNotFoundError(
        f"{text!r} names no state in {root.path}", hint=f"{hint}{MIN_PREFIX_DIGITS} digits"
    )
