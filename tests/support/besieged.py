"""A real `usr serve` process under attack: what is said to it, what it says, what it costs."""

from __future__ import annotations

import io
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass

from usrstore.errors import ConnectionLostError, ProtocolError
from usrstore.objects import codec
from usrstore.remote.wire import MAGIC, PROTOCOL, StreamChannel, Wire

HELLO = {"op": "hello", "protocol": PROTOCOL}
PATIENCE_S = 60
# A process of its own in between: what a child inherits of our peak would be counted as its own.
_MEASURE = """
import os, resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=file)
"""


def frame(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">Ic", len(body), kind) + body


def message(value) -> bytes:
    return frame(b"M", codec.encode(value))


def objects(rows, payload: bytes = b"") -> bytes:
    head = codec.encode(rows)
    return frame(b"D", struct.pack(">I", len(head)) + head + payload)


@dataclass(frozen=True)
class Fate:
    """How an attack ended.

    Attributes:
        answers: the messages that came, up to the first that ends the conversation.
        status: of the process; None if it had to be killed.
        peak: the most memory that it ever held, in bytes.
        seconds: how long it lasted.
    """

    answers: list
    status: int | None
    peak: int
    seconds: float
    stderr: str

    @property
    def code(self) -> str | None:
        errors = [answer["code"] for answer in self.answers if answer.get("op") == "error"]
        return errors[0] if errors else None


def attack(root, said: Iterable[bytes], *options: str, hang_up: bool = True) -> Fate:
    """Say all of `said` to a fresh `usr serve` of `root`, or as much as it listens to.

    Args:
        hang_up: close our end afterwards; otherwise stay silent and wait for it to act.
    """
    began = time.monotonic()
    usr = [sys.executable, "-m", "usrcli", "serve", "--stdio", "--root", str(root), *options]
    handle, report = tempfile.mkstemp(prefix="usr-besieged-")
    os.close(handle)
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", _MEASURE, report, *usr],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    heard = bytearray()
    os.set_blocking(process.stdin.fileno(), False)
    try:
        for piece in said:
            if not _say(process, piece, heard):
                break
        if hang_up:
            process.stdin.close()
        _listen(process, heard)
        status, peak = _wait(process, report)
    finally:
        os.unlink(report)
        for stream in (process.stdin, process.stdout):
            stream.close()
    stderr = process.stderr.read().decode(errors="replace")
    process.stderr.close()
    return Fate(_answers(bytes(heard)), status, peak, time.monotonic() - began, stderr)


def _say(process, piece: bytes, heard: bytearray) -> bool:
    """Write while reading; False once nobody listens."""
    view = memoryview(piece)
    inward, outward = process.stdin.fileno(), process.stdout.fileno()
    until = time.monotonic() + PATIENCE_S
    while view and time.monotonic() < until:
        readable, writable, _ = select.select([outward], [inward], [], 1)
        if readable:
            heard += os.read(outward, 1 << 16)
        if writable:
            try:
                view = view[os.write(inward, view[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
    return not view


def _listen(process, heard: bytearray) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if select.select([process.stdout.fileno()], [], [], 1)[0]:
            piece = os.read(process.stdout.fileno(), 1 << 16)
            if not piece:
                return
            heard += piece


def _wait(process, report) -> tuple[int | None, int]:
    """Its exit status and its peak; a process that will not end is killed."""
    try:
        process.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None, 0
    with open(report) as file:
        status, peak = map(int, file.read().split())
    return status, peak


def _answers(heard: bytes) -> list:
    assert heard.startswith(MAGIC), heard[:200]
    wire = Wire(StreamChannel(io.BytesIO(heard[len(MAGIC) :]), io.BytesIO()))
    found = []
    try:
        while True:
            found.append(wire.receive())
            if found[-1]["op"] in ("compared", "recipes", "chunks", "planned"):
                list(wire.receive_objects(on_message=found.append))
    except (ConnectionLostError, ProtocolError):  # an error of its amid a run, and hung up
        return found
