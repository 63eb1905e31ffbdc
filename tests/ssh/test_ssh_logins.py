"""One login for many commands: masters that live, die and are missing, over a real sshd."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import pytest

from support import kex
from support.datasets import DATASET
from support.lab import sample_files, validate
from support.processes import wait_beside, wait_gone

REMOTE = "bu-scc"
PROGRAM = str(Path(sys.executable).parent / "usr")
PASSPHRASE = "correct horse"


class Shared:
    """A link whose ssh shares connections; the sockets are in a folder with a short name."""

    def __init__(self, link, folder):
        self.link = link
        self.socket = f"{folder}/s"
        text = Path(link.config).read_text()
        lines = "  ControlMaster auto\n  ControlPersist 60\n"
        self.path = link.home / "shared_config"
        self.path.write_text(f"Host *\n  ControlPath {self.socket}\n{lines}{text}")
        link.profile(ssh_options=["-F", str(self.path)])

    def status(self):
        said = self.link.usr("remotes", "status", "--remote", REMOTE, "--json").ok()
        validate("remotes-login", said.out)
        return json.loads(said.out)

    def end(self, word="exit"):
        subprocess.run(
            ["ssh", "-F", str(self.path), "-O", word, "scc1"], capture_output=True, check=False
        )

    def master(self) -> int:
        done = subprocess.run(
            ["ssh", "-F", str(self.path), "-O", "check", "scc1"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(done.stderr.partition("pid=")[2].partition(")")[0])


@pytest.fixture
def shared(link):
    folder = tempfile.mkdtemp(prefix="us", dir="/tmp")
    found = Shared(link, folder)
    yield found
    found.end()
    shutil.rmtree(folder)


def typed(link, *words, answers=()):
    """A command at a terminal of its own; each prompt is answered as it appears."""
    ours, theirs = pty.openpty()

    def own_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [PROGRAM, *words], env=link.environment, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=own_terminal,  # noqa: PLW1509  ssh asks at /dev/tty
    )  # fmt: skip
    os.close(theirs)
    text, left, deadline = "", list(answers), time.monotonic() + 120
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                piece = os.read(ours, 4096)
                if not piece:
                    break
                text += piece.decode(errors="replace")
            elif process.poll() is not None:
                break
            if left and left[0][0] in text:
                os.write(ours, left.pop(0)[1].encode() + b"\n")
    status = process.wait(timeout=120)
    os.close(ours)
    return status, text


def test_without_sharing_the_lines_to_add_are_named(link):
    said = link.usr("remotes", "status", "--remote", REMOTE).ok()
    assert "Sharing    : off" in said.out
    said = link.usr("remotes", "warm-auth", "--remote", REMOTE).failed("multiplex-off", 3)
    for text in (said.err, link.usr("remotes", "status", "--remote", REMOTE).out):
        assert "ControlMaster auto, ControlPath ~/.ssh/%C, ControlPersist 8h" in text


def test_one_login_serves_the_commands_after_it(shared):
    assert shared.status()["socket_live"] is False
    said = shared.link.usr("remotes", "warm-auth", "--remote", REMOTE, "--json").ok()
    assert '"bootstrap_state":"started"' in said.out
    found = shared.status()
    assert (found["multiplex_enabled"], found["socket_live"]) == (True, True)
    assert found["control_path"] == shared.socket
    said = shared.link.usr("remotes", "warm-auth", "--remote", REMOTE, "--json").ok()
    assert '"bootstrap_state":"existing"' in said.out
    # Without the key there is no second login: what follows rides on the first.
    key = Path(shared.link.config).parent / "client"
    text = shared.path.read_text()
    shared.path.write_text(text.replace(f"IdentityFile {key}\n", "IdentityFile none\n"))
    shared.link.usr("push", DATASET, REMOTE, "-y").ok()
    assert shared.link.read(shared.link.far) == sample_files()
    shared.end()
    shared.link.usr("diff", DATASET, REMOTE).failed("ssh-failed", 9)


def test_a_passphrase_is_typed_once_at_the_persons_own_terminal(shared):
    """In batch mode no command may ask; warm-auth asks, and the commands after it need not."""
    link, key = shared.link, Path(shared.link.config).parent / "client"
    locked = link.home / "locked"
    shutil.copyfile(key, locked)
    locked.chmod(0o600)
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSPHRASE, "-f", str(locked)], check=True
    )
    text = shared.path.read_text()
    shared.path.write_text(text.replace(f"IdentityFile {key}\n", f"IdentityFile {locked}\n"))
    link.environment.pop("SSH_AUTH_SOCK", None)
    link.usr("diff", DATASET, REMOTE).failed("ssh-failed", 9)
    status, said = typed(
        link, "remotes", "warm-auth", "--remote", REMOTE, answers=[("passphrase", PASSPHRASE)]
    )
    assert status == 0, said
    assert "started" in said
    link.usr("push", DATASET, REMOTE, "-y").ok()
    assert link.read(link.far) == sample_files()


def test_a_master_that_dies_during_a_push_loses_nothing(shared):
    link = shared.link
    link.usr("remotes", "warm-auth", "--remote", REMOTE).ok()
    link.usr("push", DATASET, REMOTE, "-y").ok()
    (link.folder / "_artifacts").mkdir(exist_ok=True)
    (link.folder / "_artifacts/big.bin").write_bytes(os.urandom(24 << 20))
    before = link.read(link.far), link.refs(link.there)
    link.profile(ssh_options=["-F", str(shared.path)], usr_command=link.held("stdin"))
    master, quarantine = shared.master(), link.there / ".usr/quarantine"
    process = link.start("push", DATASET, REMOTE, "-y")
    wait_beside(
        process,
        lambda: any(p.stat().st_blocks > 2048 for p in quarantine.rglob("*") if p.is_file()),
        "anything arrived",
    )
    os.kill(master, 9)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 9, err
    assert "code: connection-lost" in err
    assert (link.read(link.far), link.refs(link.there)) == before
    link.profile(ssh_options=["-F", str(shared.path)])
    link.usr("push", DATASET, REMOTE, "-y").ok()
    assert link.read(link.far) == link.read(link.folder)


def test_a_master_asks_for_the_cipher_that_a_login_of_its_own_would(shared, tmp_path):
    log = tmp_path / "log"
    shared.link.profile(ssh_options=["-F", str(shared.path), *kex.logging_to(log)])
    shared.link.usr("remotes", "warm-auth", "--remote", REMOTE).ok()
    assert kex.agreed(log.read_text()) == kex.expected()


def test_a_socket_that_a_dead_master_left_stops_nobody(shared):
    link = shared.link
    link.usr("remotes", "warm-auth", "--remote", REMOTE).ok()
    master = shared.master()
    os.kill(master, 9)
    wait_gone(master)
    assert os.path.exists(shared.socket)
    found = shared.status()
    assert (found["socket_exists"], found["socket_live"]) == (True, False)
    assert found["recommendation"].startswith(f"rm {shared.socket} && usr remotes warm-auth")
    doctor = link.usr("remotes", "doctor", "--remote", REMOTE).ok()
    assert "left of a master that died" in doctor.out
    link.usr("push", DATASET, REMOTE, "-y").ok()
    assert link.read(link.far) == sample_files()


def test_a_command_logs_in_once(link):
    """One authentication per command, however much it moves."""
    log = Path(link.config).parent / "sshd.log"
    for words in (["push", "-y"], ["diff"], ["pull", "-y"]):
        before = log.read_text().count("Accepted publickey")
        link.usr(words[0], DATASET, REMOTE, *words[1:]).ok()
        assert log.read_text().count("Accepted publickey") == before + 1


def test_a_folder_remote_has_no_logins(link):
    body = {"type": "folder", "base_dir": str(link.there)}
    link.remotes.write_text(json.dumps({"remotes": {REMOTE: body}}))
    for word in ("status", "warm-auth"):
        link.usr("remotes", word, "--remote", REMOTE).failed("invalid-input", 3)
