"""States as people and scripts read them, in `log` and `show`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from usrcli.render.text import human_bytes, indented, moment, plural
from usrstore.objects.ids import ManifestId
from usrstore.objects.names import DatasetId, RefName, dataset_of
from usrstore.root import Root

if TYPE_CHECKING:
    from usrstore.verbs.history import LogEntry

_COLOURS = {"good": "green", "unknown": "yellow", "absent": "yellow", "bad": "red"}


def data(entry: LogEntry) -> dict[str, Any]:
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
        "principal": entry.verdict.principal,
    }


def lines(entry: LogEntry, names: str = "", grown: str = "") -> list[str]:
    """A state at length; `names` are the refs that point to it, `grown` is how it grew."""
    found, verdict = entry.manifest, entry.verdict
    title = click.style(f"manifest {entry.oid}", fg="yellow")
    text = [f"{title} ({mark(entry)}){f' {names}' if names else ''}"]
    if len(found.parents) > 1:
        text.append(f"Merge:   {' '.join(parent.short for parent in found.parents)}")
    text.append(f"Author:  {found.author}@{found.host} ({found.tool})")
    text.append(f"Date:    {moment(found.time_us)}")
    signer = verdict.key.fingerprint if verdict.key else "nobody"
    status = click.style(verdict.status, fg=_COLOURS[verdict.status])
    person = f" {verdict.principal}" if verdict.principal not in (None, "pinned", "you") else ""
    text.append(f"Signed:  {signer}{person} ({status})")
    facts = [plural(entry.files, "file"), human_bytes(entry.size)]
    if found.rows is not None:
        facts.append(f"{found.rows} rows × {found.columns} columns")
    if found.events is not None:
        facts.append(plural(found.events, "event"))
    text.append(f"Holds:   {', '.join(facts)}")
    if grown:
        text.append(f"Grown:   {grown}")
    if found.policy:
        text.append(click.style(f"Policy:  {', '.join(found.policy)}", fg="red"))
    return text + indented(found.message)


def oneline(entry: LogEntry, names: str = "") -> str:
    """A state in a line: id, mark, the refs that point to it, the message's first line."""
    first = entry.manifest.message.splitlines()[0] if entry.manifest.message else ""
    words = [click.style(entry.oid.short, fg="yellow"), f"{mark(entry):<5}", names, first]
    marks = [click.style(f"[{', '.join(entry.manifest.policy)}]", fg="red")]
    words += marks if entry.manifest.policy else []
    return " ".join(word for word in words if word)


def mark(entry: LogEntry) -> str:
    return "kept" if entry.kept else "light"


def names_of(root: Root, *, colour: bool = True) -> dict[ManifestId, str]:
    """For each state the refs that point to it, as git decorates a log: heads, tags, remotes."""
    from usrstore.verbs.revisions import peel

    named: dict[ManifestId, list[tuple[int, str]]] = {}
    for name, oid in root.states.refs().items() if root.has_store else ():
        named.setdefault(peel(root, oid), []).append(_name(name))
    return {
        oid: "("
        + ", ".join(_paint(rank, text) if colour else text for rank, text in sorted(rows))
        + ")"
        for oid, rows in named.items()
    }


_RANKS = ("cyan", "green", "yellow", "red")


def _name(ref: RefName) -> tuple[int, str]:
    space, _, rest = ref.partition("/")
    dataset = DatasetId(dataset_of(ref))
    if space == "folders":
        return 0, f"folder of {dataset}"
    if space == "heads":
        return 1, rest
    if space == "tags":
        return 2, f"tag: {dataset}@{rest.rpartition('/')[2]}"
    return 3, rest


def _paint(rank: int, text: str) -> str:
    return click.style(text, fg=_RANKS[rank], bold=True)


def on_terminal() -> bool:
    """Whether people, rather than programs, read standard output."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
