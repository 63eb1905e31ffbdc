"""Threads that wait for others' machines, so that whoever waits for them can be interrupted.

A call into another's library does not see a Ctrl-C, and an executor's threads are waited for
when the program ends. These are not: they have nothing of ours in hand that could be lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
V = TypeVar("V")


class Answer(Generic[T]):
    """What a call gave, or raised, once it is there."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._said: SimpleQueue[tuple[bool, Any]] = SimpleQueue()

    def work(self) -> None:
        try:
            self._said.put((True, self._call()))
        except BaseException as exc:
            self._said.put((False, exc))

    def get(self) -> T:
        """Wait for it; once."""
        well, what = self._said.get()
        if not well:
            raise what
        return what  # type: ignore[no-any-return]


def interruptible(call: Callable[[], T]) -> T:
    """Make a call; the main thread, which is the one that is interrupted, waits beside it."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    answer = Answer(call)
    threading.Thread(target=answer.work, daemon=True).start()
    return answer.get()


class Workers:
    """A few threads for many calls. Leaving the context lets them end; nobody waits."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._calls: SimpleQueue[Answer[Any] | None] = SimpleQueue()
        self._threads = 0

    def start(self, call: Callable[[], T]) -> Answer[T]:
        answer = Answer(call)
        self._calls.put(answer)
        if self._threads < self._count:
            self._threads += 1
            threading.Thread(target=self._run, daemon=True).start()
        return answer

    def _run(self) -> None:
        while (answer := self._calls.get()) is not None:
            answer.work()

    def each(self, act: Callable[[V], T], items: Iterable[V]) -> Iterator[T]:
        """`act` of every item, in order."""
        for answer in [self.start(lambda item=item: act(item)) for item in items]:  # type: ignore[misc]
            yield answer.get()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Start nothing more, and let the threads end."""
        while not self._calls.empty():  # what nobody will ask for any more
            self._calls.get()
        for _ in range(self._threads):
            self._calls.put(None)
