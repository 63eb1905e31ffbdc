"""The locks of the tools that write datasets, taken in their order: dataset, then events."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from usrstore.odb import flock

DATASET_LOCK = ".usr.lock"
EVENTS_LOCK = ".events.lock"


@contextlib.contextmanager
def reading(folder: str, *, timeout_s: float) -> Iterator[bool]:
    """Keep writers out while a state is captured. Creates nothing.

    Yields:
        Whether both locks are held; without them a capture still notices changes.

    Raises:
        LockedError: a writer kept a lock for longer than `timeout_s`.
    """
    with (
        _hold(folder, DATASET_LOCK, timeout_s, shared=True, create=False) as dataset,
        _hold(folder, EVENTS_LOCK, timeout_s, shared=True, create=False) as events,
    ):
        yield dataset and events


@contextlib.contextmanager
def writing(folder: str, *, timeout_s: float, create: bool = True) -> Iterator[bool]:
    """Keep everybody out while a state is promoted. A folder that does not exist needs none.

    Without `create`, only those locks are taken that are there.

    Raises:
        LockedError: somebody kept a lock for longer than `timeout_s`.
    """
    if not os.path.isdir(folder):
        yield False
        return
    with (
        _hold(folder, DATASET_LOCK, timeout_s, shared=False, create=create) as dataset,
        _hold(folder, EVENTS_LOCK, timeout_s, shared=False, create=create) as events,
    ):
        yield dataset and events


def _hold(
    folder: str, name: str, timeout_s: float, *, shared: bool, create: bool
) -> contextlib.AbstractContextManager[bool]:
    what = "the dataset" if name == DATASET_LOCK else "the event log"
    return flock.hold(
        os.path.join(folder, name), timeout_s=timeout_s, shared=shared, create=create, what=what
    )
