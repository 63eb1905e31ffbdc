"""The house keeps its proportions and its promises to readers."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import usrstore

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "README.md"])
CEILING = 400
VAGUE = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "base", "core"}


def test_no_module_is_longer_than_four_hundred_lines() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert not {str(path): size for path, size in sizes.items() if size > CEILING}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [path for path in SOURCES if path.stem in VAGUE]


def test_every_module_begins_with_its_charter() -> None:
    missing = [
        path
        for path in SOURCES
        if path.read_text().strip() and not path.read_text().lstrip().startswith(('"""', 'r"""'))
    ]
    assert not missing


def test_the_public_names_are_frozen() -> None:
    assert sorted(usrstore.__all__) == sorted(
        [
            "Checks",
            "Comparison",
            "ConflictError",
            "ContentHash",
            "DatasetHandle",
            "Emit",
            "Event",
            "IntegrityError",
            "InvalidInputError",
            "Manifest",
            "ManifestId",
            "NotFoundError",
            "ObjectId",
            "Options",
            "Peer",
            "Profile",
            "RemoteError",
            "Section",
            "Signer",
            "StorageError",
            "Store",
            "SyncResult",
            "TreeId",
            "TrustError",
            "UnsupportedError",
            "UsrError",
            "Who",
            "connect",
            "generate",
            "load_private_key",
            "open",
            "who",
        ]
    )
    for name in usrstore.__all__:
        assert getattr(usrstore, name) is not None


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, usrstore; print([m for m in sys.modules if m.startswith('usrstore.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(?<![\w.])print\(", "only the command line prints"),
        (r"os\.environ", "only the command line knows the environment"),
        (r"sys\.exit|os\._exit", "only the command line ends the process"),
        (r"expanduser", "only the command line knows the home folder"),
        (r"TODO|FIXME|NotImplementedError", "nothing is left unfinished"),
    ],
)
def test_the_library_keeps_to_itself(pattern: str, why: str) -> None:
    library = [path for path in SOURCES if "usrstore" in path.parts[-3:] or "usrstore" in str(path)]
    found = []
    for path in library:
        if "usrcli" in path.parts:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.partition("#")[0]
            if re.search(pattern, code) and '"""' not in line and "pass os.environ" not in line:
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    # A docstring may show how a program passes its environment in.
    found = [line for line in found if "usrstore.connect(profile, os.environ)" not in line]
    # The one child that the library starts of itself has to end somewhere: nowhere else.
    own_end = re.compile(r"worktree/scout\.py:\d+: os\._exit\(0\)")
    assert not [line for line in found if not own_end.search(line)], why


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_resolve(page: Path) -> None:
    text = page.read_text()
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http", "#", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve()
        if not path.exists():
            broken.append(target)
        elif anchor and path.suffix == ".md":
            heads = re.findall(r"^#+\s+(.*)$", path.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            if anchor not in slugs:
                broken.append(target)
    assert not broken


CLAUSED = ("format.md", "protocol.md", "threat-model.md")


def _clauses(page: str) -> set[str]:
    text = (ROOT / "docs" / page).read_text()
    return set(re.findall(r"\*\*\[([FPT]-\d+)\]\*\*", text))


def _claims() -> set[str]:
    """Clauses that a test carries: a mark of its own, of its class or module, of one of its cases.

    Read from the syntax, so that no comment and no helper can claim one; and only marks of
    files that pytest collects count.
    """
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.spec":
                found |= {ast.literal_eval(argument) for argument in node.args}
    return found


@pytest.mark.parametrize("page", CLAUSED)
def test_every_numbered_clause_is_claimed_by_a_test(page: str) -> None:
    clauses = _clauses(page)
    assert clauses
    assert clauses <= _claims(), f"unclaimed: {sorted(clauses - _claims())}"


def test_no_claim_names_a_clause_that_does_not_exist() -> None:
    assert _claims() <= {clause for page in CLAUSED for clause in _clauses(page)}


@pytest.mark.parametrize("page", CLAUSED)
def test_clauses_are_numbered_without_gaps(page: str) -> None:
    numbers = sorted(int(clause[2:]) for clause in _clauses(page))
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("page", ["format.md", "protocol.md"])
def test_whatever_must_be_has_a_number(page: str) -> None:
    """A paragraph, item or table row that says MUST belongs to a clause."""
    text = re.sub(
        r"^```.*?^```", "", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE | re.DOTALL
    )
    numbered, naked = False, []
    for block in re.split(r"\n\s*\n|\n(?=- |\| |#)", text):
        if re.match(r"\s*#", block):
            numbered = False
        numbered = numbered or re.search(r"\*\*\[[FP]-\d+\]\*\*", block) is not None
        if re.search(r"\bMUST\b", block) and not numbered and "RFC 2119" not in block:
            naked.append(block.strip()[:100])
    assert not naked


def test_the_code_cites_only_clauses_that_exist() -> None:
    known = {clause for page in CLAUSED for clause in _clauses(page)}
    cited = {
        clause for path in SOURCES for clause in re.findall(r"\[([FPT]-\d+)\]", path.read_text())
    }
    assert cited <= known, f"unknown: {sorted(cited - known)}"


def test_every_dependency_has_its_line_of_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("dependencies = [")[1].split("]")[0]
    names = re.findall(r'"([A-Za-z0-9_-]+)', block)
    page = (ROOT / "docs" / "dependencies.md").read_text().lower()
    assert not [name for name in names if name.lower() not in page]


def test_no_tool_pin_records_an_address() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text()
