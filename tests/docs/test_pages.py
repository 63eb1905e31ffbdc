"""Pages that speak of the whole house say what is there, all of it and nothing else."""

from __future__ import annotations

import re
import tomllib

import render_rooms
from render_rooms import ROOT, decisions

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_page_of_rooms_is_what_the_modules_say():
    assert render_rooms.ROOMS.read_text() == render_rooms.rooms(), (
        "run: python tests/docs/render_rooms.py"
    )


def test_every_folder_of_the_house_is_on_the_page_of_rooms():
    folders = {
        str(path.parent.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*.py")
        if not path.name.startswith("__")
    }
    assert folders == set(render_rooms.FOLDERS)


def test_the_index_of_decisions_is_complete():
    assert render_rooms.INDEX.read_text() == render_rooms.index(), (
        "run: python tests/docs/render_rooms.py"
    )


def test_no_two_decisions_have_one_number():
    numbers = [number for number, _, _ in decisions()]
    assert len(numbers) == len(set(numbers))
    assert all(int(name.partition("-")[0]) == number for number, _, name in decisions())


def test_every_place_that_the_architecture_names_is_there():
    named = set(
        re.findall(
            r"`((?:verbs|odb|worktree|remote|dataset|trust|objects)/[\w/]+\.py)`", ARCHITECTURE
        )
    )
    assert len(named) > 8
    assert not [path for path in named if not (ROOT / "src/usrstore" / path).exists()]


def test_the_eight_invariants_are_held_by_somebody():
    rows = re.findall(r"^\| (I\d) \|[^|]+\|([^|]+)\|$", ARCHITECTURE, re.MULTILINE)
    assert [name for name, _ in rows] == [f"I{number}" for number in range(1, 9)]
    assert all("`" in holder for _, holder in rows)


def test_every_package_that_is_asked_for_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text().lower()
    asked = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        asked += extra
    names = {re.match(r"[A-Za-z0-9_-]+", text)[0].lower() for text in asked}
    assert not {
        name for name in names if name not in page and name.removesuffix("-bin") not in page
    }


def test_every_page_can_be_reached_from_the_readme():
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in seen or not page.exists() or page.suffix != ".md":
            continue
        seen.add(page)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not target.startswith(("http", "mailto:")):
                path = (page.parent / target).resolve()
                left.append(path / "README.md" if path.is_dir() else path)
    pages = {ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"}
    pages |= set((ROOT / "docs").rglob("*.md"))
    assert not {str(page.relative_to(ROOT)) for page in pages - seen}
