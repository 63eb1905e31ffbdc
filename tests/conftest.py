"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from support.pairs import Pair


@pytest.fixture(scope="session")
def memory_home():
    """A folder in memory where there is one: thousands of syncs cost nothing there."""
    shared = "/dev/shm"
    home = tempfile.mkdtemp(prefix="usr-test-", dir=shared if os.access(shared, os.W_OK) else None)
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
