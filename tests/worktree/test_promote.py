"""Promotion: exactly one state in a person's folder, forwards or backwards, also where links fail."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest

from support import datasets
from support.faults import CRASHED, Crash, Fail, count_calls, in_child
from usrstore.errors import ChangedWhileReadError, ConflictError, StorageError
from usrstore.objects.ids import ObjectId, TreeId
from usrstore.odb import durable
from usrstore.worktree import journal as journals
from usrstore.worktree.journal import Journal
from usrstore.worktree.promote import (
    Part,
    check_writable,
    clear,
    leftovers,
    plan_ops,
    promote,
    resume,
)
from usrstore.worktree.scan import scan

OLD = {
    "kept": b"kept",
    "meta.md": b"old",
    "sub/replaced": b"old too",
    "sub/gone": b"gone soon",
    "alone/gone": b"with its folder",
}
NEW = {"kept": b"kept", "meta.md": b"new", "sub/replaced": b"new too", "a/b/c": b"deep", "x": b""}


class Ground:
    """A folder that holds OLD, a store with a complete stage of NEW, the journal between them."""

    def __init__(self, home, old=OLD):
        self.folder, self.store = str(home / "folder"), str(home / "store")
        self.home = f"{self.store}/quarantine/x"
        self.stage = f"{self.home}/stage"
        self.path = f"{self.store}/journal/x"
        for path in (self.stage, os.path.dirname(self.path)):
            os.makedirs(path)
        if old:
            datasets.write(self.folder, old)
        changed = [path for path in NEW if NEW[path] != old.get(path)]
        for number, path in enumerate(changed):
            with open(f"{self.stage}/{number}", "wb") as file:
                file.write(NEW[path])
        new = [(path, number) for number, path in enumerate(changed)]
        gone = [path for path in old if path not in NEW]
        ops, made = plan_ops(self.folder, self.stage, new, gone, scan(self.folder) if old else {})
        self.journal = Journal(
            "x", False, TreeId(ObjectId(b"t" * 32)), "quarantine/x/stage", ops, made, (), "", "", ""
        )  # fmt: skip
        self.committed = 0

    def commit(self):
        self.committed += 1

    def promote(self, *, check=lambda: None, commit=None):
        part = Part(self.folder, self.path, self.journal, check=check)
        promote(self.store, [part], commit=commit or self.commit)

    def resume(self):
        journal = journals.find(self.path)
        if journal is not None:
            resume(self.store, [Part(self.folder, self.path, journal)], commit=self.commit)

    def read(self):
        return datasets.read(self.folder) if os.path.isdir(self.folder) else None

    def is_clean(self):
        return not os.path.exists(self.path) and not os.path.exists(self.home)


@pytest.fixture
def ground(home):
    return Ground(home)


def test_the_folder_becomes_the_new_state_and_nothing_is_left_over(ground):
    ground.promote()
    assert ground.read() == NEW
    assert not os.path.exists(f"{ground.folder}/alone")
    assert ground.committed == 1
    assert ground.is_clean()


def test_a_folder_that_was_not_there_is_made(home):
    ground = Ground(home, {})
    ground.promote()
    assert ground.read() == NEW


def fail():
    raise StorageError("it is not so")


@pytest.mark.parametrize("moment", ["check", "commit"])
def test_a_failed_check_or_commit_turns_everything_back(ground, moment):
    with pytest.raises(StorageError, match="it is not so"):
        ground.promote(**{moment: fail})
    assert ground.read() == OLD
    assert os.path.isdir(f"{ground.folder}/alone")
    assert not os.path.exists(f"{ground.folder}/a")
    assert ground.is_clean()


def test_a_folder_that_was_made_is_gone_again_after_a_failure(home):
    ground = Ground(home, {})
    with pytest.raises(StorageError):
        ground.promote(check=fail)
    assert ground.read() is None


def test_what_another_program_added_meanwhile_survives_a_failure(ground):
    def check():
        datasets.write(f"{ground.folder}/a/b", {"c": NEW["a/b/c"], "theirs": b"not ours"})
        fail()

    with pytest.raises(StorageError):
        ground.promote(check=check)
    assert ground.read() == {**OLD, "a/b/theirs": b"not ours"}


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("meta.md", "rewritten"),
        ("meta.md", "removed"),
        ("sub/replaced", "rewritten"),
        ("sub/replaced", "removed"),
        ("sub/gone", "rewritten"),
    ],
)
def test_a_file_that_is_not_the_captured_one_stops_it_before_anything_is_replaced(
    ground, path, how
):
    full = os.path.join(ground.folder, path)
    os.unlink(full)
    if how == "rewritten":
        with open(full, "wb") as file:
            file.write(b"by another program")
    before = ground.read()
    with pytest.raises(ChangedWhileReadError, match=path):
        ground.promote()
    assert ground.read() == before
    assert ground.committed == 0
    assert ground.is_clean()


def test_a_promotion_never_begins_on_top_of_an_interrupted_one(ground):
    journals.write(ground.path, ground.journal)
    with pytest.raises(ConflictError) as caught:
        ground.promote()
    assert caught.value.code == "journal-pending"
    assert "usr recover" in caught.value.hint
    assert ground.read() == OLD


def test_the_mode_of_a_replaced_file_stays(ground):
    os.chmod(f"{ground.folder}/meta.md", 0o604)
    ground.promote()
    assert os.stat(f"{ground.folder}/meta.md").st_mode & 0o777 == 0o604


# ── without hard links, and with faults while it is turned back ────────────────────────────
class NoLinks(Fail):
    """A file system that knows no link(2), where another call fails besides."""

    def at(self, when, number, op, path):
        if when == "before" and op == "link":
            raise OSError(errno.EPERM, "no hard links here")
        super().at(when, number, op, path)


def test_without_hard_links_it_works_as_well(ground):
    with durable.tapped(NoLinks(number=0)):
        ground.promote()
    assert ground.read() == NEW
    assert ground.is_clean()


def test_without_hard_links_nothing_is_lost_whichever_change_fails(home):
    (home / "count").mkdir()
    calls = count_calls(Ground(home / "count").promote)
    for number in range(1, len(calls) + 6):
        (home / str(number)).mkdir()
        ground = Ground(home / str(number))
        with contextlib.suppress(StorageError), durable.tapped(NoLinks(number=number)):
            ground.promote()
        ground.resume()
        assert ground.read() in (OLD, NEW), number
        assert (ground.read() == NEW) == bool(ground.committed), number
        assert not os.path.exists(ground.path)


@pytest.mark.parametrize("kind", [Fail, NoLinks])
def test_nothing_is_lost_if_the_disk_dies_at_any_change(home, kind):
    (home / "count").mkdir()
    count = len(count_calls(Ground(home / "count").promote))
    for number in range(1, count + 6):
        (home / str(number)).mkdir()
        ground = Ground(home / str(number))
        dead = kind(errno=errno.EIO, number=number, forever=True)
        with contextlib.suppress(StorageError), durable.tapped(dead):
            ground.promote()
        ground.resume()
        assert ground.read() in (OLD, NEW), number
        assert not os.path.exists(ground.path)


def test_killed_while_it_is_turned_back_it_is_turned_back(home):
    def failing(ground):
        with contextlib.suppress(StorageError):
            ground.promote(commit=fail)

    (home / "count").mkdir()
    calls = count_calls(lambda: failing(Ground(home / "count")))
    turned = max(n for n, (_, path) in enumerate(calls, 1) if "/journal/.tmp-" in path)
    for number in range(turned, len(calls) + 1):
        (home / str(number)).mkdir()
        ground = Ground(home / str(number))
        ended = in_child(
            lambda ground=ground: failing(ground), tap=Crash(number=number), log=home / "log"
        )
        assert ended == CRASHED
        ground.resume()
        assert ground.read() in ((OLD,) if number > turned + 2 else (OLD, NEW)), number
        assert not os.path.exists(ground.path)
        clear(ground.home)
        assert leftovers(ground.home) == []


# ── a person in between ─────────────────────────────────────────────────────────────────────
def interrupted(ground, home, *, undoing):
    """Killed half-way through the renames."""
    (home / "count").mkdir()
    calls = count_calls(Ground(home / "count").promote)
    renames = [n for n, (op, path) in enumerate(calls, 1) if op == "rename" and "folder" in path]
    assert in_child(ground.promote, tap=Crash(number=renames[2]), log=home / "log") == CRASHED
    assert ground.read() not in (OLD, NEW)
    if undoing:
        journals.write(ground.path, ground.journal.turned_back())


def test_what_a_person_wrote_after_the_kill_is_kept_when_it_is_finished(ground, home):
    interrupted(ground, home, undoing=False)
    datasets.write(ground.folder, {**ground.read(), "meta.md": b"edited since"})
    ground.resume()
    assert ground.read() == {**NEW, "meta.md": b"edited since"}


def test_what_a_person_wrote_after_the_kill_blocks_the_way_back_and_both_copies_stay(ground, home):
    interrupted(ground, home, undoing=True)
    edited = {**ground.read(), "meta.md": b"edited since"}
    datasets.write(ground.folder, edited)
    with pytest.raises(ConflictError) as caught:
        ground.resume()
    assert caught.value.code == "journal-blocked"
    assert "meta.md" in caught.value.message
    assert ground.read() == edited
    os.rename(f"{ground.folder}/meta.md", f"{ground.store}/moved-aside")
    ground.resume()
    assert ground.read() == OLD


def test_only_the_rest_of_promotions_is_cleared(ground):
    os.makedirs(f"{ground.home}/finished/old")
    assert leftovers(ground.home) == [f"{ground.home}/finished"]
    clear(ground.home)
    assert os.listdir(ground.home) == ["stage"]
    assert leftovers(f"{ground.store}/nowhere") == []


def test_a_folder_that_may_not_be_written_is_said_before_anything_moves(tmp_path, monkeypatch):
    check_writable(str(tmp_path / "not" / "yet" / "there"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match="may not be written; nothing was changed"):
        check_writable(str(tmp_path))
