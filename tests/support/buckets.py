"""Real object stores on loopback: moto's S3 server, Ceph's gateway, and one that is no good."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from usrcli.drills.sshd import free_port
from usrstore.odb.backend.address import Address
from usrstore.odb.backend.bucket import BucketBackend
from usrstore.odb.backend.memory import MemoryBackend

ROOT = Path(__file__).resolve().parents[2]
CEPH = ROOT / "tests" / "support" / "ceph"
CEPH_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin")


@dataclass(frozen=True)
class Server:
    """One S3 server, and a bucket in it.

    Attributes:
        environment: how a client gets in.
        pid: of the process that serves; None where that is several.
    """

    endpoint: str
    environment: dict[str, str] = field(repr=False)
    bucket: str = "usr-tests"
    pid: int | None = None

    @property
    def port(self):
        return int(self.endpoint.rpartition(":")[2])

    def client(self):
        """Another's client: a way around ours."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"max_attempts": 5}, s3={"addressing_style": "path"}),
        )

    def address(self, prefix=None, *, endpoint=None) -> Address:
        """A place that nobody else uses."""
        return Address("s3", self.bucket, prefix or fresh(), endpoint or self.endpoint)

    def backend(self, prefix=None, *, endpoint=None, **options) -> BucketBackend:
        return BucketBackend(self.address(prefix, endpoint=endpoint), self.environment, **options)

    def make_bucket(self):
        self.client().create_bucket(Bucket=self.bucket)
        return self


def keys_below(server, prefix) -> list[str]:
    """The keys of a store, as another's client lists them."""
    pages = server.client().get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=server.bucket, Prefix=f"{prefix}/")
    rows = (row for page in found for row in page.get("Contents", []))
    return [row["Key"].removeprefix(f"{prefix}/") for row in rows]


def read_all(server, prefix) -> MemoryBackend:
    """What a store in a bucket holds, as another's client reads it."""
    client, held = server.client(), MemoryBackend()
    for key in keys_below(server, prefix):
        found = client.get_object(Bucket=server.bucket, Key=f"{prefix}/{key}")
        held.create(key, found["Body"].read())
    return held


def fresh() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def await_port(port, *, process=None, patience_s=60.0):
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process is not None and process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


@contextlib.contextmanager
def running(arguments, port, log, **options):
    """A server process for as long as the block runs."""
    with open(log, "wb") as out:
        child = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options
        )
    try:
        await_port(port, process=child)
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def keys(word):
    return {"AWS_ACCESS_KEY_ID": f"AK{word}", "AWS_SECRET_ACCESS_KEY": f"SK{word * 4}"}


@contextlib.contextmanager
def moto(home):
    """moto's server: one process, all in memory; it honours preconditions."""
    port = free_port()
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    # It asks the machine it runs on for an identity that nobody here has.
    env = {**os.environ, **keys("MOTO"), "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
    with running(arguments, port, Path(home) / "moto.log", env=env) as child:
        yield Server(f"http://127.0.0.1:{port}", keys("MOTO"), pid=child.pid).make_bucket()


@contextlib.contextmanager
def rclone(home):
    """rclone's S3 server, which ignores `If-None-Match`: a store must not be put there."""
    port, folder, secret = free_port(), Path(home) / "served", keys("RCLONE")
    (folder / "usr-tests").mkdir(parents=True)
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    pair = f"{secret['AWS_ACCESS_KEY_ID']},{secret['AWS_SECRET_ACCESS_KEY']}"
    arguments = [program, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    arguments += ["--auth-key", pair, "--config", os.devnull]
    with running(arguments, port, Path(home) / "rclone.log") as child:
        yield Server(f"http://127.0.0.1:{port}", secret, pid=child.pid)


def ceph_missing():
    """The programs that a Ceph gateway needs and this machine lacks."""
    return [name for name in CEPH_PROGRAMS if not shutil.which(name)]


@contextlib.contextmanager
def ceph(home):
    """A Ceph cluster of one, with its S3 gateway."""
    port = free_port()
    words = [str(CEPH), "start", str(home), str(port), str(free_port())]
    subprocess.run(words, check=True, timeout=280)
    try:
        yield Server(f"http://127.0.0.1:{port}", keys("CEPH")).make_bucket()
    finally:
        subprocess.run([str(CEPH), "stop", str(home)], check=False, timeout=60)
