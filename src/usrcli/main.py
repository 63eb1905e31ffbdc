"""`usr`: a group of lazily imported commands, and the one table of exit statuses."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from itertools import pairwise
from typing import Any

import click

from usrstore import errors
from usrstore.errors import UsrError

VERSION = "0.1.0"

# One table; docs/cli.md repeats it and a test compares them.
EXIT_STATUS: dict[type[UsrError], int] = {
    errors.InvalidInputError: 3,
    errors.NotFoundError: 4,
    errors.ConflictError: 5,
    errors.IntegrityError: 6,
    errors.TrustError: 7,
    errors.UnsupportedError: 8,
    errors.RemoteError: 9,
    errors.StorageError: 10,
    errors.MergeConflictError: 11,
}
EXIT_FINDING, EXIT_USAGE, EXIT_BUG, EXIT_INTERRUPTED = 1, 2, 70, 130

# Command → (module, what it is for). Help lists them without importing a module.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Moving and comparing": {
        "diff": ("diff", "Compare a dataset with a remote, with its last state, or two states"),
        "pull": ("sync", "Take a remote's state, whole and verified"),
        "push": ("sync", "Give a remote our state, whole and verified"),
        "fetch": ("fetch", "Bring a remote's state into the store only"),
        "clone": ("clone", "A new root that holds what a remote holds"),
        "ls-remote": ("clone", "The datasets of a remote and their heads"),
        "bundle": ("bundle", "States in one file, for where no network goes"),
        "serve": ("serve", "Answer another usr over standard input and output"),
        "remotes": ("remotes", "List, add, remove and examine remotes"),
        "trust": ("trust", "Say whose signatures to believe"),
    },
    "History": {
        "init": ("worktree", "Make a root, or a dataset in it"),
        "commit": ("worktree", "Keep a dataset as it is, for ever"),
        "status": ("worktree", "What changed since the last state"),
        "log": ("log", "The states of a dataset, newest first"),
        "blame": ("blame", "Which state brought a row, and each of its values"),
        "show": ("history", "One state, or one file of it"),
        "merge": ("merge", "Merge another state into the folder, by meaning"),
        "checkout": ("worktree", "Take the folder to a state"),
        "tag": ("tags", "Name a state for good, with a signature"),
        "op": ("operations", "What was done here, and when"),
        "undo": ("operations", "Go back to before the last operation"),
        "recover": ("upkeep", "Finish or undo what was interrupted"),
        "fsck": ("upkeep", "Check everything that is stored"),
    },
    "Datasets": {
        "import": ("datasets", "Append rows from a file"),
        "snapshot": ("datasets", "Keep a copy of the base table inside the dataset"),
        "namespace": ("namespaces", "Register, list and show namespaces of columns"),
        "events": ("events", "Read what was done to a dataset"),
        "maintenance": ("maintenance", "Freeze, tidy, repair, merge"),
        "ls": ("tables", "The datasets of this root"),
        "info": ("tables", "Name, size and columns of a dataset"),
        "schema": ("tables", "The columns of a dataset and their types"),
        "cols": ("tables", "The columns of a dataset and where they come from"),
        "describe": ("tables", "What the columns of a dataset hold"),
        "head": ("rows", "The first rows of a dataset"),
        "cell": ("rows", "One value, whole"),
        "get": ("rows", "Rows by their ids"),
        "grep": ("rows", "Rows whose sequence matches a pattern"),
        "validate": ("validation", "Everything that is wrong with a dataset"),
        "export": ("rows", "Rows as CSV, JSON lines or Parquet"),
        "attach": ("overlays", "Add columns from a file, as one more part of an overlay"),
        "materialize": ("overlays", "Make columns of overlays"),
        "delete": ("marks", "Hide rows from readers"),
        "restore": ("marks", "Show deleted rows again"),
        "state": ("marks", "Say of rows: masked, quality, split, lineage"),
    },
    "Keeping": {
        "du": ("keeping", "Where the bytes are, and what each state costs"),
        "gc": ("keeping", "Delete what nothing reaches and no rule keeps"),
        "repack": ("keeping", "Merge small packs"),
    },
    "Proof": {
        "bench": ("bench", "Measure what limits a transfer"),
        "drill": ("drill", "Run the sync-fidelity runbook on throw-away roots"),
    },
    "The shell": {
        "completion": ("completion", "Print what makes a shell complete usr's words"),
    },
    "Plumbing": {
        "cat-file": ("plumbing", "Print an object"),
        "diff-tree": ("plumbing", "List what differs between two states"),
        "hash-object": ("plumbing", "Print the content hash, chunks or tree of a file or folder"),
        "ls-tree": ("plumbing", "List the files of a state"),
        "pack-info": ("packs", "List packs, or the objects of one"),
        "rev-parse": ("plumbing", "Print the id that a revision names"),
        "show-ref": ("plumbing", "List refs"),
        "update-ref": ("refs", "Move a ref, if it is what you expect"),
        "verify-manifest": ("signatures", "Say who signed a state, and whether that holds"),
    },
}
COMPLETE_VARIABLE = "_USR_COMPLETE"
_MODULE = {name: row[0] for rows in COMMANDS.values() for name, row in rows.items()}


class _ReaderLeftError(Exception):
    """Standard output has no reader any more; no OSError, for click has its own answer to those."""


class LazyGroup(click.Group):
    """Imports a command's module when it is run, and not before."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError as exc:
            raise _ReaderLeftError from exc

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as exc:
            raise _ReaderLeftError from exc

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_MODULE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _MODULE:
            return None
        module = importlib.import_module(f"usrcli.{_MODULE[cmd_name]}")
        name = cmd_name.replace("-", "_")
        # A Python keyword cannot be a function's name.
        command: click.Command = getattr(module, name, None) or getattr(module, f"{name}_")
        if COMPLETE_VARIABLE in os.environ:  # a shell asks; see `usr completion`
            from usrcli import completion

            completion.attach(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, rows in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary) for name, (_, summary) in rows.items()])


