"""`usr drill` is the runbook: it holds on a real link, and it notices when a promise breaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from usrcli.drills import sshd


def drill(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "usrcli", "drill", "--rows", "1000", "--parts", "4", *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_contract_of_the_runbook_holds() -> None:
    """Over a real sshd where there is one; CI demands it."""
    assert sshd.find_sshd() or os.environ.get("USR_REQUIRE_SSHD") != "1", "CI must have an sshd"
    done = drill("--json")
    data = json.loads(done.stdout)["data"]
    failed = [row for row in data["contracts"] if row["ok"] is not True]
    assert not failed
    assert done.returncode == 0
    assert data["held"] >= 75
    assert {row["drill"] for row in data["contracts"]} == {"loop", "drill 1", "drill 2", "drill 3"}
    assert any("infer scores the new sequences" in row["contract"] for row in data["contracts"])


def test_a_drill_that_a_fault_does_not_reach_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A saboteur that spoils nothing must turn contracts red: the drill can fail."""
    monkeypatch.setenv("USR_DRILL_BLUNT", "1")
    done = drill("--transport", "process", "--json")
    data = json.loads(done.stdout)["data"]
    assert data["failed"] > 0
    # The loop has no fault to be blunt about: it holds without an sshd, too.
    assert all(row["ok"] is True for row in data["contracts"] if row["drill"] == "loop")
    assert done.returncode == 1


def test_two_sites_that_work_at_once_end_equal_with_little_moved() -> None:
    done = drill("--two-sites", "--json")
    data = json.loads(done.stdout)["data"]
    failed = [row for row in data["contracts"] if row["ok"] is not True]
    assert not failed
    assert done.returncode == 0
    assert data["held"] >= 14
