"""One program on its way through the story: what each step took, and what it keeps where."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time

from lab import DATASET, USR, Lab, remove
from peers import SECRETS

from versus.meter import Meter
from versus.sheet import Cell
from versus.tools import Tool

PATIENCE_S = 60.0


class Journey:
    """One tool on its way through the story; `failed` says why it went no further."""

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

    @property
    def _own(self) -> list[str]:
        """What only this tool has, there and here."""
        work = [os.path.dirname(self._work)] if self.tool.copies else []
        return [self._kept, self._there, *work]

    def make_ready(self) -> None:
        for path in self._own:
            remove(path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
        os.makedirs(os.path.dirname(self._work), exist_ok=True)
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
        for path in self._own:
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
