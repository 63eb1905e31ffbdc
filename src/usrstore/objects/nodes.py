"""One rule for cutting long lists into small nodes, shared by recipes and trees ([F-10], [F-11]).

A node ends after an item whose id says so, or when it is full; nodes are themselves listed
in nodes until one is left. The cut depends on nothing but the items beside it, so a change
to a list of any length makes a handful of new nodes and leaves the rest as they were:
metadata costs what the change costs, both at rest and on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

MIN_ITEMS = 16
MAX_ITEMS = 256
MAX_HEIGHT = 12
_MASK = 0x3F  # one id in 64 ends a node: 16 + 64 = 80 items on average

T = TypeVar("T")


def split(items: Iterable[T], key: Callable[[T], bytes]) -> Iterator[Sequence[T]]:
    """Cut `items` into runs of 16 to 256 (the last one may be shorter); of none, an empty run."""
    run: list[T] = []
    empty = True
    for item in items:
        run.append(item)
        if len(run) >= MAX_ITEMS or (len(run) >= MIN_ITEMS and not key(item)[-1] & _MASK):
            yield run
            run, empty = [], False
    if run or empty:
        yield run


def grow(
    items: Iterable[T], key: Callable[[T], bytes], store: Callable[[int, Sequence[T]], T]
) -> T:
    """Build nodes upwards until one is left.

    Args:
        items: what height 0 lists; no more than a node of them is held at a time.
        key: the id of an item.
        store: writes one node of a height, and gives the item that lists it one height up.

    Returns:
        The item that stands for the root node.
    """
    height = 0
    while True:
        nodes = [store(height, run) for run in split(items, key)]
        if len(nodes) == 1:
            return nodes[0]
        items, height = nodes, height + 1
