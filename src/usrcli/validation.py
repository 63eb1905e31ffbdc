"""validate: what is wrong with a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from usrcli.context import json_option, print_json
from usrcli.render.text import plural
from usrcli.tables import format_option, locate

if TYPE_CHECKING:
    from usrstore.dataset.flaws import Flaws

_MODES = [
    "current",
    "frozen",
    "either",
    "namespace-current",
    "namespace-frozen",
    "namespace-either",
]


@click.command(short_help="Everything that is wrong with a dataset")
@click.argument("dataset", required=False)
@click.option("--strict", is_flag=True, help="What is merely odd is a finding, too.")
@click.option(
    "--registry-mode",
    "mode",
    type=click.Choice(_MODES),
    default="namespace-either",
    show_default=True,
    help="Which registry the files must have been written under.",
)
@format_option
@json_option
def validate(dataset: str | None, strict: bool, mode: Any, form: str, as_json: bool) -> int:
    """Look at every row, overlay, snapshot, event and registry of DATASET. Exit 1 on findings.

    All of them are counted, and the first of each kind in each file named. A namespace that
    was registered since changes nothing; `--registry-mode current` asks for files that were
    written under the very registry of now.
    """
    import tempfile

    from usrstore.verbs.validate import validate as verb

    root, name = locate(dataset)
    with tempfile.TemporaryDirectory(prefix="usr-") as scratch:
        flaws = verb(root, name, mode=mode, scratch=scratch)
    failed = flaws.grave > 0 or (strict and flaws.mild > 0)
    if as_json or form == "json":
        print_json(_data(name, mode, flaws, strict=strict, valid=not failed))
        return int(failed)
    for flaw in flaws.kept:
        click.echo(f"{'note' if flaw.mild and not strict else 'error'}: {flaw.line()}")
    more = sum(flaws.counts.values()) - len(flaws.kept)
    if more:
        click.echo(f"… and {more} more like these")
    notes = f", {plural(flaws.mild, 'note')}" if flaws.mild else ""
    click.echo(f"{name}: {plural(flaws.grave, 'error')}{notes}" if failed else f"{name}: OK{notes}")
    return int(failed)


def _data(name: str, mode: str, flaws: Flaws, *, strict: bool, valid: bool) -> dict[str, Any]:
    return {
        "dataset": name,
        "valid": valid,
        "strict": strict,
        "registry_mode": mode,
        "errors": flaws.grave,
        "notes": flaws.mild,
        "counts": dict(sorted(flaws.counts.items())),
        "findings": [{**flaw._asdict(), "mild": flaw.mild} for flaw in flaws.kept],
    }
