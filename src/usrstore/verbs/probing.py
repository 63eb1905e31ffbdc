"""Try out what a store needs of the place it is in; every trace is removed again."""

from __future__ import annotations

import os

from usrstore.errors import UsrError
from usrstore.odb import durable, flock
from usrstore.remote.peer import Probe
from usrstore.root import TOOL, Root, Who


def probe(root: Root, who: Who, *, may_write: bool) -> Probe:
    """What `usr remotes doctor` wants to know of a root."""
    writable = root.writable and may_write
    exclusive = locks = False
    if writable:
        where = root.store if os.path.isdir(root.store) else root.path
        exclusive, locks = _exclusive_create(where), _flock(where)
    room = os.statvfs(root.path)
    return Probe(
        tool=TOOL,
        base_dir=root.path,
        writable=writable,
        has_store=root.has_store,
        exclusive_create=exclusive,
        flock=locks,
        free_bytes=room.f_bavail * room.f_frsize,
        free_inodes=room.f_favail if room.f_files else None,
        now_us=who.now_us(),
        registry=root.registry() is not None,
    )


def _exclusive_create(folder: str) -> bool:
    """A name can be made once, and a second try is told so."""
    path = durable.temporary(folder)
    try:
        return durable.create(path, b"probe") and not durable.create(path, b"again")
    except UsrError:
        return False
    finally:
        durable.remove(path)


def _flock(folder: str) -> bool:
    path = durable.temporary(folder)
    try:
        with flock.hold(path, timeout_s=0) as held:
            return held
    except UsrError:
        return False
    finally:
        durable.remove(path)
