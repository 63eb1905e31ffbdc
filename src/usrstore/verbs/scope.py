"""Scope: which files of a dataset a transfer is about, and what it leaves out.

All of them, the files of some sections, or those that globs match. What is out of scope stays
as it is at the destination, and every audit says that it was neither moved nor verified.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Any

from usrstore.errors import InvalidInputError, NotFoundError
from usrstore.objects.compare import same
from usrstore.objects.sections import Section, section_of
from usrstore.objects.tree import Listing

ALL_SECTIONS = frozenset(Section)
MAX_GLOBS = 16
_MAX_GLOB_BYTES = 200  # of a policy, which a manifest records, 256 are allowed


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a transfer in part left out.

    Attributes:
        sections: out of scope as a whole.
        globs: if any, only what they match is in scope.
        files: how many files out of scope there are, at either side.
        differ: those of them that are not the same at both sides, sorted.
    """

    sections: tuple[str, ...]
    globs: tuple[str, ...]
    files: int
    differ: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        return {
            "sections": list(self.sections),
            "all_but": list(self.globs),
            "files": self.files,
            "differ": list(self.differ),
        }


@dataclass(frozen=True, slots=True)
class Scope:
    """The files that may move.

    Attributes:
        sections: those that they lie in.
        globs: shell patterns of their paths, or of folders above them; `*` also matches `/`.
            None at all stands for all.

    Raises:
        InvalidInputError: more or longer globs than a manifest can record.
    """

    sections: frozenset[Section] = ALL_SECTIONS
    globs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.globs) > MAX_GLOBS:
            raise InvalidInputError(
                f"{len(self.globs)} globs are more than the {MAX_GLOBS} that are recorded; "
                "nothing was changed",
                hint="take a wider glob",
            )
        for glob in self.globs:
            if (
                not glob.strip("/")
                or len(glob.encode()) > _MAX_GLOB_BYTES
                or not glob.isprintable()
            ):
                raise InvalidInputError(
                    f"{glob!r} is no glob of paths in a dataset; nothing was changed",
                    hint=f"as in a shell, such as '_derived/infer/*'; at most {_MAX_GLOB_BYTES} bytes",
                )

    @property
    def whole(self) -> bool:
        return self.sections == ALL_SECTIONS and not self.globs

    @property
    def policy(self) -> tuple[str, ...]:
        """As manifests and operation logs record it."""
        outs = []
        if self.sections != ALL_SECTIONS:
            outs.append("only " + " ".join(sorted(self.sections)))
        return (*outs, *(f"only path {glob}" for glob in self.globs))

    def takes(self, path: str) -> bool:
        """Whether the file at `path` is in scope."""
        if section_of(path) not in self.sections:
            return False
        return not self.globs or any(_matches(path, glob) for glob in self.globs)

    def mix(self, destination: Listing, source: Listing) -> Listing:
        """What the destination is to hold: the source's files in scope, its own for the rest."""
        if self.whole:
            return source
        stays = {path: entry for path, entry in destination.items() if not self.takes(path)}
        return stays | {path: entry for path, entry in source.items() if self.takes(path)}

    def check(self, paths: Iterable[str], *, where: str) -> None:
        """Refuse a glob that matches nothing: it is misspelt.

        Args:
            paths: of all files there are.
            where: whose files those are, for the error.

        Raises:
            NotFoundError: naming the globs.
        """
        left = list(self.globs)
        for path in paths if left else ():
            left = [glob for glob in left if not _matches(path, glob)]
        if left:
            raise NotFoundError(
                f"{where} has no file that matches {' or '.join(left)}; nothing was changed",
                hint="globs are of paths in the dataset, such as '_derived/infer/*', in quotes, so "
                "that the shell leaves them alone",
                code="path-unmatched",
            )

    def left_out(self, local: Listing, there: Listing) -> LeftOut | None:
        """What of both sides is out of scope; None if all is in it."""
        if self.whole:
            return None
        out = sorted(path for path in local.keys() | there.keys() if not self.takes(path))
        return LeftOut(
            sections=tuple(section for section in Section if section not in self.sections),
            globs=self.globs,
            files=len(out),
            differ=tuple(path for path in out if not same(local.get(path), there.get(path))),
        )


WHOLE = Scope()


def _matches(path: str, glob: str) -> bool:
    """Whether a glob matches a file, or a folder that it lies in."""
    glob = glob.strip("/")
    above = accumulate(path.split("/"), lambda at, name: f"{at}/{name}")
    return any(fnmatchcase(at, glob) for at in above)
