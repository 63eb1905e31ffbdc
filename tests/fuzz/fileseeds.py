"""Where fuzzing of files and buckets begins: good ones, as people, other tools and we write them."""

from __future__ import annotations

import json

from usrstore.dataset import registry
from usrstore.notes import sum_of
from usrstore.odb.packindex import TRAILER
from usrstore.trust import keys
from usrstore.worktree import stagelog

ZERO = "00" * 32
REMOTES = b"""\
remotes:
  lab: {type: folder, base_dir: /data}
  cluster:
    type: ssh
    host: h
    user: u
    port: 22
    base_dir: ~/d
    batch_mode: true
    ssh_options: [-o, A=b]
  b: {type: bucket, url: "s3://bucket/p", region: r}
"""
CONFIG = b"""\
[trust]
mode = "strict"
max_age = "7d"
stale = "refuse"
[signing]
key = "k"
[gc]
grace = "14d"
keep-last = 3
keep-tagged = true
keep-within = "2d"
"""
NOTES = {
    "pins": {"r ns/x": ["SHA256:a"]},
    "pinned_us": {"r ns/x": {"SHA256:a": 1}},
    "signed": {"r ns/x": True},
    "remotes": {"r": {"state": [1, ZERO], "heads": {"ns/x": ZERO}, "heads_us": {"ns/x": 1}}},
}
PENDING = {
    "theirs": ZERO, "name": "r", "remote": None, "ours_paths": ["a"], "theirs_paths": [],
    "rows": "ours",
}  # fmt: skip
REGISTRY = (
    registry.initial()
    + b"""\
  infer:
    owner: o
    description: d
    columns:
    - {name: infer__a, type: float64}
    - {name: infer__b, type: "list<struct<x: int64>>"}
"""
)
EVENTS = [
    {"event_version": 1, "action": "append", "timestamp_utc": "2026-01-01T00:00:00Z", "rows": 3},
    {"event_version": 1, "action": "init", "dataset": {"name": "ns/x", "root": "r"}, "args": {}},
]
WORDS = [
    "ns/x@tag~3:records.parquet", "ns/x@{2026-11-01}", "ns/x@{2 days ago}", "ns/x@{u}^2",
    "me@host:/path", "ssh://me@host:2222/p%20q", "s3://bucket/prefix", "file:///a", "14d12h",
]  # fmt: skip


def _bucket(*members: tuple[int, bytes]) -> bytes:
    return b"".join(bytes([kind]) + len(data).to_bytes(2, "big") + data for kind, data in members)


def seeds(name: str, objects, pack: bytes) -> list[bytes]:
    """Good inputs of a target; `objects` gives those of a kind, `pack` is a whole one."""
    if name == "remotes":
        return [REMOTES, b"remotes:\n"]
    if name == "config":
        return [CONFIG]
    if name == "seen":
        summed = {**NOTES, "sum": sum_of(NOTES)}
        return [json.dumps(value).encode() for value in (NOTES, summed, {})]
    if name == "pending":
        return [json.dumps(PENDING).encode()]
    if name == "registry":
        return [REGISTRY, registry.initial()]
    if name == "types":
        return [
            b"a:int64,b:list<string>,c:struct<x: float, y: list<int8>>",
            b"d:timestamp[us, UTC]",
        ]
    if name == "words":
        return [word.encode() for word in WORDS]
    if name == "stderr":
        return [
            b"ssh: connect to host h port 22: Connection refused\n",
            b"me@h: Permission denied (publickey).\n", b"Host key verification failed.\r\n",
            b"\x1b[31mno\x1b[0m\n",
        ]  # fmt: skip
    if name == "stagelog":
        landed = stagelog._LANDED.pack(bytes(32), 1, 2, 3)
        whole = stagelog._WHOLE.pack(1, bytes(32), 1, 2, 3, 4, stagelog.boot() or bytes(36))
        return [landed * 2, whole * 2]
    if name == "events":
        return [b"".join(json.dumps(event).encode() + b"\n" for event in EVENTS)]
    if name == "table":
        return [
            b'id,a\n1,x\n2,"y\nz"\n',
            b'{"id": 1, "a": [1.5]}\n{"id": 2}\n',
            b'[{"id": 1}, {"id": 2}]',
        ]
    if name == "key":
        return [keys.generate()[0], b"-----BEGIN OPENSSH PRIVATE KEY-----\n"]
    if name == "belief":
        return list(objects("manifest"))
    if name == "bucket":
        states = [data for data in objects("state") if len(data) < 2048]
        return [
            _bucket((4, states[0]), (1, pack)),
            _bucket(*((4 * n, data) for n, data in enumerate(states, 1))),
            _bucket((3, pack), (2, pack[: -TRAILER.size]), (4, states[-1])),
        ]
    needs = {"states": [{"dataset": "ns/x", "needs": [ZERO]}]}
    return [json.dumps(needs).encode(), json.dumps({"states": []}).encode()]
