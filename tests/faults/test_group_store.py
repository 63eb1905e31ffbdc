"""A store that a group shares: two people's processes, whatever their umasks, in one root.

The root's folder is the group's, setgid and group-writable; that is all the setting there is.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import traceback
from pathlib import Path

import pytest

from support import datasets
from support.datasets import DATASET
from support.memory import memory
from support.pairs import Pair, Place
from support.people import BOB, make_who
from usrstore.dataset import registry
from usrstore.odb import durable
from usrstore.verbs.fsck import fsck

OLD, NEW = datasets.old_files(), datasets.new_files()
GROUP, ADA, BOB_UID = 54321, 54322, 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two people")


@pytest.fixture
def shared():
    """A root of a group, where everybody can get at."""
    home = tempfile.mkdtemp(dir=memory())
    os.chmod(home, 0o755)
    root = Path(home) / "root"
    root.mkdir()
    if os.geteuid() == 0:
        os.chown(root, 0, GROUP)
    root.chmod(0o2770)
    yield root
    shutil.rmtree(home)


def as_person(uid, umask, act):
    """Run in a process of that user, who has a group of their own and is in GROUP."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([GROUP])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(umask)
            act()
        except BaseException:
            os.write(write, traceback.format_exc().encode())
            os._exit(1)
        os._exit(0)
    os.close(write)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said = os.read(read, 1 << 16).decode()
    os.close(read)
    assert status == 0, said


def warm(home):
    """Import all that the verbs import: who is not root may not read where it lies."""
    pair = Pair.make(home, files=OLD)
    pair.here.commit()
    pair.push()
    pair.there.write(NEW)
    pair.pull()
    fsck(pair.here.root, pair.here.who, deep=True)


@needs_root
@pytest.mark.parametrize("umasks", [(0o022, 0o022), (0o077, 0o077), (0o002, 0o077)], ids=str)
def test_two_people_commit_push_and_pull_in_one_root(shared, home, umasks):
    warm(home)
    ada, bob = Place(shared, make_who("ada")), Place(shared, make_who("bob", BOB))
    other = Place(home / "there", make_who("carol"))
    for path, _, _ in os.walk(other.path):
        os.chmod(path, 0o777)
    os.chmod(home, 0o755)
    os.chmod(home.parent, 0o755)

    def begins():
        durable.replace(str(shared / "registry.yaml"), registry.initial())
        for folder in (shared / "ns", shared / DATASET):
            folder.mkdir()
            folder.chmod(0o2770)
        datasets.write(shared / DATASET, OLD)
        for at, folders, names in os.walk(shared / DATASET):
            for name in folders:
                os.chmod(os.path.join(at, name), 0o2770)
            for name in names:
                os.chmod(os.path.join(at, name), 0o660)
        ada.commit("ada's")

    def goes_on():
        assert bob.kept() == OLD
        datasets.write(shared / DATASET, {**OLD, "meta.md": b"bob's\n"})
        os.chmod(shared / DATASET / "meta.md", 0o660)
        bob.commit("bob's")

    def pulls():
        copy = Pair(ada, other)
        copy.pull(force=True)
        assert ada.read() == other.read() == NEW

    def checks():
        assert fsck(bob.root, bob.who, deep=True).findings == []
        datasets.write(shared / DATASET, {**NEW, "meta.md": b"again\n"})
        os.chmod(shared / DATASET / "meta.md", 0o660)
        assert bob.commit("again").created

    as_person(ADA, umasks[0], begins)
    as_person(BOB_UID, umasks[1], goes_on)
    as_person(ADA, umasks[0], pulls)
    as_person(BOB_UID, umasks[1], checks)
    owners = set()
    for at, _, names in os.walk(shared / ".usr"):
        found = os.stat(at)
        assert found.st_gid == GROUP, at
        assert found.st_mode & 0o2070 == 0o2070, at
        for name in names:
            found = os.stat(os.path.join(at, name))
            owners.add(found.st_uid)
            assert found.st_gid == GROUP, name
            assert found.st_mode & 0o060 == 0o060, (at, name, oct(found.st_mode))
    assert owners == {ADA, BOB_UID}
    log = os.stat(shared / DATASET / ".events.log")
    assert log.st_mode & 0o040, "everybody in the group reads the log"


@needs_root
def test_a_cache_that_is_another_persons_alone_breaks_nothing(shared, home):
    warm(home)
    ada, bob = Place(shared, make_who("ada")), Place(shared, make_who("bob", BOB))

    def begins():
        os.umask(0o002)
        durable.replace(str(shared / "registry.yaml"), registry.initial())
        datasets.write(shared / DATASET, OLD)
        for at, folders, _ in os.walk(shared):
            for name in folders:
                os.chmod(os.path.join(at, name), 0o2770)
        ada.commit("ada's")
        for at, _, names in os.walk(shared / ".usr" / "index"):
            os.chmod(at, 0o2750)
            for name in names:
                os.chmod(os.path.join(at, name), 0o600)

    def looks():
        os.umask(0o002)
        assert bob.site().capture(record=True).listing
        datasets.write(shared / DATASET, NEW)
        assert bob.commit("bob's").created

    as_person(ADA, 0o002, begins)
    as_person(BOB_UID, 0o002, looks)
    assert Place(shared, make_who("ada")).kept() == NEW


def test_what_is_made_in_a_groups_folder_is_the_groups_whatever_the_umask(shared):
    before = os.umask(0o077)
    try:
        durable.make_folder(str(shared / "a" / "b"))
        durable.create(str(shared / "a" / "b" / "file"), b"x")
        durable.replace(str(shared / "a" / "cache"), b"y")
        durable.Spool.create(str(shared / "a" / "key"), mode=0o600).close()
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE(os.stat(shared / "a" / name).st_mode)
             for name in ("b", "b/file", "cache", "key")}  # fmt: skip
    assert modes["b"] & 0o2070 == 0o2070
    assert modes["b/file"] == modes["cache"] == 0o660
    assert modes["key"] == 0o600


def test_what_is_made_in_ones_own_folder_follows_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        durable.make_folder(str(tmp_path / "a"))
        durable.create(str(tmp_path / "a" / "file"), b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) & 0o070 == 0
    assert stat.S_IMODE(os.stat(tmp_path / "a" / "file").st_mode) == 0o600
