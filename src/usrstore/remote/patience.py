"""How long the serving end waits for its client: silence, dripping bytes, and no end at all.

Every second that we wait for the client is taken from an account of `idle_s`, and every
KiB that it gives or takes puts one second back, up to the full account. So one rule
ends a client that says nothing, one that sends a byte an hour, and one that asks for much
and does not read it. What this end does by itself costs the client nothing.
"""

from __future__ import annotations

import io
import os
import select
import time
from typing import TYPE_CHECKING

from usrstore.errors import ConnectionLostError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import WriteableBuffer

IDLE_S = 3600.0  # a person may be reading the plan before they say yes
BUSY_S = 300.0  # once a transfer has begun, nobody is asked anything
_RATE = 1024  # bytes that buy a second


class Patience:
    """The account of one session.

    Args:
        idle_s: how long a client may keep us waiting.
        total_s: how long the session may last, whatever it does; None for no end.
    """

    def __init__(self, *, idle_s: float = IDLE_S, total_s: float | None = None) -> None:
        self._full = self._left = idle_s
        self._end = None if total_s is None else time.monotonic() + total_s
        self._total_s = total_s

    def tighten(self, idle_s: float) -> None:
        """From now on, wait no longer than this."""
        self._full = min(self._full, idle_s)
        self._left = min(self._left, self._full)

    def wait(self, poll: select.poll) -> None:
        """Until the other end has something for us, or takes something.

        Raises:
            ProtocolError: it took too long.
        """
        began = time.monotonic()
        most = self._left if self._end is None else min(self._left, self._end - began)
        ready = most > 0 and poll.poll(most * 1000)
        self._left -= time.monotonic() - began
        if ready:
            return
        if self._end is not None and time.monotonic() >= self._end:
            raise ProtocolError(
                f"a session that has lasted {self._total_s:g} s, all that this end allows; "
                "nothing was promoted",
                hint="run the same command again: what has arrived is kept; or raise --max-time "
                "at the serving end",
                code="session-too-long",
            )
        raise ProtocolError(
            f"this end has waited {self._full:g} s for the other in all; nothing was promoted",
            hint="run the same command again: what has arrived is kept; or raise --idle-timeout "
            "at the serving end",
            code="too-slow",
        )

    def passed(self, size: int) -> None:
        self._left = min(self._full, self._left + size / _RATE)


class PatientReader(io.RawIOBase):
    """The reading end of a pipe or socket, with an account of waiting."""

    def __init__(self, descriptor: int, patience: Patience) -> None:
        self._descriptor = descriptor
        self._patience = patience
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Raises: ProtocolError: it took too long."""
        self._patience.wait(self._poll)
        size = os.readv(self._descriptor, [buffer])
        self._patience.passed(size)
        return size


class PatientWriter:
    """The writing end of a pipe or socket, with an account of waiting."""

    def __init__(self, descriptor: int, patience: Patience) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._patience = patience
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, pieces: Sequence[bytes | memoryview]) -> int:
        """Some of these, and how many bytes. Raises: ConnectionLostError: not taken for too long."""
        while True:
            try:
                size = os.writev(self._descriptor, pieces)
            except BlockingIOError:
                try:
                    self._patience.wait(self._poll)
                except ProtocolError as exc:  # it would not read that, either
                    raise ConnectionLostError(exc.message, code=exc.code) from exc
            else:
                self._patience.passed(size)
                return size
