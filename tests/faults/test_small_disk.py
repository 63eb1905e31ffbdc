"""A real small file system that fills up: told before anything is written, or met on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from support import datasets
from support.pairs import Pair
from usrstore.errors import DiskFullError
from usrstore.verbs.fsck import fsck

OLD = datasets.old_files()
BIG = {**OLD, "_artifacts/big": datasets.noise("big", 6 << 20)}


@pytest.fixture
def small():
    """Mounts file systems of a size and a number of inodes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = []

    def mount(options):
        path = tempfile.mkdtemp(prefix="usr-small-")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", path], capture_output=True, check=False
        )
        if done.returncode:
            os.rmdir(path)
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
        mounted.append(path)
        return Path(path)

    yield mount
    for path in mounted:
        subprocess.run(["umount", path], check=True)
        os.rmdir(path)


def fill(folder, *, leave):
    room = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - leave)))


def use_up_inodes(folder, *, leave):
    (folder / "many").mkdir()
    while os.statvfs(folder).f_favail > leave:
        (folder / "many" / str(os.statvfs(folder).f_favail)).touch()


def here_on(disk, files):
    pair = Pair.make(disk / "pair", files=files)
    pair.here.commit("first")
    return pair


def store(place):
    """Every byte that counts: packs and states."""
    root = place.path / ".usr"
    return {path.name: path.read_bytes() for kind in ("packs", "states")
            for path in (root / kind).glob("*") if not path.name.startswith("usr-")}  # fmt: skip


@pytest.mark.parametrize("kind", ["told", "met"])
def test_a_commit_onto_a_full_disk_changes_nothing_and_works_once_there_is_room(small, kind):
    disk = small("size=24m")
    place = here_on(disk, OLD).here
    place.write(BIG)
    before = store(place), place.refs()
    fill(disk, leave=1 << 20 if kind == "told" else 5 << 20)
    with pytest.raises(DiskFullError) as caught:
        place.commit("second")
    assert "run the same command again" in caught.value.hint
    assert "MB" in caught.value.message
    if kind == "met":
        assert "keeping ns/x may need up to" in caught.value.message
    assert (store(place), place.refs()) == before
    assert place.read() == BIG
    (disk / "filler").unlink()
    assert place.commit("second").created
    assert place.kept() == BIG
    assert fsck(place.root, place.who, deep=True).findings == []


def test_a_pull_that_would_not_fit_is_told_before_anything_moves(small, home):
    pair = Pair.make(home / "pair", files=BIG)
    pair.here.commit()
    disk = small("size=24m")
    there = replace(pair.there, path=disk / "there")
    shutil.copytree(pair.there.path, there.path)
    pair = replace(pair, there=there)
    fill(disk, leave=7 << 20)
    before = there.everything()
    with pytest.raises(DiskFullError) as caught:
        pair.push()
    assert "the new state of ns/x needs" in caught.value.message
    assert there.everything() == before
    assert not list(there.path.glob(".usr/quarantine/*/*"))
    (disk / "filler").unlink()
    pair.push()
    assert there.read() == BIG


def test_inodes_run_out_as_bytes_do(small, home):
    pair = Pair.make(home / "pair", files=OLD)
    disk = small("size=64m,nr_inodes=400")
    there = replace(pair.there, path=disk / "there")
    shutil.copytree(pair.there.path, there.path)
    pair = replace(pair, there=there)
    use_up_inodes(disk, leave=20)
    with pytest.raises(DiskFullError) as caught:
        pair.push()
    assert "inodes" in caught.value.message
    assert there.read() == {}
    shutil.rmtree(disk / "many")
    pair.push()
    assert there.read() == OLD
