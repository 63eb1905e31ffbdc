"""What a word that names a dataset means: an id in the root, or the dataset's folder anywhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import click

from usrcli.arguments import options
from usrcli.context import find_root, find_root_or_none, infer_dataset, settings
from usrstore.errors import DatasetNotFoundError, InvalidInputError, InvalidNameError
from usrstore.objects.names import DatasetId, check_dataset
from usrstore.objects.sections import PRIMARY_FILE, REGISTRY_FILE
from usrstore.root import Root

file_options = options(
    click.option(
        "--repo-root",
        metavar="DIR",
        help="Of a file: what here is the remote's repo_root (also DNADESIGN_REPO_ROOT).",
    ),
    click.option("--remote-path", metavar="PATH", help="Of a file: where it is at the remote."),
)


class Target(NamedTuple):
    """One dataset, and the root that it lies in."""

    root: Root
    dataset: DatasetId


def find(text: str | None) -> Target:
    """The dataset that a person means: an id, a folder, or where we stand.

    A folder that lies outside of the root belongs to the first folder above it that has a
    registry.yaml.

    Raises:
        InvalidNameError, NotFoundError: there is none such.
        InvalidInputError: it is an id of the root, and another dataset's folder from here.
    """
    if text is not None and os.path.isfile(text):
        raise InvalidInputError(
            f"{text} is a file; nothing was changed",
            hint="diff, status, push and pull take one file and a remote: "
            f"usr diff {text} REMOTE --remote-path PATH",
        )
    if text is not None and is_path(text):
        return _at(os.path.expanduser(text))
    root = find_root_or_none()
    if text is None or not os.path.isfile(os.path.join(text, PRIMARY_FILE)):
        root = root or find_root()  # which says that there is none
        return Target(root, DatasetId(infer_dataset(root, text)))
    if root is None:
        return _at(text)
    try:
        named = root.find_dataset(text)
    except InvalidNameError:
        return _at(text)
    there = root.folder(named)
    if os.path.isdir(there) and not os.path.samefile(there, text):
        raise InvalidInputError(
            f"{text} is a dataset of the root {root.path}, and from here it is another one's "
            f"folder, {os.path.abspath(text)}; nothing was changed",
            hint=f"say ./{text} for the folder, {there} for the dataset of that root",
            code="target-ambiguous",
        )
    try:
        return _at(text)
    except DatasetNotFoundError:
        return Target(root, named)  # a folder of no root is no dataset


def find_all(words: Sequence[str]) -> tuple[Root, list[str]]:
    """The root of several datasets, and their ids in the place of folders; patterns stay.

    Raises:
        InvalidInputError: they lie in several roots; else as `find`.
    """
    found = [word if is_pattern(word) else find(word) for word in words]
    roots = {os.path.realpath(at.root.path): at.root for at in found if isinstance(at, Target)}
    if len(roots) > 1:
        listed = " and ".join(sorted(roots))
        raise InvalidInputError(
            f"these datasets lie in several roots, {listed}; nothing was changed",
            hint="what moves together becomes one state of one root: give a command to each",
        )
    root = next(iter(roots.values()), None) or find_root()
    return root, [at.dataset if isinstance(at, Target) else at for at in found]


def is_pattern(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def is_path(text: str) -> bool:
    """Whether a word can only be a path, whatever there is."""
    return text in (".", "..") or text.startswith(("/", "./", "../", "~"))


def is_folder(text: str) -> bool:
    """Whether a word is a path, or the folder of a dataset as we stand."""
    return is_path(text) or os.path.isfile(os.path.join(text, PRIMARY_FILE))


def _at(path: str) -> Target:
    """The dataset whose folder this is."""
    root = find_root_or_none()
    if root is not None and (name := _below(root.path, path)) is not None:
        return Target(root, name)
    for at in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        above = os.path.dirname(at)
        while not os.path.isfile(os.path.join(above, REGISTRY_FILE)):
            if above == os.path.dirname(above):
                break
            above = os.path.dirname(above)
        else:
            return _outside(Root(above), at)
    if root is not None and _is_inside(root.path, path):
        root.find_dataset(path)  # which says what is wrong with it
    raise DatasetNotFoundError(
        f"{os.path.abspath(path)} lies in no root: no folder above it has a {REGISTRY_FILE}",
        hint="`usr init DIR` makes DIR a root: the folder above it, or above its namespace",
        code="no-root",
    )


def _outside(root: Root, path: str) -> Target:
    name = _below(root.path, path)
    if name is None:
        raise InvalidNameError(
            f"{path} is no dataset: its root would be {root.path}, where datasets lie one or two "
            "levels deep",
            hint="name the folder that holds records.parquet",
        )
    if settings().root or os.environ.get("USR_ROOT"):
        click.echo(f"note: {path} lies outside of the root that was named; its own is {root.path}",
                   err=True)  # fmt: skip
    return Target(root, name)


def _is_inside(base: str, path: str) -> bool:
    base = os.path.realpath(base)
    return os.path.commonpath([base, os.path.realpath(path)]) == base


def _below(base: str, path: str) -> DatasetId | None:
    """The id of a folder in a root, as it is written or as links lead; None if it is outside."""
    for resolve in (os.path.abspath, os.path.realpath):
        try:
            return check_dataset(os.path.relpath(resolve(path), resolve(base)))
        except InvalidNameError:
            continue
    return None
