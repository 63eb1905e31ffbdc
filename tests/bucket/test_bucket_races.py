"""Sixteen processes at one bucket, each doing whatever its dice say: its history stays one line.

What they do is told by `support.bucketrace`; they work in four roots, and every ninth reply to a
PUT is lost on its way. Refusals are part of it (a ref that moved, a remote that is ahead, a
folder that was being written); a bug, a traceback or a damaged object is not. In the bucket each
state must name the one before, no head ever goes back, and every push that was said to be done
must be in the history of what all agree on in the end, as is every file of every commit. A commit
must be in the history of the root that made it: where a push of the same folder at the same
moment gave the bucket the same tree under another id, there is nothing left to send.
"""

from __future__ import annotations

import collections
import itertools
import json
import os

import pytest

from support import bucketrace, buckets, datasets, flaky
from support.bucketrace import DATASETS, LABS
from support.flaky import LOSE, Link
from support.lab import make_config
from support.pairs import Place
from support.people import make_who
from support.prefork import Warm
from usrstore.dataset import registry
from usrstore.objects.ids import Kind, ManifestId, ObjectId
from usrstore.objects.names import head_ref
from usrstore.odb import reach
from usrstore.odb.database import Database
from usrstore.odb.states import States
from usrstore.verbs.fsck import fsck

PROCESSES = 16


def begin(home, endpoint, server, prefix):
    remote = {"type": "bucket", "url": f"s3://{server.bucket}/{prefix}", "endpoint": endpoint}
    (home / "remotes.yaml").write_text(json.dumps({"remotes": {"b": remote}}))
    for number in range(LABS):
        root = home / f"lab-{number}"
        root.mkdir()
        (root / "registry.yaml").write_bytes(registry.initial())
        for dataset in DATASETS if number == 0 else ():
            datasets.write(root / dataset, {
                "records.parquet": datasets.noise(dataset, 20_000), "_artifacts/first": b"first",
            })  # fmt: skip


def race(home, server, prefix, seed, steps):
    """All of them at once, then one after another; gives what they were told."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(make_config(home / "config")),
        **server.environment,
    }

    def finish(commands):
        for command, log in commands:
            assert command.wait(timeout_s=240) == 0, log.read_text()

    numbers = itertools.count()
    with Warm(home) as warm:

        def start(*words):
            log = home / f"out-{next(numbers)}"
            return warm.start(words, environment, output=log), log

        with Link(server.port, flaky.every(9, "PUT", LOSE)) as link:
            begin(home, link.endpoint, server, prefix)
            finish([start("support.bucketrace:found", home)])
            finish(
                [
                    start("support.bucketrace:race", home, number, seed, steps)
                    for number in range(PROCESSES)
                ]
            )
            finish([start("support.bucketrace:settle", home)])
        assert link.wrong, "replies were lost"
    return [json.loads(line) for log in home.glob("log-*") for line in log.read_text().splitlines()]


def check_bucket(lake, said):
    """One line of states, in which no head goes back; nothing that was done is missing."""
    history = list(States(lake).history())
    assert [state.number for state in history] == list(range(len(history), 0, -1)), "one line"
    assert len(list(lake.list("states/"))) == len(history)
    get = Database(lake, None).get
    for dataset in DATASETS:
        head = ManifestId(history[0].refs[head_ref(dataset)])
        line = {oid for oid, _ in reach.ancestry(get, head)}
        for newer, older in itertools.pairwise(history):
            before, after = (state.refs.get(head_ref(dataset)) for state in (older, newer))
            assert before is None or before in dict(reach.ancestry(get, ManifestId(after))), (
                "a head went back"
            )
        listed = reach.listing(get, reach.manifest(get, head).tree)
        for row in said:
            if row[:2] == ["file", dataset]:
                assert row[2] in listed, "work was lost"
            elif row[:2] == ["state", dataset] and row[3] == "b":
                assert ManifestId(ObjectId.parse(row[2])) in line, "a push is in no history"
        for entry in listed.values():
            for oid, _ in reach.chunks(get, entry):
                get(Kind.CHUNK, oid)
    return len(history)


def check(home, lake, said, figures):
    told = collections.Counter((row[0], row[1]) for row in said if row[0] in ("done", "refused"))
    assert [row for row in said if row[0] == "refused" and row[3]] == [], "only losers are refused"
    assert [row for row in said if row[0] == "found" and row[1]] == [], (
        "a check at work finds nothing"
    )
    states = check_bucket(lake, said)
    places = [Place(home / f"lab-{number}", make_who()) for number in range(LABS)]
    for dataset in DATASETS:
        first, *others = [datasets.read(place.path / dataset) for place in places]
        assert all(other == first for other in others), "in the end all have the same"
    for place in places:
        for dataset in DATASETS:
            line = place.site(dataset=dataset).ancestry(place.site(dataset=dataset).head())
            for row in said:
                if row[:2] == ["state", dataset] and row[3] == place.path.name:
                    assert ManifestId(ObjectId.parse(row[2])) in line, "a commit is in no history"
        numbers = [state.number for state in place.root.states.history()]
        assert numbers == list(range(len(numbers), 0, -1)), "one line"
        assert fsck(place.root, place.who, deep=True).findings == []
    figures(
        "deeds of sixteen processes at one bucket",
        deeds=told.total(), states=states, **{f"{b} {a}": n for (a, b), n in sorted(told.items())},
    )  # fmt: skip


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kind", "seed", "steps"),
    [
        ("moto", 1, 2),
        pytest.param("moto", 2, 5, marks=pytest.mark.slow),
        pytest.param("ceph", 3, 5, marks=pytest.mark.slow),
        *(pytest.param("moto", n, 8, marks=pytest.mark.deep) for n in range(4, 12)),
        *(pytest.param("ceph", n, 8, marks=pytest.mark.deep) for n in range(12, 15)),
    ],
)
def test_sixteen_processes_at_one_bucket_lose_nothing(home, request, figures, kind, seed, steps):
    server, prefix = request.getfixturevalue(f"{kind}_server"), buckets.fresh()
    said = race(home, server, prefix, seed, steps)
    check(home, buckets.read_all(server, prefix), said, figures)
    assert {row[1] for row in said if row[0] == "done"} <= set(bucketrace.DEEDS)
