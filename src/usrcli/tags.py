"""tag: list, make, verify and delete names for states."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

import click

from usrcli.context import find_root, infer_dataset, json_option, make_who, now_us, print_json
from usrcli.render.text import indented, moment
from usrstore.objects.names import DatasetId, check_tag
from usrstore.root import Root

if TYPE_CHECKING:
    from usrstore.verbs.tags import TagRow


@click.command(short_help="Name a state for good, with a signature")
@click.argument("name", metavar="[DATASET@NAME | NAME | DATASET]", required=False)
@click.argument("revision", metavar="[REV]", required=False)
@click.option("-m", "--message", default="", help="What it stands for.")
@click.option("-d", "--delete", is_flag=True, help="Take a tag away.")
@click.option("-l", "--list", "listing", is_flag=True, help="List; NAME may be a pattern.")
@click.option("-v", "--verify", is_flag=True, help="Check a tag's signature; fail unless good.")
@click.option("-f", "--force", is_flag=True, help="Replace a tag of that name.")
@json_option
def tag(
    name: str | None,
    revision: str | None,
    message: str,
    delete: bool,
    listing: bool,
    verify: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Name a state for good: the tag is signed by you, and `DATASET@NAME` is a revision.

    \b
    usr tag                          the tags of this dataset, or of all
    usr tag DATASET                  the tags of one
    usr tag DATASET@NAME [REV]       name the newest state, or REV
    usr tag NAME REV                 the same, for the dataset of REV
    usr tag -v DATASET@NAME          whose signature it has, and whether that holds

    A second person's tag of a state is their countersignature of it.
    """  # noqa: D301
    if sum((delete, listing, verify)) > 1:
        raise click.UsageError("--delete, --list and --verify exclude one another")
    if (delete or listing or verify) and (revision or message or force):
        raise click.UsageError("REV, --message and --force are for making a tag")
    from usrstore.verbs import tags
    from usrstore.verbs.revisions import resolve

    root = find_root()
    who = make_who(root)
    if name is None or listing or _is_dataset(root, name, revision, making=bool(message)):
        if delete or verify:
            raise click.UsageError("name the tag: DATASET@NAME")
        return _list(root, name, as_json=as_json)
    dataset, word = _target(root, name, revision)
    if delete:
        row = tags.find(root, who, dataset, word)
        tags.delete(root, who, dataset, word)
        return _say(row, f"deleted tag {dataset}@{word} (was {row.oid.short})", as_json=as_json)
    if verify:
        return _verify(root, tags.find(root, who, dataset, word), as_json=as_json)
    check_tag(word)
    oid, _ = resolve(root, revision or dataset, now_us=now_us())
    row = tags.create(root, who, dataset, word, oid, message=message, force=force)
    return _say(row, f"{dataset}@{word} → {oid.short}, signed by {_signed(row)}", as_json=as_json)


def _is_dataset(root: Root, name: str, revision: str | None, *, making: bool) -> bool:
    """Whether a lone word means the tags of a dataset."""
    if "@" in name or revision is not None or making:
        return False
    return "/" in name or root.find_dataset(name) in _known(root)


def _known(root: Root) -> set[DatasetId]:
    from usrstore.objects.names import dataset_of

    refs = root.states.refs() if root.has_store else {}
    return {*root.datasets(), *map(dataset_of, refs)}


def _target(root: Root, name: str, revision: str | None) -> tuple[DatasetId, str]:
    """The dataset and the tag that a person means."""
    stem, at, word = name.rpartition("@")
    if at:
        return DatasetId(infer_dataset(root, stem)), word
    if revision is None:
        return DatasetId(infer_dataset(root, None)), name
    from usrstore.objects.names import check_dataset
    from usrstore.odb import reach
    from usrstore.verbs.revisions import resolve

    oid, _ = resolve(root, revision, now_us=now_us())
    return check_dataset(reach.manifest(root.database.get, oid).dataset), name


def _list(root: Root, name: str | None, *, as_json: bool) -> int:
    from usrstore.verbs import tags

    rows = tags.tags(root, make_who(root))
    if name is not None and name in {row.dataset for row in rows} | _known(root):
        rows = [row for row in rows if row.dataset == name]
    elif name is not None and "/" not in name and "@" not in name and not _globs(name):
        rows = [row for row in rows if name in (row.name, row.dataset.rpartition("/")[2])]
    elif name is not None:
        rows = [row for row in rows if fnmatch.fnmatchcase(_spelled(row, name), name)]
    if as_json:
        print_json([_data(row) for row in rows])
        return 0
    width = max((len(row.dataset) + len(row.name) + 1 for row in rows), default=0)
    for row in rows:
        spelled = f"{row.dataset}@{row.name}"
        first = row.tag.message.splitlines()[0] if row.tag and row.tag.message else ""
        line = f"{spelled:<{width}}  {row.manifest.short}  {row.verdict.status:<7}  {first}"
        click.echo(line.rstrip())
    return 0


def _globs(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def _spelled(row: TagRow, pattern: str) -> str:
    return f"{row.dataset}@{row.name}" if "@" in pattern else row.name


def _verify(root: Root, row: TagRow, *, as_json: bool) -> int:
    from usrstore.verbs import tags

    if not as_json:
        click.echo(f"tag {row.dataset}@{row.name} ({row.oid.short})")
        click.echo(f"State:   {row.manifest}")
        if row.tag is not None:
            click.echo(f"Tagger:  {row.tag.tagger}")
            click.echo(f"Date:    {moment(row.tag.time_us)}")
        click.echo(f"Signed:  {_signed(row)}")
        state = tags.row_of(root, make_who(root), _ref(row), row.manifest)
        click.echo(f"  state: {_signed(state)}")
        for text in indented(row.tag.message) if row.tag else ():
            click.echo(text)
    tags.verify(row)
    if as_json:
        print_json([_data(row)])
    return 0


def _ref(row: TagRow) -> Any:
    from usrstore.objects.names import tag_ref

    return tag_ref(row.dataset, row.name)


def _signed(row: TagRow) -> str:
    verdict = row.verdict
    if verdict.key is None:
        return f"nobody ({verdict.status})"
    name = f"{verdict.principal} " if verdict.principal else ""
    return f"{name}{verdict.key.fingerprint} ({verdict.status})"


def _say(row: TagRow, text: str, *, as_json: bool) -> int:
    if as_json:
        print_json([_data(row)])
    else:
        click.echo(text)
    return 0


def _data(row: TagRow) -> dict[str, Any]:
    return {
        "dataset": row.dataset,
        "name": row.name,
        "id": row.oid.hex(),
        "manifest": row.manifest.hex(),
        "tagger": row.tag.tagger if row.tag else None,
        "time_us": row.tag.time_us if row.tag else None,
        "message": row.tag.message if row.tag else None,
        "signature": row.verdict.status,
        "signer": row.verdict.key.fingerprint if row.verdict.key else None,
        "principal": row.verdict.principal,
    }
