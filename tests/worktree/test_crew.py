"""The crew: results in order, a bounded number under way, errors where their result would be."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from usrstore.worktree.crew import AHEAD, HANDS, in_order


def ours():
    return [t for t in threading.enumerate() if t.name.startswith("usrstore-crew")]


def test_results_come_in_the_order_of_the_work_however_long_each_takes():
    def work(number):
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(in_order(work, range(40))) == [n * n for n in range(40)]
    assert ours() == []


def test_two_pieces_of_work_are_done_at_a_time():
    meeting = threading.Barrier(HANDS, timeout=120)
    assert len(list(in_order(lambda _: meeting.wait(), range(HANDS * 5)))) == HANDS * 5


def test_only_so_much_is_drawn_ahead_of_who_takes_the_results():
    drawn = []

    def items():
        for number in range(100):
            drawn.append(number)
            yield number

    with closing(in_order(lambda number: number, items())) as results:
        for taken, number in enumerate(results, 1):
            assert number == taken - 1
            assert len(drawn) <= taken + AHEAD
            if taken == 50:
                break
    assert len(drawn) <= 50 + AHEAD
    assert ours() == []


def test_an_error_is_raised_where_its_result_would_have_come():
    def work(number):
        if number == 7:
            raise ValueError("seven")
        return number

    seen = []
    with closing(in_order(work, range(20))) as results:
        for _ in range(7):
            seen.append(next(results))
        with pytest.raises(ValueError, match="seven"):
            next(results)
    assert seen == list(range(7))
    assert ours() == []


def test_an_error_of_the_items_ends_the_crew():
    def items():
        yield 1
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(in_order(lambda number: number, items()))
    assert ours() == []
