"""Faults are tried by the thousand; nobody waits for clocks in between."""

from __future__ import annotations

import pytest

from usrstore.worktree import statcache


@pytest.fixture(autouse=True)
def _no_waiting_for_clock_ticks(monkeypatch):
    """Files change here by renames alone, which no stamp can hide."""
    monkeypatch.setattr(statcache, "_TICK_NS", 0)
