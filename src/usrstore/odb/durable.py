"""The only room that changes a file system: fsync, link, rename, unlink, mkdir.

Every call goes through `_step`, so a test can count the calls, crash before or after any of
them, or make any of them fail with any errno. Every OSError leaves here as a StorageError
that says what could not be done. A file made here is complete and on disk before it has its
name; if an fsync fails, the file is abandoned, never synced again: the kernel may have
dropped the dirty pages, and a second fsync would report success.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar

from usrstore.errors import DiskFullError, ReadOnlyError, StorageError
from usrstore.odb import sharing

Tap = Callable[[Literal["before", "after"], str, str], None]
T = TypeVar("T")
Pieces = Sequence[bytes | bytearray | memoryview]

TEMPORARY_PREFIX = ".tmp-"
_WRITEBACK_BYTES = 32 << 20
_tap: Tap | None = None


@contextlib.contextmanager
def tapped(tap: Tap) -> Iterator[None]:
    """Call `tap` around every change to a file system; for fault injection and counting."""
    global _tap  # noqa: PLW0603  one disk, one tap
    before, _tap = _tap, tap
    try:
        yield
    finally:
        _tap = before


def _step(op: str, path: str, call: Callable[..., T], *args: Any) -> T:
    try:
        if _tap is None:
            return call(*args)
        _tap("before", op, path)
        result = call(*args)
        _tap("after", op, path)
    except OSError as exc:
        raise storage_error(exc, f"cannot {op} {path}") from exc
    return result


def storage_error(exc: OSError, message: str) -> StorageError:
    """The StorageError that tells a person what to do about an errno."""
    reason = exc.strerror or str(exc)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"{message}: {reason}",
            hint="free some space (or inodes, or quota) there, then run the same command again",
        )
    if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ReadOnlyError(f"{message}: {reason}", hint="check the owner and mode of that folder")
    return StorageError(f"{message}: {reason}", hint="check the disk, then run the command again")


def make_folder(path: str, *, mode: int = 0o777, lasting: bool = False) -> None:
    """Create `path` and its parents where missing.

    Args:
        path, mode: as of os.mkdir.
        lasting: whether its name survives a power cut; every file in it is lost with that.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        make_folder(parent, mode=mode, lasting=lasting)
    try:
        _step("mkdir", path, sharing.make_folder, path, mode)
    except StorageError:
        if not os.path.isdir(path):  # another process made it first
            raise
    if lasting:
        sync_folder(parent)


def remove(path: str) -> None:
    """Unlink a file; one that is not there is as good as gone."""

    def unlink() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    _step("unlink", path, unlink)


def remove_folder(path: str) -> bool:
    """Remove an empty folder; False if it is not empty or not there."""

    def rmdir() -> bool:
        try:
            os.rmdir(path)
        except OSError as exc:
            if exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                return False
            raise
        return True

    return _step("rmdir", path, rmdir)


def remove_tree(path: str) -> None:
    """Remove a folder of our own with all that it holds."""
    if not os.path.isdir(path) or os.path.islink(path):
        return
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                remove_tree(entry.path)
            else:
                remove(entry.path)
    remove_folder(path)


def rename(source: str, target: str) -> None:
    """Atomically give `source` the name `target`, replacing what has it."""
    _step("rename", target, os.rename, source, target)


def link(source: str, target: str) -> bool:
    """Give `source` a second name; False if `target` exists."""

    def call() -> bool:
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        return True

    return _step("link", target, call)


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""

    def call() -> None:
        fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    _step("fsync-folder", path, call)


