"""From a remote's name to a peer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from usrcli.context import make_who, remotes_path
from usrstore.remote import profiles
from usrstore.remote.peer import Peer
from usrstore.remote.profiles import Profile
from usrstore.root import Root


def find_profile(root: Root | None, name: str) -> Profile:
    """Raises: RemoteNotFoundError, ConfigError."""
    return profiles.find(remotes_path(root), name)


def connect(profile: Profile, root: Root | None = None, *, wait: bool = True) -> Peer:
    """A peer at a remote.

    Args:
        profile: where it is.
        root: ours; what goes into a bucket is made ready in its store.
        wait: until a host has answered; else the first question does.

    Raises:
        RemoteError, or what opening the other root raises.
    """
    if profile.type == "folder":
        from usrstore.verbs import believing
        from usrstore.verbs.host import Host

        there = Root(os.path.expanduser(profile.base_dir))
        return Host(there, make_who(there), trust=believing.mode_of(there, None))
    if profile.type == "bucket":
        from usrcli import credentials
        from usrstore.verbs import bucket

        return bucket.connect(profile, credentials.gather(os.environ), make_who(root), root)
    from usrstore.remote import ssh

    return ssh.connect(profile, os.environ, wait=wait)


def connect_to_file(profile: Profile, path: str) -> Peer:
    """A peer that is one file at a remote. Raises: as `connect`."""
    if profile.type == "folder":
        from usrstore.lone import Lone
        from usrstore.verbs import believing
        from usrstore.verbs.host import Host

        there = Lone(os.path.expanduser(path))
        return Host(there, make_who(there), trust=believing.mode_of(there, None))
    from usrstore.remote import ssh

    return ssh.connect(profile, os.environ, "--file", path)


@contextlib.contextmanager
def peer_of(root: Root, name: str) -> Iterator[Peer]:
    """A peer for a command that looks at its own folder while the other end starts."""
    peer = connect(find_profile(root, name), root, wait=False)
    try:
        yield peer
    finally:
        peer.close()
