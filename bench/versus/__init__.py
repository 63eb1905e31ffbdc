"""usr and whoever else copies folders, side by side: the same dataset, the same edits, one run.

Every tool follows one story (story.py) over ssh to the same sshd, through a link that counts what
passes and may hold it back. Whatever a tool needs to give the remote its state is timed: commit
and push, archive, copy. What it keeps at either end beside the dataset itself is counted as disk.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict

from lab import DATASET, HERE, Lab

from versus import portraits
from versus.journey import Journey
from versus.meter import metered
from versus.sheet import Run, Sheet, shown
from versus.story import STEPS
from versus.tools import find_tools, versions

DELAY_MS = 25
SIZES, QUICK_SIZES = (10, 100), (2, 6)
COUNT, QUICK_COUNT = 500, 100
OUT = os.path.join(HERE, "results", "versus")
DOCS = os.path.join(os.path.dirname(HERE), "docs")


def versus(lab: Lab) -> list[Sheet]:
    """Every tool through the whole story: two sizes, next door and far away."""
    sizes = lab.sizes or (QUICK_SIZES if lab.quick else SIZES)
    count = QUICK_COUNT if lab.quick else COUNT
    began, before = time.monotonic(), os.getloadavg()[0]
    sheets = [
        _sheet(lab, megabytes, delay_ms, count) for megabytes in sizes for delay_ms in (0, DELAY_MS)
    ]
    run = Run(
        date=time.strftime("%Y-%m-%d"),
        cpus=os.cpu_count() or 1,
        minutes=round((time.monotonic() - began) / 60),
        load_before=before,
        load_after=os.getloadavg()[0],
        options=lab.options,
        versions=versions(lab),
    )
    _write(run, sheets, docs=lab.write_docs)
    return sheets


def _sheet(lab: Lab, megabytes: int, delay_ms: int, count: int) -> Sheet:
    where = f"{delay_ms} ms away each way" if delay_ms else "next door"
    steps = {name: words.format(count=count) for name, words in STEPS.items()}
    sheet = Sheet(f"{megabytes} MB, {where}", megabytes, delay_ms, steps)
    here, missing = find_tools(lab)
    root = lab.new_root("story")
    folder = os.path.join(root, DATASET)
    with metered(lab, delay_ms) as (meter, ssh):
        journeys = [Journey(lab, tool, root, meter, ssh) for tool in here]
        for journey in journeys:
            journey.make_ready()
        for number, step in enumerate(STEPS):
            words = ("--megabytes", str(megabytes), "--count", str(count))
            lab.run(sys.executable, "-m", "versus.story", folder, step, *words, cwd=HERE)
            turn = number % len(journeys)
            for journey in (*journeys[turn:], *journeys[:turn]):
                sheet.cells.append(journey.take(step))
            taken = {c.tool: shown(c.seconds, "seconds") for c in sheet.cells if c.step == step}
            said = ", ".join(f"{tool} {seconds}" for tool, seconds in taken.items())
            print(f"{sheet.title}, {steps[step]}, seconds: {said}", flush=True)
        for journey in journeys:
            journey.end()
            if journey.failed:
                sheet.notes.append(f"{journey.tool.name}: {journey.failed}.")
    order = [tool.name for tool in here]
    sheet.cells.sort(key=lambda cell: order.index(cell.tool))
    if missing:
        sheet.notes.append(f"Not here: {', '.join(missing)}.")
    return sheet


def _write(run: Run, sheets: list[Sheet], *, docs: bool) -> None:
    """The page, its pictures and the numbers: beside the other pages if asked, else in OUT."""
    out = DOCS if docs else OUT
    os.makedirs(os.path.join(out, "pictures"), exist_ok=True)
    portraits.draw(sheets, os.path.join(out, "pictures"))
    page = os.path.join(out, "versus.md")
    with open(page, "w", encoding="utf-8") as file:
        file.write(portraits.page(run, sheets))
    numbers = os.path.join(HERE, "results") if docs else out
    with open(os.path.join(numbers, "versus.json"), "w", encoding="utf-8") as file:
        json.dump({**asdict(run), "sheets": [s.data() for s in sheets]}, file, indent=1)
        file.write("\n")
    print(f"written: {page}", flush=True)
