"""Two-site science: the cluster works through the night, the laptop works offline, both at once.

The case that sync by copying cannot serve. One pull and one push later both sides hold all of
it, and little more than the new information has moved.
"""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from usrcli.drills import dataset as data
from usrcli.drills.runbook import Contract
from usrcli.drills.stage import Run, Stage, fingerprint, read_audit

TITLE = "Two sites: appends on the cluster and write-backs on the laptop, at the same time"
_DRILL = "two sites"
_BATCHES = 3
_MORE = 1.1
"""How much more than the new information may move."""
_FIXED_BYTES = 20_000
"""What two conversations cost, however little is new."""


@dataclass(slots=True)
class TwoSites:
    """Plays the scenario on a stage.

    Attributes:
        stage: where; its remote must be a root on this machine.
        dataset: its id.
        rows: sequences before the night.
        tell: called with each contract as soon as it is known.
    """

    stage: Stage
    dataset: str
    rows: int
    tell: Callable[[Contract], None]
    contracts: list[Contract] = field(default_factory=list)
    _rng: random.Random = field(default_factory=lambda: random.Random(7))

    def expect(self, name: str, ok: bool, why: str = "") -> None:
        contract = Contract(_DRILL, name, ok, "" if ok else why)
        self.contracts.append(contract)
        self.tell(contract)

    @property
    def _cluster(self) -> str:
        assert self.stage.remote_root is not None
        return self.stage.remote_root

    def _at_cluster(self, *words: str) -> Run:
        return self.stage.usr(*words, root=self._cluster)

    def play(self) -> bool:
        """All of it; whether every contract held."""
        self._begin()
        before = self._measure()
        there = os.path.join(self._cluster, self.dataset)
        here = os.path.join(self.stage.local_root, self.dataset)
        known = len(self._lines(here))
        for number in range(_BATCHES):
            batch = self._sequences(f"night-{number}.csv", max(500, self.rows // 8))
            run = self._at_cluster("import", self.dataset, "--from", "csv", "--path", batch)
            self.expect(f"cluster: batch {number + 1} is appended", run.status == 0, run.error)
        parts = data.write_back(here, seed=5, parts=2, rows=2000)
        lines = self._lines(there), self._lines(here)
        new = sum(self._measure()[n] - before[n] for n in (0, 1))
        run, audit = self._sync("pull")
        merged = run.status == 0 and audit.get("transfer_state") == "MERGED"
        self.expect("pull: both sides' work is merged", merged, run.err)
        log = self._lines(here)
        self.expect(
            "pull: the cluster's log is how ours begins, our own lines follow, none is lost",
            log == lines[0] + lines[1][known:],
        )
        held = all(os.path.isfile(os.path.join(here, path)) for path in parts)
        self.expect("pull: every overlay part of the laptop is there", held)
        grown = self.rows + _BATCHES * max(500, self.rows // 8)
        found = self._rows(here)
        self.expect(f"pull: all {grown} rows are there", found == grown, f"{found} rows")
        moved = self._moved(audit)
        run, audit = self._sync("push")
        sent = run.status == 0 and audit.get("transfer_state") == "TRANSFERRED"
        self.expect("push: what was merged goes back", sent, run.err)
        moved += self._moved(audit)
        same = fingerprint(here) == fingerprint(there)
        self.expect("push: both folders are equal byte for byte", same)
        run = self.stage.usr("diff", self.dataset, self.stage.remote)
        good = run.status == 0 and run.last_line == "Status     : up-to-date"
        self.expect("diff: ends with up-to-date", good, run.err or run.out)
        limit = _MORE * new + 2 * _FIXED_BYTES
        said = f"{moved / 1e6:.2f} MB moved for {new / 1e6:.2f} MB of new information"
        self.expect(f"both transfers: {said}", moved <= limit, f"at most {limit / 1e6:.2f} MB")
        for root in (self.stage.local_root, self._cluster):
            run = self.stage.usr("fsck", "--deep", root=root)
            where = "laptop" if root == self.stage.local_root else "cluster"
            self.expect(f"{where}: fsck --deep finds nothing", run.status == 0, run.out + run.err)
        return all(contract.ok for contract in self.contracts)

    def _begin(self) -> None:
        """A dataset that both sides have."""
        data.make_root(self._cluster)
        run = self._at_cluster("init", self.dataset, "--source", "drill")
        self.expect("cluster: the dataset is made", run.status == 0, run.error)
        first = self._sequences("first.csv", self.rows)
        run = self._at_cluster("import", self.dataset, "--from", "csv", "--path", first)
        self.expect("cluster: the first rows are there", run.status == 0, run.error)
        run, _ = self._sync("pull")
        self.expect("laptop: the dataset is pulled", run.status == 0, run.err)

    def _sequences(self, name: str, count: int) -> str:
        """A CSV of new sequences."""
        path = os.path.join(self.stage.work, name)
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sequence"])
            for _ in range(count):
                length = self._rng.randint(80, 160)
                writer.writerow(["".join(self._rng.choices("ACGT", k=length))])
        return path

    def _sync(self, verb: str) -> tuple[Run, dict[str, object]]:
        path = self.stage.audit(f"two-sites-{verb}-{len(self.contracts):02d}")
        run = self.stage.usr(verb, self.dataset, self.stage.remote, "-y", "--audit-json-out", path)
        return run, read_audit(path)

    def _measure(self) -> tuple[int, int]:
        """Bytes of information at the cluster and at the laptop: tables, logs, notes and parts.

        Snapshots are copies, so they are none.
        """
        return self._bytes(self._cluster), self._bytes(self.stage.local_root)

    def _bytes(self, root: str) -> int:
        total = 0
        for base, _, names in os.walk(os.path.join(root, self.dataset)):
            if not base.endswith("_snapshots"):
                total += sum(os.path.getsize(os.path.join(base, name)) for name in names)
        return total

    def _lines(self, folder: str) -> list[bytes]:
        with open(os.path.join(folder, ".events.log"), "rb") as file:
            return file.read().splitlines()

    def _rows(self, folder: str) -> int:
        import pyarrow.parquet as pq

        rows: int = pq.read_metadata(os.path.join(folder, "records.parquet")).num_rows
        return rows

    def _moved(self, audit: dict[str, object]) -> int:
        moved = audit.get("moved")
        return moved["sent"] + moved["received"] if isinstance(moved, dict) else 1 << 60
