"""The written format and the tests hold each other: every clause is claimed, every claim is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORMAT = (ROOT / "docs" / "format.md").read_text()
CLAUSES = re.findall(r"^\*\*\[(F-\d+)\]\*\*", FORMAT, re.MULTILINE)
PROTOCOL = sorted(
    set(re.findall(r"\*\*\[(P-\d+)\]\*\*", (ROOT / "docs" / "protocol.md").read_text())),
    key=lambda name: int(name[2:]),
)
TESTS = {path: path.read_text() for path in (ROOT / "tests").rglob("*.py")}

GUARANTEES = re.findall(
    r"^- \*\*\[(T-\d+)\]\*\*", (ROOT / "docs" / "threat-model.md").read_text(), re.MULTILINE
)


def test_clauses_are_numbered_without_gaps():
    assert [f"F-{number}" for number in range(1, len(CLAUSES) + 1)] == CLAUSES
    assert len(CLAUSES) > 50


def test_clauses_of_the_protocol_are_numbered_without_gaps():
    assert [f"P-{number}" for number in range(1, len(PROTOCOL) + 1)] == PROTOCOL


def test_guarantees_are_numbered_without_gaps():
    assert [f"T-{number}" for number in range(1, len(GUARANTEES) + 1)] == GUARANTEES


@pytest.mark.parametrize("clause", CLAUSES + PROTOCOL + GUARANTEES)
def test_a_clause_is_held_by_a_test(clause):
    assert any(f'spec("{clause}")' in text for text in TESTS.values())


def test_whatever_is_cited_is_a_clause():
    places = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    cited = {name for path in places for name in re.findall(r"\[([FPT]-\d+)\]", path.read_text())}
    claimed = {
        name for text in TESTS.values() for name in re.findall(r'spec\("([FPT]-\d+)"\)', text)
    }
    assert cited | claimed <= {*CLAUSES, *PROTOCOL, *GUARANTEES}


def test_the_limits_in_the_text_are_those_of_the_code():
    from usrstore.objects import codec, manifest, names, nodes, recipe, state, tree
    from usrstore.odb import packindex

    limits = dict(
        re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", FORMAT.split("**[F-9]**")[1], re.MULTILINE)
    )
    assert codec.MAX_CHUNK_BYTES == 1 << 20
    assert codec.MAX_OBJECT_BYTES == 16 << 20
    expected = {
        "chunk": "1 MiB",
        "recipe node": f"{recipe.MAX_NODE_BYTES >> 10} KiB",
        "tree node": f"{tree.MAX_NODE_BYTES >> 10} KiB",
        "manifest, tag": f"{manifest.MAX_SIGNED_BYTES >> 10} KiB",
        "state": f"16 MiB; 2^{state.MAX_REFS.bit_length() - 1} refs",
        "index": "16 MiB",
        "files of a tree": f"2^{tree.MAX_FILES.bit_length() - 1}",
        "bytes of a tree": "2^64 − 1",
        "characters of all paths of a tree": f"2^{tree.MAX_PATHS_CHARS.bit_length() - 1}",
        "chunks of a file": f"2^{recipe.MAX_CHUNKS.bit_length() - 1}",
        "height of a recipe or tree node": f"{nodes.MAX_HEIGHT}",
        "name in a tree": f"{names.MAX_NAME_BYTES} bytes",
        "path": f"{names.MAX_PATH_BYTES} bytes, {names.MAX_DEPTH} names",
        "signature": f"{manifest.MAX_SIGNATURE_BYTES >> 10} KiB",
        "objects of a pack": f"2^{packindex.MAX_OBJECTS.bit_length() - 1}",
    }
    assert {what: limits[what] for what in expected} == expected
    assert packindex.MAX_OBJECTS * 52 <= codec.MAX_OBJECT_BYTES
