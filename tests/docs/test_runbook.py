"""Every entry of the runbook, run for real in a root where exactly that has gone wrong."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support.damage import data_packs, pack_of
from support.faults import CRASHED, Crash, count_calls, in_child
from support.pairs import Place
from support.people import make_who
from usrcli import context, main
from usrcli.drills import dataset

PAGE = Path(__file__).resolve().parents[2] / "docs" / "runbook.md"
ENTRY = re.compile(
    r"^## (?P<title>[^\n]+)\n<!-- setup: (?P<setup>\w+) -->\n(?P<body>.*?)(?=^## |\Z)",
    re.MULTILINE | re.DOTALL,
)
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAME = "densegen/my_dataset"
ENTRIES = [match.groupdict() for match in ENTRY.finditer(PAGE.read_text())]


class Site:
    """A root with two kept states, a remote that has both, and a person with a key."""

    def __init__(self, home: Path) -> None:
        self.home, self.root, self.far = home, home / "here", home / "there"
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "USR_ROOT": str(self.root),
            "USR_AUTHOR": "ada",
            "XDG_CONFIG_HOME": str(home / "config"),
            "FAR": str(self.far),
            "NO_COLOR": "1",
        }
        for name in ("USR_REMOTES_PATH", "USR_SIGNING_KEY", "SSH_AUTH_SOCK"):
            self.env.pop(name, None)
        self.child = self.inside = None

    def begin(self, root=None):
        root = root or self.root
        dataset.make_root(str(root))
        dataset.make_dataset(str(root), NAME, rows=300, parts=2)
        self.far.mkdir()
        self.usr("remotes", "add", "cluster", "--type", "folder", "--base-dir", str(self.far))
        self.usr("commit", NAME, "-m", "first")
        self.meta("second\n")
        self.usr("commit", NAME, "-m", "second")
        self.usr("push", NAME, "cluster", "-y")

    def meta(self, text, root=None):
        (root or self.root).joinpath(NAME, "meta.md").write_text(text)

    def act_in_process(self, patch):
        """Commands of a setup run here, where the clock can be another; None: as before."""
        self.inside = patch
        for name in ("USR_ROOT", "USR_AUTHOR", "XDG_CONFIG_HOME") if patch else ():
            patch.setenv(name, self.env[name])
        for name in ("USR_REMOTES_PATH", "USR_SIGNING_KEY", "SSH_AUTH_SOCK") if patch else ():
            patch.delenv(name, raising=False)

    def usr(self, *words):
        if self.inside:
            assert main.run(list(words)) == 0
            return ""
        done = self.sh(" ".join(f"'{word}'" for word in ("usr", *words)))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sh(self, command):
        return subprocess.run(
            ["sh", "-c", command], cwd=self.root, env=self.env, capture_output=True, text=True,
            check=False, stdin=subprocess.DEVNULL, timeout=400,
        )  # fmt: skip

    @property
    def place(self):
        return Place(self.root, make_who("ada"))

    def interrupt(self, monkeypatch, words, op, where):
        """Kill a command half-way through its changes of one kind."""
        for name in ("USR_ROOT", "USR_AUTHOR", "XDG_CONFIG_HOME", "FAR"):
            monkeypatch.setenv(name, self.env[name])
        keep = self.home / "keep"
        keep.mkdir()
        for path in (self.root, self.far):
            shutil.copytree(path, keep / path.name, copy_function=shutil.copy2)
        calls = count_calls(lambda: main.run(words), within=self.home)
        for path in (self.root, self.far):
            shutil.rmtree(path)
            (keep / path.name).rename(path)
        numbers = [n for n, (o, at) in enumerate(calls, 1) if o == op and where in at]
        tap = Crash(within=str(self.home), number=numbers[len(numbers) // 2], when="after")
        assert in_child(lambda: main.run(words), tap=tap, log=self.home / "log") == CRASHED


# ── what has gone wrong ─────────────────────────────────────────────────────────────────
def full(site, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    site.root.mkdir()
    done = site.sh(f"mount -t tmpfs -o size=24m none {site.root}")
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    site.begin()
    (site.root / NAME / "_artifacts").mkdir(exist_ok=True)
    (site.root / NAME / "_artifacts" / "big").write_bytes(os.urandom(6 << 20))
    room = os.statvfs(site.root)
    left = room.f_bavail * room.f_frsize - (3 << 20)
    (site.root / "scratch.bin").write_bytes(bytes(left))


def rot(site, monkeypatch):
    site.begin()
    path, row = pack_of(_named(site), "records.parquet", None)
    data = bytearray(path.read_bytes())
    data[row.offset : row.offset + 64] = bytes(64)
    path.write_bytes(data)


def _named(site):
    """The place, whose helpers look at the dataset of the runbook."""

    class Here(Place):
        def head(self):
            return self.refs()[f"heads/{NAME}"]

    return Here(site.root, make_who("ada"))


def file(site, monkeypatch):
    site.begin()
    path = site.root / NAME / "records.parquet"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)


def push(site, monkeypatch):
    site.begin()
    site.meta("third\n")
    site.usr("commit", NAME, "-m", "third")
    site.interrupt(monkeypatch, ["push", NAME, "cluster", "-y"], "write", "/quarantine/")


def promotion(site, monkeypatch):
    site.begin()
    site.meta("theirs\n", site.far)
    (site.far / NAME / "more.txt").write_text("more\n")
    site.interrupt(monkeypatch, ["pull", NAME, "cluster", "-y"], "rename", f"here/{NAME}/")


def lock(site, monkeypatch):
    site.begin()
    site.meta("third\n")
    path = site.root / NAME / ".usr.lock"
    path.touch()
    code = "import fcntl,sys,time; f=open(sys.argv[1]); fcntl.flock(f,2); print(flush=True); time.sleep(99)"
    site.child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    site.child.stdout.readline()
    site.env["HOLDER"] = str(site.child.pid)
    with path.open() as held, pytest.raises(BlockingIOError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


def undo(site, monkeypatch):
    site.begin()
    site.meta("third\n")
    site.usr("commit", NAME, "-m", "the one that was lost")
    site.usr("undo")


def state(site, monkeypatch):
    site.begin()
    newest = max((site.root / ".usr" / "states").iterdir())
    newest.write_bytes(newest.read_bytes()[:-40])


def pack(site, monkeypatch):
    site.begin()
    path, _ = max(data_packs(site.place), key=lambda pair: pair[0].stat().st_size)
    path.write_bytes(path.read_bytes()[:-100])


def key(site, monkeypatch):
    """Seen by bob, who has pulled from ada before, and pulls again after her key changed."""
    site.begin()
    shutil.rmtree(site.far)
    site.far.mkdir()
    bob = {**site.env, "USR_ROOT": str(site.far), "XDG_CONFIG_HOME": str(site.home / "bob")}
    bob["USR_AUTHOR"] = "bob"
    ada = site.root, site.env
    site.root, site.env = site.far, bob
    site.usr("remotes", "add", "ada", "--type", "folder", "--base-dir", str(ada[0]))
    site.usr("pull", NAME, "ada", "-y")
    site.root, site.env = ada
    site.meta("third\n")
    shutil.rmtree(site.home / "config" / "usr")
    (site.far / "new-key.pub").write_text(site.usr("trust", "key"))
    site.usr("commit", NAME, "-m", "third")
    site.root, site.env = site.far, bob


stolen = key


def rollback(site, monkeypatch):
    """The remote is restored from a copy of before a state that was seen there."""
    site.begin()
    shutil.copytree(site.far, site.home / "backup")
    site.meta("third\n")
    site.usr("push", NAME, "cluster", "-y")
    shutil.rmtree(site.far)
    shutil.copytree(site.home / "backup", site.far)


def fork(site, monkeypatch):
    """The remote is made anew, with a history of its own that is as long."""
    site.begin()
    shutil.rmtree(site.far / ".usr")
    for text in ("other\n", "history\n", "there\n"):
        site.meta(text, site.far)
        there = site.sh(f"cd {site.far} && USR_ROOT={site.far} usr commit {NAME}")
        assert there.returncode == 0, there.stderr


def stale(site, monkeypatch):
    """All that was ever signed there was signed thirty days ago."""
    now = context.now_us()
    with monkeypatch.context() as patch:
        patch.setattr(context, "now_us", lambda: now - 30 * 86400 * 10**6)
        site.act_in_process(patch)
        site.begin()
        site.act_in_process(None)
    (site.root / ".usr" / "config").write_text('[trust]\nmax_age = "14d"\nstale = "refuse"\n')


def gone(site, monkeypatch):
    site.begin()
    shutil.rmtree(site.root)
    site.root.mkdir()


def gc(site, monkeypatch):
    site.begin()
    site.meta("third\n")
    site.usr("commit", NAME, "-m", "third")


def group(site, monkeypatch):
    site.begin()
    site.meta("third\n")


upgrade = group
SETUPS = (
    full, rot, file, push, promotion, lock, undo, state, pack, key, rollback, fork, stale, gone,
    gc, group,
)  # fmt: skip


@pytest.fixture
def site():
    home = tempfile.mkdtemp(prefix="usr-runbook-")
    made = Site(Path(home))
    yield made
    if made.child is not None:
        made.child.kill()
        made.child.wait()
        made.child.stdout.close()
    if os.path.ismount(made.root):
        subprocess.run(["umount", str(made.root)], check=True)
    shutil.rmtree(home)


def steps(body):
    """Commands with the exit status they end with and the lines they must print."""
    found = []
    for block in BLOCK.findall(body):
        for line in block.splitlines():
            if line.startswith("$ "):
                command, _, note = line[2:].partition("   # exit ")
                found.append((command, int(note or 0), []))
            else:
                found[-1][2].append(line)
    return found


def says(text, line):
    pattern = ".*".join(re.escape(part) for part in line.strip().split("…"))
    return re.search(pattern, text) is not None


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["setup"])
def test_the_entry_does_what_it_says(entry, site, monkeypatch):
    assert "*Symptom:*" in entry["body"]
    globals()[entry["setup"]](site, monkeypatch)
    assert steps(entry["body"])
    for command, status, lines in steps(entry["body"]):
        done = site.sh(command)
        text = done.stdout + done.stderr
        assert done.returncode == status, f"{command}\n{text}"
        for line in lines:
            assert says(text, line), f"{command}\nwanted: {line}\n{text}"


def test_every_symptom_has_its_entry():
    assert {entry["setup"] for entry in ENTRIES} == {f.__name__ for f in SETUPS} | {
        "upgrade",
        "stolen",
    }
    assert PAGE.read_text().count("\n## ") == len(ENTRIES)
