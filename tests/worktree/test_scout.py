"""The scout: another process looks at half of a known folder, and changes nothing but the time."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading

import pytest

from usrstore.errors import UnsafeFileError
from usrstore.worktree import scout
from usrstore.worktree.scan import scan, stamps, walk
from usrstore.worktree.scout import FEWEST_FILES, Scout, worth_sending


@pytest.fixture
def folder(tmp_path):
    for number in range(60):
        path = tmp_path / f"_a/{number % 6}/{number % 3}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
    (tmp_path / "records.parquet").write_bytes(b"p")
    return tmp_path


@pytest.fixture
def sent(monkeypatch):
    """However few the files, a scout is sent; gives the folders of each."""
    monkeypatch.setattr(scout, "worth_sending", lambda _files: True)
    seen = []
    send = Scout.send

    def noted(folders, look):
        seen.append(list(folders))
        return send(folders, look)

    monkeypatch.setattr(Scout, "send", noted)
    return seen


def test_a_known_folder_is_found_unchanged_by_both_together(folder, sent):
    known = walk(str(folder))
    again = walk(str(folder), known)
    assert again.keys() == known.keys()
    assert all(again[at] is known[at] for at in known)
    (theirs,) = sent
    assert 0 < len(theirs) < len(known)


def test_what_changed_is_found_on_either_half(folder, sent):
    known = walk(str(folder))
    for path in sorted(known):
        where = folder / path
        (where / "new").write_bytes(b"new")
        (where / "more" / "below").mkdir(parents=True)
        (where / "more" / "below" / "file").write_bytes(b"deep")
        assert stamps(walk(str(folder), known)) == scan(str(folder))
        os.unlink(where / "new")
        shutil.rmtree(where / "more")
    shutil.rmtree(folder / "_a" / "0")
    shutil.rmtree(folder / "_a" / "5")
    assert stamps(walk(str(folder), known)) == scan(str(folder))
    assert len(sent) == len(known) + 1


def test_what_no_state_can_hold_is_named_once_wherever_it_lies(folder, sent):
    known = walk(str(folder))
    for path in known:
        os.symlink("x", folder / path / "link")
    with pytest.raises(UnsafeFileError, match=f"holds {len(known)} entries"):
        walk(str(folder), known)
    assert sent


@pytest.mark.parametrize("how", ["fork", "killed", "raises"])
def test_without_a_scout_or_with_one_that_dies_all_is_looked_at_here(
    folder, sent, monkeypatch, how
):
    known = walk(str(folder))
    whole = os.scandir
    parent = os.getpid()

    def scandir(path):
        if os.getpid() != parent:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("in the child")
        return whole(path)

    def fork():
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "scandir", scandir)
    if how == "fork":
        monkeypatch.setattr(os, "fork", fork)
    assert stamps(walk(str(folder), known)) == scan(str(folder))
    assert len(sent) == 1


def test_a_report_that_is_cut_off_is_none(folder, monkeypatch):
    with Scout.send(["a/", "b/"], lambda _folder: ["below"]) as whole:
        assert whole.report() == {"a/": ["below"], "b/": ["below"]}
    monkeypatch.setattr(scout, "_END", "")
    with Scout.send(["a/", "b/"], lambda _folder: []) as cut_off:
        monkeypatch.setattr(scout, "_END", ".")
        assert cut_off.report() == {}


def test_nobody_is_sent_for_a_few_files_or_from_among_threads(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1}, raising=False)
    assert not worth_sending(FEWEST_FILES - 1)
    if threading.active_count() == 1:
        assert worth_sending(FEWEST_FILES)
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        assert not worth_sending(FEWEST_FILES)
    finally:
        over.set()
        other.join()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0}, raising=False)
    assert not worth_sending(FEWEST_FILES)
