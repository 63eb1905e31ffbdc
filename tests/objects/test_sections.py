"""Sections: every file of a folder has one place in a tree, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrstore.errors import UnsafeFileError
from usrstore.objects import sections
from usrstore.objects.sections import Section


@pytest.mark.spec("F-20")
@pytest.mark.parametrize(
    ("path", "tree_path"),
    [
        ("records.parquet", "primary/records.parquet"),
        (".events.log", "events/.events.log"),
        ("_snapshots/a.parquet", "snapshots/a.parquet"),
        ("_snapshots/a/b", "snapshots/a/b"),
        ("_derived/infer/part.parquet", "derived/infer/part.parquet"),
        ("meta.md", "auxiliary/meta.md"),
        ("_artifacts/x", "auxiliary/_artifacts/x"),
        ("sub/records.parquet", "auxiliary/sub/records.parquet"),
        ("sub/.events.log", "auxiliary/sub/.events.log"),
        ("sub/_derived/x", "auxiliary/sub/_derived/x"),
        ("sub/.usr.lock", "auxiliary/sub/.usr.lock"),
        ("derived/x", "auxiliary/derived/x"),
        ("primary/records.parquet", "auxiliary/primary/records.parquet"),
        ("_derived/_snapshots/x", "derived/_snapshots/x"),
        ("_derived/.usr/x", "derived/.usr/x"),
        ("records.parquet.bak", "auxiliary/records.parquet.bak"),
    ],
)
def test_a_path_has_one_place_in_the_tree(path, tree_path):
    assert sections.to_tree_path(path) == tree_path
    assert sections.from_tree_path(tree_path) == path
    assert str(sections.section_of(path)) == tree_path.partition("/")[0]


@pytest.mark.spec("F-20")
@pytest.mark.spec("F-21")
@pytest.mark.parametrize(
    "tree_path",
    [
        "records.parquet",
        "primary",
        "primary/",
        "primary/other",
        "primary/records.parquet/x",
        "events/records.parquet",
        "events/x",
        "auxiliary/records.parquet",
        "auxiliary/.events.log",
        "auxiliary/_derived/x",
        "auxiliary/_snapshots/x",
        "auxiliary/_derived",
        "auxiliary/_snapshots",
        "auxiliary/records.parquet/x",
        "auxiliary/.events.log/x",
        "auxiliary/.usr",
        "auxiliary/.usr/packs/x",
        "auxiliary/.usr.lock",
        "auxiliary/.usr.transfer.lock",
        "auxiliary/.usr.lease.7",
        "auxiliary/.events.lock",
        "auxiliary/",
        "derived/",
        "other/x",
        "Primary/records.parquet",
        "",
        "/x",
    ],
)
def test_a_file_in_a_place_that_is_not_its_own_is_refused(tree_path):
    with pytest.raises(UnsafeFileError):
        sections.from_tree_path(tree_path)


@pytest.mark.spec("F-21")
@pytest.mark.parametrize(
    "path",
    [
        "_derived",
        "_snapshots",
        "records.parquet/x",
        ".events.log/a/b",
        ".usr/x",
        ".usr.lock",
        ".usr.lease.1",
    ],
)
def test_a_path_that_no_section_can_hold_gets_no_place(path):
    with pytest.raises(UnsafeFileError):
        sections.to_tree_path(path)


WORDS = st.sampled_from(
    [
        "records.parquet",
        ".events.log",
        "_snapshots",
        "_derived",
        ".usr.lock",
        ".usr",
        "a",
        "auxiliary",
        "primary",
    ]
)


@given(st.lists(WORDS, min_size=1, max_size=4).map("/".join))
def test_both_ways_agree_on_what_has_a_place(path):
    try:
        tree_path = sections.to_tree_path(path)
    except UnsafeFileError:
        for section in Section:
            for rest in (path, path.partition("/")[2]):
                try:
                    assert sections.from_tree_path(f"{section}/{rest}") != path
                except UnsafeFileError:
                    pass
    else:
        assert sections.from_tree_path(tree_path) == path


def test_runtime_names_are_ours_at_the_top_only():
    assert sections.is_runtime(".usr.lease.abc", top=True)
    assert not sections.is_runtime(".usr.lease.abc", top=False)
    assert not sections.is_runtime("records.parquet", top=True)


def test_every_section_has_the_word_that_audits_use():
    assert [section.label for section in Section] == [
        "Primary", ".events.log", "_snapshots", "_derived", "_auxiliary",
    ]  # fmt: skip
    assert set(sections.SIDECARS) == set(Section) - {Section.PRIMARY}
