"""Any number of writers: real processes push to one bucket over a link that loses replies."""

from __future__ import annotations

import itertools
import json
import os
import subprocess

import pytest

from support import buckets, datasets, flaky
from support.flaky import LOSE, Link
from support.lab import USR, make_config
from usrstore.dataset import registry
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import head_ref
from usrstore.odb import reach
from usrstore.odb.database import Database
from usrstore.odb.states import States

APART, TOGETHER = 12, 4


@pytest.fixture(params=["moto", "ceph"])
def server(request):
    return request.getfixturevalue(f"{request.param}_server")


@pytest.mark.slow
def test_sixteen_processes_lose_nothing(home, server):
    """Twelve push a dataset each, four the same one; every fifth reply to a PUT is lost."""
    config = make_config(home / "config")
    prefix = buckets.fresh()
    with Link(server.port, flaky.every(5, "PUT", LOSE)) as link:
        remote = {
            "type": "bucket",
            "url": f"s3://{server.bucket}/{prefix}",
            "endpoint": link.endpoint,
        }
        remotes = home / "remotes.yaml"
        remotes.write_text(json.dumps({"remotes": {"b": remote}}))
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(config),
            "USR_REMOTES_PATH": str(remotes),
            **server.environment,
        }
        names = [f"apart/d{n}" for n in range(APART)] + ["together/d"] * TOGETHER
        children = []
        for number, name in enumerate(names):
            root = home / f"root-{number}"
            root.mkdir()
            (root / "registry.yaml").write_bytes(registry.initial())
            datasets.write(root / name, {"records.parquet": datasets.noise(f"w{number}", 40_000)})
            children.append(
                subprocess.Popen(
                    [*USR, "--root", str(root), "push", name, "b", "-y", "--json"],
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        said = [(*child.communicate(timeout=500), child.returncode) for child in children]
    assert link.wrong >= 5, "replies were lost"

    done = [json.loads(out)["data"] for out, _, status in said if status == 0]
    losers = [json.loads(out)["error"] for out, _, status in said if status != 0]
    assert [status for *_, status in said[:APART]] == [0] * APART, said
    assert len(done) == APART + 1, said
    assert {error["code"] for error in losers} <= {"ref-moved", "remote-ahead", "diverged"}

    backend = server.backend(prefix)
    states, database = States(backend), Database(backend, None)
    history = list(states.history())
    assert [state.number for state in history] == list(range(APART + 1, 0, -1)), "one line"
    assert len(list(backend.list("states/"))) == len(history)
    for newer, older in itertools.pairwise(history):
        assert newer.refs.items() >= older.refs.items(), "nobody's ref was lost"
    for data in done:
        head = history[0].refs[head_ref(data["dataset"])]
        assert head.hex() == data["manifest"]["result"]
        listing = reach.listing(database.get, reach.manifest(database.get, ManifestId(head)).tree)
        for entry in listing.values():
            assert not database.missing(oid for oid, _ in reach.chunks(database.get, entry))
