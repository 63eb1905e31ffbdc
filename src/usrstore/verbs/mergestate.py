"""A merge that waits for a person: which state, from where, and what was decided so far."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from usrstore.errors import UNREADABLE, ConflictError, DecodeError
from usrstore.objects.ids import ManifestId, ObjectId
from usrstore.objects.names import DatasetId
from usrstore.odb import durable
from usrstore.root import Root
from usrstore.verbs.mergeplan import Choices


class Pending(NamedTuple):
    """A merge with conflicts.

    Attributes:
        theirs: the state that is to be merged.
        name: what people call it.
        remote: the remote it came from, if it came from one.
        choices: what was decided so far.
    """

    theirs: ManifestId
    name: str
    remote: str | None
    choices: Choices


def _path(root: Root, dataset: DatasetId) -> str:
    return os.path.join(root.store, "merge", dataset.replace("/", "@"))


def remember(root: Root, dataset: DatasetId, pending: Pending) -> None:
    value = {
        "theirs": pending.theirs.hex(),
        "name": pending.name,
        "remote": pending.remote,
        "ours_paths": pending.choices.ours,
        "theirs_paths": pending.choices.theirs,
        "rows": pending.choices.rows,
    }
    durable.replace(_path(root, dataset), json.dumps(value, indent=1).encode() + b"\n")


def find(root: Root, dataset: DatasetId) -> Pending:
    """Raises: ConflictError: no merge of this dataset waits. DecodeError: a damaged note."""
    path = _path(root, dataset)
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
        rows = value["rows"]
        return Pending(
            ManifestId(ObjectId.parse(value["theirs"])),
            str(value["name"]),
            None if value["remote"] is None else str(value["remote"]),
            Choices(
                tuple(map(str, value["ours_paths"])),
                tuple(map(str, value["theirs_paths"])),
                rows if rows in ("ours", "theirs") else None,
            ),
        )
    except FileNotFoundError:
        raise ConflictError(
            f"no merge of {dataset} waits to go on; nothing was changed",
            hint=f"usr merge REV {dataset}, or usr pull {dataset} REMOTE",
            code="no-merge",
        ) from None
    except UNREADABLE as exc:
        raise DecodeError(
            f"{path} is damaged: {exc}; nothing was changed",
            hint=f"usr merge --abort {dataset}, then merge again",
        ) from exc


def forget(root: Root, dataset: DatasetId) -> bool:
    """True if there was something to forget."""
    path = _path(root, dataset)
    if not os.path.exists(path):
        return False
    durable.remove(path)
    return True
