"""Comparing listings: equality is content, and every difference is in its section."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from usrstore.objects.compare import compare, same
from usrstore.objects.ids import ContentHash, Kind, hash_object
from usrstore.objects.sections import Section, section_of
from usrstore.objects.tree import FileEntry


def entry(path, word="x", *, recipe=None, size=None):
    content = ContentHash(hash_object(Kind.CHUNK, word.encode()))
    return FileEntry(path.rpartition("/")[2], len(word) if size is None else size, content, recipe)


def listing(files):
    return {path: entry(path, word) for path, word in files.items()}


def test_two_cuttings_of_one_file_are_the_same_file():
    recipe = hash_object(Kind.RECIPE, b"r")
    assert same(entry("a"), entry("a", recipe=recipe))
    assert not same(entry("a"), entry("a", "y"))
    assert not same(entry("a"), entry("a", size=9))
    assert not same(entry("a"), None)
    assert same(None, None)


def test_a_rewritten_file_of_the_same_size_differs_and_a_touched_one_does_not():
    here = listing({"records.parquet": "aa", "meta.md": "m"})
    there = listing({"records.parquet": "ab", "meta.md": "m"})
    found = compare(here, there)
    assert found.changed
    assert found.sections[Section.PRIMARY].differ == ("records.parquet",)
    assert list(found.paths()) == ["records.parquet"]
    assert not compare(here, dict(reversed(here.items()))).changed


PATHS = [
    "records.parquet",
    ".events.log",
    "_snapshots/a",
    "_derived/b",
    "_derived/c",
    "meta.md",
    "z/y",
]
FILES = st.dictionaries(st.sampled_from(PATHS), st.sampled_from("ab"))


@given(FILES, FILES)
def test_a_comparison_is_what_a_dictionary_says_and_turns_around(here, there):
    found = compare(listing(here), listing(there))
    expected = {path for path in here.keys() | there.keys() if here.get(path) != there.get(path)}
    assert sorted(found.paths()) == sorted(expected)
    assert found.changed == bool(expected)
    back = compare(listing(there), listing(here))
    for section, delta in found.sections.items():
        assert all(section_of(path) is section for path in delta.paths())
        assert delta.local_only == tuple(sorted(delta.local_only))
        other = back.sections[section]
        assert (delta.local_only, delta.remote_only, delta.differ) == (
            other.remote_only,
            other.local_only,
            other.differ,
        )
        assert all(path in here and path not in there for path in delta.local_only)
        assert all(path in here and path in there for path in delta.differ)
