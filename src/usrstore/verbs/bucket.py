"""A bucket as a remote: from its profile to a peer."""

from __future__ import annotations

import os
from collections.abc import Mapping

from usrstore.errors import BucketError
from usrstore.objects.names import DatasetId
from usrstore.odb.backend.bucket import BucketBackend
from usrstore.odb.ends import Ends
from usrstore.odb.exclusive import probe_create
from usrstore.odb.pack import scratch_of
from usrstore.odb.states import States
from usrstore.remote.profiles import Profile
from usrstore.root import Root, Who
from usrstore.trust.policy import Mode, Policy
from usrstore.verbs import believing
from usrstore.verbs.bare import Bare


def open_backend(profile: Profile, environment: Mapping[str, str]) -> BucketBackend:
    """Raises: ConfigError, StorageError."""
    return BucketBackend(profile.address, environment)


def ends_of(profile: Profile, root: Root | None) -> Ends | None:
    """What a root remembers of a bucket's packs; None where nothing can be kept."""
    if root is None or not root.writable:
        return None
    return Ends(os.path.join(root.store, "far", f"{profile.name}.ends"))


def connect(
    profile: Profile, environment: Mapping[str, str], who: Who, root: Root | None = None
) -> Bare:
    """A peer for a bucket, in this process; nothing is asked of the bucket yet.

    Args:
        profile: where it is.
        environment: credentials and region, by the names that the provider's tools use.
        who: who acts.
        root: ours: packs on their way up are made in its store, and its trust decides.

    Raises:
        ConfigError, StorageError.
    """
    backend = open_backend(profile, environment)
    mode: Mode = "tofu" if root is None else believing.mode_of(root, None)

    def policy(dataset: DatasetId) -> Policy:
        if root is None:
            return Policy(own=who.own_keys())
        return believing.policy_for(root, who, profile.name, dataset, mode)

    return Bare(
        backend,
        profile.place,
        who,
        policy=policy,
        scratch=None if root is None else scratch_of(root.store),
        traffic=lambda: (backend.sent, backend.received, backend.requests),
        ends=ends_of(profile, root),
    )


def try_out(profile: Profile, environment: Mapping[str, str]) -> bool:
    """Whether one may write there; asked before a bucket is written down as a remote.

    Raises:
        UnsupportedError: it does not create exclusively, so no store can be there.
        BucketError: it cannot be reached, or not even be read.
    """
    backend = open_backend(profile, environment)
    States(backend).newest()
    try:
        probe_create(backend, profile.place)
    except BucketError as exc:
        if exc.code != "bucket-denied":
            raise
        return False
    return True
