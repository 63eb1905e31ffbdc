"""The drills: what is done, and what must then hold. Each contract is checked, none assumed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from usrcli.drills import attacks, producers
from usrcli.drills import dataset as data
from usrcli.drills.stage import Run, Stage, fingerprint, read_audit

VERIFY = ("--verify", "parquet")
STRICT = (*VERIFY, "--verify-sidecars")


@dataclass(frozen=True, slots=True)
class Contract:
    """One expectation and whether it held; `ok` None: not tried here, and why."""

    drill: str
    name: str
    ok: bool | None
    why: str = ""


@dataclass(slots=True)
class Runbook:
    """Plays the drills on a stage, in order.

    Attributes:
        stage: where.
        dataset: its id.
        tell: called with each contract as soon as it is known.
    """

    stage: Stage
    dataset: str
    tell: Callable[[Contract], None]
    contracts: list[Contract] = field(default_factory=list)
    _audits: int = 0
    _seed: int = 20

    # ── what every step uses ────────────────────────────────────────────────────────────
    def expect(self, drill: str, name: str, ok: bool | None, why: str = "") -> None:
        contract = Contract(drill, name, ok, "" if ok else why)
        self.contracts.append(contract)
        self.tell(contract)

    @property
    def local(self) -> str:
        return os.path.join(self.stage.local_root, self.dataset)

    @property
    def remote(self) -> str | None:
        root = self.stage.remote_root
        return None if root is None else os.path.join(root, self.dataset)

    def sync(
        self, verb: str, *options: str, fault: str | None = None
    ) -> tuple[Run, dict[str, object]]:
        """Pull or push with the runbook's options; gives the run and its audit."""
        self._audits += 1
        path = self.stage.audit(f"{self._audits:03d}-{verb}")
        run = self.stage.usr(
            verb, self.dataset, self.stage.remote, "-y", *STRICT, "--audit-json-out", path,
            *options, fault=fault,
        )  # fmt: skip
        return run, read_audit(path)

    def files(self) -> tuple[dict[str, str], dict[str, str], str]:
        """Every file of both folders, as far as they are on this machine, and our refs."""
        there = fingerprint(self.remote) if self.remote is not None else {}
        return fingerprint(self.local), there, self._refs()

    def diff(self) -> Run:
        return self.stage.usr("diff", self.dataset, self.stage.remote, *VERIFY)

    def play(self) -> bool:
        """All of it; whether every contract held."""
        self.chained_loop()
        self.drill_1()
        self.drill_2()
        attacks.drill_3(self)
        return all(contract.ok is not False for contract in self.contracts)

    # ── the chained loop ────────────────────────────────────────────────────────────────
    def chained_loop(self) -> None:
        name = "loop"
        run = self.stage.usr("remotes", "doctor", "--remote", self.stage.remote)
        self.expect(name, "doctor: every precondition holds", run.status == 0, run.out + run.err)
        run = self.diff()
        changes = run.status == 0 and run.last_line == "Status     : CHANGES"
        self.expect(name, "diff: sees what only the remote has", changes, run.err or run.out)
        run, audit = self.sync("pull")
        moved = run.status == 0 and audit.get("transfer_state") == "TRANSFERRED"
        self.expect(name, "pull: the first pull transfers everything", moved, run.err)
        self.expect(
            name,
            "pull: an empty root becomes a working root (registry and state)",
            os.path.isfile(os.path.join(self.stage.local_root, "registry.yaml"))
            and self.stage.usr("status", self.dataset, "--exit-code").status == 0,
        )
        self._equal(name, "pull: both folders are equal byte for byte")
        producers.write_back(self, name)
        run = self.diff()
        self.expect(
            name,
            "diff: sees the local write-back",
            run.last_line == "Status     : CHANGES" and "part-" in run.out,
            run.err or run.out,
        )
        run, audit = self.sync("push")
        moved = run.status == 0 and audit.get("transfer_state") == "TRANSFERRED"
        self.expect(name, "push: the write-back reaches the remote", moved, run.err)
        self._equal(name, "push: both folders are equal byte for byte")
        run = self.diff()
        good = run.status == 0 and run.last_line == "Status     : up-to-date"
        self.expect(name, "diff: ends with up-to-date", good, run.err or run.out)
        run, audit = self.sync("pull")
        still = run.status == 0 and audit.get("transfer_state") == "NO-OP"
        self.expect(name, "pull: with nothing to do is a NO-OP", still, run.err)

    def _equal(self, drill: str, name: str) -> None:
        if self.remote is None:
            run = self.diff()
            self.expect(drill, name, run.last_line == "Status     : up-to-date", run.err)
            return
        here, there = fingerprint(self.local), fingerprint(self.remote)
        differ = sorted(
            path for path in here.keys() | there.keys() if here.get(path) != there.get(path)
        )
        self.expect(drill, name, here == there, f"these differ: {', '.join(differ[:5])}")

    # ── drill 1: pull ───────────────────────────────────────────────────────────────────
    def drill_1(self) -> None:
        """Pull must fail when the payload is not what the remote's inventory says."""
        name = "drill 1"
        for fault, words in (
            ("drop:down", "post-pull-sidecars"),
            ("truncate:down", "post-pull-sidecars"),
            ("flip:down", "post-pull-sidecars"),
            ("rename:down", "post-pull-sidecars"),
        ):
            self._refused(name, "pull", fault, words)
        self._changing(name, "pull")
        self._mends(name, "pull")
        self._primary(name, "pull")

    # ── drill 2: push ───────────────────────────────────────────────────────────────────
    def drill_2(self) -> None:
        """Push must fail when the remote would not hold what we have."""
        name = "drill 2"
        for fault, words in (
            ("drop:up", "post-push-sidecars"),
            ("truncate:up", "post-push-sidecars"),
            ("flip:up", "post-push-sidecars"),
            ("rename:up", "post-push-sidecars"),
            ("cut:up", ""),
        ):
            self._refused(name, "push", fault, words)
        self._changing(name, "push")
        self._mends(name, "push")
        self._primary(name, "push")
        run = self.diff()
        good = run.status == 0 and run.last_line == "Status     : up-to-date"
        self.expect(name, "diff: ends with up-to-date", good, run.err or run.out)

    # ── the contracts that both drills share ────────────────────────────────────────────
    def _work(self, verb: str) -> None:
        """New overlay parts on the side that will send: what landed before is not sent again."""
        self._change(verb, lambda folder: data.write_back(folder, seed=self._seed))

    def _change(self, verb: str, act: Callable[[str], object]) -> None:
        """Let a tool write on the side that will send; a remote elsewhere gets it pushed."""
        self._seed += 1
        if verb == "push":
            act(self.local)
        elif self.remote is not None:
            act(self.remote)
        else:
            third = self.stage.third_root
            self.stage.usr("pull", self.dataset, self.stage.remote, "-y", root=third)
            act(os.path.join(third, self.dataset))
            self.stage.usr("push", self.dataset, self.stage.remote, "-y", root=third)

    def _refused(self, drill: str, verb: str, fault: str, words: str) -> None:
        """A fault in transit: an error that says so, and nothing changed on either side."""
        self._work(verb)
        before = self._everything(verb)
        run, audit = self.sync(verb, fault=fault)
        what = fault.partition(":")[0]
        label = f"{verb}: payload {_PAST[what]} in transit"
        said = run.status not in (0, 1, 2, 70) and (not words or run.says(words))
        wanted = f" with a line that begins {words}" if words else ""
        self.expect(drill, f"{label} fails{wanted}", said, f"exit {run.status}: {run.error}")
        self.expect(
            drill,
            f"{label}: the audit says REFUSED",
            audit.get("transfer_state") == "REFUSED",
            str(audit.get("transfer_state")),
        )
        self._untouched(drill, verb, label, before)

    def _changing(self, drill: str, verb: str) -> None:
        """The remote is written while the transfer runs."""
        label = f"{verb}: a remote that changes under the transfer is never promoted"
        if self.remote is None:
            self.expect(drill, label, None, "its folder is not on this machine")
            return
        self._work(verb)
        there = sorted(fingerprint(self.remote))
        parts = [path for path in there if path.startswith("_derived/")]
        if verb == "pull":  # the file must be one that travels
            here = fingerprint(self.local)
            parts = [path for path in parts if path not in here]
        victim = os.path.join(self.remote, parts[-1])
        with open(victim, "rb") as file:
            good = file.read()
        before = self._refs(), fingerprint(self.local)
        run, _ = self.sync(verb, fault=f"touch:{victim}")
        refused = run.status not in (0, 1, 2, 70)
        self.expect(
            drill,
            label,
            refused and before == (self._refs(), fingerprint(self.local)),
            f"exit {run.status}: {run.error}",
        )
        with open(victim, "wb") as file:
            file.write(good)

    def _primary(self, drill: str, verb: str) -> None:
        """A flipped bit in the primary itself."""
        self._change(verb, lambda folder: data.append_rows(folder, 400, seed=self._seed))
        before = self._everything(verb)
        run, _ = self.sync(
            verb, "--skip-snapshots", "--no-verify-sidecars", fault=f"flip:{_way(verb)}"
        )
        label = f"{verb}: a flipped bit in the primary"
        said = run.says(f"post-{verb}-primary")
        self.expect(
            drill, f"{label} fails with a line that begins post-{verb}-primary", said,
            f"exit {run.status}: {run.error}",
        )  # fmt: skip
        self._untouched(drill, verb, label, before)
        self._mends(drill, verb, again="the appended rows")

    def _mends(self, drill: str, verb: str, again: str = "what failed before") -> None:
        run, audit = self.sync(verb)
        good = run.status == 0 and audit.get("transfer_state") == "TRANSFERRED"
        self.expect(drill, f"{verb}: an honest re-run transfers {again}", good, run.err)
        self._equal(drill, f"{verb}: after it both folders are equal byte for byte")

    def _refs(self) -> str:
        return self.stage.usr("show-ref").out

    def _everything(self, verb: str) -> tuple[str, dict[str, str], dict[str, str]]:
        """Refs of the destination, files on both sides.

        A pull may leave a light snapshot at its source: a name for what is there anyway.
        """
        refs = self._refs()
        if verb == "push" and self.stage.remote_root is not None:
            refs += self.stage.usr("show-ref", root=self.stage.remote_root).out
        there = fingerprint(self.remote) if self.remote is not None else {}
        return refs, fingerprint(self.local), there

    def _untouched(
        self,
        drill: str,
        verb: str,
        label: str,
        before: tuple[str, dict[str, str], dict[str, str]],
    ) -> None:
        after = self._everything(verb)
        names = ("refs", "local files", "remote files")
        changed = [n for n, a, b in zip(names, before, after, strict=True) if a != b]
        self.expect(
            drill,
            f"{label}: files and refs are as before",
            not changed,
            f"changed: {', '.join(changed)}",
        )


_PAST = {
    "drop": "dropped",
    "truncate": "truncated",
    "flip": "bit-flipped",
    "rename": "renamed",
    "cut": "cut off",
}


def _way(verb: str) -> str:
    return "down" if verb == "pull" else "up"
