"""events tail: what was done to a dataset, and what is being done."""

from __future__ import annotations

import json
import sys
import time

import click

from usrcli.context import find_root, infer_dataset
from usrstore.objects.names import DatasetId


@click.group(short_help="Read what was done to a dataset")
def events() -> None:
    """The event log of a dataset: a line for everything that changed it."""


@events.command()
@click.argument("dataset", required=False)
@click.option("-n", "--n", "count", type=click.IntRange(0), default=0, help="How many; 0: all.")
@click.option("--follow", is_flag=True, help="Go on with lines as they are written.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "raw"]),
    default="json",
    show_default=True,
    help="Each event as JSON again, or the line as it stands, a torn one included.",
)
@click.option("--json", "as_json", is_flag=True, help="As --format json.")
def tail(dataset: str | None, count: int, follow: bool, form: str, as_json: bool) -> int:
    """The last events of DATASET, oldest first, one a line. Takes no lock, changes nothing."""
    from usrstore.dataset import events as log

    form = "json" if as_json else form

    root = find_root()
    folder = root.check_dataset(DatasetId(infer_dataset(root, dataset)))
    if count:
        rows, end = log.tail(folder, count)
        for row in rows:
            _show(row, form)
    else:
        end = 0
        for row in log.lines(folder):
            _show(row, form)
            end += len(row) + 1
    if form == "raw":
        place, held = log.torn(folder)
        if held and not follow and place >= end:
            click.echo(held)
    if follow:
        for row in log.follow(folder, end, wait=_wait):
            _show(row, form)
    return 0


def _wait(seconds: float) -> None:
    sys.stdout.flush()
    time.sleep(seconds)


def _show(line: bytes, form: str) -> None:
    if form == "raw":
        click.echo(line)
        return
    try:
        click.echo(json.dumps(json.loads(line), separators=(",", ":")))
    except (ValueError, RecursionError):
        click.echo(f"warning: a line that is no JSON: {line[:60]!r}", err=True)
