"""Killed at any request to a bucket, or any change to a disk meanwhile, a verb leaves one state.

The client is a process of its own that speaks HTTP to a real S3 server. A link in between counts
its requests, and kills it with SIGKILL before one arrives, or once the server has answered it
and before the answer is heard. Changes to the client's disk are counted as everywhere
(`support.faults`). Afterwards the root and the bucket, read by another's client, must hold the
old or the new state, whole; the same command must then go through, and find nothing to do after.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import buckets, datasets
from support.datasets import DATASET
from support.faults import CRASHED, moments
from support.flaky import UNHEARD, UNSENT, Link
from support.lab import make_config
from support.pairs import Place
from support.people import make_who
from support.prefork import Warm
from support.processes import is_alive, kill, wait_for
from usrstore.objects.ids import Kind, ManifestId, hash_object
from usrstore.objects.names import head_ref
from usrstore.odb import reach
from usrstore.odb.database import Database
from usrstore.odb.states import States

OLD, NEW = datasets.old_files(), datasets.new_files()
MOST = 200  # requests and changes that no act here needs


@dataclass(frozen=True)
class Scenario:
    """A verb from what the root and the bucket hold to what both hold in the end."""

    verb: str
    here: datasets.Files
    there: datasets.Files
    shared: datasets.Files
    """What both had agreed on before."""

    @property
    def after(self):
        return self.here if self.verb == "push" else self.there


SCENARIOS = {
    "first push": Scenario("push", NEW, {}, {}),
    "push": Scenario("push", NEW, OLD, OLD),
    "first pull": Scenario("pull", {}, NEW, {}),
    "pull": Scenario("pull", OLD, NEW, OLD),
}


@dataclass
class Site:
    """A root, its remote `b` at a prefix of its own, and a client that can be killed."""

    home: Path
    server: buckets.Server
    warm: Warm
    config: Path

    def __post_init__(self):
        self.prefix = buckets.fresh()
        self.place = Place(self.home / "root", make_who())
        self.log = self.home / "log"

    def run(self, *words):
        """A command that must succeed; gives what it printed."""
        self.wire(self.server.endpoint)
        status = self.start(*words).wait()
        assert status == 0, self.log.read_text()
        return self.log.read_text()

    def wire(self, endpoint):
        url = f"s3://{self.server.bucket}/{self.prefix}"
        remote = {"type": "bucket", "url": url, "endpoint": endpoint}
        (self.home / "remotes.yaml").write_text(json.dumps({"remotes": {"b": remote}}))

    def start(self, *words):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.config),
            "USR_REMOTES_PATH": str(self.home / "remotes.yaml"),
            "USR_ROOT": str(self.place.path),
            **self.server.environment,
        }
        return self.warm.start(words, environment, cwd=self.home, output=self.log)

    def copy_to(self, home):
        """The same root and a copy of the bucket; times included."""
        home.mkdir()
        made = Site(home, self.server, self.warm, self.config)
        shutil.copytree(self.place.path, made.place.path, copy_function=shutil.copy2)
        client = self.server.client()
        for key in buckets.keys_below(self.server, self.prefix):
            source = {"Bucket": self.server.bucket, "Key": f"{self.prefix}/{key}"}
            client.copy_object(
                CopySource=source, Bucket=self.server.bucket, Key=f"{made.prefix}/{key}"
            )
        return made

    def lake(self):
        """What the bucket holds, read by another's client."""
        return buckets.read_all(self.server, self.prefix)


def prepare(scenario, site):
    """Somebody else's pushes, and ours of before; then our folder as it is now."""
    other = Place(site.home / "other", make_who())
    for place in (site.place, other):
        place.path.mkdir(parents=True)
        (place.path / "registry.yaml").write_bytes(datasets.REGISTRY)
    if scenario.shared:
        other.write(scenario.shared)
        site.run("--root", other.path, "push", DATASET, "b", "-y")
        site.run("pull", DATASET, "b", "-y")
    if scenario.there != scenario.shared:
        other.write(scenario.there)
        site.run("--root", other.path, "push", DATASET, "b", "-y")
    if scenario.here:
        site.place.write(scenario.here)


# ── what must hold ──────────────────────────────────────────────────────────────────────
def check_one_state(scenario, site):
    """The old or the new state at either end, and refs that agree."""
    site.place.recover()
    assert site.place.root.journaled() == []
    found, before = site.place.read(), scenario.here
    assert found in (before, scenario.after), sorted(found)
    if scenario.verb == "pull" and site.place.head() is not None:
        held = {path: entry.content for path, entry in listing(site.place).items()}
        assert held == identities(found)
    check_chain(site.place.root.states)
    lake = site.lake()
    check_chain(States(lake))
    assert files_of(lake) in (scenario.there, scenario.after)


