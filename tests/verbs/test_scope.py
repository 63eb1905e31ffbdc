"""The laws of a scope: what is in it comes from the source, all else stays the destination's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrstore.errors import NotFoundError
from usrstore.objects.ids import ContentHash, Kind, hash_object
from usrstore.objects.sections import Section, section_of
from usrstore.objects.tree import FileEntry
from usrstore.verbs.scope import ALL_SECTIONS, WHOLE, Scope

PATHS = [
    "records.parquet", ".events.log", "meta.md", "_snapshots/a", "_derived/a/p-1", "_derived/a/p-2",
    "_derived/b.parquet", "_artifacts/x/y/z",
]  # fmt: skip


def entry(path, text):
    oid = ContentHash(hash_object(Kind.CHUNK, text.encode()))
    return FileEntry(path.rpartition("/")[2], len(text), oid, None)


listings = st.dictionaries(st.sampled_from(PATHS), st.sampled_from("abc")).map(
    lambda rows: {path: entry(path, text) for path, text in rows.items()}
)
scopes = st.builds(
    Scope,
    st.frozensets(st.sampled_from(Section), min_size=1),
    st.lists(
        st.sampled_from(["*", "_derived/*", "_derived/a", "*p-?", "meta.md", "_artifacts/x", "no"]),
        max_size=3,
    ).map(tuple),
)


@given(scopes, listings, listings)
def test_a_mix_is_the_source_in_scope_and_the_destination_out_of_it(scope, destination, source):
    mixed = scope.mix(destination, source)
    for path in PATHS:
        side = source if scope.takes(path) else destination
        assert mixed.get(path) == side.get(path)
    assert mixed.keys() <= set(PATHS)


@given(scopes, listings, listings)
def test_after_a_mix_only_what_was_left_out_can_differ(scope, destination, source):
    left = scope.left_out(destination, source)
    after = scope.mix(destination, source)
    differ = {p for p in PATHS if after.get(p) != source.get(p)}
    assert differ == (set(left.differ) if left else set())
    assert (left is None) == scope.whole
    if left:
        assert left.files == len({p for p in {*destination, *source} if not scope.takes(p)})


@given(scopes)
def test_a_scope_takes_no_more_than_its_sections_and_globs(scope):
    for path in PATHS:
        if scope.takes(path):
            assert section_of(path) in scope.sections
            assert Scope(ALL_SECTIONS, scope.globs).takes(path)
        assert WHOLE.takes(path)


def test_a_glob_takes_files_and_folders_by_their_whole_path():
    def taken(glob):
        return [path for path in PATHS if Scope(globs=(glob,)).takes(path)]

    assert taken("_derived/a") == ["_derived/a/p-1", "_derived/a/p-2"]
    assert taken("_derived/?") == ["_derived/a/p-1", "_derived/a/p-2"]
    assert taken("_artifacts/x/y") == ["_artifacts/x/y/z"]
    assert taken("x") == []  # not a part of a path
    assert taken("derived") == []  # nor a section
    assert taken("*.PARQUET") == []  # nor in any case


def test_only_globs_without_a_file_are_named():
    with pytest.raises(NotFoundError, match=r"matches no\*; nothing"):
        Scope(globs=("meta.md", "no*")).check(PATHS, where="x")
    Scope(globs=("meta.md", "_derived")).check(PATHS, where="x")
    WHOLE.check([], where="x")
