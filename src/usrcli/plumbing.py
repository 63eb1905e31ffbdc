"""Plumbing: cat-file, diff-tree, hash-object, ls-tree, rev-parse, show-ref. Their output is an API."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from usrcli import compare
from usrcli.arguments import PathsCommand, paths_given
from usrcli.context import find_root, now_us
from usrstore.errors import (
    AmbiguousRevisionError,
    InvalidInputError,
    ObjectNotFoundError,
    RevisionNotFoundError,
    UsrError,
)
from usrstore.objects.ids import Kind, ObjectId
from usrstore.objects.manifest import Manifest, Signed, Tag
from usrstore.objects.recipe import RULE, Recipe
from usrstore.objects.tree import FileEntry, Tree
from usrstore.odb import reach
from usrstore.root import Root
from usrstore.verbs import history
from usrstore.verbs.revisions import resolve


def _find_object(root: Root, text: str) -> tuple[ObjectId, Kind]:
    """Any object by id, prefix or revision."""
    if len(text) >= 8 and set(text) <= set("0123456789abcdef"):
        found = root.database.matching(text)
        if len(found) > 1:
            raise AmbiguousRevisionError(f"{text} could be {len(found)} objects")
        if found:
            return found[0][0], Kind(found[0][1])
    try:
        oid, path = resolve(root, text, now_us=now_us())
    except InvalidInputError:
        raise
    except UsrError as exc:
        raise ObjectNotFoundError(f"{text!r} names no object of {root.store}") from exc
    if path is None:
        return oid, Kind.MANIFEST
    listing = reach.listing(root.database.get, reach.manifest(root.database.get, oid).tree)
    if path not in listing:
        raise ObjectNotFoundError(f"{text!r}: that state holds no such file")
    entry = listing[path]
    if entry.recipe is not None:
        return entry.recipe, Kind.RECIPE
    return entry.content, Kind.CHUNK


@click.command("cat-file", short_help="Print an object")
@click.argument("object_", metavar="OBJECT")
@click.option("-t", "show_type", is_flag=True, help="Its kind.")
@click.option("-s", "show_size", is_flag=True, help="Its size in bytes.")
@click.option("-p", "pretty", is_flag=True, help="Its content for people, as JSON.")
@click.option("--payload", is_flag=True, help="The signed bytes of a manifest or tag.")
@click.option("--signature", is_flag=True, help="Its signature, armored for ssh-keygen -Y verify.")
def cat_file(
    object_: str, show_type: bool, show_size: bool, pretty: bool, payload: bool, signature: bool
) -> int:
    """Print the bytes of OBJECT (an id, a prefix of 8 digits, a revision, or REV:PATH)."""
    root = find_root()
    oid, kind = _find_object(root, object_)
    if show_type:
        click.echo(kind.word)
        return 0
    data = root.database.get(kind, oid)
    if show_size:
        click.echo(str(len(data)))
    elif payload or signature:
        _print_signed(kind, data, signature=signature)
    elif pretty:
        click.echo(json.dumps(_pretty(kind, data), indent=1, ensure_ascii=False))
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return 0


def _print_signed(kind: Kind, data: bytes, *, signature: bool) -> None:
    from usrstore.trust.sshsig import armor

    if kind not in (Kind.MANIFEST, Kind.TAG):
        raise InvalidInputError(f"a {kind.word} is not signed")
    signed = Signed.decode(data)
    if not signature:
        sys.stdout.buffer.write(signed.payload)
        sys.stdout.buffer.flush()
    elif signed.signature is None:
        raise InvalidInputError("it is not signed")
    else:
        click.echo(armor(signed.signature), nl=False)


def _pretty(kind: Kind, data: bytes) -> Any:
    if kind is Kind.CHUNK:
        return {"kind": "chunk", "size": len(data)}
    if kind is Kind.RECIPE:
        node = Recipe.decode(data)
        return {
            "height": node.height,
            "parts": [[part.oid.hex(), part.size] for part in node.parts],
        }
    if kind is Kind.TREE:
        tree = Tree.decode(data)
        return {"height": tree.height, "entries": [_entry(entry) for entry in tree.entries]}
    signed = Signed.decode(data)
    value: Manifest | Tag = (Manifest if kind is Kind.MANIFEST else Tag).parse(signed.payload)
    body = {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return {**body, "signed": signed.signature is not None}


def _entry(entry: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in entry._asdict().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, FileEntry):
        return _entry(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@click.command(
    "hash-object", short_help="Print the content hash, chunks or tree of a file or folder"
)
@click.argument("paths", nargs=-1, required=True)
@click.option("--chunks", is_flag=True, help="Also each chunk: id, offset and size.")
def hash_object(paths: tuple[str, ...], chunks: bool) -> int:
    """The content hash of each file (what `b3sum` prints), or the tree id of a dataset folder.

    Nothing is written.
    """
    from usrstore.worktree import capture, cut, statcache

    for path in paths:
        if os.path.isdir(path):
            found = capture.capture(path, statcache.StatCache(RULE), lambda *_: None)
            click.echo(f"{found.tree}  {path}")
            continue
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError as exc:
            raise InvalidInputError(f"cannot read {path}: {exc.strerror}") from exc
        try:
            result = cut.cut_file(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)
        click.echo(f"{result.content}  {path}")
        offset = 0
        for oid, size in result.chunks if chunks else ():
            click.echo(f"  {oid} {offset} {size}")
            offset += size
    return 0


@click.command("ls-tree", short_help="List the files of a state")
@click.argument("revision")
@click.option("--name-only", is_flag=True, help="Paths only.")
@click.option("-z", "null", is_flag=True, help="End lines with NUL.")
def ls_tree(revision: str, name_only: bool, null: bool) -> int:
    """Every file of a state: content hash, size and path, sorted by path."""
    root = find_root()
    oid, prefix = resolve(root, revision, now_us=now_us())
    manifest = reach.manifest(root.database.get, oid)
    listing = reach.listing(root.database.get, manifest.tree)
    end = "\0" if null else "\n"
    stem = (prefix or "").rstrip("/")
    paths = [p for p in sorted(listing) if not stem or p == stem or p.startswith(f"{stem}/")]
    if stem and not paths:
        raise RevisionNotFoundError(f"state {oid.short} holds no {stem!r}")
    for path in paths:
        entry = listing[path]
        row = path if name_only else f"{entry.content} {entry.size:>12}\t{path}"
        click.echo(row + end, nl=False)
    return 0


@click.command("diff-tree", cls=PathsCommand, short_help="List what differs between two states")
@click.argument("old")
@click.argument("new")
@click.option("-z", "null", is_flag=True, help="End lines with NUL.")
def diff_tree(old: str, new: str, null: bool) -> int:
    """What differs from OLD to NEW, two states, file by file and sorted by path.

    A line: A, M or D, the content hash and the size in OLD, the same in NEW, a tab, the path. A
    file that is not there has `-` for both. With `-- PATH`, only files there.
    """
    root = find_root()
    listings = []
    for text in (old, new):
        oid, path = resolve(root, text, now_us=now_us())
        if path is not None:
            raise InvalidInputError(f"{text!r} names a file of a state, and states are compared")
        manifest = reach.manifest(root.database.get, oid)
        listings.append(reach.listing(root.database.get, manifest.tree))
    found = history.between(listings[1], listings[0]).limited(paths_given())
    for path, letter in compare.name_status(found.comparison):
        sides = " ".join(_side(side.get(path)) for side in (found.old, found.new))
        click.echo(f"{letter} {sides}\t{path}" + ("\0" if null else "\n"), nl=False)
    return 0


def _side(entry: FileEntry | None) -> str:
    return "- -" if entry is None else f"{entry.content} {entry.size}"


@click.command("rev-parse", short_help="Print the id that a revision names")
@click.argument("revisions", nargs=-1, required=True)
@click.option("--short", is_flag=True, help="Twelve digits.")
@click.option("--tree", "as_tree", is_flag=True, help="The tree id of the state.")
def rev_parse(revisions: tuple[str, ...], short: bool, as_tree: bool) -> int:
    """The manifest id that each revision names; for REV:PATH the id of that file's object."""
    root = find_root()
    for text in revisions:
        found, path = resolve(root, text, now_us=now_us())
        oid: ObjectId = found
        if as_tree:
            oid = reach.manifest(root.database.get, found).tree
        elif path is not None:
            oid, _ = _find_object(root, text)
        click.echo(oid.short if short else str(oid))
    return 0


@click.command("show-ref", short_help="List refs")
@click.argument("pattern", required=False)
@click.option("--heads", is_flag=True, help="Only heads/.")
@click.option("--tags", is_flag=True, help="Only tags/.")
def show_ref(pattern: str | None, heads: bool, tags: bool) -> int:
    """Every ref with the id it names; exit 1 if there is none that matches."""
    root = find_root()
    refs = root.states.refs() if root.has_store else {}
    shown = 0
    for name, oid in sorted(refs.items()):
        if (heads and not name.startswith("heads/")) or (tags and not name.startswith("tags/")):
            continue
        if pattern and pattern not in name:
            continue
        click.echo(f"{oid} {name}")
        shown += 1
    return 0 if shown else 1
