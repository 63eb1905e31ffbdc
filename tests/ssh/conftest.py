"""Two roots, each with a person of its own, and a real sshd in between."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support import datasets
from support.datasets import DATASET
from support.lab import Said, make_config, sample_files, validate
from usrcli.drills import sshd

REMOTE = "bu-scc"
PROGRAM = str(Path(sys.executable).parent / "usr")


# As in a shell within a shell: bash, asked by sshd, then reads no ~/.bashrc. On the machine of
# whoever runs the tests that may take longer than all of a push.
QUIETLY = ("SetEnv SHLVL=9",)


@pytest.fixture(scope="session")
def server():
    """An sshd for all tests of this process."""
    reason = None if sshd.find_sshd() else "there is no sshd, ssh or ssh-keygen on this machine"
    if not os.path.exists(PROGRAM):
        reason = f"{PROGRAM} is not installed"
    if reason:
        (pytest.fail if os.environ.get("USR_REQUIRE_SSHD") == "1" else pytest.skip)(reason)
    with (
        tempfile.TemporaryDirectory(prefix="usr-sshd-") as folder,
        sshd.running(folder, extra=QUIETLY) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """Whoever works here, and whoever owns the account at the remote."""
    home = tmp_path_factory.mktemp("people")
    return {name: make_config(home / name) for name in ("here", "there")}


HELD = """#!{python}
import os, select, subprocess, sys
sends = {sends!r}
child = subprocess.Popen({command!r} + sys.argv[1:], **{{sends: subprocess.PIPE}})
open({pidfile!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
pipe = getattr(child, sends).fileno()
source, sink = (0, pipe) if sends == "stdin" else (pipe, 1)
passes, ends = {passes}, select.poll()
for fd in (source, sink):
    ends.register(fd, select.POLLRDHUP)
try:
    while piece := os.read(source, 1 << 16):
        passes -= len(piece)
        while passes < 0 and not os.path.exists({go!r}) and not ends.poll(10):
            pass
        while piece:
            piece = piece[os.write(sink, piece):]
except BrokenPipeError:
    pass
os.close(pipe)
sys.exit(child.wait())
"""


@dataclass
class Link:
    """A root `here`, a root `there`, the remote `bu-scc` between them; commands are processes."""

    home: Path
    people: dict
    config: str
    root: Path = field(init=False)
    there: Path = field(init=False)
    folder: Path = field(init=False)
    far: Path = field(init=False)

    def __post_init__(self):
        self.root, self.there = self.home / "here", self.home / "there"
        self.folder, self.far = self.root / DATASET, self.there / DATASET
        self.root.mkdir()
        self.there.mkdir()
        self.remotes = self.home / "remotes.yaml"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("USR_")},
            "PATH": f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(self.people["here"]),
            "USR_REMOTES_PATH": str(self.remotes),
            "USR_ROOT": str(self.root),
        }
        self.far_usr = f"env XDG_CONFIG_HOME={shlex.quote(str(self.people['there']))} {PROGRAM}"
        self.profile()
        self.usr("init", self.root).ok()
        (self.root / "registry.yaml").write_bytes(datasets.REGISTRY)
        self.write(self.folder, sample_files())

    def profile(self, **values) -> None:
        """Write the remote down; values replace the usual settings."""
        body = {
            "type": "ssh",
            "host": "scc1",
            "base_dir": str(self.there),
            "usr_command": self.far_usr,
            "ssh_options": ["-F", self.config],
            **values,
        }
        self.remotes.write_text(json.dumps({"remotes": {REMOTE: body}}))

    def script(self, name, text) -> str:
        """A program at the remote, to be its usr_command."""
        path = self.home / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def held(self, sends, passes=12 << 20) -> str:
        """A usr_command whose `stdin` or `stdout` stands still after so many bytes.

        It stands until either end goes away or `let_go`: what is to break breaks in the middle,
        however busy the machine is. Its pid and that of the usr behind it are in `pid`.
        """
        (self.home / "go").unlink(missing_ok=True)
        text = HELD.format(
            python=sys.executable, command=self.far_usr.split(), sends=sends, passes=passes,
            pidfile=str(self.home / "pid"), go=str(self.home / "go"),
        )  # fmt: skip
        return self.script("held", text)

    def let_go(self) -> None:
        """What was held goes through: without that, what is under way hides that an end is gone."""
        (self.home / "go").touch()

    def start(self, *words, **options):
        """A command that runs on."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(
            [PROGRAM, *map(str, words)], env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def usr(self, *words, stdin=None) -> Said:
        options = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        done = subprocess.run(
            [PROGRAM, *map(str, words)], env=self.environment, text=True, timeout=240,
            capture_output=True, check=False, **options,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    def bash(self, text, **more) -> Said:
        done = subprocess.run(
            ["bash", "-c", text], env={**self.environment, **more}, text=True, timeout=240,
            capture_output=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)

    def audit(self, *words):
        """The audit of a command that must succeed."""
        return validate("audit", self.usr(*words, "--json").ok().out)

    write = staticmethod(datasets.write)
    read = staticmethod(datasets.read)

    def refs(self, root):
        return self.usr("--root", root, "show-ref").out


@pytest.fixture
def link(home, people, server):
    """A dataset here, nothing there."""
    return Link(home, people, server.config)


@pytest.fixture
def synced(link):
    """The dataset has been pushed."""
    link.usr("push", DATASET, REMOTE, "-y").ok()
    return link


def listing(folder):
    """Every entry below a folder: size, mode and time."""
    return {
        str(path.relative_to(folder)): (stat.st_size, stat.st_mode, stat.st_mtime_ns)
        for path in sorted(Path(folder).rglob("*"))
        for stat in [path.lstat()]
    }


@pytest.fixture
def listed():
    return listing
