"""The page of the peers is what one run wrote: no figure of it was touched by hand."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "versus.md"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(ROOT / "bench") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_page_is_what_its_numbers_say(bench):
    from versus import portraits, sheet

    data = json.loads((ROOT / "bench" / "results" / "versus.json").read_text())
    sheets = [sheet.Sheet.from_data(one) for one in data.pop("sheets")]
    assert portraits.page(sheet.Run(**data), sheets) == PAGE.read_text()


def test_every_peer_was_there(bench):
    from versus import tools

    page = PAGE.read_text()
    absent = re.findall(r"^Not here: .*$", page, re.MULTILINE)
    assert not absent
    assert not [tool.name for tool in tools.ALL if tool.name not in page]


def test_its_pictures_are_there():
    named = re.findall(r'(?:srcset|src)="([^"]+)"', PAGE.read_text())
    assert len(named) == 4
    assert all((PAGE.parent / name).stat().st_size > 10_000 for name in named)