def check_chain(states):
    numbers = [state.number for state in states.history()]
    assert numbers == list(range(len(numbers), 0, -1))


def listing(place):
    get = place.root.database.get
    return reach.listing(get, reach.manifest(get, place.head()).tree)


def identities(files):
    return {path: hash_object(Kind.CHUNK, data) for path, data in files.items()}


def files_of(lake):
    """The head's files as packs alone give them, each byte of it verified."""
    head = States(lake).refs().get(head_ref(DATASET))
    if head is None:
        return {}
    get = Database(lake, None).get
    found = reach.listing(get, reach.manifest(get, ManifestId(head)).tree)
    return {
        path: b"".join(get(Kind.CHUNK, oid) for oid, _ in reach.chunks(get, entry))
        if entry.size
        else b""
        for path, entry in found.items()
    }


def check_end(scenario, site):
    """The same command goes through; both ends hold the new state; nothing is left to do."""
    site.run(scenario.verb, DATASET, "b", "-y")
    assert site.place.read() == scenario.after == files_of(site.lake())
    assert "NO-OP" in site.run(scenario.verb, DATASET, "b", "-y")


# ── trials ──────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="session")
def warm(memory_home):
    home = memory_home / "bucket-crash"
    home.mkdir()
    with Warm(home) as running:
        yield running


@pytest.fixture(scope="session")
def prepared(memory_home, moto_server, warm, tmp_path_factory):
    """Each scenario's root and bucket, made when first asked for."""
    config, made = make_config(tmp_path_factory.mktemp("config")), {}

    def get(name):
        if name not in made:
            home = memory_home / "bucket-crash" / name.replace(" ", "-")
            home.mkdir()
            made[name] = Site(home, moto_server, warm, config)
            prepare(SCENARIOS[name], made[name])
        return made[name]

    return get


def every(stride):
    rows = [pytest.param(name, stride, id=name.replace(" ", "-")) for name in SCENARIOS]
    rows += [
        pytest.param(name, 1, id=f"{name.replace(' ', '-')}-everywhere", marks=pytest.mark.deep)
        for name in SCENARIOS
    ]
    return pytest.mark.parametrize(("name", "stride"), rows)


pytestmark = pytest.mark.timeout(3600)


@every(7)
def test_killed_at_any_request_a_verb_leaves_one_state(
    name, stride, prepared, home, moto_server, figures
):
    scenario, made = SCENARIOS[name], prepared(name)
    points, reached = 0, True
    for number in range(1, MOST, stride):
        for fate in (UNSENT, UNHEARD):
            site = made.copy_to(home / "trial")
            reached = killed_at_request(scenario, site, moto_server, number, fate)
            points += reached
            at = f"{fate}, request {number}"
            check(scenario, site, at)
            shutil.rmtree(home / "trial")
        if not reached:
            break
    assert not reached, "it asked on and on"
    assert points
    figures("clients of a bucket killed at a request", kills=points)


def killed_at_request(scenario, site, server, number, fate):
    """Whether the act made so many requests; it was killed at that one then."""
    began, asked = threading.Event(), []

    def rule(_number, method, path):
        asked.append((method, path))
        return fate if len(asked) == number else None

    def end():
        began.wait(30)
        kill(client.pid)
        wait_for(lambda: not is_alive(client.pid), "it does not die")

    with Link(server.port, rule, end) as link:
        site.wire(link.endpoint)
        client = site.start(scenario.verb, DATASET, "b", "-y")
        began.set()
        status = client.wait()
    reached = len(asked) >= number
    assert status == (-9 if reached else 0), site.log.read_text()
    return reached


@every(60)
def test_killed_at_any_change_to_its_disk_a_client_of_a_bucket_leaves_one_state(
    name, stride, prepared, home, figures
):
    scenario, made = SCENARIOS[name], prepared(name)
    site = made.copy_to(home / "whole")
    site.wire(site.server.endpoint)
    words = [scenario.verb, DATASET, "b", "-y"]
    site.start("support.faults:run_and_count", site.place.path, home / "calls", *words).wait()
    points = list(moments(json.loads((home / "calls").read_text())))[::stride]
    for number, when in points:
        site = made.copy_to(home / "trial")
        site.wire(site.server.endpoint)
        die = ["support.faults:run_and_crash", number, when, site.place.path]
        status = site.start(*die, *words).wait()
        assert status in (CRASHED, 0), site.log.read_text()
        check(scenario, site, f"{when} change {number}")
        shutil.rmtree(home / "trial")
    figures("clients of a bucket killed at a change to their disk", kills=len(points))


def check(scenario, site, at):
    try:
        check_one_state(scenario, site)
        check_end(scenario, site)
    except Exception as exc:
        raise AssertionError(at) from exc
