"""What limits a transfer is measured over a real sshd, and nothing stays."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest

from support.lab import validate
from support.throttles import Narrow, slow_disk, slow_hash
from usrcli.drills import sshd

REMOTE = "bu-scc"
PARTS = [
    ("here", "hash"), ("here", "read and hash"), ("here", "write and sync"),
    ("link", "send"), ("link", "receive"),
    ("there", "hash"), ("there", "read and hash"), ("there", "write and sync"),
]  # fmt: skip


def files(link):
    return [sorted(map(str, Path(root).rglob("*"))) for root in (link.root, link.there)]


def measured(link, *words):
    return validate(
        "bench-transfer",
        link.usr("bench", "transfer", REMOTE, "--size", "3M", "--json", *words).out,
    )


def test_every_part_is_measured_the_slowest_is_named_and_nothing_stays(link):
    before = files(link)
    data = measured(link)
    assert files(link) == before
    assert [(part["place"], part["name"]) for part in data["parts"]] == PARTS
    assert all(part["bytes_per_s"] > 0 for part in data["parts"])
    assert data["slowest"] == min(data["parts"], key=lambda part: part["bytes_per_s"])
    assert data["round_trip_us"] > 0
    assert data["verdict"].startswith("The slowest part is ")


def test_a_person_reads_one_line_a_part_and_one_sentence(link):
    lines = link.usr("bench", "transfer", REMOTE, "--size", "2MB").ok().lines
    assert len(lines) == len(PARTS) + 3
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "here", "link", REMOTE, "The",
    ]  # fmt: skip
    assert lines[-1].endswith(" s.")


def limit_of(link, size="3M"):
    """What is named, in a word and in the sentence; the sentence speaks of the slowest part."""
    data = validate(
        "bench-transfer", link.usr("bench", "transfer", REMOTE, "--size", size, "--json").ok().out
    )
    return (data["limit"]["place"], data["limit"]["what"]), data["verdict"], data["ssh_busy"]


def test_a_narrow_network_is_named_and_not_the_cipher(link, server):
    narrow = Narrow(server.port, 1_000_000)
    try:
        alias = f"HostKeyAlias=[127.0.0.1]:{server.port}"
        link.profile(
            port=narrow.port, ssh_options=["-p", str(narrow.port), "-o", alias, "-F", link.config]
        )
        found, verdict, busy = limit_of(link, "1M")
    finally:
        narrow.close()
    assert found == ("link", "network"), (verdict, busy)
    assert f"the network to {REMOTE}" in verdict or f"the network from {REMOTE}" in verdict


def test_a_slow_cipher_is_named_and_not_the_network(link):
    if b"3des-cbc" not in subprocess.check_output(["ssh", "-Q", "cipher"]):
        pytest.skip("this ssh has no cipher that is slow")
    with (
        tempfile.TemporaryDirectory(prefix="usr-sshd-") as folder,
        sshd.running(folder, extra=["Ciphers 3des-cbc"]) as server,
    ):
        link.profile(ssh_options=["-F", server.config, "-o", "Ciphers=3des-cbc"])
        # Both ends encipher. Where the machine is at other work, too, it is this one that has
        # to wait for a processor, if that can be had.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, server.pid, -10)
        link.environment["USR_SSH_COMMAND"] = "nice -n 10 ssh"
        command = f"nice -n -10 usr bench transfer {REMOTE} --size 10M --json"
        data = validate("bench-transfer", link.bash(command).ok().out)
    found, verdict, busy = tuple(data["limit"].values()), data["verdict"], data["ssh_busy"]
    assert found == ("link", "cipher"), (verdict, busy)
    assert "ssh's cipher here" in verdict


def test_slow_hashing_at_the_remote_is_named_and_not_its_disk(link):
    slow = slow_hash(link.home / "slow")
    link.profile(usr_command=f"env PYTHONPATH={shlex.quote(str(slow))} {link.far_usr}")
    found, verdict, _ = limit_of(link, "2M")
    assert found == ("there", "hash"), verdict
    assert f"hashing at {REMOTE}" in verdict


@pytest.mark.parametrize("place", ["here", "there"])
def test_a_slow_disk_is_named_at_its_end(link, place):
    with (
        tempfile.TemporaryDirectory(prefix="usr-disk-") as disk,
        slow_disk(disk, 1_000_000) as prefix,
    ):
        if prefix is None:
            pytest.skip("no disk can be slowed down here")
        if place == "there":
            script = link.script("served", f'#!/bin/sh\n{prefix}exec {link.far_usr} "$@"\n')
            link.profile(usr_command=script, base_dir=disk)
            found, verdict, _ = limit_of(link, "2M")
        else:
            link.usr("init", disk).ok()
            command = f"{prefix}exec usr --root {disk} bench transfer {REMOTE} --size 2M --json"
            data = validate("bench-transfer", link.bash(command).ok().out)
            found, verdict = tuple(data["limit"].values()), data["verdict"]
    assert found == (place, "disk"), verdict
    assert "the disk" in verdict


@pytest.mark.parametrize("limit", ["--read-only", "--dataset ns/x:ro", "--max-bytes 4000000"])
def test_a_serving_end_that_takes_no_such_push_only_hashes(link, limit):
    served = link.script("served", f'#!/bin/sh\nexec {link.far_usr} "$@" {limit}\n')
    link.profile(usr_command=served)
    before = files(link)
    if "max" in limit:
        link.usr("bench", "transfer", REMOTE, "--size", "5M").failed("protocol", 9)
    else:
        there = [part["name"] for part in measured(link)["parts"] if part["place"] == "there"]
        assert there == ["hash"]
    assert files(link) == before


def test_a_bucket_has_nobody_to_measure(link):
    link.profile(type="bucket", url="s3://nowhere/x", host=None, base_dir=None)
    before = files(link)
    assert link.usr("bench", "transfer", REMOTE).status > 1
    assert files(link) == before


@pytest.mark.parametrize("size", ["0", "999k", "2G", "many", "-1"])
def test_a_size_that_is_none_is_a_usage_error(link, size):
    link.usr("bench", "transfer", REMOTE, f"--size={size}").failed("usage", 2)
