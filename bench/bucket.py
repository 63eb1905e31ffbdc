"""A bucket on loopback: first push and pull of one large dataset, and of many small files."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace

from lab import DATASET, HERE, USR, Lab, folder_size, remove
from measure import Contender, Sample, Table, in_turn

sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests"))
from support import buckets

RCLONE_PROGRAM = os.path.join(os.path.dirname(USR), "rclone")
RCLONE = "rclone copy"
WIDE = "rclone copy --transfers 16"
NO_SLOWER = 1.25


def bucket(lab: Lab) -> list[Table]:
    """Push and pull, beside rclone, which copies files one to an object and keeps no history."""
    size, count = (20, 200) if lab.quick else (200, 2000)
    with _server() as (name, server):
        placed = replace(lab, extra=_environment(server))
        large, small = placed.new_root("bucket-large"), placed.new_root("bucket-small")
        lab.make("dataset", os.path.join(large, DATASET), megabytes=size)
        lab.make("small", os.path.join(small, DATASET), count=count)
        tables = []
        for root, what in ((large, f"{size} MB"), (small, f"{count} files of 2–40 kB")):
            tables += [
                _push(placed, server, root, f"First push into a bucket, {what} ({name})"),
                _pull(placed, server, root, f"First pull from a bucket, {what} ({name})"),
            ]
        return tables


@contextlib.contextmanager
def _server() -> Iterator[tuple[str, buckets.Server]]:
    """Ceph's gateway where it is installed, else moto's server, which is slow and says so."""
    kind = "moto" if buckets.ceph_missing() else "radosgw"
    os.environ.setdefault("CEPH_BYTES", str(8 << 30))  # it keeps what is overwritten for hours
    with tempfile.TemporaryDirectory(prefix="usr-bench-s3-") as home:
        start = buckets.moto if kind == "moto" else buckets.ceph
        with start(home) as server:
            yield kind, server


def _environment(server: buckets.Server) -> dict[str, str]:
    keys = server.environment
    return {
        **keys,
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_B_TYPE": "s3",
        "RCLONE_CONFIG_B_PROVIDER": "Other",
        "RCLONE_CONFIG_B_ENDPOINT": server.endpoint,
        "RCLONE_CONFIG_B_ACCESS_KEY_ID": keys["AWS_ACCESS_KEY_ID"],
        "RCLONE_CONFIG_B_SECRET_ACCESS_KEY": keys["AWS_SECRET_ACCESS_KEY"],
    }


def _remote(lab: Lab, server: buckets.Server, prefix: str) -> None:
    url = f"s3://{server.bucket}/{prefix}"
    words = ("--type", "bucket", "--url", url, "--endpoint", server.endpoint, "--no-check")
    lab.run(USR, "remotes", "add", "b", "--overwrite", *words)


def _push(lab: Lab, server: buckets.Server, root: str, title: str) -> Table:
    folder = os.path.join(root, DATASET)

    def clean() -> None:
        lab.forget(root)
        _remote(lab, server, buckets.fresh())

    def rclone(*words: str) -> Sample:
        return lab.run(
            RCLONE_PROGRAM, "copy", folder, f"b:{server.bucket}/{buckets.fresh()}", *words
        )

    samples = in_turn(
        [
            Contender(RCLONE, rclone),
            Contender(WIDE, lambda: rclone("--transfers", "16")),
            Contender("usr push", lambda: lab.sync("push", root, "b"), clean),
        ],
        lab.rounds,
    )
    return _table(title, samples, "usr push", folder)


def _pull(lab: Lab, server: buckets.Server, root: str, title: str) -> Table:
    folder, copy, here = os.path.join(root, DATASET), lab.path("copy"), lab.path("here-root")
    lab.forget(root)
    prefix, files = buckets.fresh(), f"b:{server.bucket}/{buckets.fresh()}"
    _remote(lab, server, prefix)
    lab.sync("push", root, "b")
    lab.run(RCLONE_PROGRAM, "copy", folder, files)

    def clean() -> None:
        remove(copy)
        lab.new_root("here-root")

    samples = in_turn(
        [
            Contender(RCLONE, lambda: lab.run(RCLONE_PROGRAM, "copy", files, copy), clean),
            Contender(
                WIDE,
                lambda: lab.run(RCLONE_PROGRAM, "copy", files, copy, "--transfers", "16"),
                clean,
            ),
            Contender("usr pull", lambda: lab.sync("pull", here, "b"), clean),
        ],
        lab.rounds,
    )
    return _table(title, samples, "usr pull", folder)


def _table(title: str, samples: dict[str, list[Sample]], ours: str, folder: str) -> Table:
    table = Table(title)
    for name in (RCLONE, WIDE):
        table.add_seconds(samples, name)
    table.add_seconds(samples, ours, against=RCLONE, goal=NO_SLOWER)
    table.add(f"{ours}, memory", [s.peak_mb for s in samples[ours]], "MB")
    speed = folder_size(folder) / 1e6 / table.rows[2].median
    table.notes.append(f"{ours} moved {speed:.0f} MB of dataset a second.")
    return table
