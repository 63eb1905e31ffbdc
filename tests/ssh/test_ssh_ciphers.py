"""AES-GCM is asked for first where nobody chose, and only there; asked of a real ssh and sshd."""

from __future__ import annotations

import os
import subprocess

import pytest

from support import kex
from support.datasets import DATASET
from support.kex import CHACHA, GCM
from usrcli.drills import sshd
from usrstore.remote import ciphers
from usrstore.remote.profiles import Profile
from usrstore.remote.ssh import ssh_arguments


@pytest.fixture(autouse=True)
def with_aes(monkeypatch):
    monkeypatch.setattr(ciphers, "has_aes", lambda: True)


def arguments(server, *options):
    profile = Profile(
        name="x", host="bench", base_dir="/", ssh_options=("-F", server.config, *options)
    )
    return ssh_arguments(profile, os.environ)


def offered(command):
    command = [command[0], "-G", *command[1:]]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = dict(line.partition(" ")[::2] for line in said.stdout.splitlines())
    return lines["ciphers"].split(",")


def negotiated(command):
    """What ssh and sshd agreed on."""
    done = subprocess.run(
        [*command[:-1], "-v", "-o", "LogLevel=DEBUG1", command[-1], "true"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return kex.agreed(done.stderr)


def test_aes_gcm_comes_first_and_nothing_else_is_offered_or_missing(server):
    plain = arguments(server)
    before, after = offered(plain), offered(ciphers.prefer(plain))
    assert "-gcm" in after[0]
    assert sorted(after) == sorted(before)
    rest = [name for name in before if "-gcm" not in name]
    assert [name for name in after if "-gcm" not in name] == rest


def test_both_ends_agree_on_it(server):
    assert negotiated(ciphers.prefer(arguments(server))) == {GCM}


@pytest.mark.parametrize("options", [("-c", "aes256-ctr"), ("-o", f"Ciphers={CHACHA}")])
def test_ciphers_that_a_profile_chose_stay(server, options):
    chosen = arguments(server, *options)
    assert ciphers.prefer(chosen) == chosen


def test_ciphers_that_the_user_s_configuration_chose_stay(server, tmp_path):
    config = tmp_path / "config"
    config.write_text(f"Ciphers aes256-ctr,{GCM}\nInclude {server.config}\n")
    chosen = arguments(server, "-F", str(config))
    chosen.remove(server.config)
    chosen.remove("-F")
    assert offered(chosen) == ["aes256-ctr", GCM]
    assert ciphers.prefer(chosen) == chosen
    assert negotiated(chosen) == {"aes256-ctr"}


def test_a_diff_asks_for_it_too(link, tmp_path, monkeypatch):
    monkeypatch.undo()  # what is run here asks the processor itself
    log = tmp_path / "log"
    link.profile(ssh_options=["-F", link.config, *kex.logging_to(log)])
    link.usr("diff", DATASET, "bu-scc").ok()
    assert kex.agreed(log.read_text()) == kex.expected()


def test_an_ssh_that_does_not_answer_is_called_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(ciphers, "_PATIENCE_S", 0.05)
    mute = tmp_path / "ssh"
    mute.write_text("#!/bin/sh\nexec sleep 600\n")
    mute.chmod(0o755)
    assert ciphers.prefer([str(mute), "-T", "host"]) == [str(mute), "-T", "host"]


def test_a_server_without_it_is_still_reached(server, tmp_path):
    with sshd.running(str(tmp_path), extra=["Ciphers aes256-ctr"]) as other:
        assert negotiated(ciphers.prefer(arguments(other))) == {"aes256-ctr"}


def test_another_program_is_called_as_it_is(server, tmp_path):
    mine = str(tmp_path / "my-ssh")
    assert ciphers.prefer([mine, "-T", "host"]) == [mine, "-T", "host"]
    missing = str(tmp_path / "ssh")
    assert ciphers.prefer([missing, "-T", "host"]) == [missing, "-T", "host"]


def test_a_processor_without_aes_keeps_the_order(server, monkeypatch):
    monkeypatch.setattr(ciphers, "has_aes", lambda: False)
    assert ciphers.prefer(arguments(server)) == arguments(server)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu vme aes avx\n", True),
        ("processor\t: 0\nflags\t\t: fpu vme avx\nbugs\t\t: aes\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd aes pmull\n", True),
        ("processor\t: 0\nflags\t\t: fpu vaes\n", False),
    ],
)
def test_what_the_system_says_of_its_processors_is_understood(
    tmp_path, monkeypatch, text, expected
):
    monkeypatch.undo()
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    monkeypatch.setattr(ciphers, "_CPUINFO", str(path))
    assert ciphers.has_aes.__wrapped__() is expected
