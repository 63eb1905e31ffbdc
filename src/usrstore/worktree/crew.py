"""A crew: work shared out among threads, with the results in the order in which it was given.

Hashing, cutting and compressing release the interpreter's lock, so on two processors two threads
do twice as much of it. Only so much is ever under way: memory does not grow with a file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

HANDS = 2
"""Threads of a crew by default, beside the one that gives the work and takes the results."""
AHEAD = 4
"""Pieces of work that may be under way, or done and not yet taken, by default."""


def in_order(
    work: Callable[[T], R], items: Iterable[T], *, hands: int = HANDS, ahead: int = AHEAD
) -> Generator[R]:
    """`map(work, items)`, with `work` on threads and at most `ahead` items ahead of the consumer.

    `items` is drawn from in the caller's own thread. An error of `work` is raised where its
    result would have come. Closing the generator ends the threads. More `hands` than the work
    needs only take the interpreter from one another.
    """
    jobs: SimpleQueue[tuple[T, SimpleQueue[tuple[R | None, BaseException | None]]] | None]
    jobs = SimpleQueue()

    def run() -> None:
        while (job := jobs.get()) is not None:
            item, answer = job
            try:
                answer.put((work(item), None))
            except BaseException as error:
                answer.put((None, error))

    def take() -> R:
        result, error = pending.popleft().get()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # one of the two is there

    pending: deque[SimpleQueue[tuple[R | None, BaseException | None]]] = deque()
    crew = [Thread(target=run, name=f"usrstore-crew-{n}", daemon=True) for n in range(hands)]
    for hand in crew:
        hand.start()
    try:
        for item in items:
            answer: SimpleQueue[tuple[R | None, BaseException | None]] = SimpleQueue()
            jobs.put((item, answer))
            pending.append(answer)
            if len(pending) > ahead:
                yield take()
        while pending:
            yield take()
    finally:
        for _ in crew:
            jobs.put(None)
        for hand in crew:
            hand.join()
