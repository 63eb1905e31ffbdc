"""Targets as people name them, over a real sshd: a folder in no root that was named, one file."""

from __future__ import annotations

import contextlib
import os

import pytest

from support.datasets import REGISTRY, noise, sample_parquet
from support.lab import sample_files
from support.processes import wait_beside, wait_gone

REMOTE = "bu-scc"
PATIENCE_S = 120


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


# ── one file ────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def repos(link):
    """Two clones of a repository, in no root; the remote's settings say where both are."""
    here, there = link.home / "repo", link.home / "far repo"
    for folder in (here / "data", there / "data"):
        folder.mkdir(parents=True)
    link.profile(repo_root=str(there), local_repo_root=str(here))
    (here / "data/t.parquet").write_bytes(sample_parquet())
    return here / "data/t.parquet", there / "data/t.parquet"


def test_a_file_is_compared_pushed_and_pulled(link, repos):
    file, far = repos
    assert link.usr("diff", file, REMOTE).ok().lines[-2:] == [
        "  only here  t.parquet",
        "Status     : CHANGES",
    ]
    assert list(far.parent.iterdir()) == []  # a look makes nothing
    data = link.audit("push", file, REMOTE, "-y", "--verify", "parquet")
    assert data["transfer_state"] == "TRANSFERRED"
    assert data["file"] == {"local": str(file), "remote": f"scc1:{far}"}
    assert far.read_bytes() == file.read_bytes()
    assert link.audit("push", file, REMOTE, "-y")["transfer_state"] == "NO-OP"
    far.write_bytes(noise("theirs", 5000))
    assert link.usr("status", file, REMOTE).ok().lines[-1] == "Status     : CHANGES"
    assert link.audit("pull", file, REMOTE, "-y")["transfer_state"] == "TRANSFERRED"
    assert file.read_bytes() == far.read_bytes()
    assert link.usr("diff", file, REMOTE).ok().lines[-1] == "Status     : up-to-date"


def test_a_remote_path_is_taken_by_the_word_whatever_shells_make_of_it(link, repos):
    file, _ = repos
    odd = link.home / 'it\'s $HOME; "x"' / "r.parquet"
    odd.parent.mkdir()
    link.usr("push", file, REMOTE, "-y", "--remote-path", odd).ok()
    assert odd.read_bytes() == file.read_bytes()


def test_a_remote_that_serves_only_its_root_says_so_and_takes_no_file(link, repos):
    """sshd's ForceCommand starts `usr serve` by itself, whatever the client asks for."""
    file, far = repos
    forced = link.script(
        "forced", f"#!/bin/sh\nexec {link.far_usr} serve --stdio --root {link.there}\n"
    )
    link.profile(
        repo_root=str(far.parents[1]), local_repo_root=str(file.parents[1]), usr_command=forced
    )
    for verb in ("push", "pull", "diff"):
        said = link.usr(verb, file, REMOTE).failed("remote-without-files", 9)
        assert "ForceCommand" in said.err
    assert not far.exists()
    assert list(link.there.iterdir()) == []


def test_a_push_of_a_file_that_is_killed_leaves_the_old_one_and_goes_on(link, repos):
    file, far = repos
    roots = {"repo_root": str(far.parents[1]), "local_repo_root": str(file.parents[1])}
    link.usr("push", file, REMOTE, "-y").ok()
    old = far.read_bytes()
    file.write_bytes(noise("large", 16 << 20))
    link.profile(**roots, usr_command=link.held("stdin"))
    child = link.start("push", file, REMOTE, "-y")
    wait_beside(child, lambda: arrived(far.parent / ".usr") >= 4 << 20, "four of its sixteen MiB")
    pids = (link.home / "pid").read_text().split()
    child.kill()
    link.let_go()
    child.communicate(timeout=PATIENCE_S)
    wait_gone(*pids)
    assert far.read_bytes() == old
    link.profile(**roots)
    data = link.audit("push", file, REMOTE, "-y")
    assert far.read_bytes() == file.read_bytes()
    assert data["moved"]["resumed"] > 0
    assert data["moved"]["resumed"] + data["moved"]["payload"] <= 16 << 20


def arrived(store) -> int:
    """Bytes on the disk of what waits to be verified."""
    total = 0
    for folder, _, names in os.walk(store):
        for name in names if "/quarantine" in folder else ():
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
    return total
