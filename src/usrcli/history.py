"""show: one state, one tag, or one file or folder of a state."""

from __future__ import annotations

import sys

import click

from usrcli import compare
from usrcli.context import find_root, json_option, make_who, now_us, print_json
from usrcli.render import entries
from usrcli.render.text import human_bytes, indented, moment, plural
from usrstore.errors import IncompleteError, ObjectNotFoundError, RevisionNotFoundError
from usrstore.objects.ids import ManifestId
from usrstore.objects.manifest import Manifest
from usrstore.objects.names import DatasetId
from usrstore.objects.revision import Tagged, parse
from usrstore.objects.sections import Section, section_of
from usrstore.objects.tree import FileEntry, Listing
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs import believing, history
from usrstore.verbs.revisions import resolve
from usrstore.verbs.site import Site


@click.command(short_help="One state, or one file of it")
@click.argument("revision")
@click.option("--stat", is_flag=True, help="Sizes by section instead of files.")
@click.option("--name-status", is_flag=True, help="The files that it changed: A, M or D [on].")
@json_option
def show(revision: str, stat: bool, name_status: bool, as_json: bool) -> int:
    """Show a state and what it changed; with REV:PATH, print that file's bytes.

    What changed is against the first parent. REV:FOLDER/ lists a folder; a tag is shown with
    who signed it.
    """
    root = find_root(files=True)
    oid, path = resolve(root, revision, now_us=now_us())
    manifest = reach.manifest(root.database.get, oid)
    listing = history.find_listing(root, manifest)
    if listing is None:
        raise RevisionNotFoundError(
            f"state {oid.short} is known by name only: its files were never here",
            hint="fetch it from a remote that has it",
        )
    if path is not None:
        return _show_path(root, oid, manifest, listing, path)
    policy = believing.policy_for(root, make_who(root), "", manifest.dataset, "none")
    entry = history.entry(root, oid, manifest, policy, history.Keeping(root.database))
    # A parent that is known by name only (a light state of elsewhere) counts as empty.
    changes = history.changes(root, manifest) or history.between(listing, {})
    if as_json:
        print_json({**entries.data(entry), "changes": compare.comparison_data(changes.comparison)})
        return 0
    _print_tag(root, revision)
    names = entries.names_of(root).get(oid, "") if entries.on_terminal() else ""
    for text in entries.lines(entry, names):
        click.echo(text)
    click.echo()
    for section in Section:
        found = [e for p, e in listing.items() if section_of(p) is section]
        if found:
            total = human_bytes(sum(e.size for e in found))
            click.echo(f"{section.label:<11}: {plural(len(found), 'file')}, {total}")
    if changes.comparison.changed:
        click.echo()
        lines = compare.stat_lines(changes) if stat else []
        if name_status or not stat:
            lines += compare.name_status_lines(changes.comparison)
        for text in lines:
            click.echo(text)
    return 0


def _print_tag(root: Root, text: str) -> None:
    """The tag before its state, if it was asked for by its name."""
    from usrstore.objects.names import RefName, tag_ref
    from usrstore.verbs import tags

    parsed = parse(text)
    refs = root.states.refs()
    ref = RefName(parsed.base) if parsed.base.startswith("tags/") else None
    if len(parsed.steps) == 1 and isinstance(parsed.steps[0], Tagged):
        ref = tag_ref(root.find_dataset(parsed.base), parsed.steps[0].name)
    if ref not in refs or (parsed.steps and parsed.base.startswith("tags/")):
        return
    assert ref is not None
    row = tags.row_of(root, make_who(root), ref, refs[ref])
    if row.tag is None:
        return
    click.echo(click.style(f"tag {row.dataset}@{row.name}", fg="yellow"))
    click.echo(f"Tagger:  {row.tag.tagger}")
    click.echo(f"Date:    {moment(row.tag.time_us)}")
    signer = row.verdict.key.fingerprint if row.verdict.key else "nobody"
    click.echo(f"Signed:  {signer} ({row.verdict.status})")
    for line in indented(row.tag.message):
        click.echo(line)
    click.echo()


def _show_path(root: Root, oid: ManifestId, manifest: Manifest, listing: Listing, path: str) -> int:
    """A file's bytes, or the names in a folder."""
    if path in listing:
        _print_file(root, DatasetId(manifest.dataset), listing[path])
        return 0
    stem = path.strip("/")
    stem = f"{stem}/" if stem not in ("", ".") else ""
    inside = [name.removeprefix(stem) for name in listing if name.startswith(stem)]
    if not inside:
        raise RevisionNotFoundError(
            f"state {oid.short} holds no {path!r}",
            hint=f"`usr ls-tree --name-only {oid.short}` lists its files",
        )
    click.echo(f"folder {oid.short}:{stem}\n")
    for name in sorted(
        {f"{first}{slash}" for first, slash, _ in (n.partition("/") for n in inside)}
    ):
        click.echo(name)
    return 0


def _print_file(root: Root, dataset: DatasetId, entry: FileEntry) -> None:
    """The bytes of one file, from packs or from the folder, each chunk verified."""
    from usrstore.verbs.sending import Sending

    site = Site.open(root, dataset, make_who(root))
    found = site.capture(record=False) if site.exists else None
    sending = Sending(site.folder, found.listing if found else {}, site.overlay.get, lone=root.lone)
    sending.add(entry)
    try:
        for _ in sending.nodes([entry.content]):
            pass
        for chunk, _ in reach.chunks(site.overlay.get, entry) if entry.size else ():
            sys.stdout.buffer.write(sending.read(chunk))
        sys.stdout.buffer.flush()
    except ObjectNotFoundError as exc:
        raise IncompleteError(
            f"the bytes of {entry.name} in this state of {dataset} are not here: {exc.message}",
            hint="a remote that has them can send them with `usr fetch`",
            code="not-kept",
        ) from exc
    finally:
        sending.close()
