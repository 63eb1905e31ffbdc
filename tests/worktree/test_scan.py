"""The walk: every file once, by its path, and one error for all that cannot be part of a state."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import pytest

from usrstore.errors import DatasetNotFoundError, StorageError, UnsafeFileError
from usrstore.worktree import scan as scanning
from usrstore.worktree.scan import Shelf, Stamp, count, scan, stamps, walk


def fill(folder, *paths):
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.encode())


def test_every_file_is_found_by_its_path_with_its_stamp(tmp_path):
    fill(
        tmp_path, "records.parquet", "_derived/a/part-1.parquet", "_views/by/day/v.json", ".hidden"
    )
    found = scan(str(tmp_path))
    assert set(found) == {
        "records.parquet",
        "_derived/a/part-1.parquet",
        "_views/by/day/v.json",
        ".hidden",
    }
    for path, stamp in found.items():
        assert stamp == Stamp.of(os.stat(tmp_path / path))


def test_empty_folders_do_not_count(tmp_path):
    (tmp_path / "_views" / "empty").mkdir(parents=True)
    assert scan(str(tmp_path)) == {}


RUNTIME = [".usr.lock", ".usr.transfer.lock", ".events.lock", ".usr.lease.42", ".usr/states/1"]


def test_locks_leases_and_the_store_are_no_data_at_the_top_only(tmp_path):
    fill(tmp_path, *RUNTIME, *(f"_artifacts/{name}" for name in RUNTIME))
    assert set(scan(str(tmp_path))) == {f"_artifacts/{name}" for name in RUNTIME}


def test_a_lock_may_even_be_a_link(tmp_path):
    os.symlink("nowhere", tmp_path / ".usr.lock")
    assert scan(str(tmp_path)) == {}


def test_what_no_state_can_hold_is_refused_all_at_once(tmp_path):
    fill(tmp_path, "fine", "bell\x07", "sub/new\nline")
    os.symlink("fine", tmp_path / "link")
    os.symlink(".", tmp_path / "sub" / "loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(tmp_path)  # the name of a socket has to be short
        listening.bind("socket")
        with pytest.raises(UnsafeFileError) as caught:
            scan(str(tmp_path))
    message = caught.value.message
    assert "holds 7 entries" in message
    for line in (
        "'link': a symlink",
        "'sub/loop': a symlink",
        "'pipe': a device, socket or pipe",
        "'socket': a device, socket or pipe",
        r"'bell\x07': it holds control characters",
        r"'sub/new\nline': it holds control characters",
        r"'\udcff\udcfe': it is not valid UTF-8",
    ):
        assert f"\n  {line}" in message
    assert "fine" not in message


def test_a_long_list_of_refusals_is_counted_not_poured_out(tmp_path):
    for number in range(25):
        os.symlink("x", tmp_path / f"link-{number:02}")
    with pytest.raises(UnsafeFileError) as caught:
        scan(str(tmp_path))
    assert "holds 25 entries" in caught.value.message
    assert caught.value.message.endswith("\n  … and 15 more")
    assert "link-09" in caught.value.message
    assert "link-10" not in caught.value.message


@pytest.mark.parametrize("name", ["_snapshots", "_derived"])
def test_a_file_where_a_section_belongs_is_refused(tmp_path, name):
    fill(tmp_path, name)
    with pytest.raises(UnsafeFileError, match="a file where a folder belongs"):
        scan(str(tmp_path))


def test_a_path_that_is_too_deep_is_refused_and_the_deepest_that_is_not_is_taken(tmp_path):
    fill(tmp_path, "/".join(["d"] * 63 + ["file"]))
    assert len(scan(str(tmp_path))) == 1
    fill(tmp_path, "/".join(["e"] * 80 + ["file"]))
    with pytest.raises(UnsafeFileError, match="too long or too deep"):
        scan(str(tmp_path))


def test_no_folder_and_a_file_for_a_folder_are_told_apart(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="there is no folder"):
        scan(str(tmp_path / "none"))
    fill(tmp_path, "file")
    with pytest.raises(DatasetNotFoundError, match="is not a folder"):
        scan(str(tmp_path / "file"))


def test_a_folder_that_cannot_be_read_is_an_error_never_an_empty_one(tmp_path, monkeypatch):
    fill(tmp_path, "sub/file")
    whole = os.scandir

    def scandir(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(StorageError, match=r"cannot list .*sub: Permission denied"):
        scan(str(tmp_path))


def test_a_folder_that_goes_away_meanwhile_is_as_good_as_gone(tmp_path, monkeypatch):
    fill(tmp_path, "sub/file", "other")
    whole = os.scandir

    def scandir(path):
        if str(path).endswith("sub"):
            raise FileNotFoundError(2, "No such file or directory")
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert set(scan(str(tmp_path))) == {"other"}


def test_a_shelf_that_is_as_it_was_known_is_that_very_object(tmp_path):
    fill(tmp_path, "records.parquet", "_a/1", "_a/2", "_a/b/3")
    known = walk(str(tmp_path))
    assert set(known) == {"", "_a/", "_a/b/"}
    again = walk(str(tmp_path), known)
    assert again.keys() == known.keys()
    assert all(again[at] is known[at] for at in known)


def test_shelves_count_files_and_bytes(tmp_path):
    fill(tmp_path, "records.parquet", "_a/1", "_a/2", "_a/b/3")
    assert count(walk(str(tmp_path))) == (4, len("records.parquet" + "_a/1" + "_a/2" + "_a/b/3"))
    assert count({}) == (0, 0)


def _add(folder):
    (folder / "_a" / "4").write_bytes(b"")


def _grow(folder):
    (folder / "_a" / "1").write_bytes(b"more than before")


def _touch(folder):
    os.utime(folder / "_a" / "1", ns=(1, 1))


def _replace(folder):
    path = folder / "_a" / "1"
    before = path.stat()
    (folder / "_a" / "new").write_bytes(path.read_bytes())
    os.utime(folder / "_a" / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(folder / "_a" / "new", path)


def _rename(folder):
    os.rename(folder / "_a" / "1", folder / "_a" / "9")


@pytest.mark.parametrize("change", [_add, _grow, _touch, _replace, _rename])
def test_any_change_to_a_file_makes_its_shelf_another_one(tmp_path, change):
    fill(tmp_path, "records.parquet", "_a/1", "_a/2", "_a/b/3")
    known = walk(str(tmp_path))
    change(tmp_path)
    now = walk(str(tmp_path), known)
    assert now["_a/"] != known["_a/"]
    assert now[""] is known[""]
    assert now["_a/b/"] is known["_a/b/"]
    assert stamps(now) == scan(str(tmp_path))


def test_a_name_that_no_state_can_hold_is_refused_in_a_folder_that_is_known_too(tmp_path):
    fill(tmp_path, "_a/1")
    known = walk(str(tmp_path))
    os.symlink("1", tmp_path / "_a" / "2")
    with pytest.raises(UnsafeFileError, match="a symlink"):
        walk(str(tmp_path), known)


def test_numbers_beyond_63_bits_are_the_same_in_a_stamp_and_on_a_shelf():
    numbers = [7, 2**63 + 1, -1, 2**64 - 5]
    size, mtime, ctime, inode = numbers
    said = SimpleNamespace(st_size=size, st_mtime_ns=mtime, st_ctime_ns=ctime, st_ino=inode)
    stamp = Stamp.of(said)
    assert stamp == (7, -(2**63) + 1, -1, -5)
    assert list(Shelf("a", scanning._pack(numbers)).rows()) == [("a", stamp)]
    assert list(Shelf.of([("a", stamp)]).rows()) == [("a", stamp)]
