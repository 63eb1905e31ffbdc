"""init, commit, status, checkout: the folder and its states."""

from __future__ import annotations

import os
from typing import Any

import click

from usrcli import compare, targets
from usrcli.context import (
    find_root,
    json_option,
    make_who,
    now_us,
    print_json,
    settings,
)
from usrcli.render.progress import reporter
from usrcli.render.text import human_bytes, plural
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import DatasetId, check_dataset, folder_ref
from usrstore.odb import durable, reach
from usrstore.root import Root
from usrstore.verbs.site import Site


@click.command(short_help="Make a root, or a dataset in it")
@click.argument("dataset", required=False)
@click.option("--source", help="Where its sequences come from, for the notes.")
@click.option("--notes", help="What people should know of it.")
@json_option
def init(dataset: str | None, source: str | None, notes: str | None, as_json: bool) -> int:
    """Make DATASET, an empty one; without it, make this folder (or --root) a root.

    A path ('.', './x', '/data/x') makes that folder a root: a place for datasets, with a
    registry and a store. What is there already is left as it is.
    """
    if dataset is not None and not targets.is_path(dataset):
        from usrcli import datasets

        return datasets.init(dataset, source or "", notes or "", as_json=as_json)
    if source is not None or notes is not None:
        raise click.UsageError("--source and --notes describe a dataset; name it")
    return _init_root(dataset, as_json=as_json)


def _init_root(folder: str | None, *, as_json: bool) -> int:
    from usrstore.dataset import registry

    given = folder or settings().root or os.environ.get("USR_ROOT") or "."
    path = os.path.abspath(os.path.expanduser(given))
    durable.make_folder(path)
    root = Root(path)
    made = root.create_store()
    if root.registry() is None:
        durable.create(root.registry_path, registry.initial())
        made = True
    if as_json:
        print_json({"root": root.path, "created": made})
    else:
        word = "Made a root in" if made else "Already a root:"
        click.echo(f"{word} {root.path}")
    return 0


@click.command(short_help="Keep a dataset as it is, for ever")
@click.argument("dataset", required=False)
@click.option("-m", "--message", default="", help="Why.")
@json_option
def commit(dataset: str | None, message: str, as_json: bool) -> int:
    """Keep DATASET as it is now: a signed state that can be checked out for ever.

    There is no staging area: a state is the whole folder. Nothing new, nothing made.
    """
    from usrstore.verbs.commit import commit as verb
    from usrstore.verbs.recover import recover

    root, name = targets.find(dataset)
    progress = reporter("auto")
    who = make_who(root)
    if root.has_store:
        recover(root, who, only=name)
    try:
        result = verb(Site.open(root, name, who), message=message or "commit", emit=progress)
    finally:
        progress.done()
    if as_json:
        print_json(
            {
                "dataset": name,
                "manifest": result.manifest.hex(),
                "created": result.created,
                "files": result.files,
                "bytes": result.size,
                "bytes_stored": result.bytes_stored,
            }
        )
    elif result.created:
        click.echo(
            f"[{name} {result.manifest.short}] {plural(result.files, 'file')}, "
            f"{human_bytes(result.size)}; {human_bytes(result.bytes_stored)} stored"
        )
    else:
        click.echo(f"{name}: nothing changed since {result.manifest.short}; it is kept")
    return 0


@click.command(short_help="What changed since the last state")
@click.argument("dataset", required=False)
@click.argument("remote", required=False)
@click.option("--porcelain", is_flag=True, help="Letters and paths, in a form that never changes.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if something changed.")
@click.option(
    "--verify", type=click.Choice(["hash", "auto", "size", "parquet"]), default="hash", hidden=True
)
@targets.file_options
@json_option
def status(
    dataset: str | None,
    remote: str | None,
    repo_root: str | None,
    remote_path: str | None,
    porcelain: bool,
    exit_code: bool,
    verify: str,
    as_json: bool,
) -> int:
    """Compare the folder of DATASET with its last state; with REMOTE, as `usr diff` does.

    Without DATASET: the dataset this folder is in, or every dataset of the root.
    """
    if remote is not None:
        from usrcli.main import run

        given = settings()
        before = ["--root", given.root] if given.root else []
        before += ["--remotes-config", given.remotes_config] if given.remotes_config else []
        flags = ["--json"] if as_json else []
        flags += ["--porcelain"] if porcelain else []
        flags += ["--exit-code"] if exit_code else []
        flags += ["--repo-root", repo_root] if repo_root else []
        flags += ["--remote-path", remote_path] if remote_path else []
        return run([*before, "diff", str(dataset), remote, "--verify", verify, *flags])
    root = find_root() if dataset is None else None
    at_root = root is not None and os.path.realpath(os.getcwd()) == os.path.realpath(root.path)
    if root is not None and (at_root or settings().root or os.environ.get("USR_ROOT")):
        names = root.datasets()
    else:
        root, name = targets.find(dataset)
        names = [name]
    changed = False
    rows = []
    for name in names:
        row, dirty = _status_of(root, name, porcelain=porcelain, as_json=as_json)
        rows.append(row)
        changed = changed or dirty
    if as_json:
        print_json(rows)
    elif not names:
        click.echo(f"no datasets under {root.path}")
    return 1 if exit_code and changed else 0


