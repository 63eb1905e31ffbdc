"""Targets as people name them, over a real sshd: a dataset's folder that lies in no named root."""

from __future__ import annotations

import pytest

from support.datasets import REGISTRY
from support.lab import sample_files

REMOTE = "bu-scc"


@pytest.fixture
def apart(link):
    """A dataset in a root that neither --root nor USR_ROOT nor the folder we stand in names."""
    root = link.home / "apart"
    root.mkdir()
    (root / "registry.yaml").write_bytes(REGISTRY)
    link.write(root / "other/y", sample_files())
    return root


def test_a_folder_elsewhere_is_compared_pushed_and_pulled(link, apart):
    folder, far = apart / "other/y", link.there / "other/y"
    assert link.usr("diff", folder, REMOTE).ok().lines[-1] == "Status     : CHANGES"
    assert link.audit("push", folder, REMOTE, "-y")["transfer_state"] == "TRANSFERRED"
    assert link.read(far) == sample_files()
    assert link.audit("push", folder, REMOTE, "-y")["transfer_state"] == "NO-OP"
    (far / "meta.md").write_text("theirs")
    assert link.audit("pull", folder, REMOTE, "-y")["transfer_state"] == "TRANSFERRED"
    assert link.read(folder) == link.read(far)
    assert link.usr("status", folder, REMOTE).ok().lines[-1] == "Status     : up-to-date"
    assert link.refs(link.root) == ""
