"""What a sync command is asked for: the options that they share, and what those add up to."""

from __future__ import annotations

import sys
from typing import Any

import click

from usrcli.arguments import options
from usrcli.render import audit as rendering
from usrcli.render.progress import reporter
from usrstore.objects.sections import Section
from usrstore.remote.peer import Checks
from usrstore.root import Root
from usrstore.verbs import believing
from usrstore.verbs.audit import SyncResult
from usrstore.verbs.meeting import Meeting
from usrstore.verbs.mergeplan import Choices, Side
from usrstore.verbs.options import Options
from usrstore.verbs.scope import ALL_SECTIONS, WHOLE

section_option = click.option(
    "--section",
    "sections",
    type=click.Choice([section.value for section in Section]),
    multiple=True,
    help="Only this section moves; may be given several times.",
)
path_option = click.option(
    "--path",
    "paths",
    metavar="GLOB",
    multiple=True,
    help="Only files that match move; may be given several times.",
)

shared = options(
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
    section_option,
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

choosing = options(
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


transfer = options(
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
    """What the options of one sync command add up to.

    Attributes:
        seen: how both sides compare, once that is known.
        ends: of a file, where it is here and at the remote.
    """

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.as_json = bool(values["as_json"]) or values["form"] == "json"
        self.seen: Meeting | None = None
        self.scope = WHOLE
        self.ends: tuple[str, str] | None = None
        self.progress = reporter(values["progress"])

    def options(self, root: Root) -> Options:
        """Raises: click.UsageError for options that contradict one another."""
        values = self.values
        sidecars = values.get("verify_sidecars")
        hashes = values.get("verify_derived_hashes")
        partial = [name for name in _PARTIAL if values[_PARTIAL[name]]]
        if len(partial) > 1:
            raise click.UsageError(f"{' and '.join(partial)} say different things: give one")
        partial += ["--path"] if values.get("paths") else []
        transfers = "verify_sidecars" in values
        if transfers and partial and sidecars is not False and root.lone is None:
            raise click.UsageError(
                f"{partial[0]} leaves sidecars out, so they cannot be verified: "
                "add --no-verify-sidecars, which is recorded"
            )
        if sidecars is False and hashes:
            raise click.UsageError("--verify-derived-hashes needs --verify-sidecars")
        sections = ALL_SECTIONS
        if root.lone is not None:
            pass  # there is nothing that --primary-only or --skip-snapshots could leave out
        elif values["primary_only"]:
            sections = frozenset({Section.PRIMARY})
        elif values["skip_snapshots"]:
            sections = ALL_SECTIONS - {Section.SNAPSHOTS}
        elif values["sections"]:
            sections = frozenset(Section(name) for name in values["sections"])
        options = Options(
            checks=Checks(
                values["verify"],
                sidecars is not False,
                hashes is not False,
                values.get("verify_registry") is not False,
            ),
            trust=believing.mode_of(root, values["trust"]),
            sections=sections if transfers else ALL_SECTIONS,
            paths=tuple(values.get("paths") or ()),
            dry_run=values["dry_run"],
            force=bool(values.get("force_with_lease")),
            strict_bootstrap_id=bool(values.get("strict_bootstrap_id")) and root.lone is None,
            accept_rollback=values["accept_rollback"],
            tags=values.get("tags") is not False,
            choices=choices(values),
        )
        self.scope = options.scope
        return options

    def note(self, met: Meeting) -> None:
        self.seen = met
        self.progress.done()

    def agree(self, *mets: Meeting) -> bool:
        """Show the plan and ask; Enter is yes, and no answer at all is no."""
        if self.values["yes"]:
            return True
        for met in mets:
            plan = SyncResult("diff", "DIFF-ONLY", met, Checks(), scope=self.scope)
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
