"""What a bucket adds to the contract of a backend: links that fail, and servers that say no."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support import buckets, flaky
from support.flaky import BUSY, DENY, LOSE, Link
from usrstore.errors import BucketError, ObjectNotFoundError, UnsupportedError
from usrstore.odb.backend.address import Address
from usrstore.odb.backend.bucket import BucketBackend
from usrstore.odb.exclusive import probe_create


@pytest.fixture
def link(moto_server):
    with Link(moto_server.port) as made:
        yield made


def through(moto_server, link, **options):
    return moto_server.backend(endpoint=link.endpoint, **options)


@pytest.mark.parametrize("size", [9, (20 << 20) + 5], ids=["small", "in parts"])
def test_a_lost_reply_is_told_from_somebody_elses_success(moto_server, link, home, size):
    value = home / "value"
    value.write_bytes(os.urandom(size))
    backend = through(moto_server, link)
    lost = []

    def once(_number, method, path):
        """The reply to whatever completes an object: PUT, or POST of the parts' list."""
        if not lost and method == ("PUT" if size < 100 else "POST") and "uploads" not in path:
            lost.append(path)
            return LOSE
        return None

    link.rule = once
    assert backend.create("packs/a", value) is True
    assert lost
    assert backend.read("packs/a") == value.read_bytes()
    assert backend.create("packs/a", b"other") is False
    assert backend.read("packs/a") == value.read_bytes()


def test_a_lost_reply_to_a_create_that_lost_is_no_success(moto_server, link):
    backend = through(moto_server, link)
    assert backend.create("states/1", b"theirs")
    link.rule = flaky.every(1, "PUT", LOSE)
    assert backend.create("states/1", b"ours") is False
    assert backend.read("states/1") == b"theirs"


def test_slow_down_is_obeyed_and_asked_again(moto_server, link):
    backend = through(moto_server, link)
    for method in ("PUT", "GET", "HEAD", "POST"):
        first = len([line for line in link.asked if line.startswith(f"{method} ")]) + 1
        link.rule = lambda number, asked, _path, m=method, f=first: (
            BUSY if (asked, number) == (m, f) else None
        )
        assert backend.create(f"packs/{method.lower()}", b"value")
        assert backend.read(f"packs/{method.lower()}") == b"value"
        assert backend.stat(f"packs/{method.lower()}").size == 5
        backend.delete(f"packs/{method.lower()}")
    assert link.wrong == 4


def test_a_server_that_stays_busy_is_given_up_after_a_bounded_time(moto_server, link):
    backend = through(moto_server, link, patience_s=0.5)
    link.rule = lambda *_: BUSY
    for ask in (
        lambda: backend.read("packs/a"),
        lambda: backend.stat("packs/a"),
        lambda: list(backend.list("packs/")),
        lambda: backend.create("packs/a", b"x"),
        lambda: backend.delete("packs/a"),
    ):
        with pytest.raises(BucketError) as caught:
            ask()
        assert caught.value.code == "bucket-busy"
    assert len(link.asked) < 100


def test_nobody_there_is_said_so(home):
    address = Address("s3", "nowhere", "", "http://127.0.0.1:1")
    backend = BucketBackend(address, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
                            patience_s=0.3)  # fmt: skip
    with pytest.raises(BucketError) as caught:
        backend.stat("packs/a")
    assert caught.value.code == "bucket-unreachable"


@pytest.mark.parametrize("verb", ["read", "list", "create"])
def test_a_bucket_that_does_not_exist_is_not_an_empty_one(moto_server, verb):
    address = Address("s3", "no-such-bucket", "", moto_server.endpoint)
    backend = BucketBackend(address, moto_server.environment)
    ask = {
        "read": lambda: backend.read("packs/a"),
        "list": lambda: list(backend.list("packs/")),
        "create": lambda: backend.create("packs/a", b"x"),
    }
    with pytest.raises(BucketError) as caught:
        ask[verb]()
    assert caught.value.code == "bucket-missing"
    assert not isinstance(caught.value, ObjectNotFoundError)


def test_no_secret_is_in_any_error_or_in_how_a_backend_shows_itself(moto_server, link):
    backend = through(moto_server, link)
    link.rule = lambda *_: DENY
    secrets = list(moto_server.environment.values())
    for ask in (
        lambda: backend.read("packs/a"),
        lambda: list(backend.list("packs/")),
        lambda: backend.create("packs/a", b"x"),
    ):
        with pytest.raises(BucketError) as caught:
            ask()
        error = caught.value
        assert error.code == "bucket-denied"
        assert "SignatureDoesNotMatch" in error.message
        assert error.__cause__ is None
        assert error.__context__ is None, "a traceback would print what the server said"
        for secret in secrets:
            assert secret not in f"{error!r} {error.message} {error.hint} {backend!r}"


UPLOAD = """
import json, resource, sys
from pathlib import Path
from usrstore.odb.backend.address import Address
from usrstore.odb.backend.bucket import BucketBackend
endpoint, name, prefix, small, large, environment = json.loads(sys.stdin.read())
backend = BucketBackend(Address("s3", name, prefix, endpoint), environment)
assert backend.create("packs/small", Path(small))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert backend.create("packs/large", Path(large))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_pack_goes_up_in_parts_and_is_never_whole_in_memory(moto_server, home):
    small, large = home / "small", home / "large"
    small.write_bytes(os.urandom(9 << 20))
    block = os.urandom(1 << 20)
    with large.open("wb") as out:
        for _ in range(96):
            out.write(block)
    prefix = buckets.fresh()
    told = [moto_server.endpoint, moto_server.bucket, prefix, str(small), str(large)]
    grown_kb = int(
        subprocess.run(
            [sys.executable, "-c", UPLOAD],
            input=json.dumps([*told, moto_server.environment]).encode(),
            stdout=subprocess.PIPE, check=True, timeout=60,
        ).stdout
    )  # fmt: skip
    assert grown_kb < 64 << 10, "four parts of 8 MiB, and what the allocator keeps"
    found = moto_server.client().head_object(Bucket=moto_server.bucket, Key=f"{prefix}/packs/large")
    assert found["ETag"].strip('"').endswith("-12"), "parts of 8 MiB"
    backend = moto_server.backend(prefix)
    assert backend.stat("packs/large").size == 96 << 20
    assert backend.read("packs/large", -3) == large.read_bytes()[-3:]
    assert backend.create("packs/large", large) is False


def test_of_a_bucket_only_its_prefix_is_touched(moto_server):
    client, backend = moto_server.client(), moto_server.backend("inside")
    client.put_object(Bucket=moto_server.bucket, Key="insider/packs/a", Body=b"x")
    client.put_object(Bucket=moto_server.bucket, Key="inside/packs/NOT-A-KEY", Body=b"x")
    backend.create("packs/b", b"y")
    assert [stat.key for stat in backend.list("packs/")] == ["packs/b"]


def test_the_probe_finds_the_honest_server_honest_and_leaves_nothing(moto_server):
    backend = moto_server.backend()
    probe_create(backend, "here")
    assert list(backend.list("probe/")) == []


def test_a_server_that_ignores_preconditions_is_found_out(rclone_server):
    """rclone answers 200 to a second create, and the first value is gone."""
    backend = rclone_server.backend()
    with pytest.raises(UnsupportedError) as caught:
        probe_create(backend, str(backend.address))
    assert caught.value.code == "no-exclusive-create"


def test_requests_and_bytes_are_counted(moto_server):
    backend = moto_server.backend()
    backend.create("packs/a", b"12345")
    backend.read("packs/a", 1, 3)
    assert (backend.sent, backend.received, backend.requests) == (5, 3, 2)
