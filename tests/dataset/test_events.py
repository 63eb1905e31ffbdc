"""The event log: lines of one form, secrets left out, appended whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from support.faults import CRASHED, Crash, Fail, count_calls, in_child
from usrstore.dataset import events
from usrstore.errors import DiskFullError, IntegrityError, InvalidInputError, StorageError
from usrstore.odb import durable

WORDS = {
    "dataset": "ns/x", "root": "/data", "time_us": 1_764_000_000_000_001,
    "actor": {"tool": "usr", "run_id": "r1"},
}  # fmt: skip


def line(number=0, **words):
    return events.compose("snapshot", args={"n": number}, **{**WORDS, **words})


@pytest.fixture
def folder(home):
    return str(home)


def test_a_line_has_its_fields_in_their_order():
    made = line(7, fingerprint={"rows": 1, "cols": 7, "size_bytes": 9}, registry_hash="ab")
    assert made.endswith(b"\n")
    assert b": " not in made
    assert list(json.loads(made).items()) == [
        ("event_version", 1),
        ("timestamp_utc", "2025-11-24T16:00:00.000001+00:00"),
        ("action", "snapshot"),
        ("dataset", {"name": "ns/x", "root": "/data"}),
        ("args", {"n": 7}),
        ("metrics", {}),
        ("artifacts", {}),
        ("maintenance", {}),
        ("fingerprint", {"rows": 1, "cols": 7, "size_bytes": 9}),
        ("registry_hash", "ab"),
        ("actor", {"tool": "usr", "run_id": "r1"}),
        ("version", "0.1.0"),
    ]


def test_a_line_is_ascii_and_bounded():
    made = events.compose("note", args={"text": "élan\n"}, **WORDS)
    assert made.isascii()
    assert made.count(b"\n") == 1
    with pytest.raises(InvalidInputError, match="make a line"):
        events.compose("note", args={"text": "x" * (1 << 20)}, **WORDS)
    with pytest.raises(InvalidInputError, match="JSON"):
        events.compose("note", args={"x": float("nan")}, **WORDS)


@pytest.mark.parametrize(
    "key",
    ["secret", "api_token", "PASSWORD", "db_passwd", "api_key", "APIKEY", "webhook_url",
     "authorization", "aws_credentials", "bearer", "cookie", "session_id"],
)  # fmt: skip
def test_what_sounds_like_a_secret_is_not_written(key):
    found = json.loads(events.compose("x", args={key: "hush", "deep": {key: ["hush"]}}, **WORDS))
    assert b"hush" not in json.dumps(found).encode()
    assert found["args"][key] == "***REDACTED***"


def test_words_of_a_command_hide_what_follows_a_secret_flag():
    words = ["run", "--token", "hush", "--n", "3", "--api-key=hush", "--password=hush", "plain"]
    shown = events.redact(words)
    assert "hush" not in "".join(shown[:5] + shown[6:])
    assert shown[:5] == ["run", "--token", "***REDACTED***", "--n", "3"]
    assert shown[-2:] == ["--password=***REDACTED***", "plain"]


def test_lines_are_only_ever_added(folder):
    assert events.append(folder, line(1)) == 0
    assert events.append(folder, line(2)) == len(line(1))
    assert list(events.lines(folder)) == [line(1)[:-1], line(2)[:-1]]


def test_w28_a_log_has_the_mode_that_the_umask_leaves(folder):
    """W28: the log was 0600, so that nobody else in a shared space could read it."""
    before = os.umask(0o027)
    try:
        events.append(folder, line())
    finally:
        os.umask(before)
    assert os.stat(events.path(folder)).st_mode & 0o777 == 0o640


def test_nobody_goes_on_behind_a_torn_line(folder):
    events.append(folder, line(1))
    with open(events.path(folder), "ab") as file:
        file.write(b'{"torn')
    before = Path(events.path(folder)).read_bytes()
    with pytest.raises(IntegrityError) as caught:
        events.append(folder, line(2))
    assert caught.value.code == "events-torn"
    assert "events-repair" in caught.value.hint
    assert Path(events.path(folder)).read_bytes() == before
    assert events.torn(folder) == (len(line(1)), b'{"torn')
    assert list(events.lines(folder)) == [line(1)[:-1]]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 400, 500])
def test_the_tail_is_the_last_lines_however_long_the_log(folder, count):
    made = [line(number) for number in range(400)]
    events.append(folder, b"".join(made))
    found, end = events.tail(folder, count)
    assert [row + b"\n" for row in found] == (made[-count:] if count else [])
    assert end == sum(map(len, made))


def test_the_tail_of_nothing(folder):
    assert events.tail(folder, 3) == ([], 0)
    open(events.path(folder), "wb").close()
    assert events.tail(folder, 3) == ([], 0)
    assert events.torn(folder) == (0, b"")


def test_following_gives_each_line_once_as_it_is_whole(folder):
    events.append(folder, line(1))
    steps = [line(2), line(3)[:20], line(3)[20:] + line(4)]

    def wait(_seconds):
        if not steps:
            raise KeyboardInterrupt
        with open(events.path(folder), "ab") as file:
            file.write(steps.pop(0))

    seen = []
    with pytest.raises(KeyboardInterrupt):
        for row in events.follow(folder, events.tail(folder, 1)[1], wait=wait):
            seen.append(row + b"\n")
    assert seen == [line(2), line(3), line(4)]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_append_that_fails_leaves_the_log_as_it_was(folder, error, first):
    if not first:
        events.append(folder, line(1))
    calls = count_calls(lambda: events.append(folder, line(2)))
    os.truncate(events.path(folder), 0 if first else len(line(1)))
    if first:
        os.unlink(events.path(folder))
    for number, (op, _) in enumerate(calls, 1):
        if op == "fsync-folder":
            continue  # the line is there; that its name is durable is not known
        with (
            durable.tapped(Fail(number=number, errno=error)),
            pytest.raises(StorageError) as caught,
        ):
            events.append(folder, line(2))
        assert isinstance(caught.value, DiskFullError) == (error != errno.EIO)
        assert list(events.lines(folder)) == ([] if first else [line(1)[:-1]])


@pytest.mark.parametrize("when", ["before", "after", "torn"])
def test_appended_once_however_often_it_is_interrupted(folder, home, when):
    events.append(folder, line(1))
    size, both = len(line(1)), line(2) + line(3)
    for number in range(1, len(count_calls(lambda: events.append_once(folder, both, size))) + 1):
        os.truncate(events.path(folder), size)
        tap = Crash(when=when, number=number)
        ended = in_child(lambda: events.append_once(folder, both, size), tap=tap, log=home / "log")
        assert ended == CRASHED or when == "torn"
        events.append_once(folder, both, size)
        events.append_once(folder, both, size)
        assert [row + b"\n" for row in events.lines(folder)] == [line(1), line(2), line(3)]
        events.append(folder, line(4))
        events.append_once(folder, both, size)
        assert len(list(events.lines(folder))) == 4


def test_taken_back_unless_somebody_wrote_behind_it(folder):
    events.append(folder, line(1))
    size = len(line(1))
    events.append_once(folder, line(2), size)
    events.take_back(folder, line(2), size)
    assert list(events.lines(folder)) == [line(1)[:-1]]
    events.append_once(folder, line(2) + line(3), size)
    events.append(folder, line(4))
    events.take_back(folder, line(2) + line(3), size)
    assert len(list(events.lines(folder))) == 4
