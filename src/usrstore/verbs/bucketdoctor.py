"""doctor for a bucket: the same question as for a host, and other preconditions."""

from __future__ import annotations

from collections.abc import Mapping

from usrstore.errors import UnsupportedError, UsrError
from usrstore.odb.backend.bucket import BucketBackend
from usrstore.odb.exclusive import probe_create
from usrstore.odb.states import States
from usrstore.remote.profiles import Profile
from usrstore.root import Root, Who
from usrstore.verbs.bucket import open_backend
from usrstore.verbs.diagnosis import Check
from usrstore.verbs.doctor import local_checks

_SKEW_S = 120
_DEADLY_SKEW_S = 15 * 60  # S3 refuses what was signed longer ago than that


def examine(
    root: Root | None, who: Who, profile: Profile, environment: Mapping[str, str]
) -> list[Check]:
    """Everything a push to a bucket needs, in order; later checks need earlier ones."""
    checks = [Check("profile", True, f"{profile.name} is {profile.place}")]
    checks += local_checks(root, who)
    try:
        backend = open_backend(profile, environment)
        newest = States(backend).newest()
    except UsrError as exc:
        return [*checks, Check("bucket", False, exc.message, exc.hint or "")]
    said = f"state {newest.number}, {len(newest.refs)} refs" if newest else "no store there yet"
    checks.append(Check("bucket", True, f"it answers; {said}"))
    checks.append(_ranges(backend, has_store=newest is not None))
    return [*checks, *_writing(backend, profile, who)]


def _ranges(backend: BucketBackend, *, has_store: bool) -> Check:
    if not has_store:
        return Check("ranges", None, "nothing to read there yet", "look again after a first push")
    try:
        newest = max(backend.list("states/"))
        whole, part = backend.read(newest.key), backend.read(newest.key, 1, 4)
        end = backend.read(newest.key, -4)
    except UsrError as exc:
        return Check("ranges", False, exc.message, exc.hint or "")
    well = part == whole[1:5] and end == whole[-4:]
    return Check("ranges", well, "parts of objects are served" if well else "wrong parts come back")


def _writing(backend: BucketBackend, profile: Profile, who: Who) -> list[Check]:
    try:
        dated = probe_create(backend, profile.place)
    except UnsupportedError as exc:
        return [
            Check("writable", True, "objects can be created"),
            Check("exclusive create", False, exc.message, exc.hint or ""),
        ]
    except UsrError as exc:
        detail = f"{exc.message}\ndiff, pull and fetch work if reading is allowed"
        return [Check("writable", False, detail, exc.hint or "")]
    checks = [
        Check("writable", True, "objects can be created and deleted"),
        Check("exclusive create", True, "If-None-Match is honoured"),
        Check("room", True, "a bucket has no end; its owner pays by the byte"),
    ]
    if dated is None:
        return [*checks, Check("clock", None, "the bucket does not date what it holds")]
    skew_s = abs(dated.mtime_s - who.now_us() / 1e6)
    checks.append(
        Check(
            "clock",
            skew_s < _DEADLY_SKEW_S if skew_s >= _SKEW_S else True,
            f"{skew_s:.0f} s apart",
            "set this machine's clock by NTP" if skew_s >= _SKEW_S else "",
        )
    )
    return checks
