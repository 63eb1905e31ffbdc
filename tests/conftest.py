"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support import buckets
from support.figures import figures, pytest_runtest_call, summarise  # noqa: F401  pytest finds them
from support.memory import memory
from support.pairs import Pair

# HYPOTHESIS_PROFILE: `ci` draws the same examples every time, `search` others each time, `deep`
# many more of those. None of them has an opinion on how long an example may take.
_CALM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", settings.get_profile("ci"), **_CALM)
settings.register_profile("search", **_CALM)
settings.register_profile("deep", max_examples=1000, **_CALM)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "ci")


_ATTACKS = ("test_liars.py", "test_path_tricks.py", "test_besieged.py", "test_hostile_server.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items) -> None:
    """What is left to the deep run is slow."""
    for item in items:
        if item.get_closest_marker("deep"):
            item.add_marker("slow")


def pytest_terminal_summary(terminalreporter) -> None:
    """What was tried, and how many evil peers were met."""
    summarise(terminalreporter)
    met = [
        report.nodeid
        for report in terminalreporter.stats.get("passed", ())
        if report.when == "call" and report.nodeid.partition("::")[0].endswith(_ATTACKS)
    ]
    if met:
        terminalreporter.write_line(f"{len(met)} attacks of evil peers were met")


@pytest.fixture(scope="session")
def memory_home():
    """A folder in memory where there is room for one: thousands of syncs cost nothing there."""
    home = tempfile.mkdtemp(prefix="usr-test-", dir=memory())
    yield Path(home)
    shutil.rmtree(home)


@pytest.fixture
def home(memory_home):
    """An empty folder of this test alone."""
    path = Path(tempfile.mkdtemp(dir=memory_home))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make_pair(home):
    """Makes a pair of roots; the first holds the given files."""
    made = []

    def make(files=None, **options) -> Pair:
        made.append(None)
        return Pair.make(home / f"pair-{len(made)}", files=files, **options)

    return make


@pytest.fixture(scope="session")
def moto_server(memory_home):
    """A real S3 server over HTTP."""
    with buckets.moto(memory_home) as server:
        yield server


@pytest.fixture(scope="session")
def rclone_server(memory_home):
    """An S3 server that ignores preconditions."""
    with buckets.rclone(memory_home) as server:
        yield server


@pytest.fixture(scope="session")
def ceph_server():
    """Another one, of another make: the gateway of a Ceph cluster. CI has its programs."""
    missing = buckets.ceph_missing()
    if missing and not os.environ.get("USR_REQUIRE_CEPH"):
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: radosgw ceph-mon ceph-osd)")
    home = tempfile.mkdtemp(prefix="usr-ceph-")
    with buckets.ceph(home) as server:
        yield server
    shutil.rmtree(home)
