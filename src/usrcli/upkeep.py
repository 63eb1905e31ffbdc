"""recover and fsck: after an accident, and to be sure that there was none."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from usrcli.context import find_root, json_option, make_who, print_json
from usrcli.render.progress import reporter
from usrcli.render.text import human_bytes, moment, plural

if TYPE_CHECKING:
    from usrstore.objects.progress import Emit
    from usrstore.root import Root, Who
    from usrstore.verbs.findings import FsckResult


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


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(_ctx: Any, _param: Any, value: str | None) -> float | None:
    """`90`, `90s`, `10m`, `2h`, `1d`, in seconds."""
    if value is None:
        return None
    number, unit = (value[:-1], value[-1:]) if value[-1:] in _UNITS else (value, "s")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise click.BadParameter(f"{value!r} is no duration; write 90s, 10m or 2h")
    return float(int(number) * _UNITS[unit])


@click.command(short_help="Check everything that is stored")
@click.option("--deep", is_flag=True, help="Also hash every stored object and every folder.")
@click.option(
    "--max-duration",
    callback=_duration,
    metavar="TIME",
    help="As --deep for so long (10m, 2h), beginning with what was checked longest ago.",
)
@click.option("--repair", is_flag=True, help="Mend what can be mended, then check as --deep.")
@click.option(
    "--from",
    "remotes",
    multiple=True,
    metavar="REMOTE",
    help="With --repair: a remote that may have what is lost; may be given again.",
)
@click.option(
    "--progress",
    type=click.Choice(["auto", "json", "none"]),
    default="auto",
    help="How progress is shown.",
)
@json_option
def fsck(
    deep: bool,
    max_duration: float | None,
    repair: bool,
    remotes: tuple[str, ...],
    progress: str,
    as_json: bool,
) -> int:
    """Check packs, states, all that they reach, and what lies beside. Exit 1 on findings.

    Nightly runs of `usr fsck --max-duration 10m` cover a store of any size in turn. A repair
    takes lost objects from other packs, from the working folders and from remotes, and moves
    what is damaged to .usr/damaged once all that is whole of it is saved; it removes nothing.
    """
    from usrstore.verbs.fsck import fsck as check

    if repair and max_duration is not None:
        raise click.UsageError("--repair takes the time it takes: leave --max-duration out")
    if remotes and not repair:
        raise click.UsageError("--from goes with --repair")
    root = find_root()
    who = make_who(root)
    line = reporter(progress)
    try:
        if repair:
            result = _repair(root, who, remotes, line)
        else:
            result = check(root, who, deep=deep, max_duration_s=max_duration, emit=line)
    finally:
        line.done()
    if as_json:
        print_json(_as_json(result))
    else:
        _print(result)
    return 1 if result.findings else 0


def _repair(root: Root, who: Who, remotes: tuple[str, ...], emit: Emit) -> FsckResult:
    from usrcli.links import connect, find_profile
    from usrstore.verbs.repair import repair as verb

    profiles = [find_profile(root, name) for name in remotes]
    reach = [(profile.name, functools.partial(connect, profile)) for profile in profiles]
    return verb(root, who, remotes=reach, emit=emit)


def _as_json(result: FsckResult) -> dict[str, Any]:
    checked = result.checked
    return {
        "objects": result.objects,
        "manifests": result.manifests,
        "states": result.states,
        "findings": [finding._asdict() for finding in result.findings],
        "repaired": result.repaired,
        "checked": None
        if checked is None
        else {
            "packs": checked.packs,
            "of_packs": checked.of_packs,
            "folders": checked.folders,
            "of_folders": checked.of_folders,
            "bytes": checked.size,
            "complete": checked.complete,
            "oldest_us": checked.oldest_us,
        },
    }


def _print(result: FsckResult) -> None:
    for text in result.repaired or ():
        click.echo(f"repaired: {text}")
    for finding in result.findings:
        click.echo(f"{finding.code}: {finding.where}: {finding.message}")
        for text in finding.affects:
            click.echo(f"  affects: {text}")
        click.echo(f"  remedy: {finding.remedy}")
    checked = result.checked
    if checked is not None and not checked.complete:
        oldest = "never" if checked.oldest_us is None else moment(checked.oldest_us)
        click.echo(
            f"hashed {human_bytes(checked.size)} in {checked.packs} of "
            f"{plural(checked.of_packs, 'pack')} and {checked.folders} of "
            f"{plural(checked.of_folders, 'folder')}; the next run goes on "
            f"(checked longest ago: {oldest})"
        )
    click.echo(
        f"checked {plural(result.objects, 'object')}, {plural(result.manifests, 'manifest')}, "
        f"{plural(result.states, 'state')}: "
        + (plural(len(result.findings), "finding") if result.findings else "all is well")
    )
