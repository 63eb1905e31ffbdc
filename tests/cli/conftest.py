"""Fixtures for the command line: people with keys, and two roots."""

from __future__ import annotations

import os
import shutil

import pytest

from support.datasets import DATASET, REGISTRY
from support.lab import Lab, make_config


@pytest.fixture(scope="session")
def configs(tmp_path_factory):
    """Three people, each with a key: ada, bob and eve."""
    home = tmp_path_factory.mktemp("people")
    return {name: make_config(home / name) for name in ("ada", "bob", "eve")}


@pytest.fixture
def lab(home, configs, capsys, monkeypatch):
    """Both roots are empty but for a registry here and a dataset here."""
    made = Lab(home, configs["ada"], capsys, monkeypatch)
    made.usr("init", made.root).ok()
    (made.root / "registry.yaml").write_bytes(REGISTRY)
    made.write()
    return made


@pytest.fixture
def synced(lab):
    """The dataset has been pushed."""
    lab.usr("push", DATASET, "lab", "-y").ok()
    return lab


@pytest.fixture
def keygen():
    found = shutil.which("ssh-keygen")
    if found is None:
        pytest.skip("there is no ssh-keygen")
    return found


@pytest.fixture(autouse=True)
def calm_descriptors():
    """No command may leave descriptors open in this process."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    yield
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 2
