"""init DATASET, import, snapshot: how a dataset begins and grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from usrcli.context import find_root, infer_dataset, json_option, make_who, print_json
from usrcli.render.progress import reporter
from usrcli.render.text import plural
from usrstore.dataset.intake import FORMATS, form_of
from usrstore.errors import NotFoundError
from usrstore.objects.names import DatasetId, check_dataset
from usrstore.verbs.site import Site

lock_option = click.option(
    "--lock-timeout",
    "lock_timeout_s",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for other programs.",
)


def acting(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every act on one dataset takes: DATASET or where we stand, --lock-timeout, --json."""
    for option in (json_option, lock_option, click.argument("dataset", required=False)):
        command = option(command)
    return command


def open_site(dataset: str | None, lock_timeout_s: float = 30.0) -> Site:
    """The dataset that was named, or the one we stand in, to be changed."""
    root = find_root()
    name = DatasetId(infer_dataset(root, dataset))
    return Site.open(root, name, make_who(root), lock_timeout_s=lock_timeout_s)


def init(dataset: str, source: str, notes: str, *, as_json: bool) -> int:
    """Make a dataset; `usr init DATASET` comes here."""
    from usrstore.verbs.creating import create

    try:
        root = find_root()
    except NotFoundError as exc:
        if exc.code == "no-root":
            exc.hint = (
                f"`usr init && usr init {dataset}` makes this folder a root, and the dataset in "
                f"it; with `usr --root DIR init {dataset}` the root is DIR; `usr init "
                f"./{dataset}` would make that folder itself a root"
            )
        else:  # --root or USR_ROOT names a folder that is not there
            exc.hint = (
                f"`usr init ./{dataset}` makes a root of that name here, `usr init` the one that "
                "--root or USR_ROOT names; is that right?"
            )
        raise
    site = Site.open(root, check_dataset(dataset), make_who(root))
    result = create(site, source=source, notes=notes)
    if as_json:
        print_json({"dataset": dataset, "path": result.path, "created": True})
    else:
        click.echo(f"Made {dataset} in {result.path}")
        if result.registry_made:
            click.echo(f"this root had no registry; it has one now: {root.registry_path}")
    return 0


@click.command("import", short_help="Append rows from a file")
@click.argument("dataset")
@click.option(
    "--from", "form", type=click.Choice(FORMATS), help="What FILE is, if its suffix does not say."
)
@click.option(
    "--path", metavar="FILE", required=True, help="The rows; a column `sequence` at least."
)
@click.option("--bio-type", default="dna", show_default=True, help="Of rows that do not say.")
@click.option("--alphabet", default="dna_4", show_default=True, help="Of rows that do not say.")
@click.option(
    "--on-conflict",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do with records that are there already.",
)
@lock_option
@json_option
def import_(
    dataset: str,
    form: str | None,
    path: str,
    bio_type: str,
    alphabet: str,
    on_conflict: str,
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Append the rows of FILE to the base table of DATASET: all of them, or none.

    Ids, lengths and moments are filled in; where the file brings them they must be right.
    Everything that is wrong is said at once, with its row, column and value.
    """
    from usrstore.verbs.importing import import_rows

    site = open_site(dataset, lock_timeout_s)
    form = form or form_of(path)
    progress = reporter("auto")
    try:
        result = import_rows(
            site,
            path,
            form=form,
            bio_type=bio_type,
            alphabet=alphabet,
            skip=on_conflict == "skip",
            emit=progress,
        )
    finally:
        progress.done()
    if as_json:
        print_json(
            {
                "dataset": site.dataset,
                "rows_read": result.rows_read,
                "rows_written": result.rows_written,
                "rows_skipped": result.rows_skipped,
                "rows": result.rows,
                "ignored": list(result.ignored),
                "snapshot": result.snapshot,
            }
        )
        return 0
    if result.rows_written:
        click.echo(
            f"{site.dataset}: {plural(result.rows_written, 'row')} written; now {result.rows}"
        )
    else:
        click.echo(f"{site.dataset}: nothing new; {plural(result.rows, 'row')} as before")
    if result.rows_skipped:
        click.echo(f"{plural(result.rows_skipped, 'row')} skipped: they were there already")
    if result.ignored:
        click.echo(
            f"warning: not base columns, left out: {', '.join(result.ignored)} "
            "(`usr attach` brings columns of namespaces)",
            err=True,
        )
    return 0


@click.command(short_help="Keep a copy of the base table inside the dataset")
@acting
def snapshot(dataset: str | None, lock_timeout_s: float, as_json: bool) -> int:
    """Copy records.parquet into _snapshots/; the newest five copies stay.

    Any tool can read it. What a state that was committed holds needs no snapshot.
    """
    from usrstore.verbs.snapshotting import snapshot as verb

    site = open_site(dataset, lock_timeout_s)
    path = verb(site)
    if as_json:
        print_json({"dataset": site.dataset, "snapshot": path})
    else:
        click.echo(f"{site.dataset}: kept as {path}")
    return 0
