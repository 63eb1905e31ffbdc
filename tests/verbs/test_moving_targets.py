"""Folders that change under a transfer, logs that grow, and programs that hold locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time

import pytest

from support import datasets, wires
from support.liars import Proxy
from support.pairs import LOCK_TIMEOUT_S
from usrstore.errors import ChangedWhileReadError, LockedError, RefConflictError
from usrstore.odb import flock
from usrstore.verbs import commit, push
from usrstore.verbs.options import Options
from usrstore.worktree import cut

OLD, NEW = datasets.old_files(), datasets.new_files()


class Meanwhile(Proxy):
    """Something happens just before one of the questions is asked."""

    def __init__(self, peer, question, act):
        super().__init__(peer)
        self._question, self._act = question, act

    def __getattr__(self, name):
        found = getattr(self.peer, name)
        if name != self._question:
            return found

        def asked(*args, **options):
            self._act()
            return found(*args, **options)

        return asked


def synced(make_pair, *, here=OLD, there=OLD):
    pair = make_pair(OLD)
    pair.push()
    pair.pull()
    pair.here.write(here)
    pair.there.write(there)
    return pair


def append(place, *numbers):
    with open(place.folder / ".events.log", "ab") as log:
        log.write(datasets.events(*numbers))


def rewrite(place, path, data):
    """In place, as a careless program does: same name, same inode."""
    with open(place.folder / path, "r+b") as file:
        file.write(data)


@pytest.mark.parametrize("wired", [False, True])
@pytest.mark.spec("P-10")
def test_a_remote_file_that_changes_while_it_is_sent_is_never_pulled(make_pair, wired):
    pair = synced(make_pair, there=NEW)
    before = pair.here.everything()
    act = lambda: rewrite(pair.there, "records.parquet", b"!" * 300_000)
    peer = Meanwhile(pair.there.host(), "send", act)
    with pytest.raises(ChangedWhileReadError) as caught:
        pair.pull(wires.connect(peer) if wired else peer)
    assert "records.parquet" in caught.value.message
    assert "run the same command again" in caught.value.hint
    assert pair.here.everything() == before
    pair.pull()
    assert pair.here.read() == pair.there.read()


@pytest.mark.parametrize("question", ["offer", "plan", "publish"])
def test_a_remote_folder_that_changes_during_a_push_is_left_alone(make_pair, question):
    pair = synced(make_pair, here=NEW)
    refs = pair.there.refs()
    act = lambda: pair.there.write({**OLD, "meta.md": b"# theirs\n"})
    with pytest.raises(ChangedWhileReadError):
        pair.push(Meanwhile(pair.there.host(), question, act))
    assert pair.there.read() == {**OLD, "meta.md": b"# theirs\n"}
    assert pair.there.refs() == refs
    assert pair.there.root.journaled() == []


def test_a_remote_head_that_moves_during_a_push_is_left_alone(make_pair):
    pair = synced(make_pair, here=NEW)
    with pytest.raises(RefConflictError):
        pair.push(Meanwhile(pair.there.host(), "plan", lambda: commit_elsewhere(pair.there)))
    assert pair.there.manifest().message == "theirs"


def commit_elsewhere(place):
    data = (place.folder / "meta.md").read_bytes()
    (place.folder / "meta.md").write_bytes(b"changed")
    place.commit("theirs")
    (place.folder / "meta.md").write_bytes(data)


@pytest.mark.parametrize("question", ["want", "send"])
def test_a_local_folder_that_changes_during_a_pull_is_left_alone(make_pair, question):
    pair = synced(make_pair, there=NEW)
    refs = pair.here.refs()
    edited = {**OLD, "meta.md": b"# being written\n"}
    with pytest.raises(ChangedWhileReadError):
        pair.pull(Meanwhile(pair.there.host(), question, lambda: pair.here.write(edited)))
    assert pair.here.read() == edited
    assert pair.here.refs() == refs
    assert pair.here.root.journaled() == []


def test_a_local_head_that_moves_during_a_pull_is_not_lost(make_pair):
    pair = synced(make_pair, there=NEW)
    before = pair.here.read()
    with pytest.raises(RefConflictError):
        pair.pull(Meanwhile(pair.there.host(), "send", lambda: commit_elsewhere_and_stay(pair)))
    assert pair.here.read() == before
    assert pair.here.manifest().message == "theirs"
    assert pair.here.root.journaled() == []


def commit_elsewhere_and_stay(pair):
    """A state beside the pull, of the very same files."""
    commit.commit(pair.here.site(), message="theirs", policy=["by hand"])


def test_a_local_file_that_changes_while_it_is_pushed_stops_the_push(make_pair):
    pair = synced(make_pair, here=NEW)
    before = pair.there.everything()
    act = lambda: rewrite(pair.here, "records.parquet", b"!" * 300_000)
    with pytest.raises(ChangedWhileReadError) as caught:
        pair.push(Meanwhile(wires.connect(pair.there.host()), "publish", act))
    assert "records.parquet" in caught.value.message
    assert pair.there.everything() == before
    pair.push()
    assert pair.there.read() == pair.here.read()


def test_events_that_are_appended_here_during_a_push_follow_with_the_next(make_pair):
    pair = synced(make_pair, here=NEW)
    pair.push(Meanwhile(pair.there.host(), "plan", lambda: append(pair.here, 6)))
    assert pair.there.read() == NEW  # what was captured
    assert pair.push().state == "TRANSFERRED"
    assert pair.there.read() == pair.here.read()


def test_events_that_are_appended_here_during_a_pull_are_never_lost(make_pair):
    pair = synced(make_pair, there={**OLD, "meta.md": b"theirs"})
    with pytest.raises(ChangedWhileReadError):
        pair.pull(Meanwhile(pair.there.host(), "send", lambda: append(pair.here, 4)))
    assert pair.here.read()[".events.log"] == datasets.events(1, 2, 3, 4)


def test_events_that_are_appended_there_during_a_push_are_never_lost(make_pair):
    pair = synced(make_pair, here=NEW)
    with pytest.raises(ChangedWhileReadError):
        pair.push(Meanwhile(pair.there.host(), "publish", lambda: append(pair.there, 9)))
    assert pair.there.read()[".events.log"] == datasets.events(1, 2, 3, 9)


def test_events_that_are_appended_there_during_a_pull_follow_with_the_next(make_pair):
    pair = synced(make_pair, there=NEW)
    pair.pull(Meanwhile(pair.there.host(), "send", lambda: append(pair.there, 6)))
    assert pair.here.read() == NEW
    pair.pull()
    assert pair.here.read() == pair.there.read()


def test_a_log_that_grows_while_it_is_read_is_captured_as_it_was(make_pair, monkeypatch):
    pair = make_pair(OLD)
    whole = cut.cut_file

    def cut_file(fd, size, *sinks):
        if size == len(OLD[".events.log"]):
            append(pair.here, 4)
        return whole(fd, size, *sinks)

    monkeypatch.setattr(cut, "cut_file", cut_file)
    pair.here.commit()
    assert pair.here.kept() == OLD
    assert pair.here.manifest().events == 3


def test_a_file_that_never_rests_is_an_error_that_names_it(make_pair, monkeypatch):
    pair = make_pair(OLD)
    whole = cut.cut_file

    def cut_file(fd, size, *sinks):
        (pair.here.folder / "meta.md").write_bytes(os.urandom(20))
        return whole(fd, size, *sinks)

    monkeypatch.setattr(cut, "cut_file", cut_file)
    with pytest.raises(ChangedWhileReadError, match=r"meta\.md"):
        pair.here.commit()
    assert pair.here.refs() == {}


def test_a_file_that_changes_once_while_it_is_read_is_read_again(make_pair, monkeypatch):
    pair = make_pair(OLD)
    whole, changed = cut.cut_file, []

    def cut_file(fd, size, *sinks):
        if not changed:
            changed.append((pair.here.folder / "meta.md").write_bytes(b"# at the last moment\n"))
        return whole(fd, size, *sinks)

    monkeypatch.setattr(cut, "cut_file", cut_file)
    pair.here.commit()
    assert pair.here.kept() == {**OLD, "meta.md": b"# at the last moment\n"}


# ── locks ─────────────────────────────────────────────────────────────────────────────────
HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(path):
    """Another process holds a lock on the file."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        yield holder.pid
        holder.stdin.close()


