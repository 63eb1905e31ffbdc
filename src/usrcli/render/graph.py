r"""A history as lines of text: a lane for every state that is still awaited, newest on top.

*    a state, in the lane of whoever awaited it
|\   a merge: another parent gets a lane of its own
|/   two lanes await the same state: the right one goes over to the left
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


class Graph:
    """Draws states as they come, children before parents."""

    def __init__(self) -> None:
        self._lanes: list[Hashable] = []

    def state(self, name: Hashable, parents: Sequence[Hashable]) -> tuple[str, str, list[str]]:
        """Draw one state.

        Args:
            name: which.
            parents: those of its parents that will be drawn, the first one first.

        Returns:
            What stands before its first line, before its other lines, and the lines that lead
            on from it; all of them end without white space.
        """
        if name not in self._lanes:
            self._lanes.append(name)
        at = self._lanes.index(name)
        first = _row({2 * k: "*" if k == at else "|" for k in range(len(self._lanes))})
        wide = len(parents) > 1
        below = _row(
            {2 * k: "|" for k in range(len(self._lanes)) if k != at or (parents and not wide)}
        )
        links: list[str] = []
        if wide:
            below = _row({2 * k: "|" for k in range(len(self._lanes))})
        if not parents:
            links += self._close(at)
        else:
            self._lanes[at] = parents[0]
            for parent in reversed(parents[1:]):
                links += self._open(at, parent)
            links += self._join(at)
        return first, below, links

    def _open(self, at: int, parent: Hashable) -> list[str]:
        """A line from lane `at` to the lane of another parent, which may have to be made."""
        if parent in self._lanes:
            return self._reach(at, self._lanes.index(parent))
        marks = {2 * k: "|" for k in range(at + 1)}
        marks |= {2 * k + 1: "\\" for k in range(at, len(self._lanes))}
        self._lanes.insert(at + 1, parent)
        return [_row(marks)]

    def _reach(self, at: int, there: int) -> list[str]:
        """A line from one lane to another that stays where it is."""
        step, mark = (1, "\\") if there > at else (-1, "/")
        rows = []
        for lane in range(at, there, step):
            marks = {2 * k: "|" for k in range(len(self._lanes))}
            marks[2 * lane + step] = mark
            rows.append(_row(marks))
        return rows

    def _join(self, at: int) -> list[str]:
        """If two lanes await one state, the right one ends in the left one."""
        twins = [k for k, name in enumerate(self._lanes) if name == self._lanes[at]]
        if len(twins) < 2:
            return []
        left, right = twins
        rows = []
        for lane in range(right, left, -1):
            marks = {2 * k: "|" for k in range(right)}
            if lane == right:  # the lanes beyond close the gap at once
                marks |= {2 * k - 1: "/" for k in range(right, len(self._lanes))}
                del self._lanes[right]
            else:
                marks |= {2 * k: "|" for k in range(right, len(self._lanes))}
                marks[2 * lane - 1] = "/"
            rows.append(_row(marks))
        return rows

    def _close(self, at: int) -> list[str]:
        """A lane ends; those to its right close the gap."""
        del self._lanes[at]
        if at == len(self._lanes):
            return []
        marks = {2 * k: "|" for k in range(at)}
        marks |= {2 * k + 1: "/" for k in range(at, len(self._lanes))}
        return [_row(marks)]


def _row(marks: dict[int, str]) -> str:
    width = max(marks, default=-1) + 1
    return "".join(marks.get(k, " ") for k in range(width))
