"""What looking and agreeing may cost: calls counted, not seconds."""

from __future__ import annotations

import time

import pytest

from support import datasets
from support.faults import count_calls
from usrstore.verbs.history import status
from usrstore.worktree import cut
from usrstore.worktree.capture import Capture

OLD, NEW = datasets.old_files(), datasets.new_files()


@pytest.fixture
def reads(monkeypatch):
    """The files that are read in order to be hashed."""
    seen = []
    whole = cut.cut_file

    def cut_file(fd, size, *sinks):
        seen.append(size)
        return whole(fd, size, *sinks)

    monkeypatch.setattr(cut, "cut_file", cut_file)
    return seen


@pytest.fixture
def pair(make_pair):
    """Two roots that agree, and know it."""
    made = make_pair(OLD)
    time.sleep(0.03)  # past the clock tick in which the files were written
    made.push()
    made.push()
    return made


def test_a_diff_of_unchanged_folders_reads_no_file_and_writes_nothing(pair, reads):
    assert count_calls(pair.diff) == []
    assert reads == []


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_sync_of_unchanged_folders_reads_no_file_and_changes_nothing(pair, reads, verb):
    getattr(pair, verb)()  # the first notes that both agree
    reads.clear()
    assert count_calls(getattr(pair, verb)) == []
    assert reads == []


def test_a_status_of_an_unchanged_folder_reads_nothing_writes_nothing_and_makes_no_listing(
    pair, reads, monkeypatch
):
    def listing(_capture):
        raise AssertionError("a value for every file, and nothing changed")

    site = pair.here.site()
    monkeypatch.setattr(Capture, "listing", property(listing))
    assert count_calls(lambda: status(site)) == []
    assert reads == []


def test_right_after_a_push_the_remote_reads_nothing_again(make_pair, reads):
    pair = make_pair(OLD)
    pair.push()
    reads.clear()
    pair.there.site().capture(record=False)
    assert reads == []


def test_right_after_a_pull_nothing_is_read_again(make_pair, reads):
    pair = make_pair()
    pair.there.write(OLD)
    pair.pull()
    reads.clear()
    pair.here.site().capture(record=False)
    assert reads == []


def test_a_push_of_no_news_makes_no_change_at_the_remote(pair):
    assert count_calls(pair.push, within=pair.there.path) == []


def test_one_changed_file_is_one_read_on_its_side_only(pair, reads):
    (pair.here.folder / "meta.md").write_bytes(b"# changed\n")
    pair.diff()
    assert reads == [len(b"# changed\n")]


def test_a_commit_of_an_unchanged_folder_makes_no_state(pair):
    pair.here.commit()
    before = pair.here.root.states.newest().number
    assert not pair.here.commit().created
    assert pair.here.root.states.newest().number == before


def test_unchanged_files_are_not_touched_by_a_promotion(pair):
    stats = {path: (pair.there.folder / path).stat() for path in OLD}
    pair.here.write(NEW)
    pair.push()
    for path in OLD.keys() & NEW.keys():
        now = (pair.there.folder / path).stat()
        if OLD[path] == NEW[path]:
            assert (now.st_ino, now.st_mtime_ns, now.st_ctime_ns) == (
                stats[path].st_ino,
                stats[path].st_mtime_ns,
                stats[path].st_ctime_ns,
            )
        else:
            assert now.st_ino != stats[path].st_ino
