"""A single file under crashes: at every change to a disk it is the old file or the new one."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.datasets import noise
from support.faults import CRASHED, FINISHED, Crash, count_calls, in_child
from support.people import BOB, make_who
from usrstore.lone import Lone
from usrstore.verbs import pull, push
from usrstore.verbs.host import Host
from usrstore.verbs.options import Options
from usrstore.verbs.site import Site

VERBS = {"push": push.push, "pull": pull.pull}
SHARDS = 2


@dataclass(frozen=True)
class Ends:
    """A file here, and the same one there under another name."""

    home: Path

    @property
    def here(self) -> Path:
        return self.home / "here" / "ours.parquet"

    @property
    def there(self) -> Path:
        return self.home / "there" / "theirs.parquet"

    def write(self, path, data):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def run(self, verb, **options):
        far = Lone(str(self.there))
        peer = Host(far, make_who("bob", BOB))
        ours = Lone(str(self.here), str(self.there))
        site = Site.open(ours, ours.name, make_who("alice"), lock_timeout_s=0.3)
        try:
            return VERBS[verb](site, peer, "r", Options(**options))
        finally:
            peer.close()

    def copy_to(self, home):
        shutil.copytree(self.home, home, copy_function=shutil.copy2)
        return Ends(home)

    def litter(self):
        """Whatever lies beside the files and their stores."""
        return {
            path.name
            for folder in (self.home / "here", self.home / "there")
            for path in folder.iterdir()
        } - {self.here.name, self.there.name, ".usr"}


def changed(ends, verb, first):
    """Both sides agreed on `old`, unless it is the first time; then the source was written."""
    source, target = (ends.here, ends.there) if verb == "push" else (ends.there, ends.here)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not first:
        ends.write(source, noise("old", 200_000))
        ends.run(verb)
    ends.write(source, noise("new", 210_000))
    return target, None if first else noise("old", 200_000)


def read(path):
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize(
    ("verb", "first"),
    [
        pytest.param("push", True, marks=pytest.mark.slow, id="first-push"),
        pytest.param("push", False, id="push"),
        pytest.param("pull", True, id="first-pull"),
        pytest.param("pull", False, marks=pytest.mark.slow, id="pull"),
    ],
)
def test_killed_at_any_change_it_is_the_old_file_or_the_new_one(verb, first, shard, home):
    made = Ends(home / "made")
    target, old = changed(made, verb, first)
    trial = made.copy_to(home / "counted")
    calls = count_calls(lambda: trial.run(verb), within=trial.home)
    assert calls
    for number in range(1 + shard, len(calls) + 2, SHARDS):
        at = f"change {number} of {len(calls)}"
        trial = made.copy_to(home / str(number))
        tap = Crash(within=str(trial.home), when="before", number=number)
        log = home / "log"
        ended = in_child(lambda trial=trial: trial.run(verb), tap=tap, log=log)
        assert ended == (CRASHED if number <= len(calls) else FINISHED), f"{at}\n{log.read_text()}"
        there = trial.home / target.relative_to(made.home)
        assert read(there) in (old, noise("new", 210_000)), at
        trial.run(verb)
        assert trial.here.read_bytes() == trial.there.read_bytes() == noise("new", 210_000), at
        assert trial.litter() == set(), at
        assert trial.run(verb).state == "NO-OP", at
        shutil.rmtree(trial.home)
