"""A peer behind a real wire inside one process: a socket pair, the serving end in a thread."""

from __future__ import annotations

import socket
import threading

from usrstore.remote.client import WirePeer
from usrstore.remote.serve import Limits, serve
from usrstore.remote.wire import MAGIC, StreamChannel, Wire


def channel_of(end: socket.socket) -> StreamChannel:
    return StreamChannel(end.makefile("rb"), end.makefile("wb"))


def connect(peer, *, limits: Limits | None = None, channel_type=StreamChannel) -> WirePeer:
    """Serve `peer` and speak to it; closing hangs up and waits for the serving end."""
    ours, theirs = socket.socketpair()
    reader, writer = theirs.makefile("rb"), theirs.makefile("wb")

    def work():
        try:
            serve(StreamChannel(reader, writer), peer, tool="test", limits=limits or Limits())
        finally:
            for stream in (reader, writer, theirs):
                try:
                    stream.close()
                except OSError:
                    pass  # what was buffered has nobody to go to

    thread = threading.Thread(target=work)
    thread.start()
    inward, outward = ours.makefile("rb"), ours.makefile("wb")

    def close():
        try:
            ours.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        for stream in (outward, inward, ours):
            try:
                stream.close()
            except OSError:
                pass
        thread.join()

    channel = channel_type(inward, outward)
    assert channel.read(len(MAGIC)) == MAGIC
    client = WirePeer(Wire(channel), "remote r", close)
    client.greet()
    return client
