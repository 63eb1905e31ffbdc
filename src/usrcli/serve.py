"""`usr serve --stdio`: the far end of somebody's ssh."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import select
import signal
import time

import click

from usrcli.context import make_who, settings
from usrstore.errors import UsrError
from usrstore.lone import Lone
from usrstore.objects.names import check_dataset
from usrstore.remote import messages
from usrstore.remote.gather import GatheringWriter
from usrstore.remote.patience import IDLE_S, Patience, PatientReader, PatientWriter
from usrstore.remote.peer import Peer
from usrstore.remote.serve import Limits
from usrstore.remote.serve import serve as serve_channel
from usrstore.remote.wire import MAGIC, READ_BYTES, StreamChannel, Wire
from usrstore.root import TOOL, Root
from usrstore.trust.policy import Mode
from usrstore.verbs import believing
from usrstore.verbs.host import Host

_LINGER_BYTES = 1 << 20
_LINGER_S = 2.0
_PIPE_BYTES = 1 << 20


@click.command(short_help="Answer another usr over standard input and output")
@click.option("--stdio", is_flag=True, required=True, help="Speak on standard input and output.")
@click.option("--root", "base", metavar="DIR", help="The root to serve (default: the global one).")
@click.option("--file", metavar="PATH", help="Serve this one file, and no root.")
@click.option("--read-only", is_flag=True, help="Refuse pushes.")
@click.option(
    "--dataset",
    "datasets",
    metavar="ID[:ro]",
    multiple=True,
    help="Serve this dataset only; may be repeated. With `:ro`, refuse pushes of it.",
)
@click.option("--max-bytes", type=click.IntRange(1), help="The most that one push may send.")
@click.option(
    "--max-metadata",
    type=click.IntRange(1),
    default=messages.MAX_METADATA_BYTES,
    show_default=True,
    help="The most memory that what one push says of its files may take.",
)
@click.option(
    "--idle-timeout",
    metavar="S",
    type=click.FloatRange(0, min_open=True),
    default=IDLE_S,
    show_default=True,
    help="How long the client may keep us waiting; 1 KiB from it buys a second.",
)
@click.option(
    "--max-time",
    metavar="S",
    type=click.FloatRange(0, min_open=True),
    help="How long one session may last.",
)
@click.option(
    "--trust", type=click.Choice(["strict", "tofu", "none"]), help="Signatures of pushes."
)
def serve(
    stdio: bool,  # noqa: ARG001
    base: str | None,
    file: str | None,
    read_only: bool,
    datasets: tuple[str, ...],
    max_bytes: int | None,
    max_metadata: int,
    idle_timeout: float,
    max_time: float | None,
    trust: Mode | None,
) -> None:
    """Answer another usr over standard input and output; meant to be started by its ssh.

    \b
    In authorized_keys or sshd_config, for a collaborator who may only read:
      ForceCommand usr serve --stdio --root /data/usr --read-only --max-time 7200
    """  # noqa: D301
    # Nothing but frames may reach standard output: whatever prints goes to standard error.
    for descriptor in (0, 1):
        _widen(descriptor)
    patience = Patience(idle_s=idle_timeout, total_s=max_time)
    out = GatheringWriter(PatientWriter(os.dup(1), patience).write)
    os.dup2(2, 1)
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    channel = StreamChannel(io.BufferedReader(PatientReader(0, patience), READ_BYTES), out)
    limits = Limits(
        read_only=read_only,
        datasets=_modes(datasets) if datasets else None,
        max_bytes=max_bytes,
        max_metadata=max_metadata,
        patience=patience,
    )
    try:
        peer = _peer(base, file, trust, limits)
    except UsrError as exc:
        channel.write(MAGIC)
        Wire(channel).send(messages.error_message(exc))
    else:
        serve_channel(channel, peer, tool=TOOL, limits=limits)
    _linger()


def _widen(descriptor: int) -> None:
    """Let a pipe hold as much as we read at once: sshd makes it 64 KiB, and waits for each of them.

    What is no pipe, or on a system that cannot, stays as it is.
    """
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _linger() -> None:
    """Read on a little, so that a client that was still asking gets to read why we refused.

    Whoever is sending more than that notices that we hang up, and then reads it, too.
    """
    left, until = _LINGER_BYTES, time.monotonic() + _LINGER_S
    while left > 0 and select.select([0], [], [], max(0.0, until - time.monotonic()))[0]:
        piece = os.read(0, left)
        if not piece:
            return
        left -= len(piece)


def _modes(datasets: tuple[str, ...]) -> dict[str, bool]:
    """Which datasets are served, and whether each may be pushed: `ID` or `ID:ro`."""
    modes: dict[str, bool] = {}
    for text in datasets:
        stem, colon, mode = text.partition(":")
        if colon and mode not in ("ro", "rw"):
            raise click.UsageError(f"--dataset {text}: after the colon stands `ro` or `rw`")
        modes[check_dataset(stem)] = mode != "ro"
    return modes


def _peer(base: str | None, file: str | None, trust: Mode | None, limits: Limits) -> Peer:
    if file is not None:
        root: Root = Lone(os.path.expanduser(file))
    else:
        given = base or settings().root or os.environ.get("USR_ROOT") or "."
        root = Root(os.path.expanduser(given))
    mode = believing.mode_of(root, trust)
    return Host(
        root,
        make_who(root),
        trust=mode,
        read_only=limits.read_only,
        confined=True,
        sealed=limits.datasets is not None,
        max_metadata=limits.max_metadata,
    )
