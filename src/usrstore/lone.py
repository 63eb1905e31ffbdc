"""A file that stands alone, as a root of one dataset: the file is its primary, and all it has.

So everything that holds for a dataset holds for it: states, signatures, staging, promotion. Its
store is out of the way, and in nobody's dataset: below the store of the root that the file lies
in, else in a `.usr` beside it.
"""

from __future__ import annotations

import os
import re

from usrstore.errors import DatasetNotFoundError, InvalidInputError, NotFoundError
from usrstore.objects.ids import Kind, hash_object
from usrstore.objects.names import DatasetId, check_dataset, heads_of
from usrstore.objects.sections import PRIMARY_FILE, REGISTRY_FILE
from usrstore.root import STORE_FOLDER, Root

_FILES = "files"
_PLAIN = re.compile(r"[A-Za-z0-9_.-]")
_MAX_STORE_NAME = 120


class Lone(Root):
    """One file.

    Args:
        path: the file; it need not be there, but its folder must.
        far: how the other end calls it, by whose name both know it; its own name without.

    Raises:
        NotFoundError: there is no folder for it.
        InvalidInputError: it is a folder, or a link.
    """

    def __init__(self, path: str, far: str | None = None) -> None:
        self.file = os.path.abspath(path)
        folder, name = os.path.split(self.file)
        if not os.path.isdir(folder):
            raise NotFoundError(
                f"there is no folder {folder} for the file {name}; nothing was changed",
                hint=f"make it first (mkdir -p {folder}), or name another path",
                code="no-folder",
            )
        if os.path.islink(self.file) or os.path.isdir(self.file):
            what = "a link" if os.path.islink(self.file) else "a folder"
            raise InvalidInputError(f"{self.file} is {what}, not a file; nothing was changed")
        super().__init__(folder)
        self.name = dataset_of(os.path.basename(far) if far else name)
        self.lone = name
        self.above = _root_above(folder)
        home = self.above.store if self.above else os.path.join(folder, STORE_FOLDER)
        base = self.above.path if self.above else folder
        self.store = os.path.join(home, _FILES, _store_name(os.path.relpath(self.file, base)))
        self.settings_folder = self.above.store if self.above else self.store

    @property
    def makes_locks(self) -> bool:
        """In a dataset's folder its locks are kept; elsewhere there is nobody to keep out."""
        return os.path.isfile(os.path.join(self.path, PRIMARY_FILE))

    def folder(self, dataset: DatasetId) -> str:  # noqa: ARG002
        return self.path

    def datasets(self) -> list[DatasetId]:
        """The file; by the name that a remote knows it by, if only such are known here."""
        known = sorted(heads_of(self.states.refs())) if self.has_store else []
        return [self.name] if self.name in known or not known else known

    def find_dataset(self, text: str) -> DatasetId:
        return check_dataset(text)

    def check_dataset(self, dataset: DatasetId) -> str:  # noqa: ARG002
        if not os.path.isfile(self.file):
            raise DatasetNotFoundError(
                f"there is no file {self.file}; nothing was changed", hint="check the path"
            )
        return self.path

    def registry(self) -> bytes | None:
        """A file has none: what its columns mean is its dataset's business, if it has one."""
        return None


def dataset_of(name: str) -> DatasetId:
    """The dataset that a file of this name is: the name, with what no id can hold as %XX.

    Raises:
        InvalidNameError: it would be too long.
    """
    plain = _plain(name).replace("..", "%2E%2E")
    if plain.startswith((".", "-")):
        plain = _escaped(plain[0]) + plain[1:]
    if plain.endswith((".", ".lock")):
        stem, _, tail = plain.rpartition(".")
        plain = f"{stem}%2E{tail}"
    return check_dataset(plain)


def _store_name(path: str) -> str:
    """The folder of a file's store: no two paths share one."""
    name = "@".join(map(_plain, path.split("/")))
    if len(name) <= _MAX_STORE_NAME:
        return name
    return f"{name[:_MAX_STORE_NAME]}@@{hash_object(Kind.CHUNK, os.fsencode(path)).short}"


def _plain(name: str) -> str:
    return "".join(char if _PLAIN.match(char) else _escaped(char) for char in name)


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in os.fsencode(char))


def _root_above(folder: str) -> Root | None:
    """The nearest root that a folder is or lies in."""
    at = folder
    while True:
        if os.path.isfile(os.path.join(at, REGISTRY_FILE)) or os.path.isdir(
            os.path.join(at, STORE_FOLDER, "states")
        ):
            return Root(at)
        if at == os.path.dirname(at):
            return None
        at = os.path.dirname(at)