class Settings:
    """What the options before the command said."""

    def __init__(self, root: str | None, remotes_config: str | None, debug: bool) -> None:
        self.root = root
        self.remotes_config = remotes_config
        self.debug = debug


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command has --help. Errors go to standard error with a stable code; "
    "docs/cli.md lists codes and exit statuses.",
)
@click.version_option(VERSION, prog_name="usr")
@click.option(
    "--root",
    metavar="DIR",
    help="The folder that holds the datasets (also USR_ROOT; else found from here upwards).",
)
@click.option("--remotes-config", metavar="FILE", help="The remotes' YAML (also USR_REMOTES_PATH).")
@click.option("--rich/--no-rich", default=None, help="Colours and progress; off in pipes.")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.pass_context
def cli(
    ctx: click.Context,
    root: str | None,
    remotes_config: str | None,
    rich: bool | None,
    debug: bool,
) -> None:
    """Content-addressed manifest store for scientific datasets."""
    if rich is False or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
    ctx.obj = Settings(root, remotes_config, debug)


def exit_status(error: UsrError) -> int:
    """The exit status of an error's family."""
    for family, status in EXIT_STATUS.items():
        if isinstance(error, family):
            return status
    return EXIT_FINDING


def main(argv: list[str] | None = None) -> None:
    """The console script."""
    # Our values hold no cycles worth chasing while a command starts; looking for them every
    # 700 allocations is a tenth of a `usr status`.
    gc.set_threshold(100_000, 20, 20)
    # Arrow imports numpy and pandas where they are installed, the one at once, the other to see
    # whether a list is one of its arrays. That is two thirds of a `usr head`, and needless here.
    sys.meta_path.insert(0, _Without())
    sys.exit(run(sys.argv[1:] if argv is None else argv))


class _Without:
    """Says of packages that we do without that they are not installed."""

    def find_spec(self, fullname: str, _path: object, _target: object = None, /) -> None:
        if fullname in ("numpy", "pandas"):
            raise ModuleNotFoundError(f"usr does without {fullname}", name=fullname)


def run(argv: list[str]) -> int:
    """Run one command and give its exit status; no traceback reaches a person."""
    as_json = _wants_json(argv)
    debug = "--debug" in argv
    try:
        result = cli.main(args=argv, prog_name="usr", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.Abort:
        return _interrupted()
    except click.ClickException as exc:
        exc.show()
        if not isinstance(exc, click.exceptions.NoArgsIsHelpError):
            click.echo("code: usage", err=True)
        if as_json:
            _print_json_error("usage", exc.format_message(), None, EXIT_USAGE)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return _interrupted()
    except UsrError as exc:
        if debug:
            raise
        return _report(exc, as_json=as_json)
    except _ReaderLeftError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as exc:
        if debug:
            raise
        return _report(_machine(exc), as_json=as_json)
    except Exception as exc:
        if debug:
            raise
        text = f"usr failed in a way it should not: {type(exc).__name__}: {exc}"
        hint = "run it again with `usr --debug …` and report what it prints"
        click.echo(f"error: {text}\ncode: bug\nhint: {hint}", err=True)
        if as_json:
            _print_json_error("bug", text, hint, EXIT_BUG)
        return EXIT_BUG


def _wants_json(argv: list[str]) -> bool:
    return "--json" in argv or "--format=json" in argv or ("--format", "json") in pairwise(argv)


def _machine(exc: OSError) -> UsrError:
    """What the machine refused, where no room of the library had a better word for it."""
    where = f"{exc.filename}: " if exc.filename else ""
    return errors.StorageError(f"{where}{exc.strerror or exc}")


def _interrupted() -> int:
    click.echo(
        "\ninterrupted: nothing is half done; run the same command again to go on, "
        "or `usr recover`",
        err=True,
    )
    return EXIT_INTERRUPTED


def _report(error: UsrError, *, as_json: bool) -> int:
    status = exit_status(error)
    # Scripts match lines that begin with post-pull-… and post-push-…; so those come bare.
    prefix = "" if error.message.startswith("post-") else "error: "
    click.echo(f"{prefix}{error.message}", err=True)
    click.echo(f"code: {error.code}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    if as_json:
        conflicts = getattr(error, "conflicts", ())
        more = {"conflicts": list(conflicts)} if conflicts else {}
        _print_json_error(error.code, error.message, error.hint, status, **more)
    return status


def _print_json_error(
    code: str, message: str, hint: str | None, status: int, **more: object
) -> None:
    import json

    body: dict[str, Any] = {"code": code, "message": message, "hint": hint, "exit": status, **more}
    click.echo(json.dumps({"usr_output_version": 1, "error": body}, separators=(",", ":")))


if __name__ == "__main__":
    main()
