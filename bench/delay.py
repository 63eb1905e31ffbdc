"""A link that is far: a TCP proxy on loopback that holds every byte back for a while, and counts.

python -I delay.py TARGET_PORT MILLISECONDS COUNTS

It prints the port on which it listens. Bandwidth is not limited, only distance: what comes is
passed on so many milliseconds later. When a connection ends, the bytes that it carried to the
target and back are written to the file COUNTS.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Queue

_PIECE = 256 << 10
_ON_ITS_WAY = 512  # pieces; more than any window needs


class Link:
    """Two directions of one connection."""

    def __init__(self, near: socket.socket, far: socket.socket, delay_s: float) -> None:
        self.delay_s = delay_s
        self.carried = [0, 0]
        self._threads = [
            threading.Thread(target=self._carry, args=(number, *ends), daemon=True)
            for number, ends in enumerate(((near, far), (far, near)))
        ]

    def run(self) -> None:
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()

    def _carry(self, number: int, source: socket.socket, target: socket.socket) -> None:
        waiting: Queue[tuple[float, bytes]] = Queue(_ON_ITS_WAY)

        def deliver() -> None:
            while True:
                due, piece = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not piece:
                    break
                with contextlib.suppress(OSError):
                    target.sendall(piece)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=deliver, daemon=True)
        thread.start()
        piece = b"first"
        while piece:
            try:
                piece = source.recv(_PIECE)
            except OSError:
                piece = b""
            self.carried[number] += len(piece)
            waiting.put((time.monotonic() + self.delay_s, piece))
        thread.join()


def main(target: int, delay_s: float, counts: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        near, _ = listener.accept()
        threading.Thread(target=_serve, args=(near, target, delay_s, counts), daemon=True).start()


def _serve(near: socket.socket, target: int, delay_s: float, counts: str) -> None:
    with near, socket.create_connection(("127.0.0.1", target)) as far:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(near, far, delay_s)
        link.run()
    scratch = f"{counts}.{threading.get_ident()}"
    with open(scratch, "w", encoding="utf-8") as file:
        json.dump(link.carried, file)
    os.replace(scratch, counts)


@dataclass(frozen=True)
class Delay:
    """A running proxy."""

    port: int
    counts: str

    def carried(self) -> tuple[int, int]:
        """Bytes there and back of the last connection that ended; ssh's own included."""
        with open(self.counts, encoding="utf-8") as file:
            there, back = json.load(file)
        return there, back


@contextlib.contextmanager
def running(target: int, milliseconds: float, counts: str) -> Iterator[Delay]:
    """A proxy in a process of its own, ended when the block is left."""
    child = subprocess.Popen(
        [sys.executable, "-I", __file__, str(target), str(milliseconds), counts],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        yield Delay(int(child.stdout.readline()), counts)
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) / 1000, sys.argv[3])
