"""recover and fsck: after an accident, and to be sure that there was none."""

from __future__ import annotations

import click

from usrcli.context import find_root, json_option, make_who, print_json
from usrcli.render.progress import reporter
from usrcli.render.text import plural


@click.command(short_help="Finish or undo what was interrupted")
@json_option
def recover(as_json: bool) -> int:
    """Bring every dataset whose promotion was interrupted to exactly one state."""
    from usrstore.verbs.recover import recover as verb

    root = find_root()
    done = verb(root, make_who(root))
    if as_json:
        print_json([{"dataset": name, "outcome": outcome} for name, outcome in done])
        return 0
    for name, outcome in done:
        click.echo(f"{name}: {outcome}")
    if not done:
        click.echo("nothing was interrupted")
    return 0


@click.command(short_help="Check everything that is stored")
@click.option("--deep", is_flag=True, help="Also hash every stored object and every folder.")
@json_option
def fsck(deep: bool, as_json: bool) -> int:
    """Check packs, states, manifests, trees and recipes. Changes nothing; exit 1 on findings."""
    from usrstore.verbs.fsck import fsck as verb

    root = find_root()
    progress = reporter("auto")
    try:
        result = verb(root, make_who(root), deep=deep, emit=progress)
    finally:
        progress.done()
    if as_json:
        print_json(
            {
                "objects": result.objects,
                "manifests": result.manifests,
                "states": result.states,
                "findings": [finding._asdict() for finding in result.findings],
            }
        )
    else:
        for finding in result.findings:
            click.echo(f"{finding.code}: {finding.where}: {finding.message}")
            click.echo(f"  remedy: {finding.remedy}")
        click.echo(
            f"checked {plural(result.objects, 'object')}, {plural(result.manifests, 'manifest')}, "
            f"{plural(result.states, 'state')}: "
            + (plural(len(result.findings), "finding") if result.findings else "all is well")
        )
    return 1 if result.findings else 0
