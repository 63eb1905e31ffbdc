"""A serving end in a process of its own, spoken to over its pipes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from support.people import make_who
from usrstore.remote import ssh
from usrstore.remote.client import WirePeer
from usrstore.remote.serve import Limits, serve
from usrstore.remote.wire import StreamChannel
from usrstore.root import Root
from usrstore.verbs.host import Host

_TESTS = str(Path(__file__).parent.parent)
_PROGRAM = f"import sys; sys.path.insert(0, {_TESTS!r}); from support.serving import main; main()"


def main() -> None:
    """Serve the root of the first argument; say in the file of the second that it has begun."""
    root, began = sys.argv[1:]
    Path(f"{began}.new").write_text(str(os.getpid()))
    os.rename(f"{began}.new", began)
    channel = StreamChannel(sys.stdin.buffer, sys.stdout.buffer)
    serve(channel, Host(Root(root), make_who("server")), tool="test", limits=Limits())


def connect(root, began) -> WirePeer:
    return ssh.open_process([sys.executable, "-c", _PROGRAM, str(root), str(began)], "remote r")
