"""pull and push, and what they share with diff, fetch and clone."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal

import click

from usrcli import targets
from usrcli.context import make_who, parse_seconds, print_json
from usrcli.links import peer_of
from usrcli.render import audit as rendering
from usrcli.render.progress import reporter
from usrstore.errors import MergeConflictError, UsrError
from usrstore.objects.names import DatasetId
from usrstore.objects.sections import Section
from usrstore.remote.peer import Checks, Peer
from usrstore.root import Root
from usrstore.verbs import audit, believing
from usrstore.verbs.audit import SyncResult
from usrstore.verbs.meeting import Meeting
from usrstore.verbs.mergeplan import Choices, Side
from usrstore.verbs.options import ALL_SECTIONS, Options
from usrstore.verbs.site import Site

VerifyMode = Literal["hash", "auto", "size", "parquet"]
Command = Callable[..., Any]


def _options(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorate in reversed(decorators):
            command = decorate(command)
        return command

    return apply


shared = _options(
    click.option(
        "--verify",
        type=click.Choice(["hash", "auto", "size", "parquet"]),
        default="hash",
        show_default=True,
        help="How the primary is verified, beyond the hashes of all that travels.",
    ),
    click.option("--audit-json-out", metavar="PATH", help="Also write the audit as JSON."),
    click.option("--json", "as_json", is_flag=True, help="Print the audit as JSON."),
    click.option(
        "--format",
        "form",
        type=click.Choice(["auto", "rich", "plain", "json"]),
        default="auto",
        help="`json` is --json; the others are all plain text.",
    ),
    click.option("--primary-only", is_flag=True, help="Only records.parquet moves."),
    click.option("--skip-snapshots", is_flag=True, help="All but _snapshots/ moves."),
    click.option(
        "--section",
        "sections",
        type=click.Choice([section.value for section in Section]),
        multiple=True,
        help="Only this section moves; may be given several times.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would happen."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option(
        "--lock-timeout", type=float, metavar="S", help="How long to wait for other programs [30]."
    ),
    click.option(
        "--trust",
        type=click.Choice(["strict", "tofu", "none"]),
        help="Which signatures to believe [.usr/config, else tofu].",
    ),
    click.option(
        "--accept-rollback", is_flag=True, help="Believe a remote that went back or was remade."
    ),
    click.option(
        "--progress",
        type=click.Choice(["auto", "json", "none"]),
        default="auto",
        help="How progress is shown.",
    ),
)

choosing = _options(
    click.option(
        "--ours", "ours", multiple=True, metavar="PATH", help="Both changed PATH: keep ours whole."
    ),
    click.option(
        "--theirs", multiple=True, metavar="PATH", help="Both changed PATH: take theirs whole."
    ),
    click.option("--ours-rows", is_flag=True, help="Both changed a cell: ours wins."),
    click.option("--theirs-rows", is_flag=True, help="Both changed a cell: theirs wins."),
)


def choices(values: dict[str, Any]) -> Choices:
    """What the options of a merge decide.

    Raises:
        click.UsageError: both sides cannot win.
    """
    if values.get("ours_rows") and values.get("theirs_rows"):
        raise click.UsageError("--ours-rows and --theirs-rows cannot both be")
    rows: Side | None = "ours" if values.get("ours_rows") else None
    rows = "theirs" if values.get("theirs_rows") else rows
    return Choices(values.get("ours") or (), values.get("theirs") or (), rows)


transfer = _options(
    click.option("--tags/--no-tags", default=True, help="Tags of the state follow it [on]."),
    click.option(
        "--verify-sidecars/--no-verify-sidecars",
        default=None,
        help="Verify the inventory of everything beside the primary [on].",
    ),
    click.option(
        "--verify-derived-hashes/--no-verify-derived-hashes",
        default=None,
        help="Verify the content of sidecars as well [on].",
    ),
    click.option(
        "--verify-registry/--no-verify-registry",
        default=None,
        help="Refuse overlays and primaries that break the registry [on].",
    ),
    click.option(
        "--force-with-lease",
        is_flag=True,
        help="Overwrite what diverged, if it is still what was compared; it is kept first.",
    ),
)

all_option = click.option(
    "--all", "every", is_flag=True, help="Every dataset that there is where they come from."
)

_PARTIAL = {
    "--primary-only": "primary_only",
    "--skip-snapshots": "skip_snapshots",
    "--section": "sections",
}


class Request:
    """What the options of one sync command add up to."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.as_json = bool(values["as_json"]) or values["form"] == "json"
        self.seen: Meeting | None = None
        self.progress = reporter(values["progress"])

    def options(self, root: Root) -> Options:
        """Raises: click.UsageError for options that contradict one another."""
        values = self.values
        sidecars = values.get("verify_sidecars")
        hashes = values.get("verify_derived_hashes")
        partial = [name for name in _PARTIAL if values[_PARTIAL[name]]]
        if len(partial) > 1:
            raise click.UsageError(f"{' and '.join(partial)} say different things: give one")
        transfers = "verify_sidecars" in values
        if transfers and partial and sidecars is not False:
            raise click.UsageError(
                f"{partial[0]} leaves sidecars out, so they cannot be verified: "
                "add --no-verify-sidecars, which is recorded"
            )
        if sidecars is False and hashes:
            raise click.UsageError("--verify-derived-hashes needs --verify-sidecars")
        sections = ALL_SECTIONS
        if values["primary_only"]:
            sections = frozenset({Section.PRIMARY})
        elif values["skip_snapshots"]:
            sections = ALL_SECTIONS - {Section.SNAPSHOTS}
        elif values["sections"]:
            sections = frozenset(Section(name) for name in values["sections"])
        return Options(
            checks=Checks(
                values["verify"],
                sidecars is not False,
                hashes is not False,
                values.get("verify_registry") is not False,
            ),
            trust=believing.mode_of(root, values["trust"]),
            sections=sections if transfers else ALL_SECTIONS,
            dry_run=values["dry_run"],
            force=bool(values.get("force_with_lease")),
            strict_bootstrap_id=bool(values.get("strict_bootstrap_id")),
            accept_rollback=values["accept_rollback"],
            tags=values.get("tags") is not False,
            choices=choices(values),
        )

    def note(self, met: Meeting) -> None:
        self.seen = met
        self.progress.done()

    def agree(self, *mets: Meeting) -> bool:
        """Show the plan and ask; Enter is yes, and no answer at all is no."""
        if self.values["yes"]:
            return True
        for met in mets:
            plan = SyncResult("diff", "DIFF-ONLY", met, Checks())
            for text in (*rendering.audit_lines(plan)[1:], *rendering.change_lines(plan)):
                click.echo(text, err=self.as_json)
        click.echo("Changes detected. Proceed with overwrite?", err=self.as_json)
        click.echo("[Enter = Yes / n = No] : ", nl=False, err=self.as_json)
        answer = sys.stdin.readline()
        if not sys.stdin.isatty():
            click.echo(err=self.as_json)  # nobody's Enter ended that line
        if not answer:
            click.echo("no answer: nothing was changed (-y goes on without asking)", err=True)
            return False
        return answer.strip().lower() in ("", "y", "yes")


