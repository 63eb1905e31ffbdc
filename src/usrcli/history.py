"""log and show: the states and what is in them."""

from __future__ import annotations

import sys
from typing import Any

import click

from usrcli import compare
from usrcli.context import find_root, infer_dataset, json_option, make_who, now_us, print_json
from usrcli.render.text import human_bytes, moment, plural
from usrstore.errors import RevisionNotFoundError
from usrstore.objects.compare import compare as compare_listings
from usrstore.objects.names import DatasetId
from usrstore.objects.sections import Section, section_of
from usrstore.objects.tree import FileEntry
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs import believing
from usrstore.verbs.revisions import resolve
from usrstore.verbs.site import Site


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
    text = infer_dataset(root, None) if revision is None else revision
    oid, _ = resolve(root, text, now_us=now_us())
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
    oid, path = resolve(root, revision, now_us=now_us())
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
