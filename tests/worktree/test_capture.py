"""A captured folder: the right hashes, from as few reads as can be, whatever happens meanwhile."""

from __future__ import annotations

import os
import time

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from support import datasets
from usrstore.errors import StorageError
from usrstore.objects import recipe, tree
from usrstore.objects.ids import Kind
from usrstore.objects.recipe import RULE
from usrstore.worktree import capture as capturing
from usrstore.worktree import cut, statcache
from usrstore.worktree.capture import capture
from usrstore.worktree.statcache import Facts, StatCache

OLD, NEW = datasets.old_files(), datasets.new_files()
SETTLED_NS = 10**9  # longer ago than any clock tick


def settle(folder):
    """As if the files had been written a while ago."""
    time.sleep(0.025)


def take(folder, cache=None, **options):
    nodes = {}
    found = capture(
        str(folder),
        cache or StatCache(RULE),
        lambda kind, oid, data: nodes.__setitem__((kind, oid), data),
        **options,
    )
    return found, nodes


@pytest.fixture
def folder(tmp_path):
    datasets.write(tmp_path, OLD)
    settle(tmp_path)
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    seen = []
    whole = cut.cut_file

    def cut_file(fd, size, *sinks):
        seen.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        return whole(fd, size, *sinks)

    monkeypatch.setattr(cut, "cut_file", cut_file)
    return seen


def test_every_file_has_its_size_and_content_hash(folder):
    found, _ = take(folder)
    assert {path: (e.name, e.size, e.content) for path, e in found.listing.items()} == {
        path: (path.rpartition("/")[2], len(data), blake3(data).digest())
        for path, data in OLD.items()
    }
    assert (found.root.files, found.root.size) == (len(OLD), sum(map(len, OLD.values())))
    assert found.read == len(OLD)


def test_a_large_file_has_a_recipe_that_adds_up_and_a_small_one_needs_none(folder):
    found, nodes = take(folder)
    entry = found.listing["records.parquet"]
    parts = list(recipe.chunks(entry.recipe, entry.size, lambda oid: nodes[Kind.RECIPE, oid]))
    assert sum(part.size for part in parts) == entry.size
    at, data = 0, OLD["records.parquet"]
    for part in parts:
        assert part.oid == blake3(data[at : at + part.size]).digest()
        at += part.size
    assert found.listing["meta.md"].recipe is None


def test_the_sink_gets_every_chunk_once_read(folder):
    chunks = {}
    take(folder, sink=lambda oid, data: chunks.__setitem__(oid, bytes(data)))
    assert all(blake3(data).digest() == oid for oid, data in chunks.items())
    assert sum(map(len, chunks.values())) >= 400_000


def test_trees_are_written_only_on_demand_and_give_the_listing_back(folder):
    found, nodes = take(folder)
    assert not [kind for kind, _ in nodes if kind is Kind.TREE]
    found.store(lambda kind, oid, data: nodes.__setitem__((kind, oid), data))
    assert tree.flatten(found.tree, lambda oid: nodes[Kind.TREE, oid]) == found.listing


