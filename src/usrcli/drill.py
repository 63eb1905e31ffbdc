"""`usr drill`: the sync-fidelity runbook as one command."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

import click

from usrcli.context import print_json, remotes_path
from usrcli.drills import dataset as data
from usrcli.drills import sshd
from usrcli.drills.runbook import Contract, Runbook
from usrcli.drills.stage import USR, Stage
from usrcli.drills.twosites import TITLE, TwoSites
from usrstore.errors import NotFoundError
from usrstore.remote import profiles
from usrstore.remote.profiles import Profile

DATASET = "densegen/drill"
REMOTE = "drill"


@click.command(short_help="Run the sync-fidelity runbook on throw-away roots")
@click.option("--remote", "name", help="Run against this remote instead of a throw-away one.")
@click.option("--transport", type=click.Choice(["auto", "ssh", "process"]), default="auto",
              help="How the throw-away remote is reached.")  # fmt: skip
@click.option("--rows", type=click.IntRange(100), default=20_000, help="Sequences in the dataset.")
@click.option("--parts", type=click.IntRange(1), default=24, help="Overlay parts a namespace.")
@click.option("--two-sites", is_flag=True,
              help="Instead: both sides work at the same time, then one pull and one push.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Leave the throw-away roots behind.")
@click.option("--json", "as_json", is_flag=True, help="Print the contracts as JSON.")
def drill(
    name: str | None,
    transport: str,
    rows: int,
    parts: int,
    two_sites: bool,
    keep: bool,
    as_json: bool,
) -> int:
    """Run the chained loop and the drills, with real faults, and check every contract.

    Two throw-away roots, a realistic dataset, the real `usr` at both ends of a real link: an
    sshd of its own on loopback where one can be started, else a process. Exit 0 only if every
    contract holds.
    """
    if two_sites and name is not None:
        raise click.UsageError("--two-sites plays on throw-away roots, not on a --remote")
    began = time.monotonic()
    seen: list[str] = []

    def tell(contract: Contract) -> None:
        if as_json:
            return
        if contract.drill not in seen:
            seen.append(contract.drill)
            click.echo(f"\n{_TITLES[contract.drill]}")
        mark = {True: "✓", False: "✗", None: "–"}[contract.ok]
        click.echo(f"  {mark} {contract.name}")
        for text in contract.why.strip().splitlines()[:6]:
            click.echo(f"      {text}")

    work = tempfile.mkdtemp(prefix="usr-drill-")
    try:
        with _stage(work, name, transport) as (stage, place):
            if not as_json:
                click.echo(f"usr drill: {rows} sequences, 2 × {parts} overlay parts, over {place}")
            dataset = DATASET if name is None else f"drill/{os.path.basename(work)}"
            runbook: Runbook | TwoSites
            if two_sites:
                runbook = TwoSites(stage, dataset, rows, tell)
            else:
                _prepare(stage, dataset, rows, parts)
                runbook = Runbook(stage, dataset, tell)
            held = runbook.play()
    finally:
        if keep:
            click.echo(f"left behind: {work}", err=True)
        else:
            shutil.rmtree(work, ignore_errors=True)
    _summary(runbook.contracts, place, time.monotonic() - began, as_json=as_json)
    if name is not None and not as_json:
        click.echo(f"left at {name}: {dataset} (remove that folder when you like)")
    return 0 if held else 1


_TITLES = {
    "two sites": TITLE,
    "loop": "Chained loop: doctor → diff → pull → write-back → diff → push → diff",
    "drill 1": "Drill 1: pull fails when the payload is not what the remote's inventory says",
    "drill 2": "Drill 2: push fails when the remote would not hold what we have",
    "drill 3": "Drill 3: what breaks the registry is neither attached, nor pushed, nor pulled",
}


def _summary(contracts: list[Contract], place: str, seconds: float, *, as_json: bool) -> None:
    held = sum(contract.ok is True for contract in contracts)
    failed = sum(contract.ok is False for contract in contracts)
    if as_json:
        rows = [{"drill": c.drill, "contract": c.name, "ok": c.ok, "why": c.why} for c in contracts]
        print_json({"over": place, "held": held, "failed": failed, "contracts": rows})
        return
    skipped = len(contracts) - held - failed
    text = f"\n{held} contracts hold, {failed} fail"
    text += f", {skipped} not tried" if skipped else ""
    click.echo(f"{text} ({seconds:.0f} s)")


def _prepare(stage: Stage, dataset: str, rows: int, parts: int) -> None:
    """The dataset at the remote: made there, or pushed there from a third root."""
    if stage.remote_root is not None:
        data.make_root(stage.remote_root)
        data.make_dataset(stage.remote_root, dataset, rows=rows, parts=parts)
        return
    data.make_root(stage.third_root)
    data.make_dataset(stage.third_root, dataset, rows=rows, parts=parts)
    run = stage.usr("push", dataset, stage.remote, "-y", root=stage.third_root)
    if run.status:
        raise NotFoundError(
            f"the drill's dataset could not be pushed to {stage.remote}: {run.error}",
            hint=f"usr remotes doctor --remote {stage.remote}",
        )


@contextlib.contextmanager
def _stage(work: str, name: str | None, transport: str) -> Iterator[tuple[Stage, str]]:
    """A stage and how to call its link."""
    if name is not None:
        path = os.path.abspath(remotes_path(None))
        profile = profiles.find(path, name)
        if profile.type != "ssh":
            raise NotFoundError("the drill's faults need a remote of type ssh")
        yield Stage(work, name, path, None, None), f"remote {name} ({profile.place})"
        return
    remote_root = os.path.join(work, "remote")
    os.makedirs(remote_root)
    home = shlex.quote(os.path.join(work, "remote-home"))
    command = f"env XDG_CONFIG_HOME={home} {shlex.join(USR)}"
    path = os.path.join(work, "remotes.yaml")
    if transport == "process" or (transport == "auto" and sshd.find_sshd() is None):
        profile = Profile(REMOTE, host="here", base_dir=remote_root, usr_command=command)
        profiles.add(path, profile)
        link = [sys.executable, "-m", "usrcli.drills.localshell"]
        yield Stage(work, REMOTE, path, remote_root, link), "a real `usr serve` process"
        return
    folder = os.path.join(work, "sshd")
    os.makedirs(folder)
    with sshd.running(folder) as server:
        profile = Profile(
            REMOTE,
            host="127.0.0.1",
            base_dir=remote_root,
            usr_command=command,
            ssh_options=("-F", server.config),
        )
        profiles.add(path, profile)
        yield Stage(work, REMOTE, path, remote_root, None), "a real sshd on loopback"
