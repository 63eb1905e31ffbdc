"""Things made slow for real: a link, a disk, a hash. Each is much slower than all others are."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import tempfile
import threading
import time
from pathlib import Path

PIECE = 16 << 10


class Narrow:
    """A link to a port of this machine through which so many bytes pass a second, each way."""

    def __init__(self, target, bytes_per_s):
        self._target, self._pause_s = target, PIECE / bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near):
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
            back.start()
            self._carry(near, far)
            back.join()

    def _carry(self, source, target):
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                time.sleep(self._pause_s * len(piece) / PIECE)
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@contextlib.contextmanager
def slow_disk(folder, bytes_per_s):
    """Gives a shell prefix for commands to whom the disk below `folder` is slow; None: not here."""
    device = os.stat(folder).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    group = _group(name, bytes_per_s)
    if group is None:
        yield None
        return
    try:
        yield f"echo $$ >{shlex.quote(str(group / 'cgroup.procs'))}; "
    finally:
        _remove(group)


def _remove(group):
    for _ in range(100):  # its last process may still be going away
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.05)


def _group(device, bytes_per_s):
    for top, settings in (
        ("blkio", {f"blkio.throttle.{way}_bps_device": f"{device} {bytes_per_s}"
                   for way in ("read", "write")}),
        ("", {"io.max": f"{device} rbps={bytes_per_s} wbps={bytes_per_s}"}),
    ):  # fmt: skip
        try:
            group = Path(tempfile.mkdtemp(prefix="usr-test-", dir=f"/sys/fs/cgroup/{top}"))
        except OSError:
            continue
        try:
            for file, text in settings.items():
                (group / file).write_text(text)
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        return group
    return None


SLOW_HASH = '''
"""blake3 as it is, which does each piece of work many times over."""
import os, sys
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]
del sys.modules["blake3"]
import blake3 as real
sys.modules["blake3"] = sys.modules.get("blake3", real)
fast = real.blake3

class slow:
    AUTO = getattr(fast, "AUTO", None)
    def __init__(self, *data, **options):
        self.hasher = fast(*data, **options)
    def update(self, data):
        for _ in range(TIMES):
            fast(data)
        self.hasher.update(data)
        return self
    def __getattr__(self, name):
        return getattr(self.hasher, name)

real.blake3 = slow
'''


def slow_hash(folder, times=1500):
    """A folder for PYTHONPATH in which hashing is so many times slower."""
    folder.mkdir()
    (folder / "blake3.py").write_text(SLOW_HASH.replace("TIMES", str(times)))
    return folder
