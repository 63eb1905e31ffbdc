"""usr and whoever else copies folders, side by side: the same dataset, the same edits, one run.

Every tool follows one story (story.py) over ssh to the same sshd, through a link that counts what
passes and may hold it back. Whatever a tool needs to give the remote its state is timed: commit
and push, archive, copy. What it keeps at either end beside the dataset itself is counted as disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import portraits
from delay import Link
from lab import DATASET, HERE, USR, Lab, remove
from peers import GIT, SECRETS
from story import STEPS

RCLONE = os.path.join(os.path.dirname(sys.executable), "rclone")
DELAY_MS = 25
SIZES, QUICK_SIZES = (10, 60), (2, 6)
COUNT, QUICK_COUNT = 5000, 200
PATIENCE_S = 20.0
DOCS = os.path.join(os.path.dirname(HERE), "docs")
_SFTP = "/usr/lib/openssh/sftp-server"


@dataclass(frozen=True)
class Tool:
    """How one program gives a remote what a folder holds.

    Attributes:
        name: as the tables call it; what it is called by.
        ready: makes both ends ready, once; not timed. None: the program is not here.
        give: gives the remote the folder's state. `$1` is the folder, `$2` what the tool keeps
            here, `$3` the place there, `$SSH` the ssh command with its options, `$HOST`.
        copies: works in a folder of its own, which is made equal to the dataset before; not timed.
    """

    name: str
    program: str
    ready: str
    give: str
    copies: bool = False


_ANNEX = "-c annex.largefiles=anything -c annex.addunlocked=true"
TOOLS = [
    Tool("usr push", USR, "", f'{USR} --root "$ROOT" push {DATASET} "$REMOTE" -y --json >"$2.out"'),
    Tool("rsync -a", "rsync", "", 'rsync -a --delete -e "$SSH" "$1/" "$HOST:$3/"'),
    Tool(
        "rclone sync",
        RCLONE,
        "",
        f'{RCLONE} sync --config /dev/null --sftp-ssh "$SSH $HOST" "$1" ":sftp:$3"',
    ),
    Tool(
        "git push",
        "git",
        'git init -q --bare "$2"; git init -q --bare "$3"',
        f'g="{GIT} --git-dir=$2 --work-tree=$1"; $g add -A; $g commit -q --allow-empty -m x; '
        'GIT_SSH_COMMAND="$SSH" $g push -q "$HOST:$3" HEAD:main',
    ),
    Tool(
        "git-annex",
        "git-annex",
        f'git init -q --bare "$3"; cd "$3"; git annex init -q there; '
        f'mkdir -p "$1"; cd "$1"; git init -q; {GIT} annex init -q here; '
        'git remote add there "ssh://$HOST$3"',
        f'cd "$1"; export GIT_SSH_COMMAND="$SSH" GIT_ANNEX_USE_GIT_SSH=1; {GIT} {_ANNEX} annex add -q .; '
        f"{GIT} commit -q --allow-empty -m x; {GIT} annex copy -q --to there; "
        f"{GIT} push -q there HEAD:main git-annex:synced/git-annex",
        copies=True,
    ),
    Tool(
        "restic",
        "restic",
        'restic -q -r "$3" init',
        f'cd "$1"; restic -q -r "sftp:$HOST:$3" -o "sftp.command=$SSH $HOST {_SFTP}" backup .',
    ),
    Tool(
        "borg",
        "borg",
        'borg init -e none "$3"',
        'cd "$1"; BORG_RSH="$SSH" BORG_RELOCATED_REPO_ACCESS_IS_OK=yes borg create "ssh://$HOST$3::x$(date +%s%N)" .',
    ),
    Tool(
        "casync",
        "casync",
        'mkdir -p "$3"; printf \'#!/bin/sh\\nexec %s "$@"\\n\' "$SSH" >"$2.ssh"; chmod +x "$2.ssh"',
        'CASYNC_SSH_PATH="$2.ssh" casync make --without=all '
        '--store="$HOST:$3/x.castr" "$HOST:$3/x.caidx" "$1" >"$2.out"',
    ),
]
DVC = Tool(
    "dvc push",
    "dvc",
    'mkdir -p "$1"; cd "$1/.."; git init -q; $DVC init -q; '
    '$DVC remote add -q -d there "ssh://$PLACE$3"; $DVC remote modify there keyfile "$KEY"',
    'cd "$1/.."; $DVC add -q "$(basename "$1")"; $DVC push -q',
    copies=True,
)


@dataclass(frozen=True)
class Cell:
    """One tool at one step. None: it does not do that, or did not end in time."""

    tool: str
    step: str
    seconds: float | None
    wire: int | None
    disk: int | None


@dataclass
class Sheet:
    """A table of one size and one distance; reads like measure.Table."""

    title: str
    megabytes: int
    delay_ms: int
    steps: dict[str, str]
    cells: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Sheet]:
        return [self]

    def data(self) -> dict[str, object]:
        return {
            "megabytes": self.megabytes,
            "delay_ms": self.delay_ms,
            "cells": [asdict(cell) for cell in self.cells],
        }

    @property
    def tools(self) -> list[str]:
        return list(dict.fromkeys(cell.tool for cell in self.cells))

    def cell(self, tool: str, step: str) -> Cell | None:
        return next((c for c in self.cells if (c.tool, c.step) == (tool, step)), None)

    def text(self) -> str:
        """Markdown: a line a step, a column a tool: seconds, MB on the wire, MB on disk."""
        lines = [f"### {self.title}", ""]
        lines.append("| | " + " | ".join(self.tools) + " |")
        lines.append("|---|" + "---:|" * len(self.tools))
        for what, title in (("seconds", "s"), ("wire", "MB on the wire"), ("disk", "MB on disk")):
            for step, words in self.steps.items():
                shown = [_shown(self.cell(tool, step), what) for tool in self.tools]
                lines.append(f"| {words}, {title} | " + " | ".join(shown) + " |")
        return "\n".join([*lines, "", *self.notes, ""])


def _shown(cell: Cell | None, what: str) -> str:
    value = None if cell is None else getattr(cell, what)
    if value is None:
        return "-"
    if what == "seconds":
        return f"{value:.2f}" if value < 10 else f"{value:.0f}"
    megabytes = value / 1e6
    return f"{megabytes:.3f}" if megabytes < 1 else f"{megabytes:.1f}"


class Meter:
    """A link to a port of this machine that counts every byte of every connection."""

    def __init__(self, target: int, delay_ms: float) -> None:
        self._target = target
        self._delay_s = delay_ms / 1000
        self._links: list[Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(near, far, self._delay_s)
            self._links.append(link)
            link.run()

    @property
    def carried(self) -> int:
        return sum(sum(link.carried) for link in self._links)

    def close(self) -> None:
        # A thread that waits in accept is woken by this and not by closing: it would take a
        # connection of whatever listens on the same descriptor next.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


def versus(lab: Lab) -> list[Sheet]:
    """Every tool through the whole story: two sizes, next door and far away."""
    sizes = lab.sizes or (QUICK_SIZES if lab.quick else SIZES)
    count = QUICK_COUNT if lab.quick else COUNT
    sheets = [
        _sheet(lab, megabytes, delay_ms, count) for megabytes in sizes for delay_ms in (0, DELAY_MS)
    ]
    _write(sheets, quick=lab.quick)
    return sheets


def _sheet(lab: Lab, megabytes: int, delay_ms: int, count: int) -> Sheet:
    where = f"{delay_ms} ms away each way" if delay_ms else "next door"
    steps = {name: words.format(count=count) for name, words in STEPS.items()}
    sheet = Sheet(f"{megabytes} MB, {where}", megabytes, delay_ms, steps)
    tools = TOOLS + ([DVC] if lab.dvc else [])
    here = [tool for tool in tools if shutil.which(tool.program) or tool is DVC]
    missing = [tool.name for tool in tools if tool not in here]
    missing += [] if lab.dvc else ["dvc (`--with-dvc`)"]
    root = lab.new_root("story")
    folder = os.path.join(root, DATASET)
    with _link(lab, delay_ms) as (meter, ssh):
        runs = [_Run(lab, tool, root, meter, ssh) for tool in here]
        for run in runs:
            run.make_ready()
        for number, step in enumerate(STEPS):
            words = ("--megabytes", str(megabytes), "--count", str(count))
            lab.run(sys.executable, os.path.join(HERE, "story.py"), folder, step, *words)
            turn = number % len(runs)
            for run in (*runs[turn:], *runs[:turn]):
                sheet.cells.append(run.take(step))
        for run in runs:
            run.end()
            if run.failed:
                sheet.notes.append(f"{run.tool.name}: {run.failed}.")
    order = [tool.name for tool in here]
    sheet.cells.sort(key=lambda cell: order.index(cell.tool))
    if missing:
        sheet.notes.append(f"Not here: {', '.join(missing)}.")
    return sheet


@contextlib.contextmanager
def _link(lab: Lab, delay_ms: int) -> Iterator[tuple[Meter, str]]:
    """A metered way to the lab's sshd, and the ssh command that takes it."""
    with open(lab.ssh_config, encoding="utf-8") as file:
        text = file.read()
    found = re.search(r"^\s*Port (\d+)$", text, re.MULTILINE)
    assert found is not None
    meter = Meter(int(found[1]), delay_ms)
    config = lab.path(f"ssh_config-{meter.port}")
    text = text.replace(found[0], found[0].replace(found[1], str(meter.port)))
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"HostKeyAlias [127.0.0.1]:{found[1]}\n{text}")
    try:
        yield meter, shlex.join(["ssh", "-F", config])
    finally:
        meter.close()