def sync_everything(path: str) -> bool:
    """Sync the whole file system of `path`: one wait instead of thousands. False if it cannot."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        return False

    def call() -> None:
        fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            if libc.syncfs(fd) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(fd)

    _step("syncfs", path, call)
    return True


def sync_files(paths: Iterable[str]) -> None:
    """Make several files, or the names in folders, durable for little more than the price of one.

    All of them start their way to the disk before any is waited for, so that one commit of
    the file system's journal serves them all.
    """
    with contextlib.ExitStack() as held:
        files = []
        for path in paths:
            fd = _step("open", path, os.open, path, os.O_RDONLY | os.O_CLOEXEC)
            held.callback(os.close, fd)
            files.append((path, fd))
        for _, fd in files:
            start_writeback(fd)
        for path, fd in files:
            _step("fsync", path, os.fsync, fd)


def set_mode(path: str, mode: int) -> None:
    _step("chmod", path, os.chmod, path, mode)


def temporary(folder: str) -> str:
    """A fresh name in `folder`; gc sweeps what a crash leaves under such names."""
    return os.path.join(folder, f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}")


def create(path: str, data: bytes) -> bool:
    """Write a whole file under a name that must be free. Atomic, durable, exclusive.

    Returns:
        False if the name was taken; its file is then untouched.
    """
    folder = os.path.dirname(path)
    make_folder(folder, lasting=True)
    scratch = temporary(folder)
    try:
        with Spool.create(scratch) as spool:
            spool.write(data)
            spool.sync()
        return publish(scratch, path)
    finally:
        remove(scratch)


def publish(source: str, path: str) -> bool:
    """Give a complete, synced file its exclusive name; the caller removes `source`."""
    made = link(source, path)
    if made:
        sync_folder(os.path.dirname(path))
    return made


def replace(path: str, data: bytes, *, sync: bool = True, along: Collection[str] = ()) -> None:
    """Atomically replace a small file of ours (a journal, a cache, a configuration).

    Args:
        path: the file.
        data: its new content.
        sync: whether it has to survive a power cut.
        along: files that it speaks of: they are made durable before it has its name.
    """
    folder = os.path.dirname(path)
    make_folder(folder, lasting=sync)
    scratch = temporary(folder)
    try:
        with Spool.create(scratch) as spool:
            spool.write(data)
            if sync and not along:
                spool.sync()
        if along:
            sync_files([*along, scratch])
        rename(scratch, path)
    except BaseException:
        remove(scratch)
        raise
    if sync:
        sync_folder(folder)


def append(path: str, data: bytes, *, mode: int = 0o666) -> None:
    """Add to the end of a file that others append to as well, or change nothing.

    The caller holds the lock that keeps them out. A file that is not there is made.

    Raises:
        StorageError: it could not be written; the file is as long as it was.
    """
    made = not os.path.lexists(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    fd = _step("open", path, sharing.open_file, path, flags, mode)
    try:
        size = os.fstat(fd).st_size
        try:
            _step("write", path, _write, fd, size, (data,))
            _step("fsync", path, os.fsync, fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, size)
                if made:
                    os.unlink(path)
            raise
    finally:
        os.close(fd)
    if made:
        sync_folder(os.path.dirname(path))


def truncate(path: str, size: int) -> None:
    """Cut a file of lines to `size` bytes, durably."""
    fd = _step("open", path, os.open, path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        _step("truncate", path, os.ftruncate, fd, size)
        _step("fsync", path, os.fsync, fd)
    finally:
        os.close(fd)


class Spool:
    """A file of ours that is being written; nobody reads it until it has been synced.

    Writes start for the disk every 32 MiB, so that the final `sync` has little to wait for.
    """

    __slots__ = ("_fd", "_pending", "path", "size")

    def __init__(self, path: str, fd: int, size: int) -> None:
        self.path = path
        self.size = size
        self._fd = fd
        self._pending = 0

    @classmethod
    def create(cls, path: str, *, mode: int = 0o666) -> Spool:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return cls(path, _step("create", path, sharing.open_file, path, flags, mode), 0)

    @classmethod
    def reopen(cls, path: str) -> Spool:
        """Go on with a file that an earlier process left."""
        fd = _step("open", path, os.open, path, os.O_RDWR | os.O_CLOEXEC)
        return cls(path, fd, os.fstat(fd).st_size)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append."""
        self.write_at(self.size, data)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.write_all_at(offset, (data,))

    def write_all_at(self, offset: int, pieces: Pieces) -> None:
        """Write pieces one behind the other, in one call. At most 512 of them."""
        _step("write", self.path, _write, self._fd, offset, pieces)
        self._wrote(offset, sum(map(len, pieces)))

    def _wrote(self, offset: int, size: int, *, start: bool = True) -> None:
        self.size = max(self.size, offset + size)
        self._pending += size if start else 0
        if self._pending >= _WRITEBACK_BYTES and offset + size == self.size:
            start_writeback(self._fd, self.size - self._pending, self._pending)
            self._pending = 0

    def copy_from(self, fd: int, at: int, offset: int, size: int, *, start: bool = True) -> None:
        """Copy a range of another file; whoever says not to `start` it for the disk does so."""
        _step("copy", self.path, _copy_range, fd, at, self._fd, offset, size)
        self._wrote(offset, size, start=start)

    def read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def truncate(self, size: int) -> None:
        _step("truncate", self.path, os.ftruncate, self._fd, size)
        self.size = size

    def sync(self) -> None:
        _step("fsync", self.path, os.fsync, self._fd)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            _step("close", self.path, os.close, fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _write(fd: int, offset: int, pieces: Pieces) -> None:
    at, size = os.pwritev(fd, pieces, offset), sum(map(len, pieces))
    if at < size:  # a call may write less than it was given
        left = memoryview(b"".join(pieces))[at:]
        while left:
            written = os.pwrite(fd, left, offset + at)
            left, at = left[written:], at + written


def start_writeback(fd: int, offset: int = 0, size: int = 0) -> None:
    """Let a range of a file start for the disk, so that a later sync has little to wait for."""
    # POSIX_FADV_DONTNEED starts write-back without waiting; pages just written stay in memory.
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, max(0, offset), size, os.POSIX_FADV_DONTNEED)


def _copy_range(source: int, start: int, target: int, offset: int, size: int) -> None:
    in_kernel = hasattr(os, "copy_file_range")
    while size:
        if in_kernel:
            try:
                moved = os.copy_file_range(source, target, size, start, offset)
            except OSError as exc:
                if exc.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                in_kernel = False
                continue
        else:
            moved = os.pwrite(target, os.pread(source, min(size, 1 << 20), start), offset)
        if not moved:
            raise OSError(errno.EIO, "the file it is copied from ended early")
        start, offset, size = start + moved, offset + moved, size - moved
