"""A backend in a folder: local disk, NFS or Lustre. Needs link(2) and nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from usrstore.errors import ObjectNotFoundError, StorageError
from usrstore.odb import durable
from usrstore.odb.backend.backend import Stat, check_key, is_word

if TYPE_CHECKING:
    from pathlib import Path


class FolderBackend:
    """Keys are paths below `root`; values are files that nobody writes again."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, key: str) -> str:
        return os.path.join(self.root, check_key(key))

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        try:
            fd = os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectNotFoundError(f"no {key} in {self.root}") from None
        except OSError as exc:
            raise durable.storage_error(exc, f"cannot read {self.path(key)}") from exc
        try:
            size = os.fstat(fd).st_size
            start = max(0, size + start) if start < 0 else start
            end = size if length is None else min(size, start + length)
            pieces = []
            while start < end:
                piece = os.pread(fd, end - start, start)
                if not piece:
                    break
                pieces.append(piece)
                start += len(piece)
        except IsADirectoryError:  # the beginning of other keys is no key
            raise ObjectNotFoundError(f"no {key} in {self.root}") from None
        except OSError as exc:
            raise durable.storage_error(exc, f"cannot read {self.path(key)}") from exc
        finally:
            os.close(fd)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def map(self, key: str, start: int, length: int) -> memoryview:
        import mmap  # few commands ever meet a pack that is worth it

        first = start - start % mmap.ALLOCATIONGRANULARITY
        try:
            fd = os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectNotFoundError(f"no {key} in {self.root}") from None
        except OSError as exc:
            raise durable.storage_error(exc, f"cannot read {self.path(key)}") from exc
        try:
            whole = start + length - first
            mapped = mmap.mmap(fd, whole, access=mmap.ACCESS_READ, offset=first)
        except (OSError, ValueError) as exc:  # ValueError: the file ends before that
            raise StorageError(f"cannot map {self.path(key)}: {exc}") from exc
        finally:
            os.close(fd)
        return memoryview(mapped)[start - first :]

    def create(self, key: str, data: bytes | Path) -> bool:
        path = self.path(key)
        if isinstance(data, bytes):
            return durable.create(path, data)
        durable.make_folder(os.path.dirname(path), lasting=True)
        return durable.publish(str(data), path)

    def stat(self, key: str) -> Stat | None:
        try:
            found = os.stat(self.path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise durable.storage_error(exc, f"cannot read {self.path(key)}") from exc
        if not stat.S_ISREG(found.st_mode):
            return None
        return Stat(key, found.st_size, found.st_mtime)

    def list(self, prefix: str) -> Iterator[Stat]:
        folder = self.path(prefix.rstrip("/"))
        try:
            with os.scandir(folder) as entries:
                rows = sorted(
                    # As whole keys sort: what is below `a/` comes after `a-b`.
                    (f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name, entry)
                    for entry in entries
                    if is_word(entry.name)
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as exc:
            raise durable.storage_error(exc, f"cannot list {folder}") from exc
        for name, entry in rows:
            key = f"{prefix.rstrip('/')}/{name}"
            if name.endswith("/"):
                yield from self.list(key)
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # deleted while we list
                continue
            if stat.S_ISREG(found.st_mode):
                yield Stat(key, found.st_size, found.st_mtime)

    def delete(self, key: str) -> None:
        try:
            path = self.path(key)
            durable.remove(path)
            # Of several that go in an order, a power cut may bring back only the later ones.
            if os.path.isdir(os.path.dirname(path)):
                durable.sync_folder(os.path.dirname(path))
        except StorageError as exc:
            raise StorageError(f"cannot delete {key}: {exc.message}", hint=exc.hint) from exc


def read_into(path: str, start: int, buffer: memoryview) -> int:
    """Fill `buffer` from a file's byte `start` on; gives how many bytes there were.

    Raises:
        ObjectNotFoundError: no such file.
        StorageError: it cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ObjectNotFoundError(f"no {path}") from None
    except OSError as exc:
        raise durable.storage_error(exc, f"cannot read {path}") from exc
    try:
        done = 0
        while done < len(buffer):
            count = os.preadv(fd, [buffer[done:]], start + done)
            if not count:
                break
            done += count
    except OSError as exc:
        raise durable.storage_error(exc, f"cannot read {path}") from exc
    finally:
        os.close(fd)
    return done
