"""A way to the sshd that counts every byte, and may be long."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import threading
from collections.abc import Iterator

from delay import Link
from lab import Lab


class Meter:
    """A link to a port of this machine that counts every byte of every connection."""

    def __init__(self, target: int, delay_ms: float) -> None:
        self._target = target
        self._delay_s = delay_ms / 1000
        self._links: list[Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(near, far, self._delay_s)
            self._links.append(link)
            link.run()

    @property
    def carried(self) -> int:
        return sum(sum(link.carried) for link in self._links)

    def close(self) -> None:
        # A thread that waits in accept is woken by this and not by closing: it would take a
        # connection of whatever listens on the same descriptor next.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@contextlib.contextmanager
def metered(lab: Lab, delay_ms: int) -> Iterator[tuple[Meter, str]]:
    """A metered way to the lab's sshd, and the ssh command that takes it."""
    with open(lab.ssh_config, encoding="utf-8") as file:
        text = file.read()
    found = re.search(r"^\s*Port (\d+)$", text, re.MULTILINE)
    assert found is not None
    meter = Meter(int(found[1]), delay_ms)
    config = lab.path(f"ssh_config-{meter.port}")
    text = text.replace(found[0], found[0].replace(found[1], str(meter.port)))
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"HostKeyAlias [127.0.0.1]:{found[1]}\n{text}")
    try:
        yield meter, shlex.join(["ssh", "-F", config])
    finally:
        meter.close()
