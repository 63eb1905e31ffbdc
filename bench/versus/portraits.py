"""What was measured, as a page and as pictures in a light and a dark theme."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import Any

from versus.sheet import Run, Sheet, shown

THEMES = {
    "light": {"paper": "#ffffff", "ink": "#24292f", "grid": "#e1e4e8", "usr": "#c2410c"},
    "dark": {"paper": "#0d1117", "ink": "#d6dbe1", "grid": "#2b313a", "usr": "#fb923c"},
}
# Colours that hold on both papers, and a mark each: nobody has to tell them by colour alone.
MARKS = [
    ("#3b82c4", "s"), ("#2a9d7c", "^"), ("#8b7bd8", "D"), ("#c95d9e", "v"),
    ("#8a8f98", "P"), ("#b58a1b", "X"), ("#4aa3b8", "<"), ("#a0705a", ">"),
]  # fmt: skip


_ABOUT = """\
# Side by side

Every program takes the same dataset through the same edits, over ssh to the same sshd on loopback, through a link
that counts every byte (ssh's own included) and, in half of the tables, holds it back. Timed is whatever a program
needs until the remote has the state: commit and push, archive, copy. On disk is what lies at the remote and what is
kept here beside the dataset. `-`: it did not end in time, or does not do that.

rsync, rclone and usr leave an ordinary folder at the remote; git, git-annex, restic, borg, casync and dvc a
repository. rsync and rclone keep no earlier state. restic encrypts, git compresses; neither can be told not to. All
run as they come: none is told to use more connections or other sizes.
"""
_PICTURES = {
    "versus-time": "Seconds of each step for each program",
    "versus-bytes": "Megabytes on the wire and on disk for each step and program",
}


def page(run: Run, sheets: Sequence[Sheet]) -> str:
    """docs/versus.md."""
    lines = [_ABOUT, *_how(run), ""]
    for name, alt in _PICTURES.items():
        lines += [
            "<picture>",
            f'<source media="(prefers-color-scheme: dark)" srcset="pictures/{name}-dark.png">',
            f'<img alt="{alt}" src="pictures/{name}-light.png">',
            "</picture>",
            "",
        ]
    lines += _whole_story(sheets)
    return "\n".join([*lines, *(sheet.text() for sheet in sheets)]).rstrip() + "\n"


def _how(run: Run) -> list[str]:
    """Where, when and under which circumstances: what a reader may conclude."""
    load = f"load average {run.load_before:.1f} before, {run.load_after:.1f} after"
    trust = (
        "one run of each step: read ratios of two and more"
        if run.quiet
        else "the machine was at other work, too: read what travels and what stays, and little of how long it takes"
    )
    written = f"Written by `./dev bench {run.options}` on {run.date}, in {run.minutes} minutes, "
    return [
        _filled(f"{written}on {run.cpus} processors ({load}): {trust}."),
        "",
        _filled(", ".join(f"{name} {version}" for name, version in run.versions.items()) + "."),
    ]


def _filled(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def _whole_story(sheets: Sequence[Sheet]) -> list[str]:
    """Each program's seven steps together, beside ours."""
    lines = [
        "## The whole story",
        "",
        "All steps together, and in brackets how many times what usr takes.",
        "",
        "| | " + " | ".join(f"{s.title}, s" for s in sheets) + " | on the wire, MB | on disk, MB |",
        "|---|" + "---:|" * (len(sheets) + 2),
    ]
    largest = max(sheets, key=lambda sheet: (sheet.megabytes, -sheet.delay_ms))
    columns = [(sheet, "seconds") for sheet in sheets] + [(largest, "wire"), (largest, "disk")]
    ours = [sheet.total(sheet.tools[0], what) for sheet, what in columns]
    tools = dict.fromkeys(tool for sheet in sheets for tool in sheet.tools)
    for tool in tools:
        cells = []
        for (sheet, what), mine in zip(columns, ours, strict=True):
            total = sheet.total(tool, what)
            if total is None or mine is None:
                cells.append("-" if total is None else shown(total, what))
            else:
                times = "" if tool == sheet.tools[0] else f" ({total / mine:.1f})"
                cells.append(shown(total, what) + times)
        lines.append(f"| {tool} | " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        f"Bytes are those of “{largest.title}”; on disk is what is there after the last step.",
        "",
        "## Step by step",
        "",
    ]


def draw(sheets: Sequence[Sheet], folder: str) -> None:
    """versus-time and versus-bytes of the largest size, in both themes."""
    import matplotlib as mpl

    mpl.use("Agg")
    largest = max(sheet.megabytes for sheet in sheets)
    shown = [sheet for sheet in sheets if sheet.megabytes == largest]
    near = min(shown, key=lambda sheet: sheet.delay_ms)
    for theme, colours in THEMES.items():
        panels = [(s, "seconds", s.title, "seconds") for s in shown]
        _figure(panels, colours, os.path.join(folder, f"versus-time-{theme}.png"))
        panels = [
            (near, "wire", f"{largest} MB: on the wire", "MB"),
            (near, "disk", f"{largest} MB: on disk, both ends", "MB"),
        ]
        _figure(panels, colours, os.path.join(folder, f"versus-bytes-{theme}.png"))


def _figure(panels: list[Any], colours: dict[str, str], path: str) -> None:
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 10, "font.family": "DejaVu Sans"})
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 4.6), sharey=True, squeeze=False)
    figure.set_facecolor(colours["paper"])
    for axis, (sheet, what, title, unit) in zip(axes[0], panels, strict=True):
        _panel(axis, sheet, what, colours)
        axis.set_title(title, color=colours["ink"], loc="left", fontsize=11)
        axis.set_xlabel(unit, color=colours["ink"])
    handles, labels = axes[0][0].get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="lower center", ncols=len(labels), frameon=False, handletextpad=0.2
    )
    for text in legend.get_texts():
        text.set_color(colours["ink"])
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


def _narrow(axis: Any) -> bool:
    """Too few powers of ten for a scale."""
    low, high = axis.get_xlim()
    return bool(high < 100 * low)


def _panel(axis: Any, sheet: Sheet, what: str, colours: dict[str, str]) -> None:
    from matplotlib.ticker import LogLocator

    names = list(sheet.steps)
    axis.set_facecolor(colours["paper"])
    axis.set_xscale("log")
    others = iter(MARKS)
    for tool in sheet.tools:
        ours = tool.startswith("usr")
        colour, mark = (colours["usr"], "o") if ours else next(others)
        points = []
        for row, step in enumerate(names):
            cell = sheet.cell(tool, step)
            value = None if cell is None else getattr(cell, what)
            if value:
                points.append((value if what == "seconds" else value / 1e6, row))
        axis.scatter(
            [x for x, _ in points],
            [y for _, y in points],
            s=85 if ours else 42,
            color=colour,
            marker=mark,
            zorder=4 if ours else 3,
            label=tool,
            alpha=1 if ours else 0.85,
            linewidths=0,
        )
    axis.set_yticks(range(len(names)), [sheet.steps[name] for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(axis="y", color=colours["grid"], linewidth=6, zorder=0)
    axis.grid(axis="x", color=colours["grid"], linewidth=0.8, zorder=0)
    axis.tick_params(colors=colours["ink"], length=0)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if _narrow(axis) else (1,)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.minorticks_off()
    for side in axis.spines.values():
        side.set_visible(False)
