"""Advisory locks on files, with patience and a name for whoever holds them.

The tools that share a dataset folder lock `.usr.lock` and `.events.lock` with flock(2); we
take the same locks in the same way. Waiting is bounded and never silent: the caller gives a
timeout, and a LockedError names the holder where it can be known.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator

from usrstore.errors import LockedError
from usrstore.odb import sharing

_POLL_S = (0.001, 0.05)  # the first wait, and the longest


@contextlib.contextmanager
def hold(
    path: str, *, timeout_s: float, shared: bool = False, create: bool = True, what: str = ""
) -> Iterator[bool]:
    """Hold a lock while the block runs.

    Args:
        path: the lock file.
        timeout_s: how long to wait for another holder; 0 tries once.
        shared: readers may share it.
        create: make the file if it is missing; otherwise go on without a lock.
        what: what the lock protects, for the error.

    Yields:
        Whether a lock is held: False where the file is missing and may not be made, where
        this folder may not be written, or where the file system knows no flock.

    Raises:
        LockedError: somebody else held it until the time was up.
    """
    fd = _open(path, create=create)
    if fd is None:
        yield False
        return
    try:
        yield _acquire(fd, path, timeout_s, what, shared=shared)
    finally:
        os.close(fd)  # closing releases it, and the kernel closes for the dead


def _open(path: str, *, create: bool) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if not create:
            return None
    except PermissionError:
        return None
    try:
        return sharing.open_file(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            return None
        raise


def _acquire(fd: int, path: str, timeout_s: float, what: str, *, shared: bool) -> bool:
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    deadline, pause_s = time.monotonic() + timeout_s, _POLL_S[0]
    while True:
        try:
            fcntl.flock(fd, mode)
        except OSError as exc:
            if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
                if time.monotonic() >= deadline:
                    raise _locked(fd, path, timeout_s, what) from exc
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _POLL_S[1])
                continue
            if exc.errno in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL):
                return False
            raise
        return True


def _locked(fd: int, path: str, timeout_s: float, what: str) -> LockedError:
    holder = _holder(fd)
    by = f" by {holder}" if holder else ""
    return LockedError(
        f"{what or path} is locked{by} ({path}); waited {timeout_s:g} s, nothing was changed",
        hint="wait for that program to finish, or give more time with --lock-timeout SECONDS",
    )


def _holder(fd: int) -> str | None:
    """The process that holds the lock, where this kernel tells."""
    mine = os.fstat(fd)
    device = f"{os.major(mine.st_dev):02x}:{os.minor(mine.st_dev):02x}:{mine.st_ino}"
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/locks") as locks:
        for line in locks:
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5] == device:
                pid = int(fields[4])
                with open(f"/proc/{pid}/comm") as comm:
                    return f"process {pid} ({comm.read().strip()})"
    return None