@contextlib.contextmanager
def refusal(
    request: Request, action: audit.Action, dataset: str, options: Options
) -> Iterator[None]:
    """A failed run writes its audit, too."""
    try:
        yield
    except UsrError as exc:
        if request.seen is not None:
            refused = SyncResult(action, "REFUSED", request.seen, options.checks)
            data = {**audit.data(refused), "policy": list(options.policy)}
            if not request.as_json:
                for text in rendering.audit_lines(refused):
                    click.echo(text)
        else:
            data = {"action": action, "transfer_state": "REFUSED", "dataset": dataset}
        write_audit(request, {**data, "error": error_data(exc)})
        raise


def error_data(exc: UsrError) -> dict[str, Any]:
    from usrcli.main import exit_status

    error: dict[str, Any] = {
        "code": exc.code,
        "message": exc.message,
        "hint": exc.hint,
        "exit": exit_status(exc),
    }
    if isinstance(exc, MergeConflictError):
        error["conflicts"] = list(exc.conflicts)
    return error


def write_audit(request: Request, data: dict[str, Any]) -> None:
    path = request.values["audit_json_out"]
    if path is None:
        return
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"usr_output_version": 1, "data": data}, file, separators=(",", ":"))
            file.write("\n")
    except OSError as exc:
        click.echo(f"warning: the audit could not be written to {path}: {exc.strerror}", err=True)


