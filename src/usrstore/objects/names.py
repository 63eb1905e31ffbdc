"""Names that people and files carry: datasets, refs, remotes, paths. One rule each, checked once.

Ref names follow git's ref-format rules, so that a dataset id can stand inside one and be
typed on a command line without surprises ([F-33]…[F-35]).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NewType

from usrstore.errors import InvalidNameError, UnsafeFileError
from usrstore.objects.ids import ManifestId, ObjectId

DatasetId = NewType("DatasetId", str)
RefName = NewType("RefName", str)

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096
MAX_DEPTH = 64

# git-check-ref-format(1): what may not stand in one component of a ref name.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{")
# White space, controls and marks that cannot be seen. A list, because what a library calls
# printable grows with every version of Unicode, and what may be a name must not.
_INVISIBLE = re.compile(
    "[\x80-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ud800-\udfff]"
)


def check_component(name: str, what: str) -> str:
    """One component of a ref name, or raise InvalidNameError saying what is wrong."""
    problem = None
    if not name:
        problem = "it is empty"
    elif len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        problem = f"it is over {MAX_NAME_BYTES} bytes long"
    elif name.startswith((".", "-")):
        problem = f"it starts with {name[0]!r}"
    elif name.endswith((".", ".lock")):
        problem = "it ends with '.' or '.lock'"
    elif name == "@":
        problem = "'@' alone is reserved"
    elif _FORBIDDEN.search(name):
        problem = "it holds white space, '..', '@{' or one of ~^:?*[\\"
    elif _INVISIBLE.search(name):
        problem = "it holds characters that cannot be seen"
    if problem:
        raise InvalidNameError(f"{name!r} is no {what}: {problem}")
    return name


def check_dataset(text: str) -> DatasetId:
    """`name` or `namespace/name`.

    Raises:
        InvalidNameError: absolute, deeper than two levels, below `archived/`, or no component.
    """
    parts = text.split("/")
    if len(parts) > 2:
        raise InvalidNameError(
            f"{text!r} is no dataset id: at most one '/' (namespace/name)",
            hint="give the path of the dataset below the root, as `usr show-ref` lists it",
        )
    for part in parts:
        check_component(part, "dataset id")
        if "@" in part:
            raise InvalidNameError(f"{text!r} is no dataset id: '@' marks a revision")
    if parts[0] == "archived":
        raise InvalidNameError(f"{text!r} is no dataset id: archived/ is never synced")
    return DatasetId(text)


def check_remote(text: str) -> str:
    if "/" in text:
        raise InvalidNameError(f"{text!r} is no remote name: it holds '/'")
    return check_component(text, "remote name")


def check_tag(text: str) -> str:
    """A tag's name; one that `<dataset>@<tag>` can spell."""
    if "/" in text or "@" in text or "{" in text or "}" in text:
        raise InvalidNameError(f"{text!r} is no tag name: it holds one of /@{{}}")
    return check_component(text, "tag name")


def check_ref(text: str) -> RefName:
    """`heads/…`, `folders/…` (a dataset), `remotes/<remote>/<dataset>` or `tags/<dataset>/<tag>`."""
    space, _, rest = text.partition("/")
    if space in ("heads", "folders"):
        check_dataset(rest)
    elif space == "remotes":
        remote, _, dataset = rest.partition("/")
        check_remote(remote)
        check_dataset(dataset)
    elif space == "tags":
        dataset, _, tag = rest.rpartition("/")
        check_dataset(dataset)
        check_tag(tag)
    else:
        raise InvalidNameError(
            f"{text!r} is no ref name: it starts with none of heads/ folders/ remotes/ tags/"
        )
    return RefName(text)


def head_ref(dataset: DatasetId) -> RefName:
    return RefName(f"heads/{dataset}")


def folder_ref(dataset: DatasetId) -> RefName:
    """Where the folder is, while a checkout has taken it elsewhere than the head."""
    return RefName(f"folders/{dataset}")


def heads_of(refs: Mapping[RefName, ObjectId]) -> dict[DatasetId, ManifestId]:
    """Every dataset that has a head, with it."""
    return {
        DatasetId(name.removeprefix("heads/")): ManifestId(oid)
        for name, oid in refs.items()
        if name.startswith("heads/")
    }


def remote_ref(remote: str, dataset: DatasetId) -> RefName:
    return RefName(f"remotes/{check_remote(remote)}/{dataset}")


def tag_ref(dataset: DatasetId, tag: str) -> RefName:
    return RefName(f"tags/{dataset}/{check_tag(tag)}")


def dataset_of(ref: RefName) -> DatasetId:
    """The dataset that a ref belongs to."""
    space, _, rest = ref.partition("/")
    if space == "remotes":
        rest = rest.partition("/")[2]
    elif space == "tags":
        rest = rest.rpartition("/")[0]
    return DatasetId(rest)


def entry_problem(name: str) -> str | None:
    """Why `name` cannot be one component of a path in a state; None if it can ([F-18])."""
    if name in ("", ".", ".."):
        return "it is empty, '.' or '..'"
    if "/" in name or "\0" in name:
        return "it holds '/' or NUL"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if size > MAX_NAME_BYTES:
        return f"it is over {MAX_NAME_BYTES} bytes long"
    if not name.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return "it holds control characters"
    return None


def check_path(path: str) -> str:
    """A '/'-separated path of entry names, relative and bounded.

    Raises:
        UnsafeFileError: naming the path and the reason.
    """
    parts = path.split("/")
    problem = next((p for p in map(entry_problem, parts) if p), None)
    if problem is None and len(parts) > MAX_DEPTH:
        problem = f"it is deeper than {MAX_DEPTH} folders"
    if problem is None and len(path.encode()) > MAX_PATH_BYTES:
        problem = f"it is over {MAX_PATH_BYTES} bytes long"
    if problem:
        raise UnsafeFileError(f"the path {path!r} cannot be part of a state: {problem}")
    return path
