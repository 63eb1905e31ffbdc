"""delete, restore, state: marks on rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from usrcli.context import json_option, print_json
from usrcli.datasets import acting, open_site
from usrcli.render.text import plural
from usrstore.dataset.reserved import QC_STATUS, SPLIT
from usrstore.errors import StorageError

if TYPE_CHECKING:
    from usrstore.verbs.marking import MarkResult

Command = Callable[..., Any]


def ids_options(command: Command) -> Command:
    """Which rows: --id, --id-file, --allow-missing."""
    for option in (
        click.option("--allow-missing", is_flag=True, help="Pass over ids that are not there."),
        click.option(
            "--id-file", metavar="FILE", help="Ids, one a line; `-` reads them from here."
        ),
        click.option(
            "--id", "ids", multiple=True, metavar="ID", help="An id, or several with commas."
        ),
    ):
        command = option(command)
    return command


def read_ids(ids: Sequence[str], id_file: str | None) -> list[str]:
    """The ids of --id and --id-file.

    Raises:
        StorageError: the file cannot be read.
    """
    found = [key for text in ids for key in text.split(",")]
    if id_file is not None:
        try:
            with click.open_file(id_file, encoding="utf-8") as file:
                found += [key for line in file for key in line.split(",")]
        except (OSError, UnicodeDecodeError) as exc:
            raise StorageError(
                f"{id_file} cannot be read: {exc}; nothing was changed", hint="give one id a line"
            ) from exc
    return [key.strip() for key in found if key.strip()]


def _tell(dataset: str, done: MarkResult, word: str, *, as_json: bool) -> int:
    if as_json:
        print_json(
            {
                "dataset": dataset,
                "changed": done.changed,
                "unchanged": done.unchanged,
                "missing": list(done.missing),
            }
        )
        return 0
    more = f", {done.unchanged} as before" if done.unchanged else ""
    more += f", {len(done.missing)} not there" if done.missing else ""
    click.echo(f"{dataset}: {word} {plural(done.changed, 'row')}{more}")
    return 0


@click.command(short_help="Hide rows from readers; `usr restore` shows them again")
@ids_options
@click.option("--reason", default="", help="Why; kept with the tombstone.")
@acting
def delete(
    dataset: str | None,
    ids: tuple[str, ...],
    id_file: str | None,
    allow_missing: bool,
    reason: str,
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Give rows of DATASET a tombstone: readers pass over them, and nothing is lost.

    A row that is deleted already keeps its first tombstone. `usr materialize --drop-deleted`
    takes deleted rows out of the base for good.
    """
    from usrstore.verbs.marking import delete as verb

    site = open_site(dataset, lock_timeout_s)
    done = verb(site, read_ids(ids, id_file), reason=reason, allow_missing=allow_missing)
    return _tell(site.dataset, done, "deleted", as_json=as_json)


@click.command(short_help="Show deleted rows again")
@ids_options
@acting
def restore(
    dataset: str | None,
    ids: tuple[str, ...],
    id_file: str | None,
    allow_missing: bool,
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Take the tombstones of rows of DATASET away; `usr checkout` is for states and files."""
    from usrstore.verbs.marking import restore as verb

    site = open_site(dataset, lock_timeout_s)
    done = verb(site, read_ids(ids, id_file), allow_missing=allow_missing)
    return _tell(site.dataset, done, "restored", as_json=as_json)


@click.group(short_help="Say of rows: masked, quality, split, lineage")
def state() -> None:
    """What a person says about rows; it lies beside them, in the namespace usr_state."""


@state.command("set")
@ids_options
@click.option("--masked/--unmasked", default=None, help="Whether the row is to be left out.")
@click.option("--qc-status", type=click.Choice(QC_STATUS), help="How the row did.")
@click.option("--split", type=click.Choice(SPLIT), help="Which set it belongs to.")
@click.option("--supersedes", metavar="ID", help="The row that it replaces.")
@click.option("--lineage", multiple=True, metavar="TEXT", help="Where it is from; commas part.")
@acting
def set_(
    dataset: str | None,
    ids: tuple[str, ...],
    id_file: str | None,
    allow_missing: bool,
    masked: bool | None,
    qc_status: str | None,
    split: str | None,
    supersedes: str | None,
    lineage: tuple[str, ...],
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Say something about rows of DATASET. What is not named stays as it is."""
    from usrstore.verbs.marking import set_state

    site = open_site(dataset, lock_timeout_s)
    origins = [text.strip() for given in lineage for text in given.split(",") if text.strip()]
    values = {
        "masked": masked,
        "qc_status": qc_status,
        "split": split,
        "supersedes": supersedes,
        "lineage": origins if lineage else None,
    }
    done = set_state(
        site,
        read_ids(ids, id_file),
        {f"usr_state__{name}": value for name, value in values.items()},
        allow_missing=allow_missing,
    )
    return _tell(site.dataset, done, "set the state of", as_json=as_json)


@state.command("clear")
@ids_options
@acting
def clear(
    dataset: str | None,
    ids: tuple[str, ...],
    id_file: str | None,
    allow_missing: bool,
    lock_timeout_s: float,
    as_json: bool,
) -> int:
    """Forget what was said about rows of DATASET."""
    from usrstore.verbs.marking import clear_state

    site = open_site(dataset, lock_timeout_s)
    done = clear_state(site, read_ids(ids, id_file), allow_missing=allow_missing)
    return _tell(site.dataset, done, "cleared the state of", as_json=as_json)


@state.command("get")
@click.argument("dataset", required=False)
@ids_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "rich", "plain", "json"]),
    default="auto",
    help="`json` is --json; the others are all plain text.",
)
@json_option
def get(
    dataset: str | None,
    ids: tuple[str, ...],
    id_file: str | None,
    allow_missing: bool,
    form: str,
    as_json: bool,
) -> int:
    """Show what is said about rows of DATASET; without ids, about all that something is said of."""
    from usrstore.verbs.marking import get_state

    site = open_site(dataset)
    rows = get_state(site, read_ids(ids, id_file), allow_missing=allow_missing)
    if as_json or form == "json":
        print_json(rows)
        return 0
    for row in rows:
        said = [
            f"{name.removeprefix('usr_state__')}={_text(value)}"
            for name, value in row.items()
            if name != "id" and value not in (None, False)
        ]
        click.echo(f"{row['id']}  {' '.join(said) or '-'}")
    if not rows:
        click.echo(f"{site.dataset}: nothing is said about any row")
    return 0


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "yes" if value is True else str(value)