def _status_of(
    root: Root, name: DatasetId, *, porcelain: bool, as_json: bool
) -> tuple[dict[str, Any], bool]:
    from usrstore.verbs import history, interruption

    found = history.status(Site.open(root, name, make_who(root)))
    at = root.states.refs().get(folder_ref(name)) if found.head else None
    row: dict[str, Any] = {
        "dataset": name,
        "head": found.head.hex() if found.head else None,
        "tree": found.found.tree.hex(),
        "clean": found.clean,
        "folder": at.hex() if at else None,
        "interrupted": interruption.is_interrupted(root, name),
    }
    if found.comparison is not None:
        row.update(compare.comparison_data(found.comparison))
    if as_json:
        return row, not found.clean
    if porcelain:
        if found.comparison is not None:
            compare.print_name_status(found.comparison)
        return row, not found.clean
    size = f"{plural(found.found.root.files, 'file')}, {human_bytes(found.found.root.size)}"
    if interruption.is_interrupted(root, name):
        click.echo(f"{name}: a promotion was interrupted; `usr recover` finishes or undoes it")
    if at is not None:
        click.echo(
            f"{name}: checked out at {at.short}; `usr checkout {name}` goes back to the head"
        )
    if found.head is None:
        click.echo(f"{name}: {size}; no state yet (usr commit {name})")
    elif found.clean:
        click.echo(f"{name}: {size}; clean at {found.head.short}")
    else:
        click.echo(f"{name}: {size}; changed since {found.head.short}:")
        assert found.comparison is not None
        compare.print_name_status(found.comparison)
    return row, not found.clean


@click.command(short_help="Take the folder to a state")
@click.argument("revision")
@click.argument("paths", nargs=-1)
@click.option("--detach", is_flag=True, help="What git calls it; it is always so: the head stays.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def checkout(revision: str, paths: tuple[str, ...], detach: bool, yes: bool, as_json: bool) -> int:
    """Make the folder what REVISION says, or only PATHS of it.

    What the folder held is kept first if no state has it, and `usr undo` brings it back. The
    head stays, as with git's --detach: `usr checkout DATASET` comes back to it, and `usr commit`
    puts what the folder holds on top of it. REV:PATH is REV -- PATH.
    """
    from usrstore.verbs.checkout import checkout as verb
    from usrstore.verbs.recover import recover
    from usrstore.verbs.revisions import resolve

    del yes  # nothing is lost, so nothing is asked
    if detach and paths:
        raise click.UsageError("--detach takes the whole folder, not some paths of it")
    root = find_root()
    oid, path = resolve(root, revision, now_us=now_us())
    name = check_dataset(reach.manifest(root.database.get, oid).dataset)
    who = make_who(root)
    recover(root, who, only=name)
    progress = reporter("auto")
    chosen = (*paths, path) if path else paths
    try:
        result = verb(Site.open(root, name, who), ManifestId(oid), paths=chosen, emit=progress)
    finally:
        progress.done()
    if as_json:
        print_json(
            {
                "dataset": name,
                "manifest": oid.hex(),
                "changed": result.changed,
                "saved": result.saved.hex() if result.saved else None,
            }
        )
        return 0
    if result.saved:
        click.echo(f"kept what was here as {result.saved.short}")
    if chosen:
        click.echo(f"{name}: {plural(result.changed, 'file')} changed to what {oid.short} holds")
    else:
        files = plural(result.changed, "file")
        click.echo(f"{name}: {files} changed; the folder is at {oid.short}")
    return 0
