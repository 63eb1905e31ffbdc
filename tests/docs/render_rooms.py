"""Write docs/rooms.md and the index of docs/decisions from what the files say of themselves.

Run as a program, it brings both up to date; the tests compare.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ROOT / "docs" / "rooms.md"
DECISIONS = ROOT / "docs" / "decisions"
INDEX = DECISIONS / "README.md"
FOLDERS = {
    "usrcli": "outside: arguments, environment, terminal, exit statuses",
    "usrcli/render": "values as text",
    "usrcli/drills": "the runbook, with faults",
    "usrstore": "the front doors, and the lowest floor",
    "usrstore/verbs": "what can be done; each reads like the data's way",
    "usrstore/worktree": "folder ↔ tree",
    "usrstore/remote": "store ↔ store",
    "usrstore/dataset": "what is inside",
    "usrstore/odb": "keeping",
    "usrstore/odb/backend": "places",
    "usrstore/trust": "believing",
    "usrstore/objects": "words",
}


def charter(path: Path) -> str:
    """The first sentence that a module says of itself, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def rooms() -> str:
    lines = [
        "# The rooms",
        "",
        "Every module and the charter it begins with; `python tests/docs/render_rooms.py` wrote it.",
        "How they stand on each other is in [architecture.md](architecture.md).",
        "",
    ]
    for folder, words in FOLDERS.items():
        found = [
            path
            for path in sorted((ROOT / "src" / folder).glob("*.py"))
            if not path.name.startswith("__") and charter(path)
        ]
        lines += [
            f"## {folder}",
            "",
            f"{words[0].upper()}{words[1:]}.",
            "",
            "| room | |",
            "|---|---|",
        ]
        lines += [
            f"| `{path.stem}` | {charter(path).replace('|', chr(92) + '|')} |" for path in found
        ]
        lines.append("")
    return "\n".join(lines)


def decisions() -> list[tuple[int, str, str]]:
    """Number, title and file of each decision."""
    found = []
    for path in sorted(DECISIONS.glob("[0-9]*.md")):
        title = re.fullmatch(r"# (\d+)\. (.+)", path.read_text().splitlines()[0])
        assert title, path
        found.append((int(title[1]), title[2], path.name))
    return found


def index() -> str:
    head = INDEX.read_text().partition("\n| ")[0].rstrip()
    rows = [f"| {number} | [{title}]({name}) |" for number, title, name in decisions()]
    return "\n".join([head, "", "| | |", "|---|---|", *rows, ""])


if __name__ == "__main__":
    ROOMS.write_text(rooms())
    INDEX.write_text(index())
