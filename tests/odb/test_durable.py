"""Durable writes: a file is whole under its name, or an error says what to do and nothing is."""

from __future__ import annotations

import errno
import os

import pytest

from usrstore.errors import DiskFullError, ReadOnlyError, StorageError
from usrstore.odb import durable
from usrstore.odb.durable import Spool

ERRORS = {
    errno.ENOSPC: DiskFullError,
    errno.EDQUOT: DiskFullError,
    errno.EROFS: ReadOnlyError,
    errno.EACCES: ReadOnlyError,
    errno.EPERM: ReadOnlyError,
    errno.EIO: StorageError,
    errno.ESTALE: StorageError,
}
errors = pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)


def failing(at, error):
    """A tap: the change number `at` fails."""
    left = at

    def tap(when, _op, _path):
        nonlocal left
        if when == "before":
            left -= 1
            if left == -1:
                raise OSError(error, os.strerror(error))

    return tap


def changes(act):
    calls = []
    with durable.tapped(lambda when, op, path: calls.append((when, op, path))):
        act()
    assert [call[0] for call in calls] == ["before", "after"] * (len(calls) // 2)
    return [op for when, op, _ in calls if when == "before"]


def create(folder):
    return durable.create(str(folder / "deep" / "er" / "name"), b"whole")


def replace(folder):
    durable.replace(str(folder / "deep" / "name"), b"whole")


def copy(folder):
    (folder / "source").write_bytes(b"0123456789")
    with open(folder / "source", "rb") as source, Spool.create(str(folder / "copy")) as spool:
        spool.copy_from(source.fileno(), 2, 0, 5)
        spool.sync()
    return (folder / "copy").read_bytes()


@errors
@pytest.mark.parametrize("act", [create, replace], ids=lambda act: act.__name__)
@pytest.mark.spec("F-45")
def test_a_failure_of_any_change_says_what_to_do_and_leaves_nothing_half(home, act, error):
    (home / "counting").mkdir()
    ops = changes(lambda: act(home / "counting"))
    assert {"mkdir", "create", "write", "fsync", "close", "fsync-folder"} <= set(ops)
    for at, op in enumerate(ops):
        folder = home / f"{at}"
        folder.mkdir()
        with durable.tapped(failing(at, error)), pytest.raises(ERRORS[error]) as caught:
            act(folder)
        assert type(caught.value) is ERRORS[error]
        assert f"cannot {op}" in caught.value.message
        assert os.strerror(error) in caught.value.message
        assert caught.value.hint
        files = [path for path in folder.rglob("*") if path.is_file()]
        whole = [path for path in files if not path.name.startswith(".tmp-")]
        assert all(path.read_bytes() == b"whole" for path in whole)
        assert bool(whole) == (at > ops.index("link" if act is create else "rename"))
        # What is left under a temporary name is left only because it could not be removed.
        assert len(files) - len(whole) == (op == "unlink")
        act(folder)
        assert [path for path in folder.rglob("name") if path.read_bytes() == b"whole"]


def test_a_failure_leaves_the_file_that_was_there_as_it_was(home):
    path = home / "name"
    path.write_bytes(b"old")
    for at in range(len(changes(lambda: durable.replace(str(home / "other"), b"new")))):
        with durable.tapped(failing(at, errno.ENOSPC)):
            try:
                durable.replace(str(path), b"new")
            except DiskFullError:
                assert path.read_bytes() in (b"old", b"new")
        path.write_bytes(b"old")


def test_a_name_that_is_taken_keeps_its_file(home):
    path = home / "name"
    path.write_bytes(b"old")
    assert durable.create(str(path), b"new") is False
    assert path.read_bytes() == b"old"
    assert os.listdir(home) == ["name"]


def test_only_what_is_synced_gets_a_name(home):
    ops = changes(lambda: durable.create(str(home / "name"), b"x"))
    assert ops == ["create", "write", "fsync", "close", "link", "fsync-folder", "unlink"]
    ops = changes(lambda: durable.replace(str(home / "name"), b"y"))
    assert ops == ["create", "write", "fsync", "close", "rename", "fsync-folder"]
    ops = changes(lambda: durable.replace(str(home / "name"), b"z", sync=False))
    assert ops == ["create", "write", "close", "rename"]


@pytest.mark.spec("F-45")
def test_a_sync_that_failed_is_never_tried_again(home):
    synced = []

    def tap(when, op, path):
        if op == "fsync" and when == "before":
            synced.append(path)
            raise OSError(errno.EIO, "lost")

    with durable.tapped(tap), pytest.raises(StorageError):
        durable.create(str(home / "name"), b"x")
    assert len(synced) == 1
    assert os.listdir(home) == []
    with durable.tapped(tap), pytest.raises(StorageError):
        durable.create(str(home / "name"), b"x")
    assert len(set(synced)) == 2  # written anew, under another name


def test_a_tap_ends_with_its_block(home):
    calls = []
    with durable.tapped(lambda *call: calls.append(call)):
        with durable.tapped(lambda *_call: None):
            durable.make_folder(str(home / "inner"))
        durable.make_folder(str(home / "outer"))
    durable.make_folder(str(home / "later"))
    assert [os.path.basename(path) for _, _, path in calls] == ["outer", "outer"]


def test_making_and_removing_folders_can_be_done_twice(home):
    path = str(home / "a" / "b" / "c")
    durable.make_folder(path)
    durable.make_folder(path)
    assert os.path.isdir(path)
    (home / "a" / "file").write_bytes(b"x")
    assert durable.remove_folder(str(home / "a")) is False
    assert durable.remove_folder(path) is True
    assert durable.remove_folder(path) is False
    durable.remove_tree(str(home / "a"))
    durable.remove_tree(str(home / "a"))
    assert os.listdir(home) == []
    durable.remove(str(home / "never"))


def test_a_folder_that_another_process_makes_first_is_no_error(home):
    path = home / "a"

    def tap(when, op, _path):
        if when == "before" and op == "mkdir":
            os.mkdir(path)

    with durable.tapped(tap):
        durable.make_folder(str(path))
    assert path.is_dir()
    (home / "file").write_bytes(b"x")
    with pytest.raises(StorageError):
        durable.make_folder(str(home / "file"))


def test_removing_a_tree_follows_no_link(home):
    (home / "keep").mkdir()
    (home / "keep" / "file").write_bytes(b"x")
    (home / "tree").mkdir()
    (home / "tree" / "link").symlink_to(home / "keep")
    (home / "other").symlink_to(home / "keep")
    durable.remove_tree(str(home / "tree"))
    durable.remove_tree(str(home / "other"))
    assert (home / "keep" / "file").exists()
    assert not (home / "tree").exists()


def test_a_spool_is_written_and_read_anywhere_and_gone_on_with(home):
    path = str(home / "spool")
    with Spool.create(path) as spool:
        spool.write(b"01234")
        spool.write_at(8, b"89")
        spool.write_at(5, memoryview(b"567"))
        spool.write_at(0, b"")
        assert spool.size == 10
        assert spool.read_at(3, 4) == b"3456"
        assert spool.read_at(8, 100) == b"89"
        spool.close()
        spool.close()
    with Spool.reopen(path) as spool:
        spool.write(b"ab")
        assert spool.size == 12
        spool.truncate(3)
        assert spool.size == 3
    assert (home / "spool").read_bytes() == b"012"
    with pytest.raises(StorageError):
        Spool.create(path)
    with pytest.raises(StorageError):
        Spool.reopen(str(home / "never"))


@pytest.mark.parametrize(
    "number", [None, errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL]
)
def test_a_range_is_copied_inside_the_kernel_or_by_hand(home, monkeypatch, number):
    if number is not None:

        def refuse(*_args):
            raise OSError(number, "not here")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    assert copy(home) == b"23456"


def test_a_source_that_ends_early_is_an_error(home):
    (home / "source").write_bytes(b"0123")
    for start, why in ((2, "ended early"), (-1, "cannot copy")):
        with (
            open(home / "source", "rb") as source,
            Spool.create(str(home / f"{start}")) as spool,
            pytest.raises(StorageError, match=why),
        ):
            spool.copy_from(source.fileno(), start, 0, 5)


def test_a_whole_file_system_can_be_synced_at_once(home):
    assert durable.sync_everything(str(home)) is True
    with pytest.raises(StorageError):
        durable.sync_everything(str(home / "never"))


def test_a_mode_can_be_set_and_a_missing_file_is_an_error(home):
    (home / "file").write_bytes(b"x")
    durable.set_mode(str(home / "file"), 0o400)
    assert (home / "file").stat().st_mode & 0o777 == 0o400
    with pytest.raises(StorageError):
        durable.set_mode(str(home / "never"), 0o400)
    with pytest.raises(StorageError):
        durable.rename(str(home / "never"), str(home / "x"))


@errors
def test_every_errno_has_the_error_that_fits(error):
    made = durable.storage_error(OSError(error, os.strerror(error)), "cannot do it")
    assert type(made) is ERRORS[error]
    assert made.message == f"cannot do it: {os.strerror(error)}"
    assert made.hint
