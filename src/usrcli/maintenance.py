"""maintenance: what a dataset needs now and then. Other modules add their own to the group."""

from __future__ import annotations

import sys

import click

from usrcli import overlaycare
from usrcli.context import find_root, json_option, print_json
from usrcli.datasets import acting, lock_option, open_site
from usrcli.render.text import plural
from usrstore.objects.names import DatasetId


@click.group(short_help="Freeze, tidy, repair, merge")
def maintenance() -> None:
    """What a dataset needs now and then. Each of these is one act, logged like any other."""


@maintenance.command("registry-freeze")
@acting
def registry_freeze(dataset: str | None, lock_timeout_s: float, as_json: bool) -> int:
    """Keep the registry in force inside DATASET, and let its base table name it.

    Every change of a dataset freezes a new registry by itself; the base table names the one
    it was last written under, until this is run. No row is written anew.
    """
    from usrstore.verbs.gardening import freeze

    site = open_site(dataset, lock_timeout_s)
    result = freeze(site)
    if as_json:
        print_json(
            {
                "dataset": site.dataset,
                "registry_hash": result.registry_hash,
                "frozen": result.frozen,
                "restamped": result.restamped,
            }
        )
        return 0
    word = "frozen" if result.frozen else "was frozen already"
    more = "; the base table names it now" if result.restamped else ""
    click.echo(f"{site.dataset}: the registry {result.registry_hash[:12]} {word}{more}")
    return 0


