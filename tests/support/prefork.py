"""A warm usr: one process has everything imported, and forks a process for each command.

What is forked is a process of its own, with its own environment, descriptors and signals, and
SIGKILL ends it as it ends any other; it only spares the start-up, which is most of what a small
push costs. `start` forks a command from here; `script` writes a program that others can start
(the shell that sshd runs, say), and that ends as its command ends.

The words of a command travel over a socket, its descriptors beside them; what comes back is
its pid, and in the end its status.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

MODULES = (
    "blake3", "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.serialization.ssh", "getpass", "msgpack", "obstore.store",
    "pyfastcdc", "yaml", "zstandard", "usrcli.keyring", "usrcli.serve", "usrcli.several", "usrcli.sync", "usrcli.upkeep",
    "usrcli.worktree", "usrstore.odb.backend.bucket", "usrstore.odb.gc", "usrstore.remote.ssh",
    "usrstore.verbs.bucket", "usrstore.verbs.fsck", "usrstore.verbs.host", "usrstore.verbs.merge",
    "usrstore.verbs.pull", "usrstore.verbs.push", "usrstore.verbs.recover",
    "usrstore.worktree.columns", "support.people",
)  # fmt: skip
_TESTS = str(Path(__file__).parent.parent)
_PROGRAM = f"import sys; sys.path.insert(0, {_TESTS!r}); from support.prefork import main; main()"
_MOST_BYTES = 1 << 17

_SCRIPT = """#!{python} -IS
import _socket, os, sys
link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
link.connect({path!r})
words = [*{words!r}, *sys.argv[1:]]
said = [os.getcwd(), str(len(words)), *words, *(f"{{k}}={{v}}" for k, v in os.environ.items())]
fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2))
link.sendmsg([chr(0).join(said).encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
pid = link.recv(64)
with open({pids!r} + "/" + pid.decode(), "w"):
    pass
os._exit(int(link.recv(64) or b"255") % 256)
"""


@dataclass
class Command:
    """A command that was forked.

    Attributes:
        pid: of its process, which is not a child of ours.
    """

    pid: int
    link: socket.socket
    _status: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        """As it ended, negative for a signal; None while it runs."""
        if self._status is None:
            with contextlib.suppress(BlockingIOError):
                self._end(socket.MSG_DONTWAIT)
        return self._status

    def wait(self, timeout_s=60.0) -> int:
        if self._status is None:
            self.link.settimeout(timeout_s)
            self._end()
        return self._status

    def _end(self, flags=0):
        said = self.link.recv(64, flags)
        assert said, "the warm usr is gone"
        self._status = int(said)
        self.link.close()


class Warm:
    """The process that forks; it ends with the block. Use with `with`.

    Args:
        home: an empty folder with a short path.
    """

    def __init__(self, home) -> None:
        self.path = str(Path(home) / "warm")
        self.pids = str(Path(home) / "pids")
        os.mkdir(self.pids)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen(64)
        fd = self._listener.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(fd)], pass_fds=[fd], stdin=subprocess.PIPE
        )

    def start(self, words, environment, *, cwd="/", output=os.devnull) -> Command:
        """Fork `usr WORDS…`; what it prints goes to a file."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.connect(self.path)
        said = [str(cwd), str(len(words)), *map(str, words)]
        said += [f"{name}={value}" for name, value in environment.items()]
        empty = os.open(os.devnull, os.O_RDONLY)
        out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            socket.send_fds(link, ["\0".join(said).encode()], [empty, out, out])
        finally:
            os.close(empty)
            os.close(out)
        return Command(int(link.recv(64)), link)

    def script(self, path, *words) -> str:
        """A program that runs `usr WORDS… ARGUMENTS…`, and notes its pid in the folder `pids`."""
        path = Path(path)
        path.write_text(
            _SCRIPT.format(python=sys.executable, path=self.path, pids=self.pids, words=words)
        )
        path.chmod(0o755)
        return str(path)

    def close(self) -> None:
        self._listener.close()
        self._process.stdin.close()  # it goes when we do, however that is
        self._process.wait(timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()


# ── in the process that forks ───────────────────────────────────────────────────────────
def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    for name in MODULES:
        importlib.import_module(name)
    import gc

    gc.set_threshold(100_000, 20, 20)  # as usr does
    gc.freeze()
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for thing in (0, listener, woken):
            selector.register(thing, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == 0:
                    if not os.read(0, 1):
                        return
                elif key.fileobj is woken:
                    woken.recv(4096)
                    _reap(running)
                else:
                    _fork(listener, running)


def _fork(listener, running):
    link, _ = listener.accept()
    said, fds, _, _ = socket.recv_fds(link, _MOST_BYTES, 3)
    pid = os.fork()
    if pid == 0:
        _run(said.decode().split("\0"), fds)
    for fd in fds:
        os.close(fd)
    running[pid] = link
    with contextlib.suppress(OSError):  # whoever asked may be dead by now
        link.send(b"%d" % pid)


def _reap(running):
    while running:
        pid, ended = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        link = running.pop(pid)
        with contextlib.suppress(OSError):
            link.send(b"%d" % os.waitstatus_to_exitcode(ended))
        link.close()


def _command(words):
    """`usr` with these words; or, as `MODULE:FUNCTION` says, what a test runs in its place."""
    from usrcli.main import run

    if not words or ":" not in words[0]:
        return run(words)
    module, _, name = words[0].partition(":")
    return getattr(importlib.import_module(module), name)(*words[1:])


def _run(said, fds):
    """The forked process: become what was asked for."""
    status = 99
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        os.closerange(3, 256)  # links of others: they are to see an end when it is there
        cwd, count, *rest = said
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(line.split("=", 1) for line in rest[int(count) :])
        sys.argv = ["usr", *rest[: int(count)]]
        sys.stdin, sys.stdout, sys.stderr = (
            open(0, closefd=False),  # noqa: SIM115  they are the process's own
            open(1, "w", closefd=False),  # noqa: SIM115
            open(2, "w", closefd=False),  # noqa: SIM115
        )
        status = _command(sys.argv[1:])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)
