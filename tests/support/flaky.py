"""A link to a server that loses replies, says "later", refuses, or never answers. TCP, one rule."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field

LOSE, BUSY, DENY, STALL = "lose the reply", "503", "403", "never answer"
UNSENT, UNHEARD = "die before the request arrives", "die before the reply does"
_SAYS = {
    BUSY: "<Error><Code>SlowDown</Code><Message>Please reduce your rate</Message></Error>",
    # As S3 says it: with the caller's key in it.
    DENY: "<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>{key}</AWSAccessKeyId>"
    "<StringToSign>{auth}</StringToSign></Error>",
}


@dataclass
class Link:
    """Forwards HTTP requests to a port, one after another on each connection.

    Attributes:
        rule: (number of this kind of request, method, path) → what goes wrong, or None.
        kill: ends whoever asks, for the rules that say so.
        asked: every request that was made, as "METHOD path".
        wrong: how many requests something was done to.
    """

    upstream: int
    rule: object = lambda _number, _method, _path: None
    kill: object = lambda: None
    asked: list[str] = field(default_factory=list)
    wrong: int = 0

    def __post_init__(self):
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.stalled = threading.Event()
        self._closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError, EOFError), client:
            reader = client.makefile("rb")
            while self._exchange(client, reader):
                pass

    def _exchange(self, client, reader) -> bool:
        head, fields = _head(reader)
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        with self._lock:
            self.asked.append(f"{method} {path}")
            number = sum(line.startswith(f"{method} ") for line in self.asked)
            fate = self.rule(number, method, path)
            self.wrong += fate is not None
        if fate == STALL:
            self.stalled.set()
            self._closing.wait(60)
            return False
        length = int(fields.get("content-length", 0))
        body = reader.read(length)
        if fate == UNSENT:
            self.kill()
            return False
        if fate in (BUSY, DENY):
            text = _SAYS[fate]
            auth = fields.get("authorization", "")
            text = text.format(key=auth.partition("Credential=")[2].partition("/")[0], auth=auth)
            reply = f"HTTP/1.1 {fate} No\r\nContent-Length: {len(text)}\r\n\r\n"
            client.sendall(reply.encode() + (b"" if method == "HEAD" else text.encode()))
            return True
        with socket.create_connection(("127.0.0.1", self.upstream)) as server:
            server.sendall(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) + body)
            reply = b"".join(iter(lambda: server.recv(1 << 16), b""))
        if fate == UNHEARD:
            self.kill()
        elif fate != LOSE:
            client.sendall(reply)
        return False

    def close(self):
        self._closing.set()
        # close(2) alone does not wake a thread that waits in accept(2).
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()


def _head(reader):
    lines = []
    while (line := reader.readline()) != b"\r\n":
        if not line:
            raise EOFError
        lines.append(line)
    pairs = [line.decode("latin-1").strip().partition(":") for line in lines[1:]]
    fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
    kept = [line for line in lines if not line.lower().startswith((b"connection:", b"expect:"))]
    return b"".join(kept) + b"\r\n", fields


def every(n, method, fate):
    """A rule: this happens to each n-th request of a method."""
    return lambda number, asked, _path: fate if asked == method and number % n == 0 else None
