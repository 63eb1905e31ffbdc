"""What goes wrong between two hosts: no way through, the wrong program, a link that breaks."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.datasets import noise
from support.lab import sample_files, validate
from support.processes import wait_beside, wait_gone
from usrstore.worktree.cut import MAX_CUT_BYTES

DATASET = "ns/x"
REMOTE = "bu-scc"


def refused(link, code, status, *, message):
    """diff, pull and push fail alike, doctor says why, and nothing has changed."""
    before = link.read(link.folder), link.read(link.there), link.refs(link.root)
    for words in (["diff"], ["pull", "-y"], ["push", "-y"]):
        said = link.usr(*words, DATASET, REMOTE).failed(code, status)
        assert re.search(message, said.err), said.err
    assert link.usr("push", DATASET, REMOTE, "-y", "--json").error["code"] == code
    assert (link.read(link.folder), link.read(link.there), link.refs(link.root)) == before
    doctor = link.usr("remotes", "doctor", "--remote", REMOTE)
    assert doctor.status == 1
    assert doctor.lines[-1] == f"{REMOTE}: a push would fail"
    return doctor.out


# ── no way through ──────────────────────────────────────────────────────────────────────
def test_a_remote_without_usr(link):
    link.profile(usr_command="/nonexistent")
    doctor = refused(link, "remote-without-usr", 9, message="has no `usr` to answer")
    assert re.search(r"^usr +FAILED ", doctor, re.MULTILINE)
    assert "→ ssh scc1 'pip install usrstore'" in doctor


def test_an_unknown_host(link):
    link.profile(ssh_options=["-o", "HostName=no-such-host.invalid", "-F", link.config])
    doctor = refused(link, "ssh-failed", 9, message="Could not resolve|Name or service|resolve")
    assert re.search(r"^ssh +FAILED ", doctor, re.MULTILINE)
    assert f"→ check the host name: usr remotes show {REMOTE}" in doctor


def test_a_port_where_nobody_listens(link):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        link.profile(port=probe.getsockname()[1])
        doctor = refused(link, "ssh-failed", 9, message="Connection refused")
    assert "→ ssh scc1 true" in doctor


def other_config(link, before, after):
    text = Path(link.config).read_text()
    assert before in text
    path = link.home / "ssh_config"
    path.write_text(text.replace(before, after))
    return str(path)


def test_a_key_that_is_not_let_in(link):
    other = link.home / "other"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)]
    subprocess.run(words, check=True)
    key = str(Path(link.config).parent / "client")
    link.profile(ssh_options=["-F", other_config(link, f"{key}\n", f"{other}\n")])
    doctor = refused(link, "ssh-failed", 9, message="Permission denied")
    assert "→ ssh-copy-id scc1" in doctor


def test_a_key_named_by_a_variable(link):
    key = Path(link.config).parent / "client"
    link.profile(
        ssh_options=["-F", other_config(link, f"IdentityFile {key}\n", "IdentityFile none\n")],
        ssh_key_env="MY_KEY",
    )
    link.usr("diff", DATASET, REMOTE).failed("ssh-failed", 9)
    link.environment["MY_KEY"] = str(key)
    link.usr("diff", DATASET, REMOTE).ok()


def test_a_host_key_that_is_not_known(link):
    link.profile(ssh_options=["-F", link.config, "-o", "UserKnownHostsFile=/dev/null"])
    doctor = refused(
        link, "ssh-failed", 9, message="host key is known|Host key verification failed"
    )
    assert "accept the host key once you know it" in doctor


def test_a_base_dir_that_is_not_there(link):
    missing = link.home / "missing"
    link.profile(base_dir=str(missing))
    doctor = refused(link, "not-found", 4, message="there is no root folder")
    assert f"→ ssh scc1 'mkdir -p {missing}'" in doctor
    assert not missing.exists()


def test_no_ssh_on_this_machine(link):
    link.environment["USR_SSH_COMMAND"] = "/nonexistent/ssh"
    link.usr("diff", DATASET, REMOTE).failed("ssh-missing", 9)
    link.environment["USR_SSH_COMMAND"] = "ssh -o ServerAliveInterval=20"
    link.usr("diff", DATASET, REMOTE).ok()


# ── the wrong program ───────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "noise_text",
    ["echo noise; printf 'more\\n'", "head -c 200000 /dev/zero | tr '\\0' x", "printf '\\0usr-'",
     "echo to stderr >&2"],
)  # fmt: skip
def test_what_login_shells_print_is_skipped(link, noise_text):
    link.profile(usr_command=f"{noise_text}; {link.far_usr}")
    data = link.audit("push", DATASET, REMOTE, "-y")
    assert data["transfer_state"] == "TRANSFERRED"
    assert link.read(link.far) == sample_files()
    assert link.usr("remotes", "doctor", "--remote", REMOTE).ok()


SPEAKS = """#!{python}
import sys
from usrstore.remote.wire import MAGIC, StreamChannel, Wire
channel = StreamChannel(sys.stdin.buffer, sys.stdout.buffer)
channel.write(MAGIC)
Wire(channel).send({{"op": "hello", "protocol": 99, "tool": "usrstore 99"}})
sys.stdin.buffer.read()
"""


def test_another_version_of_the_protocol(link):
    link.profile(usr_command=link.script("usr", SPEAKS.format(python=sys.executable)))
    doctor = refused(link, "protocol-version", 8, message="speaks protocol 99, this end speaks 1")
    assert "→ ssh scc1 'pip install -U usrstore'" in doctor


@pytest.mark.parametrize(
    ("text", "code"),
    [("exit 3", "remote-no-hello"), ("echo hello; exit 0", "remote-no-hello"),
     ("kill -9 $$", "remote-no-hello|ssh-failed"), ("printf '\\0usr-serve\\0nonsense'", "protocol|connection-lost")],
)  # fmt: skip
def test_a_program_that_does_not_speak(link, text, code):
    link.profile(usr_command=link.script("usr", f"#!/bin/sh\n{text}\n"))
    said = link.usr("diff", DATASET, REMOTE)
    assert said.status == 9
    assert re.fullmatch(code, said.code), said
    assert link.read(link.there) == {}


# ── a link that breaks ──────────────────────────────────────────────────────────────────
PATIENCE_S = 120
# What is written is noted a mebibyte and a chunk at a time; disks count in blocks.
AGAIN = (1 << 20) + MAX_CUT_BYTES + (64 << 10)
BIG = {f"_artifacts/{number}.bin": (number, 2 << 20) for number in range(12)}


def big_files():
    return {**sample_files(), **{path: noise(*what) for path, what in BIG.items()}}


def arrived(store) -> int:
    """Bytes on the disk of what waits to be verified."""
    total = 0
    for folder, _, names in os.walk(store / ".usr" / "quarantine"):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def child_of(process) -> int:
    """The ssh that a command has started."""
    [pid] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(pid)


@pytest.fixture
def pushing(synced):
    """A large push is under way, and something of it has arrived."""
    synced.profile(usr_command=synced.held("stdin"))
    synced.write(synced.folder, big_files())
    before = synced.read(synced.far), synced.refs(synced.there)
    process = synced.start("push", DATASET, REMOTE, "-y", start_new_session=True)
    try:
        wait_beside(process, lambda: arrived(synced.there) > 4 << 20, "the transfer")
        yield synced, process, before
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def goes_on(link, before):
    """The remote is as before, and the same command goes on where it stopped."""
    assert (link.read(link.far), link.refs(link.there)) == before
    link.profile()
    here = arrived(link.there)
    out = link.home / "audit.json"
    link.usr("push", DATASET, REMOTE, "-y", "--audit-json-out", out).ok()
    data = validate("audit", out.read_text())
    assert data["moved"]["resumed"] > max(1 << 20, here - AGAIN)
    total = sum(map(len, big_files().values()))
    assert data["moved"]["payload"] + data["moved"]["resumed"] <= total
    assert link.read(link.far) == big_files()
    assert link.usr("--root", link.there, "fsck", "--deep").ok()


def test_a_push_that_is_killed(pushing):
    link, process, before = pushing
    pids = tuple(map(int, (link.home / "pid").read_text().split()))
    process.kill()
    link.let_go()
    process.communicate(timeout=PATIENCE_S)
    wait_gone(*pids)
    goes_on(link, before)


@pytest.mark.parametrize("who", ["ssh here", "serve there"])
def test_a_link_that_breaks_during_a_push(pushing, who):
    link, process, before = pushing
    relay, server = map(int, (link.home / "pid").read_text().split())
    os.kill(child_of(process) if who == "ssh here" else server, signal.SIGKILL)
    link.let_go()
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 9, err
    assert "code: connection-lost\n" in err
    assert "hint: run the same command again; what has arrived is kept" in err
    assert "PUSH audit: REFUSED" in out
    assert "Traceback" not in err
    wait_gone(relay, server)
    goes_on(link, before)


@pytest.mark.parametrize("whom", ["the command", "everyone on the terminal"])
def test_ctrl_c_during_a_push(pushing, whom):
    link, process, before = pushing
    pids = tuple(map(int, (link.home / "pid").read_text().split()))
    (os.kill if whom == "the command" else os.killpg)(process.pid, signal.SIGINT)
    link.let_go()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "interrupted: nothing is half done" in err
    assert "Traceback" not in err
    wait_gone(*pids)
    goes_on(link, before)


@pytest.mark.parametrize("how", ["link", "ctrl-c", "kill"])
def test_a_pull_that_is_cut_short(synced, how):
    synced.profile(usr_command=synced.held("stdout"))
    synced.write(synced.far, {**sample_files(), "_artifacts/big.bin": noise("big", 24 << 20)})
    before = synced.read(synced.folder), synced.refs(synced.root)
    process = synced.start("pull", DATASET, REMOTE, "-y")
    try:
        wait_beside(process, lambda: arrived(synced.root) > 4 << 20, "the transfer")
        if how == "link":
            os.kill(child_of(process), signal.SIGKILL)
        else:
            process.send_signal(signal.SIGINT if how == "ctrl-c" else signal.SIGKILL)
        synced.let_go()
        _, err = process.communicate(timeout=PATIENCE_S)
        wait_gone(*map(int, (synced.home / "pid").read_text().split()))
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == {"link": 9, "ctrl-c": 130, "kill": -9}[how], err
    assert "Traceback" not in err
    assert (synced.read(synced.folder), synced.refs(synced.root)) == before
    synced.profile()
    here = arrived(synced.root)
    data = synced.audit("pull", DATASET, REMOTE, "-y")
    assert data["moved"]["resumed"] > max(1 << 20, here - AGAIN)
    assert synced.read(synced.folder) == synced.read(synced.far)


# ── many at once ────────────────────────────────────────────────────────────────────────
CONFLICTS = {"conflict", "ref-moved", "diverged", "remote-ahead", "locked", "changed-while-read"}


def codes(processes):
    found = []
    for process in processes:
        _, err = process.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in err
        match = re.search(r"^code: (.+)$", err, re.MULTILINE)
        found.append(match[1] if match else process.returncode)
    return found


def test_four_people_push_different_work_at_once(synced):
    roots = []
    for number in range(4):
        root = synced.home / f"root-{number}"
        root.mkdir()
        synced.usr("--root", root, "pull", DATASET, REMOTE, "-y").ok()
        (root / DATASET / "meta.md").write_text(f"work of {number}")
        (root / DATASET / f"_artifacts/{number}.bin").write_bytes(noise(number, 1 << 20))
        roots.append(root)
    found = codes([synced.start("--root", root, "push", DATASET, REMOTE, "-y") for root in roots])
    assert found.count(0) == 1, found
    assert set(found) - {0} <= CONFLICTS, found
    winner = roots[found.index(0)]
    assert synced.read(synced.far) == synced.read(winner / DATASET)
    rows = validate("log", synced.usr("--root", synced.there, "log", DATASET, "--json").ok().out)
    assert [len(row["parents"]) for row in rows] == [1, 0]
    assert synced.usr("--root", synced.there, "fsck", "--deep").ok()
    for root, code in zip(roots, found, strict=True):
        if code != 0:
            synced.usr("--root", root, "push", DATASET, REMOTE, "-y").failed("diverged", 5)


def test_four_processes_push_the_same_work_at_once(synced):
    for number in range(3):
        (synced.folder / "meta.md").write_text(f"work {number}")
        processes = [synced.start("push", DATASET, REMOTE, "-y") for _ in range(4)]
        found = codes(processes)
        assert 0 in found, found
        assert set(found) - {0} <= CONFLICTS, found
        assert synced.usr("push", DATASET, REMOTE, "-y").ok()
        assert synced.read(synced.far) == synced.read(synced.folder)
    rows = validate("log", synced.usr("--root", synced.there, "log", DATASET, "--json").ok().out)
    assert all(len(row["parents"]) <= 1 for row in rows), rows
    for root in (synced.root, synced.there):
        assert synced.usr("--root", root, "fsck", "--deep").ok()


def test_a_reader_beside_a_writer(synced):
    """While one pushes, others see the old state or the new one, and nothing else."""
    (synced.folder / "meta.md").write_text("new")
    fresh = [synced.home / f"fresh-{number}" for number in range(2)]
    for root in fresh:
        root.mkdir()
    writer = synced.start("push", DATASET, REMOTE, "-y")
    readers = [synced.start("--root", root, "pull", DATASET, REMOTE, "-y") for root in fresh]
    found = codes([writer, *readers])
    assert set(found) <= {0, *CONFLICTS}, found
    for root, code in zip(fresh, found[1:], strict=True):
        if code == 0:
            assert synced.read(root / DATASET) in (
                sample_files(), {**sample_files(), "meta.md": b"new"},
            )  # fmt: skip
