"""What the pages show is what happens: their Python blocks run, their shell blocks are real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from usrcli.drills import dataset
from usrcli.main import COMMANDS, cli
from usrstore.remote import profiles
from usrstore.root import Root

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "README.md",
     *(ROOT / "examples").rglob("*.md")]
)  # fmt: skip
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = {"python", "console", "sh", "bash", "yaml", "toml"}
NOT_RUN = {
    "text": "what is printed or drawn, not what is typed",
    "vector": "each is held by tests/objects/test_vectors.py",
    "authorized_keys": "a line for an sshd; tests/ssh forces such commands",
}


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (str(page.relative_to(ROOT)), body)
        for page in PAGES
        for found, body in BLOCK.findall(page.read_text())
        if found == language
    ]


@pytest.mark.parametrize(("page", "body"), blocks("python"), ids=lambda value: str(value)[:20])
def test_python_blocks_run_as_printed(page: str, body: str, tmp_path: Path) -> None:
    dataset.make_root(str(tmp_path))
    dataset.make_dataset(str(tmp_path), "densegen/my_dataset", rows=100, parts=2)
    environment = {**os.environ, "USR_ROOT": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "h")}
    done = subprocess.run(
        [sys.executable, "-c", body],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, f"{page}: {done.stderr}"


def usr_lines() -> list[tuple[str, str]]:
    """Every command line that begins with `$ usr` in a console block, or `usr …` in prose."""
    found = []
    for language, prompt in (("console", "$ "), ("sh", ""), ("bash", "")):
        for page, body in blocks(language):
            found += [
                (page, line.removeprefix(prompt).partition("#")[0].strip())
                for line in body.replace("\\\n", " ").splitlines()
                if line.startswith(f"{prompt}usr ")
            ]
    return found


def test_every_block_is_run_or_has_a_reason_not_to_be() -> None:
    found = {
        (str(page.relative_to(ROOT)), language)
        for page in PAGES
        for language, _ in BLOCK.findall(page.read_text())
    }
    assert not {row for row in found if row[1] not in RUN | NOT_RUN.keys()}
    fences = sum(page.read_text().count("\n```") for page in PAGES)
    assert fences == 2 * sum(len(BLOCK.findall(page.read_text())) for page in PAGES)


@pytest.mark.parametrize(("page", "body"), blocks("yaml"), ids=lambda value: str(value)[:20])
def test_remotes_that_are_shown_are_read(page: str, body: str, tmp_path: Path) -> None:
    (tmp_path / "remotes.yaml").write_text(body)
    assert profiles.load(str(tmp_path / "remotes.yaml")), page


@pytest.mark.parametrize(("page", "body"), blocks("toml"), ids=lambda value: str(value)[:20])
def test_settings_that_are_shown_are_read(page: str, body: str, tmp_path: Path) -> None:
    (tmp_path / ".usr").mkdir()
    (tmp_path / ".usr" / "config").write_text(body)
    assert Root(str(tmp_path)).config, page


def test_verbs_of_dev_that_are_shown_exist() -> None:
    verbs = set(re.findall(r"^    (\w+)\)", (ROOT / "dev").read_text(), re.MULTILINE))
    shown = {
        word
        for page in PAGES
        for word in re.findall(r"(?:^\$ |`|&& )\./dev (\w+)", page.read_text(), re.MULTILINE)
    }
    assert len(shown) > 5
    assert not shown - verbs


@pytest.mark.parametrize(("page", "line"), usr_lines(), ids=lambda value: str(value)[:40])
def test_commands_shown_exist_with_the_options_shown(page: str, line: str) -> None:
    words = line.split()
    if words[1] == "--root":
        del words[1:3]
    known = {name for rows in COMMANDS.values() for name in rows}
    assert words[1] in known, f"{page}: {line}"
    command = cli.get_command(click.Context(cli), words[1])
    target = words[1:3] if isinstance(command, click.Group) else words[1:2]
    help_text = subprocess.run(
        [sys.executable, "-m", "usrcli", *target, "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for option in (word for word in words if word.startswith("-")):
        assert option in help_text, f"{page}: {line}: {option}"


def test_the_five_minute_tour_works_on_a_dataset_of_ones_own(tmp_path: Path) -> None:
    """The README's tour, line by line, with a second root in place of the cluster."""
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    dataset.make_root(str(here))
    dataset.make_dataset(str(here), "densegen/my_dataset", rows=200, parts=2)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    environment.pop("USR_ROOT", None)
    environment.pop("USR_REMOTES_PATH", None)
    tour = [line for page, line in usr_lines() if page == "README.md"]
    assert len(tour) >= 8
    for line in tour:
        words = line.split("#")[0].replace('"', "'").strip()
        if words.startswith("usr remotes add"):
            words = f"usr remotes add cluster --type folder --base-dir {there}"
        command = f"{sys.executable} -m usrcli{words.removeprefix('usr')}"
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        if "pull" in words:
            (here / "densegen/my_dataset/notes.txt").write_text("annotated\n")
    assert (there / "densegen/my_dataset/notes.txt").read_text() == "annotated\n"
