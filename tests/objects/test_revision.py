"""Revisions: what a person types is understood as meant, or refused with a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usrstore.errors import InvalidInputError
from usrstore.objects.revision import Ancestor, At, Parent, Revision, Tagged, parse


@pytest.mark.spec("F-36")
@pytest.mark.parametrize(
    ("text", "base", "steps", "path"),
    [
        ("densegen/x", "densegen/x", (), None),
        ("x~", "x", (Ancestor(1),), None),
        ("x~3", "x", (Ancestor(3),), None),
        ("x~~2", "x", (Ancestor(1), Ancestor(2)), None),
        ("x^", "x", (Parent(1),), None),
        ("x^2~1", "x", (Parent(2), Ancestor(1)), None),
        ("x^0", "x", (Parent(0),), None),
        ("x@v1", "x", (Tagged("v1"),), None),
        ("x@v1~2", "x", (Tagged("v1"), Ancestor(2)), None),
        ("x@{u}", "x", (At("u"),), None),
        ("x@{2 days ago}", "x", (At("2 days ago"),), None),
        ("x@{ 3 }", "x", (At("3"),), None),
        ("x@{2026-11-01}:a/b", "x", (At("2026-11-01"),), "a/b"),
        ("x@{2026-11-01 12:30:00}", "x", (At("2026-11-01 12:30:00"),), None),
        ("x@{2026-11-01T12:30}~1:a:b", "x", (At("2026-11-01T12:30"), Ancestor(1)), "a:b"),
        ("lab/densegen/x", "lab/densegen/x", (), None),
        ("0123456789ab", "0123456789ab", (), None),
        ("x:", "x", (), ""),
        ("x:a@{b:c}", "x", (), "a@{b:c}"),
        ("x:_derived/a~b@c", "x", (), "_derived/a~b@c"),
    ],
)
def test_a_revision_is_read_as_git_would(text, base, steps, path):
    assert parse(text) == Revision(base, steps, path)


@pytest.mark.spec("F-36")
@pytest.mark.parametrize(
    "text",
    ["", ":", ":path", "~1", "@v1", "@{u}", "x@", "x@{", "x@{u", "x@}", "x~a", "x^-1", "x~1a", "x@{a{b}", "x@a@{",
     "x@v/1", "x~" + "9" * 10, "x~" + "9" * 10_000, "x~٣"],
)  # fmt: skip
def test_what_is_no_revision_is_refused_with_a_hint(text):
    with pytest.raises(InvalidInputError) as caught:
        parse(text)
    assert caught.value.hint


@given(st.text(st.sampled_from("ax/~^@{}:0 9"), max_size=12) | st.text(max_size=20))
def test_any_text_is_a_revision_or_refused(text):
    try:
        found = parse(text)
    except InvalidInputError:
        return
    assert text.startswith(found.base)
    assert found.base
    assert found.path is None or text.endswith(":" + found.path)
