"""Mending: a damaged file of a store gets another name, and whole bytes get its own.

The only room besides collection that takes a name away from bytes, and it takes none away
for good: whatever was damaged stays in `damaged/` until a person removes it.
"""

from __future__ import annotations

import os

from usrstore.odb import durable

FOLDER = "damaged"


def set_aside(store: str, path: str) -> str:
    """Move a damaged file, or folder, out of the way; gives where it is now."""
    target = _free(store, path)
    durable.rename(path, target)
    durable.sync_folder(os.path.dirname(target))
    durable.sync_folder(os.path.dirname(path))
    return target


def swap(store: str, path: str, scratch: str) -> None:
    """Give the name of a damaged file to a whole, synced one; at no moment has nobody that name.

    Args:
        store: where `damaged/` is.
        path: the damaged file; it may be missing.
        scratch: the whole file, on the same file system; it is gone afterwards.
    """
    if os.path.exists(path):
        target = _free(store, path)
        durable.link(path, target)
        durable.sync_folder(os.path.dirname(target))
    durable.make_folder(os.path.dirname(path), lasting=True)
    durable.rename(scratch, path)
    durable.sync_folder(os.path.dirname(path))


def set_aside_as(store: str, prefix: str) -> list[str]:
    """What was set aside under names with a prefix; '@' stands for '/'."""
    folder = os.path.join(store, FOLDER)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names if name.startswith(prefix)]


def _free(store: str, path: str) -> str:
    """A name in `damaged/` that nothing has, or only this very file."""
    folder = os.path.join(store, FOLDER)
    durable.make_folder(folder, lasting=True)
    name = os.path.relpath(path, store).replace(os.sep, "@")
    number = 0
    while True:
        target = os.path.join(folder, f"{name}.{number}" if number else name)
        if not os.path.lexists(target):
            return target
        if os.path.exists(path) and os.path.samefile(path, target):
            return target  # a mending that was cut off had given it this name
        number += 1
