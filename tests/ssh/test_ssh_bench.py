"""What limits a transfer is measured over a real sshd, and nothing stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.lab import validate

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
    assert len(lines) == len(PARTS) + 2
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "here", "link", REMOTE, "The",
    ]  # fmt: skip
    assert lines[-1].endswith(" s.")


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
