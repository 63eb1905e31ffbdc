"""Reading a dataset: one consistent set of files, no lock, nothing written.

open the view → read → are the files still the same? → else read again
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from usrstore.errors import ChangedWhileReadError, ConflictError, UsrError
from usrstore.objects.names import DatasetId
from usrstore.root import Root

if TYPE_CHECKING:
    from usrstore.dataset.query import View

T = TypeVar("T")

_ATTEMPTS = 5


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
    for attempt in range(_ATTEMPTS):
        check_settled(root, dataset)
        before = query.stamps_of(folder)
        try:
            view = query.open_view(folder)
            result = act(view)
            # In this order: an act that began before the view was opened, and so may have shown
            # half of itself, either goes on or has changed files since.
            check_settled(root, dataset)
            view.check()
        except ChangedWhileReadError:
            if attempt == _ATTEMPTS - 1:
                raise
        except (UsrError, OSError):
            # A file that went away in the middle is no damage: look again.
            if attempt == _ATTEMPTS - 1 or query.stamps_of(folder) == before:
                raise
        else:
            return result
    raise AssertionError  # the last attempt returned or raised


def check_settled(root: Root, dataset: DatasetId) -> None:
    """A journal says that the folder is between two states.

    Raises:
        ConflictError: it still says so.
    """
    if os.path.exists(root.journal_path(dataset)):
        raise ConflictError(
            f"{dataset} is being changed, or a change was interrupted: its folder may be between "
            "two states; nothing was read",
            hint="wait for the other command, or run `usr recover`",
            code="journal-pending",
        )