@maintenance.command("event-log-garden")
@click.option(
    "--retain-last",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="How many events stay in the log.",
)
@click.option("--write", is_flag=True, help="Do it; without it, say what would be done.")
@click.option(
    "--acknowledge-notify-cursor-reset",
    "acknowledged",
    is_flag=True,
    help="Tools that remember how far they read the log may have to begin anew: that is known.",
)
@click.option("--reason", default="", help="Why, for the log.")
@acting
def event_log_garden(
    dataset: str | None,
    retain_last: int,
    write: bool,
    acknowledged: bool,
    reason: str,
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Move all but the last events of DATASET into .events.archive/, beside the log.

    Archives and log together are the log as it was; a push or pull knows that.
    """
    from usrstore.verbs.gardening import garden

    if write and not acknowledged:
        raise click.UsageError("--write needs --acknowledge-notify-cursor-reset")
    site = open_site(dataset, lock_timeout_s)
    result = garden(site, retain=retain_last, reason=reason, write=write)
    moved = result.lines - result.retained
    if as_json:
        print_json(
            {
                "dataset": site.dataset,
                "lines": result.lines,
                "retained": result.retained,
                "archive": result.archive,
                "written": result.written,
            }
        )
    elif not moved:
        click.echo(f"{site.dataset}: {plural(result.lines, 'event')}; nothing has to go")
    elif result.written:
        click.echo(f"{site.dataset}: {plural(moved, 'event')} moved to {result.archive}")
    else:
        click.echo(f"{site.dataset}: {plural(moved, 'event')} would go; --write does it")
    return 0


@maintenance.command("events-repair")
@acting
def events_repair(dataset: str | None, lock_timeout_s: float, as_json: bool) -> int:
    """Make the event log of DATASET whole, if its last line was cut off.

    What is taken off is kept in .events.archive/.
    """
    from usrstore.verbs.gardening import repair

    site = open_site(dataset, lock_timeout_s)
    result = repair(site)
    if as_json:
        print_json(
            {
                "dataset": site.dataset,
                "torn_bytes": result.torn,
                "completed": result.completed,
                "kept": result.kept,
            }
        )
    elif not result.torn:
        click.echo(f"{site.dataset}: the event log is whole")
    elif result.completed:
        click.echo(f"{site.dataset}: the last event lacked its end of line only; it has one now")
    else:
        size = plural(result.torn, "byte")
        click.echo(f"{site.dataset}: {size} of a torn line taken off, kept in {result.kept}")
    return 0


@maintenance.command()
@click.option(
    "--key",
    type=click.Choice(["id", "sequence", "sequence_norm", "sequence_ci"]),
    default="id",
    show_default=True,
    help="What rows must have in common: trimmed (norm), and in upper case (ci).",
)
@click.option(
    "--keep",
    type=click.Choice(["keep-first", "keep-last"]),
    default="keep-first",
    show_default=True,
    help="Which of them stays.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=65_536,
    show_default=True,
    help="How many rows to look at together.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@acting
def dedupe(
    dataset: str | None,
    key: str,
    keep: str,
    batch_size: int,
    dry_run: bool,
    yes: bool,
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Keep one row of those in DATASET that agree in the key. The order of the rest stays."""
    from usrstore.verbs.deduping import dedupe as verb

    site = open_site(dataset, lock_timeout_s)
    asking = not (yes or dry_run) and sys.stdin.isatty()
    last = keep == "keep-last"
    result = verb(site, key=key, keep_last=last, batch_rows=batch_size, dry_run=dry_run or asking)
    if asking and result.dropped:
        click.confirm(f"Drop {plural(result.dropped, 'row')} of {result.rows}?", abort=True)
        result = verb(site, key=key, keep_last=last, batch_rows=batch_size)
    if as_json:
        print_json(
            {
                "dataset": site.dataset,
                "rows": result.rows,
                "dropped": result.dropped,
                "examples": list(result.examples),
                "snapshot": result.snapshot,
                "dry_run": dry_run,
            }
        )
        return 0
    word = "would go" if dry_run else "went"
    click.echo(f"{site.dataset}: {plural(result.dropped, 'row')} of {result.rows} {word}")
    for oid in result.examples:
        click.echo(f"  {oid}")
    return 0


@maintenance.command()
@click.option("--dest", required=True, help="The dataset that grows.")
@click.option("--src", required=True, help="The dataset whose rows it gets; it stays as it is.")
@click.option("--require-same-columns", "same", is_flag=True, help="Both must have the same.")
@click.option("--union-columns", "union", is_flag=True, help="Keep columns that one side has.")
@click.option(
    "--if-duplicate",
    type=click.Choice(["error", "skip", "prefer-src", "prefer-dest"]),
    default="error",
    show_default=True,
    help="What to do with records that both have.",
)
@click.option(
    "--coerce-overlap",
    type=click.Choice(["none", "to-dest"]),
    default="none",
    show_default=True,
    help="Convert columns of another type to the destination's.",
)
@click.option("--carry-namespace", "carry", multiple=True, help="Bring its overlay parts along.")
@click.option(
    "--avoid-casefold-dups/--no-avoid-casefold-dups",
    "casefold",
    default=True,
    show_default=True,
    help="Sequences that differ in case only are one record.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-y", "--yes", is_flag=True, hidden=True)
@lock_option
@json_option
def merge(
    dest: str,
    src: str,
    same: bool,
    union: bool,
    if_duplicate: str,
    coerce_overlap: str,
    carry: tuple[str, ...],
    casefold: bool,
    dry_run: bool,
    yes: bool,
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Bring the rows of one dataset of this root into another."""
    from usrstore.verbs.uniting import MergeOptions
    from usrstore.verbs.uniting import merge as verb

    del yes  # the source stays, the destination keeps a snapshot: nothing is asked
    if same == union:
        raise click.UsageError("give one of --require-same-columns and --union-columns")
    site = open_site(dest, lock_timeout_s)
    source = DatasetId(find_root().find_dataset(src))
    options = MergeOptions(
        union=union,
        duplicates=if_duplicate,
        coerce=coerce_overlap == "to-dest",
        carry=carry,
        casefold=casefold,
        dry_run=dry_run,
    )
    result = verb(site, source, options)
    if as_json:
        print_json(
            {
                "dest": site.dataset,
                "src": source,
                "rows_read": result.rows_read,
                "added": result.added,
                "replaced": result.replaced,
                "skipped": result.skipped,
                "rows": result.rows,
                "carried": result.carried,
                "snapshot": result.snapshot,
                "dry_run": dry_run,
            }
        )
        return 0
    word = "would be added" if dry_run else "added"
    click.echo(
        f"{site.dataset}: {plural(result.added, 'row')} of {source} {word}, "
        f"{result.replaced} replaced, {result.skipped} skipped; {result.rows} rows"
    )
    return 0


for command in (
    overlaycare.overlay_compact,
    overlaycare.overlay_remove,
    overlaycare.overlay_refresh_metadata,
    overlaycare.overlay_project,
):
    maintenance.add_command(command)
