"""maintenance overlay-…: compact, remove, stamp and project overlays."""

from __future__ import annotations

from typing import Literal, cast

import click

from usrcli.context import json_option, print_json
from usrcli.datasets import acting, lock_option, open_site
from usrcli.overlays import split
from usrcli.render.text import plural
from usrstore.objects.names import DatasetId

namespace_option = click.option("--namespace", required=True, metavar="NS", help="Whose overlay.")


@click.command("overlay-compact")
@namespace_option
@acting
def overlay_compact(
    dataset: str | None, namespace: str, lock_timeout_s: float, as_json: bool
) -> int:
    """Make one file of the overlay parts of DATASET: each key once, newest values.

    Readers see the same before and after. Row groups are the parts', so that a store that
    has the parts has most of the new file.
    """
    from usrstore.verbs.overlays import compact

    site = open_site(dataset, lock_timeout_s)
    done = compact(site, namespace)
    if as_json:
        print_json(
            {
                "dataset": site.dataset,
                "namespace": namespace,
                "path": done.path,
                "created": done.created,
                "parts": done.parts,
                "rows_before": done.rows_before,
                "rows": done.rows,
            }
        )
    elif not done.created:
        click.echo(f"{site.dataset}: {namespace} is one file already: {done.path}")
    else:
        merged = done.rows_before - done.rows
        more = f", {merged} of them overwritten by newer ones" if merged else ""
        click.echo(
            f"{site.dataset}: {plural(done.parts, 'part')} of "
            f"{plural(done.rows_before, 'row')}{more}"
        )
        click.echo(f"wrote {done.path}")
    return 0


@click.command("overlay-remove")
@namespace_option
@click.option(
    "--mode",
    type=click.Choice(["error", "delete", "archive"]),
    default="error",
    show_default=True,
    help="`archive` keeps the newest archive; `error` and `delete` remove, and `error` minds "
    "if there is nothing.",
)
@acting
def overlay_remove(
    dataset: str | None, namespace: str, mode: str, lock_timeout_s: float, as_json: bool
) -> int:
    """Remove an overlay of DATASET, or archive it. `usr checkout` brings back what a state holds."""
    from usrstore.verbs.overlays import remove

    site = open_site(dataset, lock_timeout_s)
    done = remove(site, namespace, mode=cast("Literal['error', 'delete', 'archive']", mode))
    if as_json:
        print_json(
            {
                "dataset": site.dataset,
                "namespace": namespace,
                "removed": list(done.removed),
                "archived": done.archived,
                "dropped": list(done.dropped),
            }
        )
    elif not done.removed:
        click.echo(f"{site.dataset}: no overlay {namespace}; nothing was changed")
    else:
        where = f"; archived as {done.archived}" if done.archived else ""
        files = plural(len(done.removed), "file")
        click.echo(f"{site.dataset}: removed {files} of {namespace}{where}")
    return 0


@click.command("overlay-refresh-metadata")
@namespace_option
@acting
def overlay_refresh_metadata(
    dataset: str | None, namespace: str, lock_timeout_s: float, as_json: bool
) -> int:
    """Let the overlay files of DATASET name the registry in force; no row is written anew."""
    from usrstore.verbs.overlays import refresh_metadata

    site = open_site(dataset, lock_timeout_s)
    changed = refresh_metadata(site, namespace)
    if as_json:
        print_json({"dataset": site.dataset, "namespace": namespace, "changed": list(changed)})
    else:
        files = plural(len(changed), "file")
        click.echo(f"{site.dataset}: {files} of {namespace} stamped with the registry in force")
    return 0


@click.command("overlay-project")
@click.option("--src", required=True, metavar="DATASET", help="Where columns come from.")
@click.option("--dest", required=True, metavar="DATASET", help="Where they go.")
@click.option("--namespace", required=True, metavar="NS", help="Whose columns.")
@click.option("--src-join", default="id", show_default=True, metavar="COL", help="Key in --src.")
@click.option("--dest-join", default="id", show_default=True, metavar="COL", help="Key in --dest.")
@click.option("--columns", metavar="A,B", help="With or without NS__ [all that --src has].")
@click.option("--overwrite/--no-overwrite", default=True, help="Newer values may win [on].")
@click.option("--allow-missing", is_flag=True, help="Pass over rows that --src knows nothing of.")
@click.option("--dry-run", is_flag=True, help="Say what would be projected.")
@lock_option
@json_option
def overlay_project(
    src: str,
    dest: str,
    namespace: str,
    src_join: str,
    dest_join: str,
    columns: str | None,
    overwrite: bool,
    allow_missing: bool,
    dry_run: bool,
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Write columns of one dataset as an overlay part of another, where keys agree."""
    from usrstore.verbs.projecting import project

    site = open_site(dest, lock_timeout_s)
    source = DatasetId(site.root.find_dataset(src))
    done = project(
        site,
        source,
        namespace,
        source_join=src_join,
        target_join=dest_join,
        columns=split(columns),
        overwrite=overwrite,
        allow_missing=allow_missing,
        dry_run=dry_run,
    )
    if as_json:
        print_json(
            {
                "src": source,
                "dest": site.dataset,
                "namespace": namespace,
                "path": done.path,
                "columns": list(done.columns),
                "rows": done.rows,
                "matched": done.matched,
                "missing": done.missing,
                "dry_run": dry_run,
            }
        )
        return 0
    word = "would get" if dry_run else "got"
    names = ", ".join(done.columns)
    click.echo(
        f"{site.dataset}: {done.matched} of {plural(done.rows, 'row')} {word} {names} of {source}"
    )
    if done.path:
        click.echo(f"wrote {done.path}")
    return 0