def show(request: Request, result: SyncResult, policy: tuple[str, ...] = ()) -> None:
    data = {**audit.data(result), "policy": list(policy)}
    write_audit(request, data)
    for text in rendering.policy_warnings(policy):
        click.echo(text, err=True)
    if request.as_json:
        print_json(data)
        return
    for text in rendering.audit_lines(result):
        click.echo(text)


def site_of(root: Root, dataset: DatasetId, request: Request) -> Site:
    seconds = parse_seconds(request.values["lock_timeout"])
    return Site.open(root, dataset, make_who(root), lock_timeout_s=seconds)


_NOTHING_CHOSEN = "What differs is in sections that were left out; the others are equal."


def _sync(
    action: Literal["pull", "push"], datasets: tuple[str, ...], remote: str, request: Request
) -> int:
    from usrcli import several

    every = request.values["every"]
    if several.are_several(datasets, every=every):
        root, words = targets.find_all(datasets)
        return several.run(action, root, words, remote, request, lambda: peer_of(root, remote))
    root, name = targets.find(datasets[0])
    return run(action, root, name, remote, request, lambda: peer_of(root, remote))


def run(
    action: Literal["pull", "push"],
    root: Root,
    name: DatasetId,
    remote: str,
    request: Request,
    connect: Callable[[], contextlib.AbstractContextManager[Peer]],
) -> int:
    """One transfer as the options ask for it, shown as they ask; gives the exit status."""
    options = request.options(root)
    progress = request.progress
    if action == "pull":
        from usrstore.verbs.pull import pull as verb
    else:
        from usrstore.verbs.push import push as verb
    from usrstore.verbs.recover import recover

    with refusal(request, action, name, options):
        site = site_of(root, name, request)
        if root.has_store:
            recover(root, site.who, only=name)
        with connect() as peer:
            try:
                result = verb(
                    site,
                    peer,
                    remote,
                    options,
                    agree=request.agree,
                    on_meeting=request.note,
                    emit=progress,
                )
            finally:
                progress.done()
    if result is None:
        return 130
    if not request.as_json:
        if not result.changed:
            click.echo("Already up to date.")
        elif result.state == "NO-OP":
            ahead = action == "pull" and options.whole
            click.echo("Nothing to pull: this side is ahead." if ahead else _NOTHING_CHOSEN)
        for text in rendering.change_lines(result) if result.state == "DRY-RUN" else ():
            click.echo(text)
        if said := rendering.both_changed(result):
            click.echo(said)
    show(request, result, options.policy)
    if result.state != "DRY-RUN" and not request.as_json:
        click.echo(f"{action.capitalize()} complete.")
    return 0


@click.command(short_help="Take a remote's state, whole and verified")
@click.argument("datasets", nargs=-1, metavar="DATASET…")
@click.argument("remote")
@all_option
@shared
@transfer
@choosing
@click.option(
    "--strict-bootstrap-id",
    is_flag=True,
    envvar="USR_SYNC_STRICT_BOOTSTRAP_ID",
    help="A first pull needs the whole id, namespace/name.",
)
def pull(datasets: tuple[str, ...], remote: str, **values: Any) -> int:
    """Make every DATASET here what it is at REMOTE, or leave everything as it was.

    Several datasets, 'densegen/*' or --all come as one: all of them or none, in one state.

    Everything is verified before anything is promoted. A pull that was interrupted goes on
    where it stopped. If both sides changed, they are merged by meaning: rows by id, logs by line,
    overlays by part. What both changed to something else is a conflict: it is named, nothing is
    touched, and --ours, --theirs or `usr merge` decide.
    """
    return _sync("pull", datasets, remote, Request(**values))


@click.command(short_help="Give a remote our state, whole and verified")
@click.argument("datasets", nargs=-1, metavar="DATASET…")
@click.argument("remote")
@all_option
@shared
@transfer
def push(datasets: tuple[str, ...], remote: str, **values: Any) -> int:
    """Make every DATASET at REMOTE what it is here, or leave everything there as it was.

    Several datasets, 'densegen/*' or --all go as one: all of them or none, in one state.

    The remote receives, verifies the whole tree, and only then swaps its folder and refs.
    """
    return _sync("push", datasets, remote, Request(**values))