def test_i8_the_same_files_are_the_same_tree_wherever_and_whenever(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    datasets.write(other, dict(reversed(OLD.items())))
    for path in OLD:
        os.utime(other / path, ns=(1, 1))
        os.chmod(other / path, 0o600)
    (other / ".usr.lock").touch()
    (other / "_views" / "empty").mkdir(parents=True)
    assert take(other)[0].tree == take(folder)[0].tree


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(OLD | NEW)), st.binary(max_size=30), min_size=1))
def test_with_or_without_a_cache_the_capture_is_the_same(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("any")
    datasets.write(folder, OLD)
    cache = take(folder)[0].cache
    datasets.write(folder, files)
    with_cache, without = take(folder, cache)[0], take(folder)[0]
    assert with_cache.tree == without.tree
    assert with_cache.listing == without.listing
    assert with_cache.facts == without.facts


def test_an_unchanged_folder_is_not_read(folder, reads):
    first, _ = take(folder)
    reads.clear()
    again, nodes = take(folder, first.cache)
    assert (reads, again.read, nodes) == ([], 0, {})
    assert again.tree == first.tree
    assert again.root == first.root
    assert again.facts == first.facts


def test_only_what_changed_is_read(folder, reads):
    first, _ = take(folder)
    reads.clear()
    (folder / "meta.md").write_bytes(b"# new\n")
    (folder / "_artifacts/figure.svg").unlink()
    again, _ = take(folder, first.cache)
    assert reads == ["meta.md"]
    assert again.tree == take(folder)[0].tree != first.tree


def test_a_touched_or_renamed_file_is_read_and_found_unchanged(folder, reads):
    first, _ = take(folder)
    reads.clear()
    os.utime(folder / "meta.md")
    again, _ = take(folder, first.cache)
    assert reads == ["meta.md"]
    assert again.tree == first.tree


def test_a_file_written_a_moment_ago_is_read_once_more_the_next_time(tmp_path, reads, monkeypatch):
    """Within one tick of the clock it could change without its stamp showing it."""
    datasets.write(tmp_path, {"meta.md": b"1"})
    with monkeypatch.context() as slow:  # a clock that no load outruns
        slow.setattr(statcache, "_TICK_NS", 600 * 10**9)
        first, _ = take(tmp_path)
    assert "meta.md" not in first.cache.files
    settle(tmp_path)
    second, _ = take(tmp_path, first.cache)
    assert "meta.md" in second.cache.files
    reads.clear()
    take(tmp_path, second.cache)
    assert reads == []


def test_a_file_that_comes_and_goes_within_a_moment_leaves_no_trace(folder):
    """It is too young for the cache, so the cache must not know a tree with it in it either."""
    before, _ = take(folder)
    (folder / "passing.txt").write_bytes(b"here")
    between, _ = take(folder, before.cache)
    (folder / "passing.txt").unlink()
    after, _ = take(folder, between.cache)
    assert "passing.txt" in between.listing
    assert after.listing == before.listing
    assert (after.tree, after.root.files) == (before.tree, before.root.files)


def test_the_cache_that_was_given_is_left_as_it_was(folder):
    cache = StatCache(RULE)
    take(folder, cache)
    assert cache == StatCache(RULE)


def test_facts_come_from_the_files(tmp_path):
    datasets.write(
        tmp_path, {"records.parquet": datasets.sample_parquet(), ".events.log": b"1\n2\n3"}
    )
    facts = take(tmp_path)[0].facts
    assert facts.rows is not None
    assert facts.columns is not None
    assert facts.schema is not None
    assert facts.events == 2  # a line that is being written does not count yet


def test_facts_go_with_the_files_they_were_of(folder):
    first, _ = take(folder)
    assert first.facts == Facts(events=3)
    (folder / ".events.log").unlink()
    assert take(folder, first.cache)[0].facts == Facts()


def test_a_table_that_becomes_something_else_loses_its_facts(tmp_path):
    datasets.write(tmp_path, {"records.parquet": datasets.sample_parquet()})
    first, _ = take(tmp_path)
    datasets.write(tmp_path, {"records.parquet": b"no table"})
    assert take(tmp_path, first.cache)[0].facts == Facts()


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(folder, monkeypatch):
    whole = os.open

    def refuse(path, *args, **options):
        if str(path).endswith("meta.md"):
            raise PermissionError(13, "Permission denied")
        return whole(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=r"meta\.md: Permission denied; nothing was changed"):
        take(folder)


def test_a_link_that_takes_a_files_place_meanwhile_is_not_followed(folder, monkeypatch):
    whole, done = cut.cut_file, []

    def cut_file(fd, size, *sinks):
        if not done:
            done.append((folder / "meta.md").unlink())
            os.symlink("/etc/hostname", folder / "meta.md")
        return whole(fd, size, *sinks)

    monkeypatch.setattr(cut, "cut_file", cut_file)
    with pytest.raises(Exception, match=r"meta\.md"):
        take(folder)


def test_a_file_that_goes_away_meanwhile_is_not_in_the_capture(folder, monkeypatch):
    whole, done = cut.cut_file, []

    def cut_file(fd, size, *sinks):
        if not done:
            done.append((folder / "meta.md").unlink())
        return whole(fd, size, *sinks)

    monkeypatch.setattr(cut, "cut_file", cut_file)
    found, _ = take(folder)
    assert set(found.listing) == set(OLD) - {"meta.md"}
    assert found.tree == take(folder)[0].tree


def test_progress_reaches_the_whole(folder):
    events = []
    take(folder, emit=events.append)
    assert events[-1].done == events[-1].total == sum(map(len, OLD.values()))
    assert {event.text for event in events} == set(OLD)


def test_a_large_file_tells_on_the_way_how_far_it_has_been_read(tmp_path, monkeypatch):
    monkeypatch.setattr(capturing, "_TELL_BYTES", 100_000)
    datasets.write(tmp_path, OLD)
    events = []
    found, _ = take(tmp_path, emit=events.append)
    large = [event for event in events if event.text == "records.parquet"]
    assert len(large) >= 3
    done = [event.done for event in events]
    assert done == sorted(done)
    assert (done[-1], events[-1].files) == (events[-1].total, events[-1].files_total)
    assert found.listing == take(tmp_path)[0].listing
