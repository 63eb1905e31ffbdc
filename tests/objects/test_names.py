"""Names: what we accept is safe on a command line, on a disk, and in git."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from usrstore.errors import InvalidNameError, UnsafeFileError
from usrstore.objects import names

COMPONENTS = [
    "a",
    "A-b_c.d",
    "é",
    "日本",
    "a{b}",
    "x@y",
    "1",
    "a.lockx",
    "lock",
    "a" * 255,
    "#",
    "$x",
    "'",
]
NO_COMPONENTS = [
    "", ".", "..", ".a", "-a", "a.", "a.lock", "@", "a..b", "a@{b", "a b", "a\tb", "a\nb", "a\0b", "a\x7f",
    "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a" * 256, "é" * 128, "\u200b", "a\u202eb", "a\xa0b",
    "a\ud800", "\ufeffa", "a\u3000b", "a\x85b",
]  # fmt: skip


@pytest.mark.spec("F-33")
@pytest.mark.parametrize("name", COMPONENTS, ids=ascii)
def test_a_component_that_git_takes_and_eyes_can_see_is_taken(name):
    assert names.check_component(name, "name") == name


@pytest.mark.spec("F-33")
@pytest.mark.parametrize("name", NO_COMPONENTS, ids=lambda name: ascii(name)[:12])
def test_any_other_component_is_refused_by_name(name):
    with pytest.raises(InvalidNameError) as caught:
        names.check_component(name, "thing")
    assert "is no thing: " in caught.value.message
    for ref in (f"heads/{name}", f"remotes/{name}/x", f"tags/x/{name}"):
        with pytest.raises(InvalidNameError):
            names.check_ref(ref)


def git_takes(ref):
    return subprocess.run(["git", "check-ref-format", ref], check=False).returncode == 0


NAMES = st.text(st.sampled_from("ab.-@{}~^:?*[\\/ \t\x7f\x01éλ"), min_size=1, max_size=6) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8
)


@pytest.mark.spec("F-35")
@settings(max_examples=150, deadline=None)
@given(NAMES)
@example("a.lock/b")
@example("a/.b")
@example("a//b")
@example("@")
def test_git_takes_every_ref_that_we_take(name):
    for space in ("heads", "remotes/r", "tags/t"):
        try:
            ref = names.check_ref(f"{space}/{name}")
        except InvalidNameError:
            continue
        assert git_takes(f"refs/{ref}")
        assert git_takes(ref)


@pytest.mark.spec("F-33")
@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab.@{}éλ~"), min_size=1, max_size=5))
def test_what_git_refuses_of_these_we_refuse_and_nothing_else(name):
    ours = True
    try:
        names.check_component(name, "name")
    except InvalidNameError:
        ours = False
    # '@' alone means HEAD wherever git reads a revision: git takes it here, and we do not.
    assert ours == (git_takes(f"refs/heads/{name}") and name != "@")


@pytest.mark.spec("F-34")
@pytest.mark.parametrize("text", ["flat", "ns/x", "archive/x", "ns/archived", "a.b/c-d"])
def test_a_dataset_id_has_one_or_two_components(text):
    assert names.check_dataset(text) == text
    assert names.check_ref(f"heads/{text}") == names.head_ref(text)
    assert names.check_ref(f"remotes/lab/{text}") == names.remote_ref("lab", text)
    assert names.check_ref(f"tags/{text}/v1") == names.tag_ref(text, "v1")


@pytest.mark.spec("F-34")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "a/b/c",
        "archived",
        "archived/x",
        "a@b",
        "ns/a@b",
        "../x",
        "a/..",
        "-x",
        ".usr",
    ],
)
def test_any_other_dataset_id_is_refused(text):
    with pytest.raises(InvalidNameError):
        names.check_dataset(text)


@pytest.mark.spec("F-35")
@pytest.mark.parametrize(
    "ref",
    ["", "heads", "heads/", "refs/heads/x", "HEAD", "heads/a/b/c", "remotes/x", "remotes//x", "remotes/r/a/b/c",
     "tags/x", "tags//v1", "tags/a/b/c/d", "tags/x/v@1", "tags/x/v{1}", "tags/archived/v1", "Heads/x"],
)  # fmt: skip
def test_any_other_ref_is_refused(ref):
    with pytest.raises(InvalidNameError):
        names.check_ref(ref)


@pytest.mark.parametrize("remote", ["a/b", "", "-x", "a b"])
def test_a_remote_name_is_one_component(remote):
    with pytest.raises(InvalidNameError):
        names.check_remote(remote)
    with pytest.raises(InvalidNameError):
        names.remote_ref(remote, "x")


@pytest.mark.parametrize("tag", ["a/b", "", "v@1", "v{1", "v}1"])
def test_a_tag_can_be_spelled_after_an_at_sign(tag):
    with pytest.raises(InvalidNameError):
        names.tag_ref("x", tag)


@pytest.mark.spec("F-19")
def test_a_path_is_bounded_in_depth_and_length():
    deep = "/".join("x" * 64)
    assert names.check_path(deep) == deep
    long = "/".join(["x" * 255] * 15 + ["y" * 254, "z"])
    assert len(names.check_path(long)) == 4096
    for bad in (
        "/".join("x" * 65),
        "/".join(["x" * 255] * 17),
        "é" * 2049,
        "a//b",
        "/a",
        "a/",
        "a/../b",
        "a/./b",
        "\ud800",
    ):
        with pytest.raises(UnsafeFileError):
            names.check_path(bad)
