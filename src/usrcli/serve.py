"""`usr serve --stdio`: the far end of somebody's ssh."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import click

from usrcli.context import make_who, settings
from usrstore.errors import UsrError
from usrstore.remote import messages
from usrstore.remote.peer import Peer
from usrstore.remote.serve import Limits
from usrstore.remote.serve import serve as serve_channel
from usrstore.remote.wire import MAGIC, StreamChannel, Wire
from usrstore.root import TOOL, Root
from usrstore.trust.policy import Mode
from usrstore.verbs import believing
from usrstore.verbs.host import Host

_LINGER_BYTES = 1 << 20


@click.command(short_help="Answer another usr over standard input and output")
@click.option("--stdio", is_flag=True, required=True, help="Speak on standard input and output.")
@click.option("--root", "base", metavar="DIR", help="The root to serve (default: the global one).")
@click.option("--read-only", is_flag=True, help="Refuse pushes.")
@click.option("--dataset", metavar="ID", help="Serve this dataset only.")
@click.option("--max-bytes", type=click.IntRange(1), help="The most that one push may send.")
@click.option(
    "--trust", type=click.Choice(["strict", "tofu", "none"]), help="Signatures of pushes."
)
def serve(
    stdio: bool,  # noqa: ARG001
    base: str | None,
    read_only: bool,
    dataset: str | None,
    max_bytes: int | None,
    trust: Mode | None,
) -> None:
    """Answer another usr over standard input and output; meant to be started by its ssh.

    \b
    In authorized_keys or sshd_config, for a collaborator who may only read:
      ForceCommand usr serve --stdio --root /data/usr --read-only
    """  # noqa: D301
    # Nothing but frames may reach standard output: whatever prints goes to standard error.
    out = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    channel = StreamChannel(sys.stdin.buffer, out)
    limits = Limits(read_only=read_only, dataset=dataset, max_bytes=max_bytes)
    try:
        peer = _peer(base, trust, read_only=read_only)
    except UsrError as exc:
        channel.write(MAGIC)
        Wire(channel).send(messages.error_message(exc))
    else:
        serve_channel(channel, peer, tool=TOOL, limits=limits)
    _linger()


def _linger() -> None:
    """Read on a little, so that a client that was still asking gets to read why we refused.

    Whoever is sending more than that notices that we hang up, and then reads it, too.
    """
    left = _LINGER_BYTES
    while left > 0 and (piece := os.read(0, left)):
        left -= len(piece)


def _peer(base: str | None, trust: Mode | None, *, read_only: bool) -> Peer:
    root = Root(os.path.expanduser(base or settings().root or os.environ.get("USR_ROOT") or "."))
    mode = believing.mode_of(root, trust)
    return Host(root, make_who(root), trust=mode, read_only=read_only)