LOCKS = [".usr.lock", ".events.lock"]
VERBS = {
    "commit": (NEW, OLD, lambda pair: pair.here.commit(), "here"),
    "push": (NEW, OLD, lambda pair: pair.push(), "here"),
    "push, held there": (NEW, OLD, lambda pair: pair.push(), "there"),
    "pull": (OLD, NEW, lambda pair: pair.pull(), "here"),
    "pull, held there": (OLD, NEW, lambda pair: pair.pull(), "there"),
}


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_program_that_writes_is_waited_for_and_then_named(make_pair, verb, lock):
    here, there, act, side = VERBS[verb]
    pair = synced(make_pair, here=here, there=there)
    place = getattr(pair, side)
    before = pair.here.everything(), pair.there.everything()
    with held(place.folder / lock) as pid:
        began = time.monotonic()
        with pytest.raises(LockedError) as caught:
            act(pair)
        waited = time.monotonic() - began
    assert waited >= LOCK_TIMEOUT_S
    assert lock in caught.value.message
    assert f"process {pid} (" in caught.value.message
    assert "--lock-timeout" in caught.value.hint
    assert (pair.here.everything(), pair.there.everything()) == before
    act(pair)


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("side", ["here", "there"])
def test_diff_waits_for_nobody(make_pair, monkeypatch, side, lock):
    pair = synced(make_pair, here=NEW)

    def wait(_seconds):
        raise AssertionError("it waits")

    with held(getattr(pair, side).folder / lock):
        monkeypatch.setattr(flock.time, "sleep", wait)
        assert pair.diff().changed


def test_a_writer_that_finishes_in_time_is_only_waited_for(make_pair):
    pair = synced(make_pair, here=NEW)
    lock = os.open(pair.here.folder / ".usr.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    pid = os.fork()
    if pid == 0:
        time.sleep(LOCK_TIMEOUT_S / 3)
        os._exit(0)  # and with it goes its copy of the lock
    os.close(lock)
    peer = pair.there.host()
    try:
        push.push(pair.here.site(lock_timeout_s=60), peer, "r", Options())
    finally:
        peer.close()
    os.waitpid(pid, 0)
    assert pair.there.read() == NEW


def test_capturing_creates_no_locks_and_neither_does_a_look(make_pair):
    pair = make_pair(OLD)
    pair.diff()
    pair.here.commit()
    assert not [name for name in os.listdir(pair.here.folder) if "lock" in name]


def test_two_transfers_into_one_dataset_wait_for_one_another(make_pair):
    pair = synced(make_pair, here=NEW)
    with pair.there.site().transfer_lock(), pytest.raises(LockedError, match="a transfer of ns/x"):
        pair.push()
    assert pair.there.read() == OLD
