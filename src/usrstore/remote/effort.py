"""How hard a process of this machine is at work: what tells a slow cipher from a slow network.

The kernel counts for each task how long it ran and how long it was ready to run and had to
wait; the sum over a while is the time in which the task, and not whatever it waits for, was
what took long. Linux only; elsewhere nothing is known, and nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable


def busy_us(pids: Iterable[int]) -> int | None:
    """Microseconds that these processes have been running, or ready to, together.

    None: one of them cannot be looked at, or none was named.
    """
    total_ns, known = 0, False
    for pid in pids:
        try:
            with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
                running_ns, waiting_ns, _ = file.read().split()
            total_ns += int(running_ns) + int(waiting_ns)
        except (OSError, ValueError):
            return None
        known = True
    return total_ns // 1000 if known else None