class _Run:
    """One tool on its way through the story."""

    def __init__(self, lab: Lab, tool: Tool, root: str, meter: Meter, ssh: str) -> None:
        stem = tool.name.split()[0]
        self.tool = tool
        self.failed = ""
        self._said = ""
        self._lab = lab
        self._meter = meter
        self._root = root
        self._folder = os.path.join(root, DATASET)
        self._work = lab.path("work", stem, "x") if tool.copies else self._folder
        self._kept = lab.path("kept", stem)
        self._there = lab.path("there", stem)
        with open(lab.ssh_config, encoding="utf-8") as file:
            key = re.search(r"^\s*IdentityFile (\S+)$", file.read(), re.MULTILINE)
        secrets = dict(word.split("=") for word in SECRETS.split())
        self._env = {
            **lab.env,
            **secrets,
            "SSH": ssh,
            "HOST": "bench",
            "PLACE": f"127.0.0.1:{meter.port}",
            "KEY": key[1] if key else "",
            "DVC": lab.dvc or "",
            "ROOT": root,
            "REMOTE": "versus",
        }
        self._ssh = ssh

    def make_ready(self) -> None:
        for path in (self._kept, self._there, *([self._work] if self.tool.copies else [])):
            remove(path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
        if self.tool.program == USR:
            self._lab.forget(self._root)
            os.makedirs(self._there)
            config = self._ssh.split()[-1]
            far = f"env XDG_CONFIG_HOME={shlex.quote(self._lab.path('far'))} {USR}"
            options = ("--ssh-option=-F", f"--ssh-option={config}", "--usr-command", far)
            words = ("remotes", "add", "versus", "--overwrite", "--host", "bench")
            self._lab.run(USR, *words, "--base-dir", self._there, *options)
        elif not self._try(self.tool.ready, 120):
            self.failed = f"could not be made ready ({self._said})"

    def take(self, step: str) -> Cell:
        """Give the remote what the folder is now."""
        nothing = Cell(self.tool.name, step, None, None, None)
        if self.failed:
            return nothing
        if self.tool.copies:
            words = ("--exclude=/.git", "--exclude=/.gitattributes", "--delete")
            self._lab.run("rsync", "-a", *words, f"{self._folder}/", f"{self._work}/")
        os.sync()
        before, began = self._meter.carried, time.perf_counter()
        well = self._try(self.tool.give, self._lab.patience or PATIENCE_S)
        seconds = time.perf_counter() - began
        if not well:
            self.failed = f"stopped at “{step}” ({self._said})"
            return nothing
        carried = self._meter.carried - before
        if not carried:
            raise RuntimeError(f"{self.tool.name} found a way around the link that counts")
        return Cell(self.tool.name, step, seconds, carried, self._disk())

    def _try(self, script: str, patience_s: float) -> bool:
        words = ["sh", "-ec", script, "sh", self._work, self._kept, self._there]
        with tempfile.TemporaryFile() as said:
            child = subprocess.Popen(
                words,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
            try:
                child.wait(patience_s)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                self._said = f"not done after {patience_s:.0f} s"
                return False
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
        self._said = f"exit status {child.returncode}: {' '.join(last)[:120]}"
        return child.returncode == 0

    def _disk(self) -> int:
        """What lies there, and what is kept here beside the dataset itself."""
        kept = [self._there, self._kept]
        if self.tool.program == USR:
            kept.append(os.path.join(self._root, ".usr"))
        elif self.tool.copies:
            kept += [os.path.join(self._work, ".git"), os.path.join(self._work, "..", ".dvc")]
        return _allocated(kept)

    def end(self) -> None:
        for path in (self._kept, self._there, *([self._work] if self.tool.copies else [])):
            subprocess.run(["chmod", "-R", "u+w", path], check=False, stderr=subprocess.DEVNULL)
            remove(path)


def _allocated(folders: list[str]) -> int:
    """Bytes that files below these folders take on disk; what has two names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for folder in folders:
        for at, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found = os.lstat(os.path.join(at, name))
                    seen[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(seen.values())


def _write(sheets: list[Sheet], *, quick: bool) -> None:
    """docs/versus.md and its pictures, bench/results/versus.json; a quick run goes to bench/results/quick instead."""
    out = os.path.join(HERE, "results", "quick") if quick else DOCS
    os.makedirs(os.path.join(out, "pictures"), exist_ok=True)
    portraits.draw(sheets, os.path.join(out, "pictures"))
    with open(os.path.join(out, "versus.md"), "w", encoding="utf-8") as file:
        file.write(portraits.page(sheets))
    numbers = os.path.join(out if quick else os.path.join(HERE, "results"), "versus.json")
    with open(numbers, "w", encoding="utf-8") as file:
        json.dump([sheet.data() for sheet in sheets], file, indent=1)
        file.write("\n")
