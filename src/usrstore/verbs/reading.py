"""Reading a dataset: one consistent set of files, no lock, nothing written.

open the view → read → are the files still the same? → else read again, a little later
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from usrstore.errors import ConflictError, UsrError
from usrstore.objects.names import DatasetId
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.root import Root
from usrstore.verbs import interruption

if TYPE_CHECKING:
    from usrstore.dataset.query import View

T = TypeVar("T")

_PAUSES_S = (0.0, 0.005, 0.02, 0.08, 0.32)
"""Before each look: an act is between two states for as long as some renames and syncs take."""


_PASSING = ("changed-while-read", "journal-pending")


def read(root: Root, dataset: DatasetId, act: Callable[[View], T]) -> T:
    """What `act` makes of the dataset, all of it from one set of files.

    Args:
        root, dataset: which.
        act: reads from a view and returns all it wants of it; it may be called again.

    Raises:
        DatasetNotFoundError: there is no such dataset.
        ChangedWhileReadError: it was written to again and again meanwhile.
        ConflictError: a promotion into it was interrupted, so that it may be half new.
    """
    from usrstore.dataset import query

    folder = root.check_dataset(dataset)
    met: UsrError | None = None
    for pause_s in _PAUSES_S:
        time.sleep(pause_s)
        before = query.stamps_of(folder)
        try:
            check_settled(root, dataset)
            view = query.open_view(folder)
            result = act(view)
            # In this order: an act that began before the view was opened, and so may have shown
            # half of itself, either goes on or has changed files since.
            check_settled(root, dataset)
            view.check()
        except (UsrError, OSError) as exc:
            if isinstance(exc, UsrError) and exc.code in _PASSING:
                met = exc
                continue
            # A file that went away in the middle is no damage, be it there again: look again.
            vanished = _is_missing(exc) and PRIMARY_FILE in before
            if not vanished and query.stamps_of(folder) == before:
                raise
            met = query.changed(folder)
        else:
            return result
    assert met is not None
    raise met


def _is_missing(met: BaseException) -> bool:
    """Whether it all began with a file that is not there."""
    cause = met.__cause__
    return isinstance(met, FileNotFoundError) if cause is None else _is_missing(cause)


def check_settled(root: Root, dataset: DatasetId) -> None:
    """A journal says that the folder is between two states.

    Raises:
        ConflictError: it still says so.
    """
    if interruption.is_interrupted(root, dataset):
        raise ConflictError(
            f"{dataset} is being changed, or a change was interrupted: its folder may be between "
            "two states; nothing was read",
            hint="wait for the other command, or run `usr recover`",
            code="journal-pending",
        )
