"""A registry comes from anybody: whatever its YAML does, it is read, or refused by name."""

from __future__ import annotations

import pytest

from usrstore.dataset import namespaces, registry
from usrstore.errors import RegistryError


def of_itself(levels, last):
    """Lists of nine times the list before: nine to the power of `levels` values in a few lines."""
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a]"]
    for number in range(1, levels):
        lines.append(f"x{number}: &x{number} [{', '.join([f'*x{number - 1}'] * 9)}]")
    return "\n".join([*lines, last.replace("@", f"*x{levels - 1}"), ""]).encode()


ENDLESS = {
    "in its columns": of_itself(30, "namespaces: {a: {columns: @}}"),
    "beside its namespaces": of_itself(30, "namespaces: {}"),
    "inside itself": b"namespaces: {a: &a {columns: [*a]}}\n",
}


@pytest.mark.spec("T-8")
@pytest.mark.parametrize("data", ENDLESS.values(), ids=ENDLESS)
def test_a_few_lines_that_stand_for_more_than_can_be_compared_are_refused(data):
    for act in (
        lambda: namespaces.load(data, "theirs"),
        lambda: namespaces.canonical(data, "theirs"),
        lambda: registry.merge(data, data + b"#\n", ours_name="theirs", theirs_name="ours"),
    ):
        with pytest.raises(RegistryError, match="theirs"):
            act()


def test_aliases_that_people_write_are_read():
    data = b"namespaces:\n  a: &a {columns: [{name: a__x, type: int64}]}\n  b: {<<: *a}\n"
    assert registry.parse(data, "it")["b"] == registry.parse(data, "it")["a"]


@pytest.mark.spec("T-8")
@pytest.mark.parametrize(
    "text",
    ["2001-99-99", "2001-01-01 25:00:00", "0b_", "!!int ''", "!!timestamp x", "!!bool x",
     "9" * 5000, "[" * 2000, "!!python/object:os.system {}"],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_values_that_are_none_are_refused_with_the_name_of_the_file(text):
    with pytest.raises(RegistryError, match=r"theirs is not YAML"):
        registry.parse(f"x: {text}\nnamespaces: {{}}\n".encode(), "theirs")
