"""init, commit, status, log, show, checkout, recover, fsck."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from usrcli import compare
from usrcli.context import find_root, infer_dataset, make_who, print_json, settings
from usrcli.render.progress import reporter
from usrcli.render.text import human_bytes, moment, plural
from usrstore.errors import RevisionNotFoundError
from usrstore.objects.compare import compare as compare_listings
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import DatasetId, check_dataset
from usrstore.objects.sections import Section, section_of
from usrstore.objects.tree import FileEntry
from usrstore.odb import durable, reach
from usrstore.root import Root
from usrstore.verbs import believing
from usrstore.verbs.revisions import resolve
from usrstore.verbs.site import Site

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def _now_us() -> int:
    return time.time_ns() // 1000


@click.command(short_help="Make a root: a registry and a store")
@click.argument("folder", required=False)
@json_option
def init(folder: str | None, as_json: bool) -> int:
    """Make FOLDER (or this one) a root: a place for datasets, with a registry and a store.

    What is there already is left as it is.
    """
    from usrstore.dataset import registry

    path = os.path.abspath(folder or settings().root or os.environ.get("USR_ROOT") or ".")
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

    root = find_root()
    name = DatasetId(infer_dataset(root, dataset))
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
@json_option
def status(
    dataset: str | None,
    remote: str | None,
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
        return run([*before, "diff", str(dataset), remote, "--verify", verify, *flags])
    root = find_root()
    at_root = dataset is None and os.path.realpath(os.getcwd()) == os.path.realpath(root.path)
    if dataset is None and (at_root or settings().root or os.environ.get("USR_ROOT")):
        names = root.datasets()
    else:
        names = [DatasetId(infer_dataset(root, dataset))]
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
    from usrstore.verbs import history

    found = history.status(Site.open(root, name, make_who(root)))
    row: dict[str, Any] = {
        "dataset": name,
        "head": found.head.hex() if found.head else None,
        "tree": found.found.tree.hex(),
        "clean": found.clean,
        "interrupted": name in root.journaled(),
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
    if name in root.journaled():
        click.echo(f"{name}: a promotion was interrupted; `usr recover` finishes or undoes it")
    if found.head is None:
        click.echo(f"{name}: {size}; no state yet (usr commit {name})")
    elif found.clean:
        click.echo(f"{name}: {size}; clean at {found.head.short}")
    else:
        click.echo(f"{name}: {size}; changed since {found.head.short}:")
        assert found.comparison is not None
        compare.print_name_status(found.comparison)
    return row, not found.clean


@click.command(short_help="The states of a dataset, newest first")
@click.argument("revision", required=False)
@click.option("-n", "--max-count", type=click.IntRange(1), default=1 << 30, help="At most so many.")
@click.option("--oneline", is_flag=True, help="One line a state.")
@json_option
def log(revision: str | None, max_count: int, oneline: bool, as_json: bool) -> int:
    """The states of a dataset, newest first.

    A state is `kept` if every byte of it is in the store, `light` if its bytes are (or were) in
    the working folder only.
    """
    from usrstore.verbs import history

    root = find_root()
    text = revision or infer_dataset(root, None)
    oid, _ = resolve(root, text, now_us=_now_us())
    dataset = reach.manifest(root.database.get, oid).dataset
    policy = believing.policy_for(root, make_who(root), "", dataset, "none")
    rows = history.log(root, oid, policy, limit=max_count)
    if as_json:
        print_json([entry_data(entry) for entry in rows])
        return 0
    for number, entry in enumerate(rows):
        if oneline:
            first = entry.manifest.message.splitlines()[0] if entry.manifest.message else ""
            click.echo(f"{entry.oid.short} {'kept ' if entry.kept else 'light'} {first}")
            continue
        if number:
            click.echo()
        _print_entry(entry)
    return 0


def entry_data(entry: Any) -> dict[str, Any]:
    found = entry.manifest
    return {
        "id": entry.oid.hex(),
        "dataset": found.dataset,
        "sequence": found.sequence,
        "tree": found.tree.hex(),
        "parents": [parent.hex() for parent in found.parents],
        "author": found.author,
        "host": found.host,
        "tool": found.tool,
        "time_us": found.time_us,
        "message": found.message,
        "files": entry.files,
        "bytes": entry.size,
        "rows": found.rows,
        "columns": found.columns,
        "schema": found.schema.hex() if found.schema else None,
        "events": found.events,
        "policy": list(found.policy),
        "kept": entry.kept,
        "signature": entry.verdict.status,
        "signer": entry.verdict.key.fingerprint if entry.verdict.key else None,
    }


def _print_entry(entry: Any) -> None:
    found, verdict = entry.manifest, entry.verdict
    click.echo(f"manifest {entry.oid} ({'kept' if entry.kept else 'light'})")
    if len(found.parents) > 1:
        click.echo(f"Merge:   {' '.join(p.short for p in found.parents)}")
    click.echo(f"Author:  {found.author}@{found.host} ({found.tool})")
    click.echo(f"Date:    {moment(found.time_us)}")
    signer = verdict.key.fingerprint if verdict.key else "nobody"
    click.echo(f"Signed:  {signer} ({verdict.status})")
    facts = [plural(entry.files, "file"), human_bytes(entry.size)]
    if found.rows is not None:
        facts.append(f"{found.rows} rows × {found.columns} columns")
    if found.events is not None:
        facts.append(plural(found.events, "event"))
    click.echo(f"Holds:   {', '.join(facts)}")
    if found.policy:
        click.echo(f"Policy:  {', '.join(found.policy)}")
    for text in found.message.splitlines():
        click.echo(f"\n    {text}")


@click.command(short_help="One state, or one file of it")
@click.argument("revision")
@click.option("--stat", is_flag=True, help="Sizes by section instead of files.")
@json_option
def show(revision: str, stat: bool, as_json: bool) -> int:
    """Show a state and what it changed; with REV:PATH, print that file's bytes."""
    from usrstore.verbs import history

    root = find_root()
    oid, path = resolve(root, revision, now_us=_now_us())
    manifest = reach.manifest(root.database.get, oid)
    listing = history.find_listing(root, manifest)
    if listing is None:
        raise RevisionNotFoundError(
            f"state {oid.short} is known by name only: its files were never here",
            hint="fetch it from a remote that has it",
        )
    if path is not None:
        if path not in listing:
            raise RevisionNotFoundError(f"state {oid.short} holds no {path!r}")
        _print_file(root, DatasetId(manifest.dataset), listing[path])
        return 0
    policy = believing.policy_for(root, make_who(root), "", manifest.dataset, "none")
    entry = history.entry(root, oid, manifest, policy, history.Keeping(root))
    before = None
    if manifest.parents:
        parent = reach.manifest(root.database.get, manifest.parents[0])
        before = history.find_listing(root, parent)
    comparison = compare_listings(listing, before or {})
    if as_json:
        print_json({**entry_data(entry), "changes": compare.comparison_data(comparison)})
        return 0
    _print_entry(entry)
    click.echo()
    for section in Section:
        entries = [e for p, e in listing.items() if section_of(p) is section]
        if entries:
            total = human_bytes(sum(e.size for e in entries))
            click.echo(f"{section.label:<11}: {plural(len(entries), 'file')}, {total}")
    if comparison.changed:
        click.echo()
        if stat:
            compare.print_stat(comparison, listing, before or {})
        else:
            compare.print_name_status(comparison)
    return 0


def _print_file(root: Root, dataset: DatasetId, entry: FileEntry) -> None:
    """The bytes of one file, from packs or from the folder, each chunk verified."""
    from usrstore.verbs.sending import Sending

    site = Site.open(root, dataset, make_who(root))
    found = site.capture(record=False) if site.exists else None
    sending = Sending(site.folder, found.listing if found else {}, site.overlay.get)
    sending.add(entry)
    try:
        for _ in sending.nodes([entry.content]):
            pass
        for chunk, _ in reach.chunks(site.overlay.get, entry) if entry.size else ():
            sys.stdout.buffer.write(sending.read(chunk))
        sys.stdout.buffer.flush()
    finally:
        sending.close()


@click.command(short_help="Take the folder to a state")
@click.argument("revision")
@click.argument("paths", nargs=-1)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def checkout(revision: str, paths: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Make the folder what REVISION says, or only PATHS of it.

    What the folder held is kept first if no state has it. The head stays: `usr checkout
    DATASET` comes back.
    """
    from usrstore.verbs.checkout import checkout as verb
    from usrstore.verbs.recover import recover

    del yes  # nothing is lost, so nothing is asked
    root = find_root()
    oid, path = resolve(root, revision, now_us=_now_us())
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
